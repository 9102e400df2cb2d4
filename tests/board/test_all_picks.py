# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Picks of all positions on the simulated board: events, lists and logits of each token of a prompt, and the commands that use
them."""

import json

import numpy as np
import pytest

import tellme
from hw.verilog import core_sha256, core_verilog
from tellme.cli import main
from tellme.compiler.image import compile_model
from tellme.golden.board import GoldenBoard
from tellme.spec.memory import CRC_BASE, StartArgs, StartFlags
from tellme.spec.sampling import DrawSettings, inverse_temperature, pack_settings
from tests.board.compare import ROOT, client, shipped
from tests.models.random_model import BOARD_FAMILY, random_model
from tests.runtime.test_drafter import DRAWN, MODEL, Knows, ids, plain

#: The build of the board would take CI beyond its twenty minutes; the core bench top-all has the same units.
pytestmark = [pytest.mark.rtl, pytest.mark.nightly]

#: Cores with an SDR memory and four tokens, and with a DDR3 memory, five tokens and four slots.
CORES = ("sim-all", "sim-ddr3-slots")
EVERY = StartFlags.CLEAR | StartFlags.DUMP | StartFlags.ALL
SETTINGS = DrawSettings(inverse_temperature(2.0), top_k=30, top_p=60_000, seed=5)


def load(device, core, model):
    """The model on the board, and a golden board of the same image; both draw alike."""
    image = compile_model(model, core)
    device.load(image, lambda done, total: None)
    device.draw_as(SETTINGS)
    golden = GoldenBoard(image, core.chunk, head_tokens=core.chunk)
    golden.registers |= pack_settings(SETTINGS)
    return image, golden


def check(device, image, golden, prompt, *, generate, flags=EVERY, chunk=0):
    """A run's events and steps, and the logits and lists of its last pass.  The cycles."""
    device.place(0, prompt)
    golden.tokens[:len(prompt)] = prompt
    args = StartArgs(0, len(prompt), generate, flags, chunk)
    got = list(device.start(args))
    assert [(k, e.position, e.id, e.logit) for k, e in got[:-1]] == [(k, e.position, e.id, e.logit)
                                                                     for k, e in list(golden.start(args))[:-1]]
    assert len(got) == len(prompt) + max(generate - 1, 0) + 1
    crcs = np.frombuffer(client(device).read(CRC_BASE, 4 * len(image.program)), "<u4")
    assert [int(c) for c in crcs[:-1]] == golden.crcs[:-1]
    assert np.array_equal(device.pass_logits(), golden.pass_logits)
    for number in range(len(golden.pass_logits)):
        assert device.top(number) == golden.top(number), number
    return got[-1][1].cycles


def test_core_is_the_presets(device, core):
    assert device.core_sha256 == core_sha256(core_verilog(core.name))


@pytest.mark.parametrize("name", BOARD_FAMILY)
def test_random_models(device, core, name):
    """All picks of a prompt, greedy and drawn, with and without tokens behind it, and of a prompt in smaller chunks."""
    model = random_model(name)
    image, golden = load(device, core, model)
    prompt = [int(t) for t in np.random.default_rng(len(name)).integers(0, model.config.vocab, model.config.context - 4)]
    check(device, image, golden, prompt, generate=0)
    check(device, image, golden, prompt, generate=3, flags=EVERY | StartFlags.SAMPLE)
    check(device, image, golden, prompt[:7], generate=1, chunk=3)
    check(device, image, golden, prompt[:core.chunk + 1], generate=1, chunk=1)


@pytest.mark.parametrize("sampling", [None, DRAWN])
def test_guesses_of_the_host(device, core, sampling):
    """Texts whose tokens the host guesses, right and wrong, are those without, in fewer passes."""
    prompt = [3, 1, 4, 1, 5, 9]
    text, _ = plain(prompt, 60, sampling, ignore_end=True)
    session = tellme.Board(device).load(MODEL)
    for wrong, most in ((0.0, core.chunk), (0.2, 1.2), (1.0, 1.0)):
        run = session.generate(prompt, max_tokens=60, sampling=sampling, ignore_end=True, drafter=Knows(prompt + text, wrong))
        assert ids(run) == text and run.stats["tokens_per_pass"] >= 0.9 * most
        print(f"{wrong}: {run.stats['tokens_per_pass']} tokens a pass, {run.stats['cycles_per_token']} cycles a token")


def test_a_chunks_picks_cost_less_than_single_ones(device, core):
    """The shipped model's prompt of three chunks: cycles in chunks, token by token, and without picks."""
    model = shipped()
    image, golden = load(device, core, model)
    prompt = [int(t) for t in np.random.default_rng(1).integers(0, model.config.vocab, 3 * core.chunk)]
    chunks, single = (check(device, image, golden, prompt, generate=0, chunk=chunk) for chunk in (core.chunk, 1))
    device.place(0, prompt)
    *_, (_, done) = device.start(StartArgs(0, len(prompt), 0, StartFlags.CLEAR))
    print(f"{len(prompt)} tokens: {chunks} cycles in chunks of {core.chunk} with picks, {done.cycles} without, {single} one by "
          "one")
    assert done.cycles < chunks < single


def test_perplexity_and_logits_are_the_goldens(core, capsys, tmp_path):
    found = {}
    for device in (["golden"], ["sim", "--preset", core.name]):
        assert main(["perplexity", "--text", str(ROOT / "tests" / "data" / "stories.txt"), "--tokens", "11", "--device", *device,
                     "--json"]) == 0
        found[device[0]] = json.loads(capsys.readouterr().out)
        assert found[device[0]].pop("device") == device[0]
        assert main(["generate", "--prompt", "Once upon a time there was", "--max-tokens", "3", "--device", *device, "--json",
                     "--logits", str(tmp_path / f"{device[0]}.npy")]) == 0
        capsys.readouterr()
    assert found["sim"] == found["golden"] and found["sim"]["tokens"] == 11
    golden, sim = (np.load(tmp_path / f"{name}.npy") for name in ("golden", "sim"))
    assert len(golden) > core.chunk + 3 and np.array_equal(golden, sim)
