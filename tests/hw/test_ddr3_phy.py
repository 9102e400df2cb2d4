# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What a DDR3 board needs: dividers of its PLL, and a PHY on the pins of amaranth-boards."""

import re
from types import SimpleNamespace

import pytest
from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Elaboratable, IOPort, Module
from amaranth.lib import io

from hw.memory.ddr3.clocks import Ddr3Pll
from hw.memory.ddr3.phy import Ddr3Phy


@pytest.mark.parametrize("board,input_mhz,fabric_mhz", [("ECPIX-5", 100, 75), ("ECPIX-5", 100, 200 / 3), ("ECPIX-5", 100, 100),
                                                        ("OrangeCrab", 48, 72), ("ULX4M", 25, 75), ("ButterStick", 30, 60)])
def test_dividers_reach_the_clock(board, input_mhz, fabric_mhz):
    pll = Ddr3Pll.between(input_mhz, fabric_mhz)
    assert pll.fabric_mhz == pytest.approx(fabric_mhz) and pll.clocks["edge"] == pytest.approx(2 * fabric_mhz)
    assert pll.clocks["reference"] == input_mhz
    assert 400 <= pll.edge_mhz * pll.output <= 800.001


def test_clocks_that_no_divider_reaches():
    with pytest.raises(ValueError, match="no PLL makes an edge clock of 146.27"):
        Ddr3Pll.between(100, 73.137)
    with pytest.raises(ValueError, match="VCO at 300.0 MHz"):
        Ddr3Pll(100, 2, 3, 2)


class OnBoard(Elaboratable):
    """A PHY on a board's pins, with its domains."""

    def __init__(self, pins, **options):
        self.phy = Ddr3Phy(pins, **options)

    def elaborate(self, platform):
        m = Module()
        for name in ("sync", "ddr", "io"):
            m.domains += ClockDomain(name)
        m.submodules.phy = self.phy
        return m


def port(width, invert=False, direction="o"):
    return io.SingleEndedPort(IOPort(width, name="port"), invert=invert, direction=direction)


def ecpix5():
    """The ECPIX-5's pins as amaranth-boards has them: neither RESET# nor CS#, 15 address bits."""
    from amaranth_boards.ecpix5 import ECPIX585Platform

    class Platform(ECPIX585Platform):
        required_tools = []

    return Platform().request("ddr3", dir="-")


def test_phy_on_the_pins_of_the_ecpix5():
    text = rtlil.convert(OnBoard(ecpix5()), ports=[])
    cells = re.findall(r"cell \\([A-Z0-9]+) ", text)
    counts = {name: cells.count(name) for name in set(cells)}
    # Commands: ras, cas, we, 3 ba, 15 a, cke, odt, and CK; no driver has an inverter behind its register.
    assert counts == {"ODDRX2F": 24, "OB": 26, "DQSBUFM": 2, "ODDRX2DQSB": 2, "TSHX2DQSA": 2, "BB": 18, "ODDRX2DQA": 18,
                      "TSHX2DQA": 16, "DELAYG": 16, "IDDRX2DQA": 16}


def masks(text):
    """Of each mask pin's register: the DQSW270 that clocks it, and the byte of wmask that it sends in each beat."""
    found = []
    for cell in re.findall(r"cell \\ODDRX2DQA \\dm_out_\d\n(.*?)\n  end", text, re.DOTALL):
        pins = dict(re.findall(r"connect \\(\w+) (.*)", cell))
        found.append((pins["DQSW270"], [int(re.search(r"\[(\d+)\]", pins[f"D{n}"])[1]) - 64 for n in range(4)]))
    return found


def test_a_mask_pin_may_mask_the_other_lane():
    """Its register stays in its own group."""
    straight, crossed = (masks(rtlil.convert(OnBoard(ecpix5(), mask_lanes=lanes), ports=[])) for lanes in ((0, 1), (1, 0)))
    assert [clock for clock, _ in straight] == [clock for clock, _ in crossed] and len(straight) == 2
    assert straight[0][0] != straight[1][0]
    assert [bits for _, bits in straight] == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert [bits for _, bits in crossed] == [[1, 3, 5, 7], [0, 2, 4, 6]]
    with pytest.raises(ValueError, match=r"mask_lanes is \(0, 0\); each lane of 0 to 1 once is wanted"):
        Ddr3Phy(ecpix5(), mask_lanes=(0, 0))


def test_phy_refuses_another_width():
    pins = SimpleNamespace(dq=port(8, direction="io"), dqs=port(1, direction="io"), dm=port(1))
    with pytest.raises(ValueError, match="a chip of 16 data pins is supported; the pins are 8 dq, 1 dqs and 1 dm"):
        Ddr3Phy(pins)
