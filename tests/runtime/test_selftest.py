# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The tests of a board pass on one that is well, and find each fault that is planted."""

import re
from dataclasses import replace
from zlib import crc32

import pytest

from tellme.compiler.image import check_shape, compile_model
from tellme.errors import DeviceError
from tellme.runtime.board import Board
from tellme.runtime.ddr3 import train_ddr3
from tellme.runtime.device import BoardDevice
from tellme.runtime.generation import describe_step
from tellme.runtime.info import training_failure
from tellme.runtime.march import ELEMENTS, address_lines, data_lines, march, sampled_pages, whole_memory
from tellme.runtime.selftest import layer_config, selftest
from tellme.spec.config import PRESETS, preset
from tellme.spec.ddr3_training import Ddr3Training, LaneSettings, LaneTraining
from tellme.spec.memory import EventType
from tellme.spec.packets import DATA_MAX
from tellme.spec.status import Training
from tests.models.random_model import random_model
from tests.runtime.faulty_board import Faults, FaultyClient, board_of, steps

#: A core with two lanes and a small memory, which is tested whole.
CONFIG = replace(preset("ulx3s-85f-l2"), sdram_bytes=1 << 19)
NAMES = ["link", "SDRAM phase", "data lines", "address lines", "memory march", "layer", "bandwidth"]


def run(faults=None, config=CONFIG, **named):
    """The checks by their names."""
    checks = list(selftest(board_of(config, faults), **named))
    assert len({check.name for check in checks}) == len(checks)
    return {check.name: check for check in checks}


def failed(checks):
    return [name for name, check in checks.items() if not check.ok]


@pytest.mark.parametrize("full", [False, True])
def test_a_board_that_is_well(full):
    heard = []
    checks = run(full=full, progress=lambda *step: heard.append(step))
    assert list(checks) == NAMES and failed(checks) == []
    assert not any(check.advice for check in checks.values())
    link, march_ = checks["link"].numbers, checks["memory march"].numbers
    assert link["wrong_sizes"] == [] and link["refused_packets"] == 0
    assert link["packet_sizes"] == (DATA_MAX // 4 if full else len({*range(4, 68, 4), *range(240, 268, 4), *range(496, 520, 4),
                                                                     *range(752, 772, 4), 1020, 1024}))
    assert march_["bytes"] == (CONFIG.sdram_bytes if full else 64 * DATA_MAX) and march_["of_bytes"] == CONFIG.sdram_bytes
    assert checks["SDRAM phase"].numbers["window_ns"] == pytest.approx(9 * 1000 / CONFIG.sdram_mhz / 32, abs=1e-3)
    assert checks["address lines"].numbers["bytes"] == CONFIG.sdram_bytes
    assert checks["bandwidth"].numbers["peak_share"] == 0.985
    # Progress goes up to its end, and the march is most of it.
    done = [step for step in heard if step[0] == "memory"]
    assert done[-1][1] == done[-1][2] == len(ELEMENTS) * march_["bytes"] and done == sorted(done, key=lambda step: step[1])


@pytest.mark.parametrize(("faults", "name", "text"), [
    (Faults(cut=512), "link", r"packets of \[512\] bytes"),
    (Faults(refused=3), "link", "the board refused 3 packets"),
    (Faults(ready=False, training=Training(0, 0, 0, True)), "SDRAM phase", "no phase of the SDRAM's clock works"),
    (Faults(ready=False), "SDRAM phase", "the SDRAM is not ready"),
    (Faults(training=Training(13, 20, 2, False)), "SDRAM phase", "0.47 ns, and 1.00 ns is the least that is safe"),
    (Faults(stuck={None: (1 << 21, 0)}), "data lines", "data lines 5 of 16 are wrong"),
    (Faults(stuck={None: (0, 1 << 3)}), "data lines", "data lines 3 of 16 are wrong"),
    (Faults(dead=(18,)), "address lines", r"the memory has 0.25 MiB, and the core wants 0.5 MiB"),
    (Faults(dead=(9,)), "address lines", "address bits 9 choose nothing"),
    (Faults(shorted=(7, 12)), "address lines", "address bits 7 and 12 choose the same word"),
    (Faults(stuck={DATA_MAX * 511 + 8: (0, 1 << 30)}), "memory march", "reads 0x"),
    (Faults(flaky=(3,)), "memory march", "is not read the same each time"),
    (Faults(crc=3), "layer", r"step 3 \(o of layer 0\) gave other bits than the golden model"),
    (Faults(logit=True), "layer", "the logits in memory are not"),
])
def test_a_fault_is_found(faults, name, text):
    checks = run(faults)
    assert name in failed(checks)
    assert re.search(text, checks[name].found), checks[name]
    assert checks[name].advice
    # What a fault of a single place does not touch is well.
    if name in ("layer", "memory march", "SDRAM phase") and faults.ready:
        assert failed(checks) == [name]


def test_a_cell_between_the_pages_is_found_by_the_whole_march_alone():
    pages = {at for at, _ in sampled_pages(1 << 20)}
    page = next(at for at in range(1 << 19, 1 << 20, DATA_MAX) if at not in pages)
    config = replace(CONFIG, sdram_bytes=1 << 20)
    faults = Faults(stuck={page + 16: (1 << 4, 0)})
    assert failed(run(faults, config)) == []
    found = run(faults, config, full=True)["memory march"]
    assert not found.ok and found.numbers["faults"][0]["address"] == page + 16 and f"{page + 16:#x}" in found.found


@pytest.mark.parametrize("packets", [0, 40, 200, 330])
def test_a_board_that_goes_silent_ends_the_tests(packets):
    checks = run(Faults(silent_after=packets))
    assert list(checks) == NAMES[:len(checks)] and len(checks) < len(NAMES)
    last = list(checks.values())[-1]
    assert not last.ok and last.found == "/dev/ttyX does not answer" and "not made" in last.advice
    assert failed(checks) == [last.name]


def test_a_plain_core_is_told_so():
    """One phase, no sampler, no counts of cycles; simulated time is none that the host could measure."""
    plain = replace(CONFIG, sampler=False, accounts=False, sdram_phases=1)
    checks = {check.name: check for check in selftest(board_of(plain, name="sim"))}
    assert list(checks) == NAMES and failed(checks) == []
    assert checks["SDRAM phase"].found == "13 beats from READ to data; this core tries one phase"
    assert checks["layer"].found.endswith("7 steps, 4 prompt tokens and 5 picks: CRCs and logits are the golden model's")
    assert checks["bandwidth"].found == "this core counts no cycles, and simulated time is not measured"
    assert checks["bandwidth"].numbers == {}


class WrongToken(FaultyClient):
    """All that is in memory is right, and the first pick's event has another token."""

    def _events(self, args):
        for kind, event in super()._events(args):
            yield kind, replace(event, id=event.id ^ 1) if kind == EventType.TOKEN else event


def test_a_token_that_is_wrong_on_its_way_is_found():
    checks = {check.name: check for check in selftest(Board(BoardDevice("/dev/ttyX", CONFIG, WrongToken(CONFIG), "ab" * 32)))}
    assert failed(checks) == ["layer"]
    told = re.fullmatch(r"the tokens are \[(\d+)\], and \[(\d+)\] on the golden model, at position \d+", checks["layer"].found)
    assert told and int(told[1]) ^ int(told[2]) == 1


class Fading(FaultyClient):
    """A memory that is ready when the tests begin, and is not when they look again."""

    def status(self):
        if self.packets > 50:
            self.faults.ready = False
        return super().status()


def test_a_memory_that_is_lost_on_the_way_ends_the_tests():
    checks = list(selftest(Board(BoardDevice("/dev/ttyX", CONFIG, Fading(CONFIG), "ab" * 32))))
    assert [(check.name, check.ok) for check in checks] == [("link", True), ("SDRAM phase", False)]
    assert checks[-1].found == "the SDRAM is not ready" and "bring-up" in checks[-1].advice


def test_the_golden_model_has_nothing_to_test():
    with pytest.raises(DeviceError) as caught:
        list(selftest(Board.open("golden")))
    assert caught.value.hint == "board"


# A DDR3 memory

#: The core of the largest board, and one that is as small as a test likes it.
LARGE, DDR3 = preset("orangecrab-85f"), replace(preset("sim-ddr3"), sdram_bytes=1 << 19)
DDR3_NAMES = ["link", "DDR3 training", *NAMES[2:]]


def test_a_ddr3_board_that_is_well():
    checks = run(config=DDR3)
    assert list(checks) == DDR3_NAMES and failed(checks) == [] and not any(check.advice for check in checks.values())
    numbers = checks["DDR3 training"].numbers
    assert numbers["lanes"] == [{"readclksel": 4, "slip": 1, "start": 2, "window": 4, "window_ps": 6666.7},
                                {"readclksel": 2, "slip": 3, "start": 1, "window": 3, "window_ps": 5000.0}]
    # Counted in words of the memory, 64 bits each.
    bandwidth = checks["bandwidth"].numbers
    assert bandwidth["peak_share"] == 0.985 and bandwidth["weights_bytes_per_second"] == round(0.985 * 8 * 75e6)
    assert numbers["readclksel_step_ps"] == 1666.7 and numbers["ready"] and not numbers["failed"]


@pytest.mark.parametrize(("lanes", "narrow"), [((steps(0, 3, 4), steps(0, 0, 7)), "lane 0"),
                                               ((steps(0, 1, 1), steps(2, 6, 7)), "lane 0 and lane 1")])
def test_a_narrow_window_is_a_warning(lanes, narrow):
    checks = run(Faults(lanes=lanes), DDR3)
    check = checks["DDR3 training"]
    assert failed(checks) == [] and f"fewer than 3 steps work for {narrow}: the memory may fail" in check.advice


def test_a_ddr3_memory_that_is_not_ready_gets_no_packets():
    board = board_of(DDR3, Faults(lanes=(set(), steps(1, 2, 5))))
    checks = list(selftest(board))
    assert [check.name for check in checks] == ["DDR3 training"] and not checks[0].ok
    assert "the training failed, no READCLKSEL works for lane 0" in checks[0].found and "bring-up" in checks[0].advice
    # STATUS and the register of settings, twice.
    assert board.device.client.packets == 4


def test_a_training_with_settings():
    device = board_of(DDR3, Faults(lanes=(steps(2, 3, 6), set()))).connect()
    clock = iter(range(100))
    with pytest.raises(DeviceError, match="not ready: the training failed, no READCLKSEL works for lane 1 3 s after"):
        train_ddr3(device, [LaneSettings(4, 2), None], patience=3, clock=lambda: next(clock))
    # With settings for both lanes the memory is ready in any case, and "failed" says that lane 1 reads wrong.
    state = train_ddr3(device, [LaneSettings(3, 2), LaneSettings(7, 3)])
    assert state.sdram_ready and state.training.failed and state.training.overridden
    assert [lane.settings for lane in state.training.lanes] == [LaneSettings(3, 2), LaneSettings(7, 3)] == list(state.overrides)
    assert [lane.window for lane in state.training.lanes] == [4, 0]
    with pytest.raises(ValueError, match="settings of 1 lanes"):
        train_ddr3(device, [None])
    with pytest.raises(DeviceError, match="is SDR"):
        train_ddr3(board_of(CONFIG).connect(), [None, None])


class Measured(FaultyClient):
    """Counts the bytes that go over the link."""

    def __init__(self, config):
        super().__init__(config)
        self.moved = 0

    def write(self, address, content, progress=None):
        self.moved += len(content)
        super().write(address, content, progress)

    def read(self, address, size):
        self.moved += size
        return super().read(address, size)


def test_the_quick_test_of_512_mib_moves_as_little_as_that_of_a_small_memory(monkeypatch):
    """What takes the time at a port are bytes and round trips: some seconds at 3 Mbaud, whatever the memory's size."""
    board = board_of(LARGE)
    client = board.device._given = Measured(LARGE)
    # The bytes of a sum stay on the board.
    monkeypatch.setattr(client, "checksum", lambda address, size: crc32(FaultyClient.read(client, address, size)))
    checks = {check.name: check for check in selftest(board)}
    assert list(checks) == DDR3_NAMES and failed(checks) == []
    assert checks["address lines"].numbers["bytes"] == checks["memory march"].numbers["of_bytes"] == 1 << 29
    assert checks["memory march"].numbers["bytes"] == 64 * DATA_MAX
    assert client.moved < 1 << 20 and client.packets < 2500, (client.moved, client.packets)


@pytest.mark.parametrize(("faults", "text"), [
    (Faults(dead=(28,)), "the memory has 256 MiB, and the core wants 512 MiB"),
    (Faults(dead=(28, 27)), "the memory has 128 MiB"), (Faults(shorted=(28, 26)), "address bits 26 and 28 choose the same word")])
def test_the_size_of_a_large_memory_is_found(faults, text):
    found = next(check for check in selftest(board_of(LARGE, faults)) if check.name == "address lines")
    assert not found.ok and text in found.found


@pytest.mark.parametrize("name", PRESETS)
def test_the_layer_fits_each_preset(name):
    config = layer_config(preset(name))
    config.check()
    check_shape(config, preset(name))
    assert config.vector_norms == preset(name).vector_norms


@pytest.mark.parametrize(("training", "words"), [
    (Training(0, 0, 0, False), "not ready yet"),
    (Training(0, 0, 0, True), "not ready: no phase of its clock works"),
    (Ddr3Training((LaneTraining(0, 0, 0, 0), LaneTraining(0, 0, 0, 0)), failed=True),
     "not ready: the training failed, no READCLKSEL works for lane 0 and lane 1"),
    (Ddr3Training((LaneTraining(2, 1, 1, 3), LaneTraining(3, 1, 2, 2)), failed=True),
     "not ready: the training failed, the chosen settings of the lanes did not work a second time"),
])
def test_why_a_memory_is_not_ready(training, words):
    assert training_failure(training) == words


def test_steps_have_names():
    """With norms behind linears a layer has eleven of them, else six."""
    image = compile_model(random_model("untied"), CONFIG)
    assert [describe_step(image, number) for number in range(7)] == [
        "step 0 (embedding)", "step 1 (q, k, v of layer 0)", "step 2 (attention of layer 0)", "step 3 (o of layer 0)",
        "step 4 (gate and up of layer 0)", "step 5 (down of layer 0)", "step 6 (q, k, v of layer 1)"]
    image = compile_model(random_model("vector-norms"), preset("sim-norms"))
    assert [describe_step(image, number) for number in (*range(13), len(image.program) - 2)] == [
        "step 0 (embedding)", "step 1 (q of layer 0)", "step 2 (norm of q of layer 0)", "step 3 (k of layer 0)",
        "step 4 (norm of k of layer 0)", "step 5 (v of layer 0)", "step 6 (attention of layer 0)", "step 7 (o of layer 0)",
        "step 8 (norm of o of layer 0)", "step 9 (gate and up of layer 0)", "step 10 (down of layer 0)",
        "step 11 (norm of down of layer 0)", "step 12 (q of layer 1)", "step 23 (head)"]


# The march alone


@pytest.mark.parametrize("bit", [10, 12, 13])
def test_the_march_finds_lines_by_itself(bit):
    """An address line that chooses nothing is found by the order of the elements, whatever the walk found."""
    client = FaultyClient(CONFIG, Faults(dead=(bit,)))
    faults = march(client, whole_memory(1 << 15, 1 << 10))
    assert faults and all(fault.bits for fault in faults)


@pytest.mark.parametrize("bit", [2, 5, 9])
def test_the_march_finds_lines_within_a_block(bit):
    assert march(FaultyClient(CONFIG, Faults(dead=(bit,))), whole_memory(1 << 14, 1 << 12))


@pytest.mark.parametrize("bit", range(32))
def test_the_march_finds_each_stuck_bit_at_both_levels(bit):
    for masks in ((1 << bit, 0), (0, 1 << bit)):
        faults = march(FaultyClient(CONFIG, Faults(stuck={1028: masks})), whole_memory(1 << 12, 1 << 10))
        assert {fault.address for fault in faults} == {1028} and {tuple(fault.bits) for fault in faults} == {(bit,)}


def test_the_march_on_a_good_memory():
    client = FaultyClient(CONFIG)
    assert march(client, whole_memory(1 << 14, 1 << 10)) == [] and client.sums == 5 * 16
    assert data_lines(client) == [] and data_lines(client, 4096) == []
    found = address_lines(client, 1 << 19)
    assert (found.size, found.dead, found.shorted, found.faults) == (1 << 19, (), (), ())


def test_pages_cover_the_memory():
    for size in (1 << 14, 1 << 20, 1 << 25, 3 << 20):
        pages = sampled_pages(size)
        assert pages == sorted(set(pages)) and pages[0] == (0, DATA_MAX) and sum(pages[-1]) == size
        assert max(b - a for (a, _), (b, _) in zip(pages, pages[1:], strict=False)) < size / 16 + 2 * DATA_MAX
    assert sum(part for _, part in whole_memory(3 << 20)) == 3 << 20
