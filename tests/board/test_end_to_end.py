# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""From prompt to text through the RTL: the simulated board, spoken to with packets, against the golden model."""

import numpy as np
import pytest

from hw.verilog import core_sha256, core_verilog
from tellme.compiler.image import compile_model
from tellme.golden.board import GoldenBoard
from tellme.link.client import BoardClient
from tellme.spec.memory import MEMORY_CLIENTS, DoneReason, EventType, StartArgs, StartFlags
from tests.board.compare import client, compare, needed_kv_bytes, open_sim, shipped
from tests.models.random_model import BOARD_FAMILY, random_model

pytestmark = pytest.mark.rtl


def test_core_is_the_presets(device):
    assert device.core_sha256 == core_sha256(core_verilog("ulx3s-85f-l2"))


def test_shipped_model_eight_tokens(device):
    """All logits, all CRCs, and the bytes written."""
    result = compare(device, shipped(), [1], 8)
    assert result.positions == 8
    assert result.logits == 8 * 2048


@pytest.mark.parametrize("name", BOARD_FAMILY)
def test_random_models(device, name):
    """The models of the family, one after another on the same board: 4 prompt and 4 generated tokens each."""
    model = random_model(name)
    prompt = [int(t) for t in np.random.default_rng(len(name)).integers(0, model.config.vocab, 4)]
    assert compare(device, model, prompt, 4).positions == 7


def test_board_generates_on_its_own(device):
    """One start: the board feeds the prompt and its own picks, and writes K and V rows and nothing else."""
    model = shipped()
    image = compile_model(model, device.config(model))
    device.load(image, lambda done, total: None)
    prompt = [1, 393, 396]
    device.place(0, prompt)
    events = list(device.start(StartArgs(0, len(prompt), 4, StartFlags.CLEAR)))
    golden = GoldenBoard(image)
    golden.tokens[:len(prompt)] = prompt
    assert [(k, e.id, e.position) for k, e in events[:-1]] == [
        (k, e.id, e.position) for k, e in golden.start(StartArgs(0, len(prompt), 4)) if k == EventType.TOKEN]
    assert 4 * device.counters()["attention_write_words"] == needed_kv_bytes(model) * (len(prompt) + 3)


def test_stop_in_mid_layer_keeps_weights_and_link(device):
    """After a stop the same model, not loaded again, gives the same tokens."""
    model = shipped()
    image = compile_model(model, device.config(model))
    device.load(image, lambda done, total: None)
    link = client(device)
    assert isinstance(link, BoardClient)
    golden = GoldenBoard(image)
    want = int(golden.feed([1], 0)[-1].argmax())
    device.place(0, [1])
    for _ in range(3):
        link.start(StartArgs(0, 1, 50, StartFlags.CLEAR))
        link.stop()
        done = [e for k, e in _until_done(link) if k == EventType.DONE]
        assert done[-1].logit == DoneReason.STOPPED
        assert link.status()[0] & 0b1001 == 0b1000
    base, content = image.sections[0]
    link.verify(base, bytes(content))
    events = list(device.start(StartArgs(0, 1, 1, StartFlags.CLEAR)))
    assert events[0][1].id == want


def test_a_second_load_sends_no_weights(device):
    """The board's checksums tell what its memory holds; after another model the first one is sent again, where it differs."""
    images = [compile_model(random_model(name), device.config(random_model(name))) for name in ("plain", "relu2")]
    tables = [sum(len(table) for _, table in i.tables) for i in images]
    sent = []
    for number in (0, 0, 1, 0):
        device.load(images[number], lambda done, total: None)
        sent.append(device.sent - tables[number])
        assert device.sent + device.skipped == tables[number] + sum(len(part) for _, part in images[number].sections)
        device.place(0, [5])
        events = list(device.start(StartArgs(0, 1, 2, StartFlags.CLEAR)))
        golden = GoldenBoard(images[number])
        golden.tokens[0] = 5
        assert [e.id for _, e in events[:-1]] == [e.id for _, e in list(golden.start(StartArgs(0, 1, 2)))[:-1]]
    assert sent[1] == 0 and sent[2] > 0 and sent[3] > 0


def _until_done(link):
    for kind, event in link.events():
        yield kind, event
        if kind == EventType.DONE:
            return


@pytest.mark.nightly
def test_small_preset_four_tokens():
    """The shipped model on the core that fits an LFE5U-25F: all logits and CRCs; counters that it lacks read zero."""
    small = open_sim("ecp5-25f")
    try:
        result = compare(small, shipped(), [1], 4)
        assert result.logits == 4 * 2048
        count = small.counters()
        assert count["cycles"] > 0 and not any(count[f"{client}_words"] for client in MEMORY_CLIENTS)
    finally:
        small.close()


def test_overflow_stops_with_the_step(device):
    """Scales that make a residual infinite: the run ends with the descriptor's number, as on the golden board."""
    from dataclasses import replace

    from tellme.spec.scale import Scale

    model = random_model("plain")
    layer = model.layers[1]
    model.layers[1] = replace(layer, scales={**layer.scales, "w2": Scale(2047, 100)})
    image = compile_model(model, device.config(model))
    device.load(image, lambda done, total: None)
    device.place(0, [5])
    events = list(device.start(StartArgs(0, 1, 3, StartFlags.CLEAR)))
    golden = GoldenBoard(image)
    golden.tokens[0] = 5
    want = list(golden.start(StartArgs(0, 1, 3)))
    assert (events[-1][1].logit, events[-1][1].id) == (DoneReason.NONFINITE, want[-1][1].id)
    assert client(device).status()[0] & 0b100
