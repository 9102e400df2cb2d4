# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The streaming float pass against the reference, and which reading of a checkpoint is clear."""

import numpy as np
import pytest

from tellme import reference
from tellme.models.checkpoints import BIT_ORDERS
from tellme.models.container import Container
from tellme.models.probing import CLEAR_NATS, PROBE, Reading, best_reading, nats_per_token, read_in_turn
from tellme.models.shipped import open_model
from tellme.models.tokenizer import Tokenizer
from tests.models.random_model import FAMILY, random_model, with_biases, with_several_scales

#: Relative difference of the two losses.  Both are float32; where sums differ in their last bit, now and then an activation
#: rounds to another int8.
BOUND = 1e-3


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("change", [lambda model: model, lambda model: with_biases(with_several_scales(model))])
def test_every_kind_of_model_is_the_reference(name, change, tmp_path):
    model = change(random_model(name))
    model.save(tmp_path / "m.tellme")
    ids = np.random.default_rng(1).integers(0, model.config.vocab, model.config.context).tolist()
    total, count = reference.nats(reference.read_container(tmp_path / "m.tellme"), ids)
    found = nats_per_token(Container(tmp_path / "m.tellme"), ids)
    assert found == pytest.approx(total / count, rel=BOUND)
    # Part by part or whole, the numbers are the same.
    assert found == nats_per_token(model, ids)


def test_a_trained_model_is_the_reference():
    model = open_model("stories-1m")
    ids = model.config.with_bos(Tokenizer(model.tokenizer).encode(PROBE))
    total, count = reference.nats(reference.read_container(model.path), ids)
    assert nats_per_token(model, ids) == pytest.approx(total / count, rel=BOUND)
    assert total / count < 1.1


def test_readings_share_the_tables():
    """Each reading's loss is that of the model on its own, and the tables are gone through twice for all."""
    model = random_model("untied")
    kept = model.layers[1].weights["w2"]
    other = -kept
    read = []
    table = model.table
    model.table = lambda name: (read.append(name), table(name))[1]
    ids = [1, 2, 3, 4, 5, 250]

    def choose(name):
        model.layers[1].weights["w2"] = {"kept": kept, "other": other}[name]

    found = read_in_turn(model, ids, ["kept", "other"], choose)
    assert read == ["embedding", "head"]
    for reading in found:
        choose(reading.name)
        assert reading.nats == pytest.approx(nats_per_token(model, ids), rel=1e-5)
    assert abs(found[0].nats - found[1].nats) > 0.01


def test_numbers_that_run_over_are_no_sense():
    model = random_model("plain")
    model.final_gain = np.full(model.config.dim, np.inf, np.float16)
    assert nats_per_token(model, [1, 2, 3]) == float("inf")


@pytest.mark.parametrize(("nats", "best"), [
    ([1.0, 9.0], 0), ([9.0, 1.0, 8.0], 1), ([float("inf"), 2.0], 1),
    # Too near each other, no better than guessing (ln 300 is 5.7), nothing to compare with.
    ([1.0, 1.0 + CLEAR_NATS / 2], None), ([5.8, 9.0], None), ([1.0, 9.0, 1.1], None), ([float("inf")] * 2, None), ([1.0], None),
])
def test_the_best_reading(nats, best):
    readings = [Reading(f"r{i}", n) for i, n in enumerate(nats)]
    assert best_reading(readings, 300) == (None if best is None else readings[best])


def test_words():
    assert str(Reading(next(iter(BIT_ORDERS)), 1.2345)) == "1.23 nats per token least significant first"
