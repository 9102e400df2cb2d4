# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A core with four slots at its byte streams and SDRAM bus: sequences side by side, from packets alone."""

import os
from dataclasses import replace

import cocotb

from hw.top import Core
from sim.cocotb_streams import report, rng
from sim.testbench import Bench
from tellme.compiler.image import compile_model
from tellme.golden.board import GoldenBoard
from tellme.spec.memory import (
    SAMPLING_REGISTERS,
    SLOTS_WORD,
    TOKEN_BASE,
    DoneReason,
    Event,
    EventType,
    StartArgs,
    StartFlags,
    register_address,
    token_address,
)
from tellme.spec.packets import EVENT_SLOTS, EVENTS, SLOTS, NakReason, PacketType
from tellme.spec.sampling import pack_settings
from tellme.spec.scale import Scale
from tests.hw.memory.ddr3_parts import Pins
from tests.hw.memory.parts import SdrPins
from tests.hw.top.tb_top import CONFIG, CONFIGS, bring_up, load, read_words, u32, wait, write
from tests.models.random_model import even_model
from tests.slot_runs import SlotRuns, Text, told

BENCHES = [Bench(name="four", build=lambda: SdrPins(Core(CONFIGS["slots"])), env={"CONFIG": "slots"}, timeout_s=900,
                 nightly="core/slots-drafts-four, core/routers and attention's runs have what this core has, and "
                         "top-chunk's has not"),
           Bench(name="ddr3", build=lambda: Pins(Core(CONFIGS["ddr3-slots"])), env={"CONFIG": "ddr3-slots"}, timeout_s=1800,
                 nightly="slots-four has the same tests with an SDR memory; these are five tokens and words of 64 bits")]
COUNT, WINDOW, LANES, CONTEXT, VOCAB = CONFIG.slots, CONFIG.widths.token_window, CONFIG.chunk, 20, 24
TOKEN, DONE = EventType
ACK = (PacketType.ACK, b"")
#: Joins of the random schedule.
JOINS = int(os.environ.get("TELLME_VECTORS", "14"))


class Board:
    """What the host does with a board: packets, and acknowledged events."""

    def __init__(self, host):
        self.host = host

    async def start(self, args, tokens, settings=None):
        """Place the tokens, set the registers of sampling, start, and change these registers, which count at the START alone."""
        host = self.host
        for i, token in enumerate(tokens):
            await write(host, token_address(args.position + i, args.slot, WINDOW), u32(token))
        values = dict.fromkeys(SAMPLING_REGISTERS, 0) if settings is None else pack_settings(settings)
        for change in (0, 0x5A5A) if settings is not None else ():
            content = b"".join(u32(values[name] ^ change) for name in SAMPLING_REGISTERS)
            await write(host, register_address(SAMPLING_REGISTERS[0]), content)
            if not change:
                assert await host.ask(PacketType.START, args.pack()) == ACK
        if settings is None:
            assert await host.ask(PacketType.START, args.pack()) == ACK

    async def stop(self, payload=b""):
        assert await self.host.ask(PacketType.STOP, payload) == ACK

    async def event(self, limit=100_000):
        """The next event, which is acknowledged."""
        number, kind, content = await self.host.packet(limit=limit)
        assert await self.host.ask(PacketType.EVENTS, EVENTS.pack((number + 1) % 256, 0)) == ACK
        return EventType(kind - PacketType.TOKEN), Event.unpack(content)

    async def running(self):
        """The mask of the slots that run; bit 0 of STATUS says whether one does."""
        kind, words = await self.host.ask(PacketType.STATUS)
        assert kind == PacketType.STATUS_ANSWER
        mask = int.from_bytes(words[4 * SLOTS_WORD:], "little")
        assert words[0] & 1 == (mask != 0)
        return mask


async def prepared(dut, model):
    host = await bring_up(dut)
    image = compile_model(model, CONFIG)
    assert image.slots == COUNT
    await load(host, image)
    return Board(host), image


@cocotb.test()
async def sequences_join_and_leave(dut):
    """At random: prompts of several STARTs, greedy and drawn, all flags, ends of every kind and stops; and who runs."""
    board, image = await prepared(dut, even_model(VOCAB, CONTEXT))
    random = rng("schedule")
    texts = [Text.drawn(random, image, 10) for _ in range(3)]
    slots = [SlotRuns(slot, random, texts, WINDOW, CONTEXT) for slot in range(COUNT)]
    joins = leaves = 0
    while leaves < JOINS:
        for slot in random.sample(slots, COUNT):
            if not slot.running and joins < JOINS and random.random() < 0.6:
                await board.start(*slot.begin())
                joins += 1
        going = [slot for slot in slots if slot.running]
        if not going:
            continue
        if random.random() < 0.15:
            stopped = random.choice((going, random.sample(going, random.randint(1, len(going)))))
            await board.stop(b"" if stopped is going else SLOTS.pack(sum(1 << slot.slot for slot in stopped)))
            for slot in stopped:
                slot.stopping = True
        kind, event = await board.event()
        slots[event.slot].hear(kind, event)
        leaves += kind == DONE
        assert not await board.running() & ~sum(slot.running << slot.slot for slot in slots)
    assert not await board.running()
    report(cases=sum(slot.tokens for slot in slots) + leaves)


def alone(image, args, prompt):
    """What a START tells on a board of its own."""
    golden = GoldenBoard(image, LANES, head_tokens=LANES)
    golden.tokens[:len(prompt)] = prompt
    return [told(*event) for event in golden.start(replace(args, slot=0))]


@cocotb.test()
async def a_full_ring_and_starts_that_are_refused(dut):
    """Each slot tells more than the host takes: the board waits, and takes packets; then all events are there, in order."""
    board, image = await prepared(dut, even_model(VOCAB, CONTEXT))
    host, random = board.host, rng("ring")
    want = {}
    for slot in range(COUNT):
        prompt = [random.randrange(VOCAB) for _ in range(WINDOW)]
        args = StartArgs(0, WINDOW, 20, StartFlags.ALL, slot=slot)
        want[slot] = alone(image, args, prompt)
        await board.start(args, prompt)
    assert sum(map(len, want.values())) > 2 * EVENT_SLOTS
    seen = {slot: [] for slot in want}

    async def take():
        number, kind, content = await host.packet(limit=400_000)
        event = Event.unpack(content)
        seen[event.slot].append(told(EventType(kind - PacketType.TOKEN), event))
        return number

    for _ in range(EVENT_SLOTS):
        number = await take()
    # No room: nothing goes on, but the link answers.  A START of a slot that runs, or that is not there, is refused.
    await wait(dut, 6000)
    assert not host.waiting() and await board.running() == (1 << COUNT) - 1
    for slot, reason in ((0, NakReason.BUSY), (COUNT - 1, NakReason.BUSY), (COUNT, NakReason.ADDRESS)):
        kind, content = await host.ask(PacketType.START, StartArgs(0, 1, 1, slot=slot).pack())
        assert (kind, content[0]) == (PacketType.NAK, reason)
    # Behind the last word of the last slot's window there is nothing.
    assert len(await read_words(host, token_address(0, COUNT - 1, WINDOW), WINDOW)) == WINDOW
    kind, content = await host.ask(PacketType.READ, u32(TOKEN_BASE + 4 * COUNT * WINDOW) + b"\x04\0")
    assert (kind, content[0]) == (PacketType.NAK, NakReason.ADDRESS)
    while any(seen[slot] != want[slot] for slot in want):
        assert await host.ask(PacketType.EVENTS, EVENTS.pack((number + 1) % 256, 0)) == ACK
        number = await take()
    assert await host.ask(PacketType.EVENTS, EVENTS.pack((number + 1) % 256, 0)) == ACK
    assert not await board.running()
    report(cases=sum(map(len, seen.values())))


@cocotb.test()
async def an_infinity_ends_its_slot_alone(dut):
    """Prompts whose first token overflows: beside others in a pass, alone in a pass while another slot waits, and alone; and a
    sequence that overflows at a token that it picked."""
    bad = 10
    model = even_model(VOCAB, CONTEXT)
    # The last down projection overflows for this token, and behind 5 for what is picked.
    model.layers[1].scales["w2"] = Scale(2047, 1)
    board, image = await prepared(dut, model)
    cases = 0
    rounds = (((2, [bad]), (0, [5]), (1, [bad, 3]), (3, [7, 8])), ((1, [bad, 1, 2, 3]), (3, [4, 5, 6])),
              ((0, [bad, 1, 2, 3]), (2, [bad, 7])), ((3, [bad]),), ((3, [9, 2]),))
    for prompts in rounds:
        want, seen = {}, {slot: [] for slot, _ in prompts}
        for slot, prompt in prompts:
            args = StartArgs(0, len(prompt), 2, slot=slot)
            want[slot] = alone(image, args, prompt)
            await board.start(args, prompt)
        reasons = {slot: events[-1][3] for slot, events in want.items()}
        assert all((reasons[slot] == DoneReason.NONFINITE) == (prompt[0] in (bad, 5)) for slot, prompt in prompts)
        while any(not events or events[-1][0] != DONE for events in seen.values()):
            kind, event = await board.event()
            seen[event.slot].append(told(kind, event))
        assert seen == want
        # Bit 2 of STATUS: a slot ended so since the last START.
        _, words = await board.host.ask(PacketType.STATUS)
        assert words[0] == 0b010 | (DoneReason.NONFINITE in reasons.values()) << 2 and not await board.running()
        cases += sum(map(len, seen.values()))
    report(cases=cases)


@cocotb.test()
async def a_stop_counts_behind_the_pass(dut):
    """Of one slot while the others go on, of a slot whose prompt waits, and of all; each slot is free with its DONE."""
    board, image = await prepared(dut, even_model(VOCAB, CONTEXT))
    prompt = [3, 1, 4, 1, 5, 9, 2, 6]
    going = {slot: StartArgs(0, 1, CONTEXT, slot=slot) for slot in (0, 2)}
    want = {slot: alone(image, args, prompt) for slot, args in going.items()}
    seen = {slot: [] for slot in range(COUNT)}

    async def take():
        kind, event = await board.event()
        seen[event.slot].append(told(kind, event))
        return kind, event

    for args in going.values():
        await board.start(args, prompt)
    while not all(seen[slot] for slot in going):
        await take()
    # A prompt, and one whose turn has not come.
    for slot in (3, 1):
        await board.start(StartArgs(0, WINDOW, 1, chunk=4, slot=slot), prompt)
    await board.stop(SLOTS.pack(0b0010))
    while not seen[1]:
        await take()
    ((kind, _, _, reason),) = seen[1]
    assert (kind, reason) == (DONE, DoneReason.STOPPED) and not await board.running() & 0b0010
    # The slot that was stopped begins anew, behind the prompt of slot 3.
    seen[1].clear()
    args = StartArgs(0, WINDOW, 1, slot=1)
    await board.start(args, prompt)
    while not seen[1] or seen[1][-1][0] != DONE:
        await take()
    assert seen[1] == alone(image, args, prompt)
    assert seen[3] == alone(image, StartArgs(0, WINDOW, 1, slot=3), prompt)
    assert [event[:2] for event in seen[0]] == [(TOKEN, at) for at in range(len(seen[0]))]
    await board.stop()
    while await board.running() or any(seen[slot][-1][0] != DONE for slot in going):
        await take()
    for slot in going:
        assert seen[slot][:-1] == want[slot][:len(seen[slot]) - 1]
        assert seen[slot][-1] in ((DONE, len(seen[slot]) - 2, None, DoneReason.STOPPED), want[slot][-1])
    assert (await board.host.ask(PacketType.STATUS))[1][0] == 0b1010
    report(cases=sum(map(len, seen.values())))
