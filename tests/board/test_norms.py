# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Norms behind linears (OLMo 2) on the simulated board: each logit and step, a run that is stopped, and the command line."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hw.verilog import core_sha256, core_verilog
from tellme.cli import main
from tellme.compiler.image import compile_model
from tellme.golden.board import GoldenBoard
from tellme.link.client import BoardClient
from tellme.models.config import ModelConfig
from tellme.runtime.board import Board
from tellme.runtime.selftest import selftest
from tellme.spec.memory import DoneReason, EventType, StartArgs, StartFlags
from tests.board.compare import client, compare
from tests.models.random_model import FAMILY, model_of, random_model, with_biases, with_planes, with_row_scales

#: The build of the board would take CI beyond its twenty minutes; the core bench top-tiny has such a model.
pytestmark = [pytest.mark.rtl, pytest.mark.nightly]

PRESET = "sim-norms"
#: Grouped heads of 32, and a feed-forward network of widths that are no whole slices.
WIDE = ModelConfig(dim=128, ffn=348, layers=2, heads=8, kv_heads=2, head_dim=32, vocab=131, context=40, vector_norms=True)


def test_core_is_the_presets(device):
    assert device.core_sha256 == core_sha256(core_verilog(PRESET))


@pytest.mark.parametrize("name", FAMILY)
def test_random_models(device, name):
    """Models with such norms, with others and without, one after another on the same board."""
    model = random_model(name)
    prompt = [int(t) for t in np.random.default_rng(len(name)).integers(0, model.config.vocab, 3)]
    assert compare(device, model, prompt, 2).positions == 4


@pytest.mark.parametrize("gains", [False, True])
def test_planes_scales_and_biases(device, gains):
    model = with_biases(with_planes(with_row_scales(model_of(WIDE, gains=gains, name="wide"))))
    assert compare(device, model, [5, 130, 7], 2).positions == 4


def test_the_cores_own_test(device):
    checks = {check.name: check for check in selftest(Board(device))}
    assert checks["layer"].ok, checks["layer"].found


def test_a_stop_at_any_step_leaves_nothing(device):
    """After a stop the same model, not loaded again, gives the same tokens."""
    model = model_of(WIDE, gains=True, name="wide")
    image = compile_model(model, device.core)
    device.load(image, lambda done, total: None)
    golden, link = GoldenBoard(image), client(device)
    assert isinstance(link, BoardClient)
    random = np.random.default_rng(3)
    for _ in range(8):
        device.place(0, [9, 4])
        link.start(StartArgs(0, 2, 38))
        for _ in range(int(random.integers(0, 20))):
            link.status()
        link.stop()
        done = next(event for kind, event in link.events() if kind == EventType.DONE)
        assert done.logit == DoneReason.STOPPED
        device.place(0, [9, 4])
        golden.tokens[:2] = 9, 4
        args = StartArgs(0, 2, 2, StartFlags.CLEAR)
        assert [e.id for _, e in list(device.start(args))[:-1]] == [e.id for _, e in list(golden.start(args))[:-1]]
        assert device.crcs() == golden.crcs[:-1]


def test_what_the_norms_cost(device):
    """Cycles of a token beside those of a model of the same shape with norms ahead of its linears."""
    cycles = {}
    for norms in (False, True):
        model = model_of(replace(WIDE, vector_norms=norms), gains=True, name="wide")
        device.load(compile_model(model, device.core), lambda done, total: None)
        device.place(0, [9])
        *_, (_, done) = device.start(StartArgs(0, 1, 1, StartFlags.CLEAR))
        cycles[norms] = done.cycles
    print(f"{cycles[True]} cycles with norms behind linears, {cycles[False]} with norms ahead of them")
    # q, k and v are three linears, and of the norms those on q and k take a cycle an element, the others two.
    c, added = WIDE, cycles[True] - cycles[False]
    passes = c.q_dim + c.kv_dim + 2 * 2 * c.dim
    assert passes < added / c.layers < passes + 1200


def test_the_command_line(tmp_path, capsys):
    path, found = tmp_path / "olmo2.tellme", {}
    model_of(WIDE, gains=True, name="wide").save(path)
    for device in (["golden"], ["sim", "--preset", PRESET]):
        assert main(["generate", "--model", str(path), "--prompt-ids", "9,4,130", "--max-tokens", "6", "--json", "--device",
                     *device]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        found[device[0]] = [line["id"] for line in lines if line["type"] == "token"]
    assert found["sim"] == found["golden"] and len(found["sim"]) == 6
