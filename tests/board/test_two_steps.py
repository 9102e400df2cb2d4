# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The LM head in two steps on the simulated board: picks, draws, steps and rows of the golden model, and fewer cycles."""

import pytest

from hw.verilog import core_sha256, core_verilog
from tellme.compiler.image import compile_model
from tellme.golden.board import GoldenBoard
from tellme.spec.config import preset
from tellme.spec.memory import HEAD_COUNTERS, EventType, StartArgs, StartFlags
from tellme.spec.sampling import DrawSettings, inverse_temperature, max_gap, pack_settings
from tests.board.compare import shipped
from tests.models.random_model import FAMILY, random_model, with_head_codes

#: No board is built with it, and the build would take CI beyond its twenty minutes; CI has the unit.
pytestmark = [pytest.mark.rtl, pytest.mark.nightly]

PRESET = "sim-two-steps"
BOARD = preset(PRESET)
STEPS = StartFlags.CLEAR | StartFlags.TWO_STEPS
SETTINGS = DrawSettings(inverse_temperature(0.8), top_k=30, max_gap=max_gap(0.02), seed=5)


def load(device, model):
    """The model on the board, and a golden board of the same image; both draw alike."""
    image = compile_model(model, BOARD)
    device.load(image, lambda done, total: None)
    assert device.two_steps
    device.draw_as(SETTINGS)
    golden = GoldenBoard(image)
    golden.registers |= pack_settings(SETTINGS)
    return golden


def check(device, golden, prompt, generate, flags):
    """A run's events, the steps of its last token, and its rows.  The cycles, and the share of the rows that were read."""
    device.place(0, prompt)
    golden.tokens[:len(prompt)] = prompt
    args = StartArgs(0, len(prompt), generate, flags)
    got, want = list(device.start(args)), list(golden.start(args))
    assert len(got) == generate + 1 and got[-1][0] == EventType.DONE
    assert [(k, e.position, e.id, e.logit) for k, e in got[:-1]] == [(k, e.position, e.id, e.logit) for k, e in want[:-1]]
    assert device.crcs() == golden.crcs[:-1]
    counters = device.counters()
    assert {name: counters[name] for name in HEAD_COUNTERS} == golden.head_counters
    assert counters["head_rows"] == (generate * golden.registers["vocab"] if flags & StartFlags.TWO_STEPS else 0)
    return counters["cycles"], counters["head_rows_read"] / max(1, counters["head_rows"])


def test_core_is_the_presets(device):
    assert device.core_sha256 == core_sha256(core_verilog(PRESET))


@pytest.mark.parametrize("name", FAMILY)
def test_random_models(device, name):
    golden = load(device, with_head_codes(random_model(name), 13))
    for length, flags in ((1, STEPS), (4, STEPS | StartFlags.SAMPLE), (3, StartFlags.CLEAR), (6, STEPS)):
        check(device, golden, [5, 7, 11, 3, 2, 1][:length], 4, flags)


def test_the_shipped_model_takes_fewer_cycles(device):
    """Fewer rows than wait at a time, and more: a draw's gap, and the pick alone."""
    golden = load(device, shipped())
    found = {flags: check(device, golden, [1, 319, 378], 5, flags)
             for flags in (STEPS, STEPS | StartFlags.SAMPLE, StartFlags.CLEAR, StartFlags.CLEAR | StartFlags.SAMPLE)}
    for more in (StartFlags(0), StartFlags.SAMPLE):
        (steps, share), (whole, _) = found[STEPS | more], found[StartFlags.CLEAR | more]
        print(f"{more!r}: {steps} cycles in two steps, {whole} in one, {share:.3f} of the rows")
        assert steps < 0.95 * whole and 0 < share < 0.2
