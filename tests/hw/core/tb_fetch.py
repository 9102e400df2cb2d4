# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""RowFetch: the RoPE row and the embedding row of a token."""

import os

import cocotb
from cocotb.triggers import FallingEdge, Timer

from hw.core.fetch import RowFetch
from sim.cocotb_streams import StreamSink, report, report_point, report_shares, reset, rng
from sim.testbench import Bench
from tellme.spec.config import preset
from tellme.spec.packing import head_block_words, head_row_words, pack_head_block
from tellme.spec.scale import Scale, pack16, unpack16
from tests.hw.layouts import accumulators, layouts_of, pack
from tests.hw.memory_model import ReadModel

#: Of presets, the last of them with the longest rows and the most memory, and the narrowest in which the bench's rows have room.
LONG = preset("ecpix5-85f")
WIDTHS = {"rows": {"chunk": 16}, "narrow": {"chunk": 16, "max_dim": 64, "max_head_dim": 64, "max_context": 20, "max_vocab": 12,
                                            "sdram_bytes": 1 << 16},
          "longest": {name: getattr(LONG, name) for name in (
              "lanes", "chunk", "max_dim", "max_cols", "max_head_dim", "max_kv_heads", "max_context", "ddr3_chip",
              "sdram_bytes")}}
BENCHES = [Bench(name=name, build=lambda widths=widths: RowFetch(layouts_of(**widths)), env={"WIDTHS": name},
                 tests=("rows",) if name == "longest" else ())
           for name, widths in WIDTHS.items()]
POINTS = ("limit: the last token at the last position", "limit: the longest rows, of which one ends the largest memory")
LAYOUTS = layouts_of(**WIDTHS[os.environ.get("WIDTHS", "rows")])
EMBED_BASE, ROPE_BASE = 0x2000, 0x100
#: (dim, head_dim, tokens, positions): a few of a large vocabulary, whose table ends with the memory's last word.
SHAPES = [(16, 16, range(9), 20), (44, 24, range(6), 20), (64, 64, range(12), 20)]
if os.environ.get("WIDTHS") == "longest":
    VOCAB = (LAYOUTS.widths.memory_words - (1 << 20)) // (2 * head_block_words(LONG.max_dim)) * 4
    EMBED_BASE = LAYOUTS.widths.memory_words - VOCAB // 4 * 2 * head_block_words(LONG.max_dim)
    SHAPES = [(LONG.max_dim, LONG.max_head_dim, [0, 1, 2, 7, 128_255, *range(VOCAB - 4, VOCAB)], LONG.max_context)]


async def check(dut, *, stall=0.0, pause=None):
    dut.control__start.value = dut.rope_rows__data__valid.value = dut.embedding_rows__data__valid.value = 0
    await reset(dut)
    random = rng("rows")
    total = 0
    words: dict[int, int] = {}
    ropes: dict[int, int] = {}
    hold = 2 if stall else 0
    cocotb.start_soon(ReadModel(dut, "embedding_rows", words, request=LAYOUTS.memory_request, pause=pause, hold=hold).run())
    cocotb.start_soon(ReadModel(dut, "rope_rows", ropes, request=LAYOUTS.memory_request, pause=pause, hold=hold).run())
    rope, acc = (StreamSink(dut, name, stall=stall, rng=rng(name)) for name in ("rope", "acc"))
    for dim, head_dim, tokens, positions in SHAPES:
        # All tokens of a block are there.
        kept = sorted({4 * (token // 4) + i for token in tokens for i in range(4)})
        rows = {token: [random.randint(-127, 127) for _ in range(dim)] for token in kept}
        scales = {token: pack16(Scale(random.randint(1024, 2047), random.randint(-54, 9))) for token in kept}
        scales[1] = 0
        words.clear()
        ropes.clear()
        for first in kept[::4]:
            at = EMBED_BASE + first // 4 * 2 * head_block_words(dim)
            for word in pack_head_block([rows[first + i] for i in range(4)], [scales[first + i] for i in range(4)]):
                words[at], words[at + 1] = word & 0xFFFFFFFF, word >> 32
                at += 2
        table = [[random.getrandbits(32) for _ in range(head_dim // 2)] for _ in range(positions)]
        ropes.update((ROPE_BASE + p * head_dim // 2 + i, w) for p, row in enumerate(table) for i, w in enumerate(row))
        dut.shape.value = pack(LAYOUTS.model_shape, dim=dim, head_dim=head_dim, embed_base=EMBED_BASE, rope_base=ROPE_BASE,
                               block_words=2 * head_block_words(dim), row_words=2 * head_row_words(dim))
        for token in tokens:
            position = positions - 1 if token == tokens[-1] else random.choice((positions - 1, random.randrange(positions)))
            number = random.randrange(LAYOUTS.widths.chunk)
            dut.control__args.value = pack(LAYOUTS.fetch_args, token=token, position=position, number=number)
            dut.control__start.value = 1
            await Timer(1, "ns")
            assert dut.rope_start.value == 1 and dut.number.value == number
            await FallingEdge(dut.clk)
            dut.control__start.value = 0
            assert await rope.recv_n(head_dim // 2) == table[position]
            got = await acc.recv_n(dim)
            scale = unpack16(scales[token])
            assert accumulators(LAYOUTS, got) == [(v, scale, number, i) for i, v in enumerate(rows[token])]
            await FallingEdge(dut.clk)
            assert not dut.control__busy.value
            total += 1
    # The last token was the last one of its table, at the last position of the core.
    if os.environ.get("WIDTHS") == "longest":
        assert (token, position) == (VOCAB - 1, LAYOUTS.widths.context - 1)
        for point in POINTS:
            report_point(point)
    report_shares(rope_ready=rope.low_share, acc_ready=acc.low_share)
    report(cases=total)


@cocotb.test()
async def rows(dut):
    await check(dut)


@cocotb.test()
async def stalls_10(dut):
    random = rng("pause")
    await check(dut, stall=0.1, pause=lambda: int(random.random() < 0.1))


@cocotb.test()
async def stalls_90(dut):
    random = rng("pause")
    await check(dut, stall=0.9, pause=lambda: random.randint(0, 20))
