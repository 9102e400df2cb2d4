# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The tests of a board pass on one that is well, and find each fault that is planted."""

from dataclasses import replace

import pytest

from tellme.compiler.image import check_shape
from tellme.errors import DeviceError
from tellme.runtime.board import Board
from tellme.runtime.march import ELEMENTS, address_lines, data_lines, march, sampled_pages, whole_memory
from tellme.runtime.selftest import layer_config, selftest
from tellme.spec.config import PRESETS, preset
from tellme.spec.packets import DATA_MAX
from tellme.spec.status import Training
from tests.runtime.faulty_board import Faults, FaultyClient, board_of

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
    import re
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


def test_the_golden_model_has_nothing_to_test():
    with pytest.raises(DeviceError) as caught:
        list(selftest(Board.open("golden")))
    assert caught.value.hint == "board"


@pytest.mark.parametrize("name", PRESETS)
def test_the_layer_fits_each_preset(name):
    config = layer_config(preset(name))
    config.check()
    check_shape(config, preset(name))


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
