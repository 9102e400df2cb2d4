# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""DDR3 PHY for ECP5: four beats a fabric cycle through the DQS groups' registers."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Array, Cat, ClockSignal, Const, Instance, Module, ResetSignal, Signal, Value
from amaranth.lib import data, io, wiring
from amaranth.lib.wiring import In, Out

from hw.memory.ddr3.dfi import Ddr3DfiSignature
from tellme.spec.ddr3_training import LANES, READCLKSELS, SLIPS

__all__ = ["READ_LATENCY", "LaneSettings", "PhyControlSignature", "Ddr3Phy"]

#: Fabric cycles from a word at the DFI (with its WRITE) to the data registers: a CAS write latency of 5 clocks, whose first beat
#: is three cycles behind the WRITE, and one more, because the DQS group's registers are a cycle faster than the commands'.
WRITE_CYCLES = 4
#: Fabric cycles from ``ren`` at the DFI to the first bit of READ (READ1, as a READ goes out in slot 1) at DQSBUFM.
READ_CYCLES = 4
#: Fabric cycles from ``ren`` to ``rvalid``.
READ_LATENCY = 13

#: Where a byte lane's READ pulse lies, and which beat begins its words.
LaneSettings = data.StructLayout({"readclksel": range(READCLKSELS), "slip": range(SLIPS)})


class PhyControlSignature(wiring.Signature):
    """The training's view of the PHY.

    ``lanes`` are the settings of each byte lane.  READCLKSEL may change only while ``pause`` is high, which it must be a cycle
    before and behind the change.  No burst may be read or written while ``pause`` is high, nor in the 16 cycles before.

    ``burst`` has a bit a lane: DQSBUFM has seen a whole burst in its READ pulse since the last cycle of ``clear``.
    """

    def __init__(self) -> None:
        super().__init__({"lanes": Out(LaneSettings).array(LANES), "pause": Out(1), "clear": Out(1), "burst": In(LANES)})


def settled(m: Module, value: Value, cycles: int, name: str) -> list[Value]:
    """``value`` and its copies of each of the next ``cycles`` cycles, as registers."""
    line = [value]
    for i in range(1, cycles + 1):
        later = Signal.like(value, name=f"{name}{i}")
        m.d.sync += later.eq(line[-1])
        line.append(later)
    return line


class Ddr3Phy(wiring.Component):
    """Drives a 16-bit DDR3 chip from the DFI, with CAS latency 6 and CAS write latency 5.

    Domain ``sync`` is the fabric's, from CLKDIVF; ``ddr`` is the edge clock at twice its rate, from ECLKSYNCB; ``io`` is ``sync``
    with the reset of the I/O registers.  ``ddrdel`` is DDRDLLA's code.  ``start_pause`` pauses DQSBUFM for the start-up sequence.
    :class:`~hw.memory.ddr3.clocks.Ddr3Clocks` has all these.

    Commands leave through ODDRX2F: slot 0 in the first half of a cycle, slot 1 in the second half; CK rises in the middle of
    each. Each byte lane has a DQSBUFM.  Data and masks (DM) go out by DQSW270, the strobe by DQSW, so that the strobe's edges lie
    in the middle of the beats.  The strobe toggles all the time and is driven from a clock and a half ahead of a burst's first
    edge to a clock behind its last one.  RESET# is a plain register.

    A word read is put together by the lane's ``slip``, 0 to 3 beats, and arrives READ_LATENCY cycles behind its ``ren``.

    ``pins`` is the platform's resource, requested with dir="-", or simulation ports of the same names: ``clk`` and ``dqs``
    (differential or their positive pin), ``clk_en``, ``ras``, ``cas``, ``we``, ``ba``, ``a``, ``dq``, ``dm``, ``odt``, and, where
    the board has them, ``rst`` and ``cs``.  Pins that are active low are inverted in front of their registers.  Address bits that
    the board has no pin for are not sent.

    ``mask_lanes`` has for each mask pin the byte lane that it masks.  A mask pin is clocked by the group that it is in, which on
    some boards is the other lane's.

    Timing of reads and writes is that of LiteDRAM's PHY, which boards run (decision 15): the relation of the registers'
    latencies is not documented.  Raises ValueError for another width than two byte lanes, and for
    ``mask_lanes`` that do not name each lane once.
    """

    def __init__(self, pins: Any, *, mask_lanes: Sequence[int] = tuple(range(LANES))):
        if len(pins.dq) != 8 * LANES or len(pins.dqs) != LANES or len(pins.dm) != LANES:
            raise ValueError(f"a chip of {8 * LANES} data pins is supported; the pins are {len(pins.dq)} dq, {len(pins.dqs)} dqs "
                             f"and {len(pins.dm)} dm")
        if sorted(mask_lanes) != list(range(LANES)):
            raise ValueError(f"mask_lanes is {tuple(mask_lanes)}; each lane of 0 to {LANES - 1} once is wanted")
        super().__init__({"dfi": In(Ddr3DfiSignature()), "control": In(PhyControlSignature()), "ddrdel": In(1),
                          "start_pause": In(1)})
        self._pins, self._mask_lanes = pins, tuple(mask_lanes)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        dfi, pins = self.dfi, self._pins
        clocks = {"i_SCLK": ClockSignal("sync"), "i_ECLK": ClockSignal("ddr"), "i_RST": ResetSignal("io")}

        def pads(name: str) -> tuple[Any, list[bool]]:
            """The pads of a pin's positive half, and whether each is active low."""
            port = getattr(pins, name)
            invert = [port.invert] * len(port) if isinstance(port.invert, bool) else list(port.invert)
            return (port.p if isinstance(port, io.DifferentialPort) else port.io), invert

        def command(name: str, first: Value, second: Value) -> None:
            """A pin that has a value in each clock of a cycle."""
            pad, invert = pads(name)
            for i in range(len(pad)):
                values = [~value[i] if invert[i] else value[i] for value in (first, second)]
                q = Signal(name=f"{name}{i}")
                m.submodules[f"{name}_{i}"] = Instance("ODDRX2F", **clocks, i_D0=values[0], i_D1=values[0], i_D2=values[1],
                                                       i_D3=values[1], o_Q=q)
                m.submodules[f"{name}_pad{i}"] = Instance("OB", i_I=q, o_O=pad[i])

        # ------------------------------------------------------------------ commands
        for name in ("ras", "cas", "we", "ba", "a", "cs"):
            if name != "cs" or hasattr(pins, "cs"):
                command(name, *(Value.cast(getattr(slot, name)) for slot in dfi.slots))
        command("clk_en", dfi.cke, dfi.cke)
        command("odt", dfi.odt, dfi.odt)
        pad, invert = pads("clk")
        ck = Signal()
        m.submodules.clk_0 = Instance("ODDRX2F", **clocks, **{f"i_D{n}": Const(n % 2 ^ invert[0], 1) for n in range(4)}, o_Q=ck)
        m.submodules.clk_pad0 = Instance("OB", i_I=ck, o_O=pad[0])
        if hasattr(pins, "rst"):
            pad, invert = pads("rst")
            # Asserted from the first moment, through the fabric's reset.
            level = Signal(init=not invert[0])
            m.d.sync += level.eq(~dfi.reset if invert[0] else dfi.reset)
            m.submodules.rst_pad0 = Instance("OB", i_I=level, o_O=pad[0])

        # ------------------------------------------------------------------ when
        writes = settled(m, dfi.wen, WRITE_CYCLES + 1, "wen")
        words = settled(m, Cat(dfi.wdata, dfi.wmask), WRITE_CYCLES, "word")[-1]
        before, now, behind = writes[WRITE_CYCLES - 1:]
        reads = settled(m, dfi.ren, READ_LATENCY, "ren")
        m.d.comb += dfi.rvalid.eq(reads[READ_LATENCY])

        # ------------------------------------------------------------------ byte lanes
        strobes, _ = pads("dqs")
        masks, masks_low = pads("dm")
        wires, wires_low = pads("dq")
        for lane in range(LANES):
            settings = self.control.lanes[lane]
            read_clock, write_clock, strobe_clock = Signal(name=f"dqsr90_{lane}"), Signal(name=f"dqsw270_{lane}"), Signal(
                name=f"dqsw_{lane}")
            read_at, write_at = Signal(3, name=f"rdpntr_{lane}"), Signal(3, name=f"wrpntr_{lane}")
            strobe_in, found, found_then = Signal(name=f"dqsi_{lane}"), Signal(name=f"burstdet_{lane}"), Signal(
                name=f"burstdet_then_{lane}")
            pause = Signal(name=f"pause_{lane}")
            m.d.comb += pause.eq(self.control.pause | self.start_pause)
            m.submodules[f"dqsbuf_{lane}"] = Instance(
                "DQSBUFM", p_DQS_LI_DEL_ADJ="MINUS", p_DQS_LI_DEL_VAL=1, p_DQS_LO_DEL_ADJ="MINUS", p_DQS_LO_DEL_VAL=4,
                **clocks, i_DDRDEL=self.ddrdel, i_PAUSE=pause, i_DQSI=strobe_in,
                # LOADN low: the delays are DDRDLLA's.
                i_RDLOADN=Const(0, 1), i_RDMOVE=Const(0, 1), i_RDDIRECTION=Const(1, 1),
                i_WRLOADN=Const(0, 1), i_WRMOVE=Const(0, 1), i_WRDIRECTION=Const(1, 1),
                **{f"i_DYNDELAY{n}": Const(0, 1) for n in range(8)},
                # A READ goes out in the second clock of a cycle, and so begins its pulse: READ1 is the later half of a cycle.
                i_READ0=reads[READ_CYCLES + 1], i_READ1=reads[READ_CYCLES],
                **{f"i_READCLKSEL{n}": settings.readclksel[n] for n in range(3)},
                o_DQSR90=read_clock, o_DQSW=strobe_clock, o_DQSW270=write_clock, o_BURSTDET=found,
                **{f"o_RDPNTR{n}": read_at[n] for n in range(3)}, **{f"o_WRPNTR{n}": write_at[n] for n in range(3)})
            m.d.sync += found_then.eq(found)
            with m.If(found & ~found_then):
                m.d.sync += self.control.burst[lane].eq(1)
            with m.If(self.control.clear):
                m.d.sync += self.control.burst[lane].eq(0)

            # The strobe, 0101, from the second half of the cycle ahead of the data to the first half of the cycle behind.
            strobe, strobe_off = Signal(name=f"dqs_{lane}"), Signal(name=f"dqs_t_{lane}")
            m.submodules[f"dqs_out_{lane}"] = Instance("ODDRX2DQSB", **clocks, i_DQSW=strobe_clock, o_Q=strobe,
                                                       **{f"i_D{n}": Const(n % 2, 1) for n in range(4)})
            m.submodules[f"dqs_off_{lane}"] = Instance("TSHX2DQSA", **clocks, i_DQSW=strobe_clock, o_Q=strobe_off,
                                                       i_T0=~(now | behind), i_T1=~(now | before))
            m.submodules[f"dqs_pad{lane}"] = Instance("BB", i_I=strobe, i_T=strobe_off, o_O=strobe_in, io_B=strobes[lane])

            beats = [words[16 * n + 8 * lane:16 * n + 8 * lane + 8] for n in range(4)]
            masked_bytes = [words[64 + 2 * n + self._mask_lanes[lane]] for n in range(4)]
            mask = [~bit if masks_low[lane] else bit for bit in masked_bytes]
            masked = Signal(name=f"dm_{lane}")
            m.submodules[f"dm_out_{lane}"] = Instance("ODDRX2DQA", **clocks, i_DQSW270=write_clock, o_Q=masked,
                                                      **{f"i_D{n}": mask[n] for n in range(4)})
            m.submodules[f"dm_pad{lane}"] = Instance("OB", i_I=masked, o_O=masks[lane])

            for bit in range(8):
                at = 8 * lane + bit
                out, off, arrived, late, taken = (Signal(name=f"dq_{name}{at}") for name in ("o", "t", "i", "late", "taken"))
                taken = Signal(4, name=f"dq_taken{at}")
                m.submodules[f"dq_out_{lane}_{bit}"] = Instance(
                    "ODDRX2DQA", **clocks, i_DQSW270=write_clock, o_Q=out,
                    **{f"i_D{n}": ~beats[n][bit] if wires_low[at] else beats[n][bit] for n in range(4)})
                m.submodules[f"dq_off_{lane}_{bit}"] = Instance("TSHX2DQA", **clocks, i_DQSW270=write_clock, o_Q=off,
                                                                i_T0=~now, i_T1=~now)
                m.submodules[f"dq_pad{at}"] = Instance("BB", i_I=out, i_T=off, o_O=arrived, io_B=wires[at])
                m.submodules[f"dq_delay_{lane}_{bit}"] = Instance("DELAYG", p_DEL_MODE="DQS_ALIGNED_X2", i_A=arrived, o_Z=late)
                m.submodules[f"dq_in_{lane}_{bit}"] = Instance(
                    "IDDRX2DQA", **clocks, i_DQSR90=read_clock, i_D=late, **{f"o_Q{n}": taken[n] for n in range(4)},
                    **{f"i_RDPNTR{n}": read_at[n] for n in range(3)}, **{f"i_WRPNTR{n}": write_at[n] for n in range(3)})
                # Three words in a row; the burst's begins two to five beats behind the first one's beginning: the READ pulse
                # begins in a cycle's second half.
                earlier, earliest, word = (Signal(4, name=f"dq_{name}{at}") for name in ("earlier", "earliest", "word"))
                stream = Cat(earliest, earlier, taken)
                m.d.sync += [earlier.eq(taken), earliest.eq(earlier),
                             word.eq(Array(stream[2 + n:6 + n] for n in range(SLIPS))[settings.slip])]
                m.d.comb += Cat(dfi.rdata[16 * n + at] for n in range(4)).eq(~word if wires_low[at] else word)
        return m
