# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Our models of the ECP5's DDR3 primitives, each by itself: right use does what Lattice describes, wrong use is named."""

from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import Edge, FallingEdge, ReadOnly, RisingEdge, Timer
from cocotb.utils import get_sim_time

from sim.cocotb_streams import report, rng
from sim.testbench import Bench

CHIPS = Path(__file__).resolve().parents[3] / "sim" / "chips"
#: Of the memory's clock, ps; a beat is half of it, a fabric cycle twice.
T = 8000
BEAT, CYCLE = T // 2, 2 * T
#: As in the model: beats from the edge of SCLK that takes READ to the READ pulse, and the DQS clock tree in ps.
PULSE, TREE = 3, 600
LOCK_CYCLES = 64
#: Data behind their strobe at the chip, ps.
SKEW = 100

TB = """
`timescale 1ns / 1ps
module tb_top(
    input source, stop, divider_rst, alignwd, output eclk, sclk,
    input dll_rst, uddcntln, freeze, output ddrdel, lock,
    input rst, input [3:0] d, input [1:0] t, output q_f, q_dq, q_dqs, t_dq, t_dqs,
    input pause, go, input [31:0] rise, input [4:0] count, input [15:0] beats, output reg dqs, dq,
    input [1:0] read, input [2:0] readclksel, output burstdet, datavalid, dqsr90, dq_late, output [3:0] q,
    input [1:0] position, output [31:0] broken, output reg [511:0] last
);
    wire dqsw, dqsw270;
    wire [2:0] rd, wr;
    assign broken = ecp5_ddr3::broken;
    // The last rule's text, a character a byte, the last one lowest.
    always @(ecp5_ddr3::broken) begin
        last = 0;
        for (int i = 0; i < ecp5_ddr3::last.len(); i++) last = last << 8 | ecp5_ddr3::last[i];
    end
    always @(position) ecp5_ddr3::position[0] = position;
    // The chip's burst: noise, a preamble T ahead of the strobe's first rise, which comes `rise` ps behind go, and a beat of
    // data SKEW behind each edge.
    initial {dqs, dq} = 0;
    always @(posedge go) begin
        dqs = 1;
        #((rise - @T@) / 1000.0) dqs = 0;
        #(@T@ / 1000.0);
        for (int i = 0; i < count; i++) begin
            dqs = ~dqs;
            #(@SKEW@ / 1000.0) dq = beats[i];
            #((@BEAT@ - @SKEW@) / 1000.0);
        end
        dq = ~dq;
        #(@T@ / 1000.0) dqs = 1;
    end
    ECLKSYNCB sync(.ECLKI(source), .STOP(stop), .ECLKO(eclk));
    CLKDIVF #(.DIV("2.0")) divider(.CLKI(eclk), .RST(divider_rst), .ALIGNWD(alignwd), .CDIVX(sclk));
    DDRDLLA dll(.CLK(eclk), .RST(dll_rst), .UDDCNTLN(uddcntln), .FREEZE(freeze), .DDRDEL(ddrdel), .LOCK(lock));
    ODDRX2F f(.SCLK(sclk), .ECLK(eclk), .RST(rst), .D3(d[3]), .D2(d[2]), .D1(d[1]), .D0(d[0]), .Q(q_f));
    ODDRX2DQA dqa(.SCLK(sclk), .ECLK(eclk), .RST(rst), .DQSW270(dqsw270), .D3(d[3]), .D2(d[2]), .D1(d[1]), .D0(d[0]), .Q(q_dq));
    ODDRX2DQSB dqsb(.SCLK(sclk), .ECLK(eclk), .RST(rst), .DQSW(dqsw), .D3(d[3]), .D2(d[2]), .D1(d[1]), .D0(d[0]), .Q(q_dqs));
    TSHX2DQA tdq(.SCLK(sclk), .ECLK(eclk), .RST(rst), .DQSW270(dqsw270), .T1(t[1]), .T0(t[0]), .Q(t_dq));
    TSHX2DQSA tdqs(.SCLK(sclk), .ECLK(eclk), .RST(rst), .DQSW(dqsw), .T1(t[1]), .T0(t[0]), .Q(t_dqs));
    DQSBUFM strobe(
        .SCLK(sclk), .ECLK(eclk), .RST(rst), .DDRDEL(ddrdel), .PAUSE(pause), .DQSI(dqs), .READ0(read[0]), .READ1(read[1]),
        .READCLKSEL0(readclksel[0]), .READCLKSEL1(readclksel[1]), .READCLKSEL2(readclksel[2]),
        .DYNDELAY0(1'b0), .DYNDELAY1(1'b0), .DYNDELAY2(1'b0), .DYNDELAY3(1'b0),
        .DYNDELAY4(1'b0), .DYNDELAY5(1'b0), .DYNDELAY6(1'b0), .DYNDELAY7(1'b0),
        .RDLOADN(1'b0), .RDMOVE(1'b0), .RDDIRECTION(1'b1), .WRLOADN(1'b0), .WRMOVE(1'b0), .WRDIRECTION(1'b1),
        .DQSR90(dqsr90), .DQSW(dqsw), .DQSW270(dqsw270), .RDPNTR0(rd[0]), .RDPNTR1(rd[1]), .RDPNTR2(rd[2]),
        .WRPNTR0(wr[0]), .WRPNTR1(wr[1]), .WRPNTR2(wr[2]), .BURSTDET(burstdet), .DATAVALID(datavalid));
    DELAYG #(.DEL_MODE("DQS_ALIGNED_X2")) delay(.A(dq), .Z(dq_late));
    IDDRX2DQA in(
        .SCLK(sclk), .ECLK(eclk), .RST(rst), .DQSR90(dqsr90), .D(dq_late), .RDPNTR0(rd[0]), .RDPNTR1(rd[1]), .RDPNTR2(rd[2]),
        .WRPNTR0(wr[0]), .WRPNTR1(wr[1]), .WRPNTR2(wr[2]), .Q0(q[0]), .Q1(q[1]), .Q2(q[2]), .Q3(q[3]));
endmodule
"""


def sources():
    text = TB
    for name, value in (("T", T), ("BEAT", BEAT), ("SKEW", SKEW)):
        text = text.replace(f"@{name}@", str(value))
    return {"ecp5_ddr3.sv": (CHIPS / "ecp5_ddr3.sv").read_text(), "tb_top.sv": text}


BENCHES = [Bench(name="ecp5", sources=sources)]


class Primitives:
    """The primitives wired as a lane; counts the broken rules that a test has seen."""

    def __init__(self, dut):
        self.dut, self.seen = dut, int(dut.broken.value)

    async def start(self, *, coded=True):
        """Clocks on, and the start-up sequence: the delay lock loop locked, and its code taken unless ``coded`` is False."""
        dut = self.dut
        for name in ("stop", "divider_rst", "alignwd", "dll_rst", "freeze", "d", "t", "pause", "go", "rise", "count", "beats",
                     "read", "readclksel", "position", "source"):
            getattr(dut, name).value = 0
        dut.uddcntln.value = dut.rst.value = dut.dll_rst.value = dut.divider_rst.value = 1
        cocotb.start_soon(Clock(dut.source, T, "ps").start())
        await Timer(20 * T, "ps")
        dut.dll_rst.value = dut.divider_rst.value = 0
        await Timer(10 * T, "ps")
        dut.rst.value = 0
        while not dut.lock.value:
            await RisingEdge(dut.eclk)
        if coded:
            dut.pause.value = 1
            await Timer(4 * T, "ps")
            dut.uddcntln.value = 0
            await Timer(4 * T, "ps")
            dut.uddcntln.value = 1
            await Timer(4 * T, "ps")
        dut.pause.value = 0
        await Timer(20 * T, "ps")
        self.seen = int(dut.broken.value)

    def rule(self):
        """How many rules were broken since the last look."""
        count = int(self.dut.broken.value)
        new, self.seen = count - self.seen, count
        return new

    def text(self):
        """The text of the last broken rule."""
        value = int(self.dut.last.value)
        return value.to_bytes(64, "big").lstrip(b"\0").decode()

    async def select(self, value, *, pause=True):
        """READCLKSEL to ``value``; with PAUSE as Lattice wants, or without."""
        dut = self.dut
        dut.pause.value = int(pause)
        await Timer(4 * T, "ps")
        dut.readclksel.value = value
        await Timer(4 * T, "ps")
        dut.pause.value = 0
        await Timer(4 * T, "ps")

    async def burst(self, flight, data, *, cycles=2):
        """READ for ``cycles`` fabric cycles, and a burst whose strobe first rises ``flight`` ps behind the earliest time of the
        READ pulse plus the preamble T; the data come SKEW behind the strobe.  Returns (BURSTDET seen, words by cycle from the
        edge that took READ)."""
        dut = self.dut
        await RisingEdge(dut.sclk)
        await Timer(1, "ps")
        dut.read.value = 3
        dut.go.value, dut.count.value, dut.rise.value = 1, len(data), CYCLE - 1 + PULSE * BEAT + T + flight
        dut.beats.value = sum(bit << i for i, bit in enumerate(data))
        words, found = [], False
        for i in range(16):
            await RisingEdge(dut.sclk)
            await Timer(1, "ps")
            dut.go.value = 0
            if i == cycles - 1:
                dut.read.value = 0
            found |= bool(dut.burstdet.value)
            words.append(int(dut.q.value))
        return found, words


def beats(words, position, first):
    """Eight beats from the words behind cycle ``first``; a burst's first beat is at ``position``."""
    bits = [word >> i & 1 for word in words[first:] for i in range(4)]
    return bits[position:position + 8]


@cocotb.test()
async def edge_clock_stops_in_whole_pulses(dut):
    await Primitives(dut).start()
    times, stopped = [], []

    async def watch():
        while True:
            await Edge(dut.eclk)
            times.append(get_sim_time("ps"))

    cocotb.start_soon(watch())
    random_ = rng("stop")
    for _ in range(8):
        await Timer(random_.randrange(10 * T, 12 * T), "ps")
        dut.freeze.value = 1
        await Timer(random_.randrange(4 * T, 5 * T), "ps")
        dut.stop.value = 1
        await Timer(3 * T, "ps")
        assert not dut.eclk.value
        count = len(times)
        await Timer(10 * T, "ps")
        assert len(times) == count, "the clock goes on while STOP is high"
        stopped.append(times[-1])
        dut.stop.value = 0
        await Timer(4 * T, "ps")
        assert len(times) > count, "the clock does not come back"
        dut.freeze.value = 0
    widths = {b - a for a, b in zip(times, times[1:], strict=False)}
    assert min(widths) == BEAT and len(stopped) == 8
    assert not Primitives(dut).rule() and dut.lock.value
    report(cases=8)


@cocotb.test()
async def divider_halves_and_starts_with_reset(dut):
    p = Primitives(dut)
    await p.start()
    dut.divider_rst.value = 1
    await Timer(5 * T, "ps")
    assert not dut.sclk.value
    await FallingEdge(dut.eclk)
    dut.divider_rst.value = 0
    await RisingEdge(dut.sclk)
    first = get_sim_time("ps")
    for i in range(1, 10):
        await RisingEdge(dut.sclk)
        assert get_sim_time("ps") == first + i * CYCLE
        await ReadOnly()
        assert dut.eclk.value
        await Timer(1, "ps")
    # The wrong use, ALIGNWD, moves the fabric's clock by T: nothing may drive it behind the reset.
    dut.alignwd.value = 1
    await RisingEdge(dut.sclk)
    await RisingEdge(dut.sclk)
    assert (get_sim_time("ps") - first) % CYCLE == T
    report(cases=10)


@cocotb.test()
async def delay_lock_loop_keeps_its_code_when_frozen(dut):
    p = Primitives(dut)
    await p.start(coded=False)
    assert dut.lock.value and not dut.ddrdel.value, "there is no code ahead of the first update"
    dut.pause.value = 1
    await Timer(4 * T, "ps")
    dut.uddcntln.value = 0
    await Timer(4 * T, "ps")
    assert dut.ddrdel.value
    dut.uddcntln.value = 1
    dut.freeze.value = 1
    await Timer(4 * T, "ps")
    dut.stop.value = 1
    await Timer(10 * T, "ps")
    dut.stop.value = 0
    await Timer(10 * T, "ps")
    dut.freeze.value = 0
    await Timer(10 * T, "ps")
    assert dut.lock.value and dut.ddrdel.value and not p.rule()
    report(cases=3)


@cocotb.test()
async def delay_lock_loop_loses_its_lock_when_the_clock_stops(dut):
    p = Primitives(dut)
    await p.start()
    dut.stop.value = 1
    await Timer(10 * T, "ps")
    dut.stop.value = 0
    await Timer(10 * T, "ps")
    assert not dut.lock.value and p.rule() == 1
    assert p.text() == "DDRDLLA: the clock stopped or changed without FREEZE"
    await Timer((LOCK_CYCLES + 10) * T, "ps")
    assert dut.lock.value and not dut.ddrdel.value
    dut.dll_rst.value = 1
    await Timer(T, "ps")
    dut.dll_rst.value = 0
    await Timer(T, "ps")
    dut.uddcntln.value = 0
    await Timer(4 * T, "ps")
    assert p.rule() == 1 and not dut.ddrdel.value, "an update without a lock"
    report(cases=2)


async def edges(signal, times):
    while True:
        await Edge(signal)
        times.append((get_sim_time("ps"), int(signal.value)))


def level(times, at):
    """A signal's level at a time, from its edges."""
    return next((value for when, value in reversed(times) if when <= at), 0)


async def words_out(dut, *names, count=64):
    """Drives random words and tristates; returns (times of the edges that took them, words, edges of each output by name)."""
    random_ = rng("words")
    taken, words, times = [], [], {name: [] for name in names}
    for name in names:
        cocotb.start_soon(edges(getattr(dut, name), times[name]))
    for _ in range(count):
        words.append((random_.getrandbits(4), random_.getrandbits(2)))
        dut.d.value, dut.t.value = words[-1]
        await RisingEdge(dut.sclk)
        taken.append(get_sim_time("ps"))
        await Timer(1, "ps")
    await Timer(4 * CYCLE, "ps")
    return taken, words, times


#: Output -> (beats from the edge of SCLK to D0, which of the word's fields, bits a beat).
OUTPUTS = {"q_f": (8, 0, 1), "q_dqs": (4, 0, 1), "q_dq": (4.5, 0, 1), "t_dqs": (4, 1, 2), "t_dq": (4.5, 1, 2)}


@cocotb.test()
async def outputs_leave_beat_by_beat(dut):
    """D0 first; data T/4 behind the strobe; the DQS group a fabric cycle ahead of commands."""
    p = Primitives(dut)
    await p.start()
    taken, words, times = await words_out(dut, *OUTPUTS)
    for name, (latency, field, width) in OUTPUTS.items():
        skew = 0 if name == "q_f" else 20
        for at, word in zip(taken, words, strict=True):
            for i in range(4):
                begin = at + round((latency + i) * BEAT) + skew
                # The whole beat but for its edges.
                for when in (begin + 5, begin + BEAT - 5):
                    assert level(times[name], when) == word[field] >> (i // width) & 1, (name, at, i)
    assert not p.rule()
    report(cases=len(words) * 4 * len(OUTPUTS))


@cocotb.test()
async def data_without_a_delay_code_is_not_centred(dut):
    """Without the update of the start-up sequence the data's edges are not T/4 behind the strobe's."""
    await Primitives(dut).start(coded=False)
    taken, words, times = await words_out(dut, "q_dq")
    wrong = sum(level(times["q_dq"], at + round((5.5 + i) * BEAT) + 15) != word[0] >> i & 1
                for at, word in zip(taken, words, strict=True) for i in range(4))
    assert wrong > len(words)
    report(cases=len(words) * 4)


@cocotb.test()
async def outputs_are_quiet_in_reset(dut):
    await Primitives(dut).start()
    dut.d.value, dut.t.value = 15, 0
    await Timer(8 * CYCLE, "ps")
    for name in ("q_f", "q_dq", "q_dqs"):
        assert getattr(dut, name).value
    assert not dut.t_dq.value and not dut.t_dqs.value
    dut.rst.value = 1
    await Timer(8 * CYCLE, "ps")
    for name in ("q_f", "q_dq", "q_dqs"):
        assert not getattr(dut, name).value
    assert dut.t_dq.value and dut.t_dqs.value
    report(cases=10)


@cocotb.test()
async def burst_is_detected_when_the_pulse_begins_in_the_preamble(dut):
    """Of the eight steps of READCLKSEL those work whose pulse begins within the preamble, T long: four or three."""
    p = Primitives(dut)
    await p.start()
    random_ = rng("flight")
    windows = set()
    for flight in (0.1, 0.3, 0.6, 0.9, 1.2, 1.6, 2.1, 2.6, 3.1):
        window = ""
        for step in range(8):
            await p.select(step)
            data = [random_.getrandbits(1) for _ in range(8)]
            found, words = await p.burst(round(flight * T), data)
            good = flight <= step / 4 <= flight + 1
            assert found == good, (flight, step)
            if good:
                assert beats(words, 0, 5) == data, (flight, step, words)
            window += "01"[found]
        windows.add(window)
    assert "00000000" in windows and "01111000" in windows and "00111000" not in windows
    assert not p.rule()
    report(cases=72)


@cocotb.test()
async def readclksel_without_pause_does_not_take(dut):
    p = Primitives(dut)
    await p.start()
    data = [1, 0, 1, 1, 0, 0, 1, 0]
    await p.select(2)
    assert not p.rule()
    assert (await p.burst(round(0.3 * T), data))[0]
    await p.select(7, pause=False)
    assert p.rule() == 1 and p.text() == "DQSBUFM: READCLKSEL changed without PAUSE"
    assert (await p.burst(round(0.3 * T), data))[0], "the step of before is at work"
    dut.pause.value = 1
    await Timer(4 * T, "ps")
    dut.pause.value = 0
    await Timer(4 * T, "ps")
    assert not (await p.burst(round(0.3 * T), data))[0], "a strobe of PAUSE takes it"
    report(cases=3)


@cocotb.test()
async def pause_must_come_first(dut):
    p = Primitives(dut)
    await p.start()
    dut.pause.value, dut.readclksel.value = 1, 3
    await Timer(4 * T, "ps")
    assert p.rule() == 1 and p.text() == "DQSBUFM: READCLKSEL changed together with PAUSE"
    report(cases=1)


@cocotb.test()
async def no_read_while_pause(dut):
    p = Primitives(dut)
    await p.start()
    dut.pause.value = 1
    await Timer(4 * T, "ps")
    assert not p.rule()
    dut.read.value = 3
    await Timer(2 * CYCLE, "ps")
    assert p.rule() and p.text() == "DQSBUFM: READ while PAUSE"
    report(cases=1)


@cocotb.test()
async def delay_code_wants_pause(dut):
    p = Primitives(dut)
    await p.start(coded=False)
    dut.uddcntln.value = 0
    await Timer(4 * T, "ps")
    assert p.rule() == 1 and p.text() == "DQSBUFM: the delay code changed without PAUSE"
    report(cases=1)


@cocotb.test()
async def strobe_and_data_have_the_same_tree(dut):
    """DELAYG in the mode of the DQS tree keeps data beside the strobe; DQSR90 is T/4 later with a code, else together."""
    for coded, later in ((True, T // 4), (False, 0)):
        p = Primitives(dut)
        await p.start(coded=coded)
        await p.select(3)
        times = {name: [] for name in ("dqs", "dq", "dq_late", "dqsr90")}
        for name, into in times.items():
            cocotb.start_soon(edges(getattr(dut, name), into))
        assert (await p.burst(round(0.3 * T), [1, 0] * 4))[0]
        assert [at for at, _ in times["dq_late"][:8]] == [at + TREE for at, _ in times["dq"][:8]]
        strobe = [at for at, _ in times["dqs"] if at >= times["dqsr90"][0][0] - TREE - later]
        assert [at for at, _ in times["dqsr90"]] == [at + TREE + later for at in strobe[:8]]
    report(cases=2)


@cocotb.test()
async def beats_arrive_at_their_position(dut):
    """Bursts of random data at each place in a word, alone and two in a row."""
    p = Primitives(dut)
    await p.start()
    random_ = rng("beats")
    await p.select(3)
    for position in range(4):
        dut.position.value = position
        for count in (8, 16):
            data = [random_.getrandbits(1) for _ in range(count)]
            found, words = await p.burst(round(0.3 * T), data, cycles=count // 4)
            bits = [word >> i & 1 for word in words[5:] for i in range(4)]
            assert found and bits[position:position + count] == data
    assert not p.rule()
    report(cases=8)


@cocotb.test()
async def strobe_without_a_delay_code_reads_edges(dut):
    """Without T/4 the beats are taken where they change."""
    p = Primitives(dut)
    await p.start(coded=False)
    await p.select(3)
    good = 0
    random_ = rng("edges")
    for _ in range(8):
        data = [random_.getrandbits(1) for _ in range(8)]
        found, words = await p.burst(round(0.3 * T), data)
        good += beats(words, 0, 5) == data
    assert good < 4
    report(cases=8)


@cocotb.test()
async def a_pulse_at_a_wrong_time_spoils_what_follows_until_pause(dut):
    p = Primitives(dut)
    await p.start()
    data = [1, 0, 1, 1, 0, 0, 1, 0]
    await p.select(3)
    found, words = await p.burst(round(0.3 * T), data)
    assert found and beats(words, 0, 5) == data
    found, _ = await p.burst(round(-0.9 * T), data)
    assert not found
    found, words = await p.burst(round(0.3 * T), data)
    assert found and beats(words, 0, 5) != data, "the pointers are apart"
    await p.select(3)
    found, words = await p.burst(round(0.3 * T), data)
    assert found and beats(words, 0, 5) == data
    report(cases=4)
