# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Board files: short, found by the names that they define, the only sources that name their board; pins; the PLL's dividers."""

import importlib
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from boards.ddr3 import Ddr3BoardTop
from boards.devices import devices
from boards.flow import build
from boards.sdr import Pll, SdrBoardTop
from boards.top import STATES
from tellme.boards import boards
from tellme.spec.config import PRESETS, preset
from tellme.spec.sizing import DEVICES, check

ROOT = Path(__file__).resolve().parents[2]
#: Where gateware, host, simulation, tools and builds are; tests and documents may name a board.
SOURCES = [path for folder in ("boards", "hw", "sw", "sim", "tools") for path in sorted((ROOT / folder).rglob("*.py"))]
#: The board that commands take if none is named.
DEFAULT = "ulx3s"


#: A board and its device, of every board.
BUILDS = [(name, device) for name in build.BOARDS for device in importlib.import_module(f"boards.{name}").DEVICES]
#: Supply of a pin's bank by the standard of the pin.
VOLTS = {"LVCMOS33": 3.3, "SSTL15_I": 1.5, "SSTL15D_I": 1.5, "SSTL135_I": 1.35, "SSTL135D_I": 1.35, "SSTL135_II": 1.35}


def made(name, device):
    """Module, preset and platform of a board with a device; no tool is looked for."""
    board = importlib.import_module(f"boards.{name}")
    config, platform = board.DEVICES[device]
    return board, preset(config), type(platform.__name__, (platform,), {"required_tools": []})()


@cache
def built(name, device):
    """(pin, attributes) of each pin of a board's top, as its constraints have them, and the text of the netlist."""
    board, config, platform = made(name, device)
    plan = platform.prepare(board.Top(config, "0" * 64), name="top", do_program=False)
    lpf, netlist = (plan.files[f"top.{ending}"] for ending in ("lpf", "il"))
    sites = dict(re.findall(r'LOCATE COMP "(.*?)" SITE "(.*?)";', lpf))
    attributes = {port: dict(word.split("=") for word in words.split())
                  for port, words in re.findall(r'IOBUF PORT "(.*?)" (.*?);', lpf)}
    return [(sites[port], attributes[port]) for port in sites], netlist


@pytest.mark.parametrize(("name", "device"), BUILDS)
def test_a_board_is_one_short_file(name, device):
    assert len((ROOT / "boards" / f"{name}.py").read_text().splitlines()) <= 100
    board, config, platform = made(name, device)
    assert issubclass(board.Top, Ddr3BoardTop if config.ddr3 else SdrBoardTop)
    check(config, device)
    # The oscillator that the top level asks for is the platform's, and the PLL reaches the preset's clocks from it.
    clocks = board.Top.clocks(platform, config)
    assert clocks["fabric"] == pytest.approx(config.fabric_mhz)
    assert clocks["edge" if config.ddr3 else "sdram"] == pytest.approx(config.sdram_mhz)
    # clock_table tells clocks apart by their rates.
    assert all(abs(a - b) > 0.02 * a for a in clocks.values() for b in clocks.values() if a is not b)


@pytest.mark.parametrize(("name", "device"), BUILDS)
def test_each_pin_once_and_its_bank_has_the_voltage(name, device):
    """A DDR3 board has pins of 3.3 V and pins of its chip's voltage, and no third voltage.  nextpnr refuses two in a bank."""
    pins, _ = built(name, device)
    twice = [pin for pin, n in Counter(pin for pin, _ in pins).items() if n > 1]
    assert not twice and len(pins) > 40
    config = preset(importlib.import_module(f"boards.{name}").DEVICES[device][0])
    volts = Counter(VOLTS[attributes["IO_TYPE"]] for _, attributes in pins)
    # The clock, the UART and the LEDs are at 3.3 V; all others are the memory's at a DDR3 board.
    low = {volt for volt in volts if volt < 3.3}
    assert len(low) == bool(config.ddr3)
    if config.ddr3:
        assert volts[3.3] <= 3 + 12 and volts[low.pop()] >= 44


@pytest.mark.parametrize(("name", "device"), [pair for pair in BUILDS if made(*pair)[1].ddr3])
def test_ddr3_pins_and_primitives(name, device):
    board, config, platform = made(name, device)
    pins = platform.request("ddr3", dir="-")
    assert (len(pins.dq), len(pins.dqs), len(pins.dm), len(pins.ba)) == (16, 2, 2, 3)
    # All rows of the chip, and A10, which says "all banks" and "calibrate long".
    assert len(pins.a) >= max(11, config.ddr3.row_bits)
    assert sorted(board.Top.mask_lanes) == [0, 1]
    _, netlist = built(name, device)
    kinds = Counter(re.findall(r"cell \\([A-Z0-9]+) ", netlist))
    commands = 3 + 3 + len(pins.a) + 2 + 1 + hasattr(pins, "cs")
    assert {kind: kinds[kind] for kind in ("ODDRX2F", "DQSBUFM", "ODDRX2DQSB", "ODDRX2DQA", "IDDRX2DQA", "DDRDLLA", "ECLKSYNCB",
                                           "CLKDIVF", "EHXPLLL", "ECLKBRIDGECS")} == {
        "ODDRX2F": commands, "DQSBUFM": 2, "ODDRX2DQSB": 2, "ODDRX2DQA": 18, "IDDRX2DQA": 16, "DDRDLLA": 1, "ECLKSYNCB": 1,
        "CLKDIVF": 1, "EHXPLLL": 1, "ECLKBRIDGECS": board.Top.bridge}
    # A lost lock of DDRDLLA lights the failure's LED, from a register of the fabric's.
    assert re.search(r"cell \$or \S+\n(?: +parameter .*\n)* +connect \\A \\failed \[0\]\n +connect \\B \\lost \[0\]\n", netlist)
    assert re.search(r"cell \\top\.lost\S* .*\n(?: +connect .*\n)* +connect \\stage1 \\lost \[0\]\n", netlist)


@pytest.mark.parametrize(("name", "device"), BUILDS)
def test_leds(name, device):
    """Each state has an LED or none; readiness and failure are shown by every board."""
    board, _, platform = made(name, device)
    leds = dict(zip(STATES, board.Top.leds, strict=True))
    shown = [place for place in leds.values() if place is not None]
    assert leds["memory_ready"] and leds["failed"] and len(set(shown)) == len(shown)
    for resource, number in {(resource, number) for resource, number, _ in shown}:
        pins = platform.request(resource, number, dir="-")
        assert all(len(getattr(pins, colour) if colour else pins) == 1
                   for r, n, colour in shown if (r, n) == (resource, number))


def test_orangecrab_masks_and_supply_pins():
    """The pins that amaranth-boards has wrong, as the board's documentation has them."""
    board, _, platform = made("orangecrab", "85f")
    pins = {resource.name: resource for resource in platform.resources.values() if resource.name == "ddr3"}
    names = {part.name: part.ios[0] for part in pins["ddr3"].ios}
    assert names["ba"].names == ["D6", "B7", "A6"] and names["dm"].names == ["D16", "G16"]
    assert names["dqs"].p.names == ["B15", "G18"] and board.Top.mask_lanes == (1, 0)
    _, netlist = built("orangecrab", "85f")
    assert "vcc_virtual" in netlist and "gnd_virtual" in netlist


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
    assert build.BOARDS == ("ecpix5", "icepi_zero", "orangecrab", "ulx3s")
    assert set(DEVICES) >= {device for name in build.BOARDS for device in importlib.import_module(f"boards.{name}").DEVICES}


@pytest.mark.parametrize("name", [name for name in build.BOARDS if name != DEFAULT])
def test_no_other_file_knows_the_board(name):
    """But for the names of presets, which are made for one board."""
    pattern = re.compile(name.replace("_", "[ _-]?").replace("zero", "(zero)?"), re.IGNORECASE)
    named = re.compile("|".join(map(re.escape, PRESETS)))
    knowing = [path.relative_to(ROOT).as_posix() for path in (*SOURCES, ROOT / "Makefile")
               if pattern.search(named.sub("", path.read_text()))]
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
