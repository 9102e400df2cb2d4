# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Words of scales, K and V rows: each in its order with its flags; rows no closer than the softmax units can follow."""

import os

import cocotb
from cocotb.triggers import FallingEdge, Timer

from hw.attention.softmax import SoftmaxUnit
from hw.attention.word_reader import PhaseLayout, WordReader
from sim.cocotb_streams import StreamSource, report, report_shares, reset, rng
from sim.testbench import Bench
from tests.hw.layouts import pack, payload_of, unpack

TURNS, LEAD = 8, SoftmaxUnit.V_LATENCY - 2
#: int8 values of a word.
LANES = int(os.environ.get("LANES", "4"))


def unit(lanes=LANES):
    return WordReader(lanes=lanes, turns=TURNS, words=16, context=64, lead=LEAD)


#: For its layouts.
UNIT = unit()
BENCHES = [Bench(name=name, env={"LANES": str(lanes)}, build=lambda lanes=lanes: unit(lanes))
           for name, lanes in (("turns8", 4), ("turns8-64bit", 8))]


def words_in(name, words, keys):
    """Words of a phase."""
    return keys * words if name != "s" else -(-keys * 4 // LANES)


async def phase(dut, source, random, name, *, words, keys, last_turn, asked=0.0):
    """One phase; the cycle of each word.  ``asked``: how often a cycle in which a weight could be asked for goes by without."""
    dut.words.value, dut.last_key.value, dut.last_turn.value, dut.phase.value = words, keys - 1, last_turn, 0
    if LANES == 8:
        dut.last_scales.value = words_in("s", words, keys) - 1
    for _ in range(3):
        await FallingEdge(dut.clk)
    dut.phase.value = pack(PhaseLayout, **{name: 1})
    sent = [random.getrandbits(8 * LANES) for _ in range(words_in(name, words, keys))]
    task = cocotb.start_soon(source.send_all(sent))
    wanted = iter([(key, w) for key in range(keys) for w in range(1 if name == "s" else words)])
    came, began, asks, ahead, cycle = [], [], [], 0, 0
    while len(came) < len(sent):
        dut.asked.value = ask = int(name == "v" and len(asks) < keys and ahead < SoftmaxUnit.AHEAD and random.random() >= asked)
        if ask:
            asks.append(cycle)
            ahead += 1
        await Timer(1, "ns")
        taken = int(dut.data__valid.value) and int(dut.data__ready.value)
        flags = unpack(payload_of(UNIT, "flags"), int(dut.flags.value))
        scales = unpack(payload_of(UNIT, "scales"), int(dut.scales.value))
        assert (flags["k"], flags["v"], scales["en"]) == tuple(int(bool(taken) and name == n) for n in "kvs"), (name, cycle)
        begins = bool(taken) and name == "v" and flags["first_word"]
        assert int(dut.v_row.value) == int(begins)
        if taken:
            key, w = next(wanted)
            last = name == "s" or w == words - 1
            if name == "s":
                assert (scales["word"], pack(payload_of(UNIT, "scales")["data"].shape, scales["data"])) == (key, sent[len(came)])
                assert scales["last"] == int(len(came) + 1 == len(sent))
            else:
                assert (int(dut.key.value), flags["w"], flags["first_word"], flags["row_end"], flags["first_key"]) == (
                    key, w, int(w == 0), int(last), int(key == 0)), (name, key, w)
            if w == 0 and name != "s":
                began.append(cycle)
            if begins:
                ahead -= 1
                assert cycle >= asks[key] + LEAD, (key, cycle, asks)
            came.append(cycle)
            assert int(dut.done.value) == int(len(came) == len(sent))
        await FallingEdge(dut.clk)
        cycle += 1
    await task
    dut.asked.value, dut.phase.value = 0, 0
    for row in range(1, len(began)):
        end = came[row * words - 1]
        assert began[row] - began[row - 1] >= last_turn + 1, (began, last_turn)
        assert began[row] - end >= last_turn + 2 - words, (began, end, last_turn)
    return came


async def start(dut, idle=0.0):
    for name in ("phase", "asked", "data__valid"):
        getattr(dut, name).value = 0
    await reset(dut)
    return StreamSource(dut, "data", idle=idle, rng=rng("data"))


@cocotb.test()
async def a_word_a_cycle(dut):
    """Where a row is at least as long as the turns no cycle is lost; where it is shorter, a row takes as long as they do."""
    random, source = rng("words"), await start(dut)
    rows = ((8, 7), (16, 7), (4, 3), (4, 0), (4, 7), (6, 7), (4, 4), *(((2, 7), (3, 7), (2, 2), (3, 1)) if LANES == 8 else ()))
    for words, last_turn in rows:
        row = max(words, last_turn + 1)
        for name, keys in (("s", 9), ("k", 9), ("v", 9), ("k", 1), ("v", 64)):
            came = await phase(dut, source, random, name, words=words, keys=keys, last_turn=last_turn)
            wanted = words_in("s", words, keys) if name == "s" else (keys - 1) * row + words
            assert came[-1] - came[0] + 1 == wanted, (name, words, last_turn, keys)
    if LANES == 8:
        # Rows of two words would want four weights asked for ahead.
        came = await phase(dut, source, random, "v", words=2, keys=31, last_turn=1)
        assert came[-1] - came[0] + 1 == 30 * (LEAD + 1) // SoftmaxUnit.AHEAD + 2
    report(cases=len(rows) * 5)


@cocotb.test()
async def stalls(dut):
    """Words and weights that come late: the order and the least distances hold."""
    random, cases = rng("words"), 0
    for idle in (0.1, 0.9):
        source = await start(dut, idle)
        for words, last_turn in ((4, 7), (4, 2), (6, 5), (8, 7), *(((2, 7), (2, 1), (3, 2)) if LANES == 8 else ())):
            for name in "skvkv":
                await phase(dut, source, random, name, words=words, keys=random.randint(1, 12), last_turn=last_turn, asked=0.8)
                cases += 1
        report_shares(data_valid=source.low_share)
    report(cases=cases)
