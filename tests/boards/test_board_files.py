# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Board files: short, found by the names that they define, the only sources that name their board; and the PLL's dividers."""

import importlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from boards.devices import devices
from boards.flow import build
from boards.top import BoardTop, Pll
from tellme.boards import boards
from tellme.spec.config import preset
from tellme.spec.sizing import DEVICES, check

ROOT = Path(__file__).resolve().parents[2]
#: Where gateware, host, simulation, tools and builds are; tests and documents may name a board.
SOURCES = [path for folder in ("boards", "hw", "sw", "sim", "tools") for path in sorted((ROOT / folder).rglob("*.py"))]
#: The board that commands take if none is named.
DEFAULT = "ulx3s"


@pytest.mark.parametrize("name", build.BOARDS)
def test_a_board_is_one_short_file(name):
    path = ROOT / "boards" / f"{name}.py"
    assert len(path.read_text().splitlines()) <= 100
    board = importlib.import_module(f"boards.{name}")
    assert issubclass(board.Top, BoardTop)
    for device, (config, platform) in board.DEVICES.items():
        check(preset(config), device)
        # The oscillator that the top level asks for is the platform's, and the PLL reaches the preset's clocks from it.
        mhz = platform().lookup(board.Top.clock).clock.frequency / 1e6
        assert Pll.between(mhz, preset(config)).fabric_mhz == pytest.approx(preset(config).fabric_mhz)


def test_a_device_that_one_side_lacks_is_named():
    with pytest.raises(ValueError) as caught:
        devices("ulx3s", {"85f": None})
    assert str(caught.value) == ("the board file of ulx3s has platforms for 85f, and the host package's boards.json has presets "
                                 "for 85f, 12f")


def test_every_board_has_a_name_on_usb_and_for_the_loader():
    assert {board.key for board in boards()} == set(build.BOARDS)
    assert all(board.usb and board.name and board.programmer for board in boards())


def test_the_hosts_rate_is_the_gatewares():
    rates = {(board.key, name): (board.baud, preset(name).uart_baud) for board in boards() for name in board.presets.values()}
    assert len(rates) > 2 and all(host == gateware for host, gateware in rates.values()), rates


def test_boards_are_found():
    assert build.BOARDS == ("icepi_zero", "ulx3s")
    assert set(DEVICES) >= {device for name in build.BOARDS for device in importlib.import_module(f"boards.{name}").DEVICES}


@pytest.mark.parametrize("name", [name for name in build.BOARDS if name != DEFAULT])
def test_no_other_file_knows_the_board(name):
    pattern = re.compile(name.replace("_", "[ _-]?").replace("zero", "(zero)?"), re.IGNORECASE)
    knowing = [path.relative_to(ROOT).as_posix() for path in (*SOURCES, ROOT / "Makefile") if pattern.search(path.read_text())]
    assert knowing == [f"boards/{name}.py"]


@pytest.mark.parametrize(("input_mhz", "name", "dividers"), [
    (25, "ulx3s-85f", (3, 8, 8)), (25, "ecp5-25f", (1, 2, 8)), (50, "ecp5-25f", (1, 1, 8)), (50, "ulx3s-85f", (3, 4, 8))])
def test_pll_between_oscillator_and_preset(input_mhz, name, dividers):
    pll = Pll.between(input_mhz, preset(name))
    assert (pll.reference, pll.feedback, pll.output) == dividers
    assert pll.phases == preset(name).sdram_phases
    assert pll.clocks["sdram"] == pytest.approx(preset(name).sdram_mhz)


@pytest.mark.parametrize(("changes", "text"), [
    ({"fabric_mhz": 51.7}, r"no PLL makes the 51.7 MHz of preset ecp5-25f from 25 MHz"),
    ({"fabric_mhz": 40.0}, r"VCO at 320.0 MHz, divided by 8: 400 to 800 MHz and an even divider are wanted"),
    ({"sdram_phases": 1}, r"preset ecp5-25f has 1 phases; a PLL makes multiples of 8"),
])
def test_what_no_pll_makes_is_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        Pll.between(25, replace(preset("ecp5-25f"), **changes))
