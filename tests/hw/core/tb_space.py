# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The address space, alone: what the link's requests reach, beside a processor and a sampler that use the same memories."""

import os

import cocotb
from cocotb.triggers import FallingEdge

from hw.core.address_map import AddressSpace, CountersLayout, HeadCountersLayout, registers_of
from hw.lib.control import DrawLayout
from hw.link.link import BusRequest
from sim.cocotb_streams import StreamSink, StreamSource, clocked, report, report_point, report_shares, reset, rng, settled
from sim.testbench import Bench
from tellme.spec.memory import (
    COUNTER_BASE,
    COUNTERS,
    CRC_BASE,
    HEAD_COUNTERS,
    PROGRAM_BASE,
    REGISTER_BASE,
    REGISTERS,
    SDRAM_BASE,
    SEGMENT_BASE,
    TOKEN_BASE,
    TOP_BASE,
    TOP_ENTRIES,
)
from tellme.spec.program import DESCRIPTOR_WORDS, SEGMENT_ENTRIES, SEGMENT_WORDS
from tests.hw.layouts import layouts_of, pack
from tests.hw.memory_model import ReadModel, WriteModel

#: With all registers, and lists of several tokens; and with as few as there can be, an LM head in two steps, and a program that
#: is read by words.
SHAPES = {"drafts": {"chunk": 4, "head_tokens": 4, "slots": 4, "max_context": 32, "drafts": True, "sampler": True,
                     "wide_program": True},
          "words": {"max_context": 32, "two_steps": True}}
BENCHES = [Bench(name=name, build=lambda shape=shape: AddressSpace(layouts_of(**shape), sampler="sampler" in shape),
                 env={"SHAPE": name}, nightly="" if name == "drafts" else "drafts has the same tests, and top-tiny such a space")
           for name, shape in SHAPES.items()]
POINTS = ("limit: the first and the last word of each window",)
SHAPE = SHAPES[os.environ.get("SHAPE", "drafts")]
LAYOUTS, SAMPLER = layouts_of(**SHAPE), "sampler" in SHAPE
DRAFTS, TWO_STEPS = LAYOUTS.drafts, LAYOUTS.two_steps
W, NAMES = LAYOUTS.widths, registers_of(sampler=SAMPLER, drafts=DRAFTS)
#: Of each window: its first address, its words, whether it is written, and whether it is read back as it was written.
TOKENS = W.slots * W.token_window
WINDOWS = {"sdram": (SDRAM_BASE, W.memory_words, True, True), "program": (PROGRAM_BASE, DESCRIPTOR_WORDS * W.steps, True, False),
           "registers": (REGISTER_BASE, len(NAMES), True, True),
           "counters": (COUNTER_BASE, len(COUNTERS) + len(HEAD_COUNTERS) * TWO_STEPS, False, True),
           "crcs": (CRC_BASE, W.steps, False, True), "tops": (TOP_BASE, 2 * TOP_ENTRIES * W.head_tokens, False, True),
           "tokens": (TOKEN_BASE, TOKENS, True, True), "segments": (SEGMENT_BASE, SEGMENT_WORDS * SEGMENT_ENTRIES, True, False)}
#: Tokens from here on are the processor's alone.
OWN = TOKENS - 8
REQUESTS = 60


class Space:
    """The units around the address space, and what its words are."""

    def __init__(self, dut, *, stall):
        self.dut, self._clk, self.random = dut, dut.clk, rng("space")
        random = self.random
        self.words = {name: [0] * words for name, (_, words, _, _) in WINDOWS.items() if name != "sdram"}
        self.words["counters"] = [random.getrandbits(32) for _ in range(WINDOWS["counters"][1])]
        self.words["tops"] = [random.getrandbits(n % 2 == 0 and 32 or W.token_id_bits) for n in range(WINDOWS["tops"][1])]
        # What a test before has left there.
        self.words["tokens"][OWN:] = [None] * (TOKENS - OWN)
        self.sdram: dict[int, int] = {}
        self.retrained = 0
        self.stall = stall
        dut.counters.value = pack(CountersLayout, dict(zip(COUNTERS, self.words["counters"][:len(COUNTERS)], strict=True)))
        if TWO_STEPS:
            dut.head_counters.value = pack(HeadCountersLayout, {n: self.words["counters"][at] for n, at in HEAD_COUNTERS.items()})
        self.req = StreamSource(dut, "req")
        self.wdata = StreamSource(dut, "wdata", idle=stall, rng=rng("wdata"))
        self.rdata = StreamSink(dut, "rdata", stall=stall, rng=rng("rdata"))
        hold = 2 if stall else 0
        self.models = (ReadModel(dut, "read", self.sdram, request=LAYOUTS.memory_request, hold=hold,
                                 pause=lambda: int(random.random() < stall)),
                       WriteModel(dut, "write", self.sdram, request=LAYOUTS.memory_request, hold=hold, stall=stall,
                                  rng=rng("write")))
        for model in self.models:
            cocotb.start_soon(model.run())
        cocotb.start_soon(self.run())

    @clocked
    async def run(self):
        """The processor at the tokens, and the sampler at the best 64, which a request must not disturb, and the other way."""
        dut, random, tokens, tops = self.dut, self.random, self.words["tokens"], self.words["tops"]
        read, taken = None, 0
        while True:
            if read is not None and tokens[read] is not None:
                assert int(dut.tokens__data.value) == tokens[read]
            kind = random.choice(("read", "write", "", "", ""))
            at = random.randrange(OWN, TOKENS)
            dut.tokens__addr.value, dut.tokens__read.value, dut.tokens__write.value = at, kind == "read", kind == "write"
            value = random.getrandbits(W.token_id_bits)
            dut.tokens__wdata.value = value
            taken = max(0, taken - 1) if taken else random.choice((0,) * 12 + (1, 15))
            if SAMPLER:
                dut.top_taken.value = int(taken > 0)
            else:
                taken = 0
            await settled()
            read = at if kind == "read" else None
            self.retrained += bool(dut.sdram_retrain.value)
            # While the sampler has the list, the entry is the sampler's.
            entry = random.randrange(len(tops) // 2) if taken else int(dut.top_addr.value)
            await FallingEdge(self._clk)
            if kind == "write":
                tokens[at] = value
            dut.top_data.value = pack(LAYOUTS.top_entry, logit=tops[2 * entry], id=tops[2 * entry + 1])

    # ---------------------------------------------------------------- the link
    async def ask(self, requests):
        """Requests of (window, first word, words to write or their number), each offered before the one before has ended."""
        plans = []
        for name, first, what in requests:
            base, _, _, _ = WINDOWS[name]
            write = isinstance(what, list)
            plans.append((pack(BusRequest, write=write, addr=base + 4 * first, words=len(what) if write else what), name, first,
                          what if write else None, what))
        asking = cocotb.start_soon(self.req.send_all([plan[0] for plan in plans]))
        giving = cocotb.start_soon(self.wdata.send_all([word for plan in plans for word in plan[3] or ()]))
        for _, name, first, given, what in plans:
            if given is not None:
                self.place(name, first, given)
            else:
                got = await self.rdata.recv_n(what)
                assert got == self.expected(name, first, what), (name, first, what)
        await asking
        await giving
        while not self.dut.idle.value:
            await FallingEdge(self._clk)
        for model in self.models:
            assert model.words is self.sdram
        for name, first, words in [(plan[1], plan[2], plan[3]) for plan in plans if plan[3] and plan[1] == "sdram"][-1:]:
            assert [self.sdram[first + k] for k in range(len(words))] == words, (name, "it is in the memory when idle is high")

    def place(self, name, first, words):
        if name == "tokens":
            words = [word & (1 << W.token_id_bits) - 1 for word in words]
        if name != "sdram":
            self.words[name][first:first + len(words)] = words

    def expected(self, name, first, count):
        if name == "sdram":
            return [self.sdram[first + k] for k in range(count)]
        return self.words[name][first:first + count] if WINDOWS[name][3] else [0] * count

    def check_registers(self):
        """The registers at their true widths, where the units read them."""
        dut, registers = self.dut, dict(zip(NAMES, self.words["registers"], strict=True))

        def bits(layout, value_of):
            return sum((value_of(name) & (1 << field.width) - 1) << field.offset for name, field in layout)

        assert int(dut.shape.value) == bits(LAYOUTS.model_shape, registers.get)
        assert int(dut.sdram_settings.value) == registers["sdram_settings"] & (1 << len(dut.sdram_settings)) - 1
        if SAMPLER:
            seed = registers["sample_seed_low"] | registers["sample_seed_high"] << 32
            assert int(dut.settings.value) == bits(DrawLayout, lambda name: seed if name == "seed" else
                                                   registers[f"sample_{name}"])
        if DRAFTS:
            base, whole = LAYOUTS.drafting["base"].width, (1 << LAYOUTS.drafting.size) - 1
            wanted = registers["draft_base"] & (1 << base) - 1 | registers["draft_settings"] << base
            assert int(dut.drafting.value) == wanted & whole

    async def check_memories(self):
        """Program and segments, as the processor and the weight buffer read them."""
        dut, random = self.dut, self.random
        size = DESCRIPTOR_WORDS if LAYOUTS.wide_program else 1
        last = len(self.words["program"]) // size - 1
        for at in {0, last, *random.sample(range(last), 20)}:
            dut.program__addr.value = at
            await FallingEdge(self._clk)
            words = self.words["program"][size * at:size * (at + 1)]
            assert int(dut.program__data.value) == sum(word << 32 * i for i, word in enumerate(words)), at
        last = len(self.words["segments"]) - 1
        for at in {0, last, *random.sample(range(last), 20)}:
            dut.segments__addr.value = at
            await FallingEdge(self._clk)
            assert int(dut.segments__data.value) == self.words["segments"][at], at


async def bring_up(dut, *, stall):
    for name in ("top_data", "tokens__read", "tokens__write", "crc__write", "program__addr", "segments__addr",
                 *(["top_taken"] if SAMPLER else [])):
        getattr(dut, name).value = 0
    await reset(dut)
    space = Space(dut, stall=stall)
    # The processor's CRCs, before a host reads them.
    for step in range(W.steps):
        value = space.random.getrandbits(32)
        dut.crc__write.value, dut.crc__step.value, dut.crc__value.value = 1, step, value
        space.words["crcs"][step] = value
        await FallingEdge(dut.clk)
    dut.crc__write.value = 0
    return space


def drawn(random, name, words=None):
    """A request of a window: to write some words, or to read them."""
    _, size, writable, _ = WINDOWS[name]
    size = OWN if name == "tokens" else min(size, 64)
    count = random.randint(1, min(size, 6)) if words is None else words
    first = random.randint(0, size - count)
    return name, first, [random.getrandbits(32) for _ in range(count)] if writable and random.random() < 0.5 else count


async def traffic(dut, stall):
    """All windows are written; then requests of any of them, one behind another."""
    space = await bring_up(dut, stall=stall)
    random = space.random
    whole = [(name, 0, [random.getrandbits(32) for _ in range({"tokens": OWN, "sdram": 64}.get(name, size))])
             for name, (_, size, writable, _) in WINDOWS.items() if writable]
    await space.ask(whole)
    retrains = 1
    for _ in range(REQUESTS // 4):
        requests = [drawn(random, random.choice([*WINDOWS])) for _ in range(4)]
        # What is read of the SDRAM is what the memory had before these requests, unless they wrote it.
        requests.sort(key=lambda request: request[0] == "sdram" and not isinstance(request[2], list))
        await space.ask(requests)
        retrains += sum(first <= REGISTERS["sdram_retrain"] < first + len(what) for name, first, what in requests
                        if name == "registers" and isinstance(what, list))
    for _ in range(2):
        await FallingEdge(dut.clk)
    assert space.retrained == retrains
    space.check_registers()
    await space.check_memories()
    report_shares(rdata_ready=space.rdata.low_share, wdata_valid=space.wdata.low_share)
    report(cases=len(whole) + REQUESTS)
    return space


@cocotb.test()
async def requests_one_behind_another(dut):
    space = await traffic(dut, 0.0)
    last = {name: size - 1 for name, (_, size, _, _) in WINDOWS.items()} | {"tokens": OWN - 1}
    space.sdram[last["sdram"]] = 0x1234
    await space.ask([(name, at, 1) for name in WINDOWS for at in (0, last[name])])
    value = 0xA5A5_0000
    ends = [(name, at, [value + at % 97]) for name, (_, _, writable, _) in WINDOWS.items() if writable for at in (0, last[name])]
    await space.ask(ends)
    await space.ask([(name, at, 1) for name, at, _ in ends])
    space.check_registers()
    await space.check_memories()
    # Registers that the core does not have read as zeros.
    left_out = len(REGISTERS) - len(NAMES)
    if left_out:
        space.words["registers"] += [0] * left_out
        await space.ask([("registers", len(NAMES), left_out)])
    report_point("limit: the first and the last word of each window")


@cocotb.test()
async def stalls_10(dut):
    await traffic(dut, 0.1)


@cocotb.test()
async def stalls_50(dut):
    await traffic(dut, 0.5)
