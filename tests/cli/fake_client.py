# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A board at the level of packets' meanings: windows of memory, and the golden model in place of the gateware.

The fake board knows only what the host writes to it about a model.
"""

import struct
from collections import Counter, deque
from dataclasses import replace
from zlib import crc32

import numpy as np

from tellme.compiler.image import Image
from tellme.compiler.part import Part
from tellme.golden import GoldenBoard
from tellme.link.errors import LinkError
from tellme.runtime.device import BoardDevice
from tellme.spec.memory import (
    COUNTER_BASE,
    DRAFT_REGISTERS,
    MODEL_REGISTERS,
    PROGRAM_BASE,
    REGISTER_BASE,
    REGISTERS,
    SAMPLING_REGISTERS,
    SDRAM_BASE,
    SEGMENT_BASE,
    TOKEN_BASE,
    TOP_BASE,
    TOP_BYTES,
    DoneReason,
    EventType,
    StartArgs,
    StartFlags,
)
from tellme.spec.program import SEGMENT_ENTRIES, SEGMENT_WORDS, Descriptor, Op, unpack_segments

#: Bytes of a page: what was not written is no part of the model.
PAGE = 1 << 16
#: Cycles that each fed token takes, plus its position.
CYCLES = 1000


class FakeClient:
    """BoardClient's interface.  ``log`` has the starts; ``cut_after`` events the link goes silent with ``error``."""

    def __init__(self, config, *, cut_after=None, error=None):
        self.config = config
        # Takes memory of this process only where something was written.
        self.memory = memoryview(np.zeros(config.sdram_bytes, np.uint8))
        #: Numbers of pages of PAGE bytes in which something was written.
        self.pages: set[int] = set()
        self.program = bytearray(16 * config.program_steps)
        self.segments = bytearray(4 * SEGMENT_WORDS * SEGMENT_ENTRIES)
        self.own_registers = ((SAMPLING_REGISTERS if config.sampler else ()) + (DRAFT_REGISTERS if config.drafts else ()))
        left_out = set(SAMPLING_REGISTERS + DRAFT_REGISTERS) - set(self.own_registers)
        self.registers = bytearray(4 * (len(REGISTERS) - len(left_out)))
        self.tokens = np.zeros(config.max_context, "<u4")
        self.board = None
        self.log: list[StartArgs] = []
        self.cycles = self.verified = 0
        self.closed = self.stopped = False
        self.cut_after, self.error = cut_after, error
        self._run = iter(())

    def _window(self, address):
        if address < PROGRAM_BASE:
            return self.memory, address - SDRAM_BASE
        if address < REGISTER_BASE:
            return self.program, address - PROGRAM_BASE
        if address >= SEGMENT_BASE:
            return self.segments, address - SEGMENT_BASE
        assert address < COUNTER_BASE
        return self.registers, address - REGISTER_BASE

    def write(self, address, content, progress=None):
        assert address % 4 == 0 and len(content) % 4 == 0
        if TOKEN_BASE <= address < SEGMENT_BASE:
            at = (address - TOKEN_BASE) // 4
            self.tokens[at:at + len(content) // 4] = np.frombuffer(content, "<u4")
            return
        window, at = self._window(address)
        assert at + len(content) <= len(window), "beyond the window"
        window[at:at + len(content)] = content
        if window is self.memory:
            self.pages |= set(range(at // PAGE, (at + len(content) - 1) // PAGE + 1))
        if window is self.memory and self.board is not None:
            self.board.write(at, content)
        elif window is self.registers and at >= 4 * REGISTERS[SAMPLING_REGISTERS[0]]:
            self._set_registers()
        else:
            self.board = None
        if progress is not None:
            progress(len(content))

    def checksums(self, ranges):
        return [crc32(self.read(address, size)) for address, size in ranges]

    def verify_sums(self, regions):
        for address, size, wanted in regions:
            assert crc32(self.read(address, size)) == wanted
            self.verified += size

    def read(self, address, size):
        if TOP_BASE <= address < TOKEN_BASE:
            number, at = divmod(address - TOP_BASE, TOP_BYTES)
            content = b"".join(struct.pack("<iI", logit, token) for token, logit in self.board.top(number))
            return content[at:][:size]
        window, at = self._window(address)
        return bytes(window[at:at + size])

    def _set_registers(self):
        """The registers that are no model's, from those of the window."""
        if self.board is not None:
            words = struct.unpack(f"<{len(self.registers) // 4}I", self.registers)
            self.board.registers |= {name: words[REGISTERS[name]] for name in self.own_registers}

    def _boot(self):
        values = struct.unpack_from(f"<{len(MODEL_REGISTERS)}I", self.registers)
        program = []
        for words in struct.iter_unpack("<4I", self.program):
            program.append(Descriptor.unpack(words))
            if program[-1].op == Op.END:
                break
        sections = tuple((PAGE * page, Part.of(bytes(self.memory[PAGE * page:PAGE * (page + 1)]))) for page in sorted(self.pages))
        image = Image(sections, tuple(program),
                      dict(zip(MODEL_REGISTERS, values, strict=True)),
                      unpack_segments(struct.unpack(f"<{SEGMENT_WORDS * SEGMENT_ENTRIES}I", self.segments)), len(self.memory))
        most, slots = self.config.head_tokens, self.config.slots
        self.board = GoldenBoard(image, most, sampler=self.config.sampler, head_tokens=most, slots=slots,
                                 token_window=self.config.widths.token_window if slots > 1 else None,
                                 drafts=self.config.drafts)
        self._set_registers()

    def start(self, args):
        self.log.append(args)
        self.stopped = False
        if self.board is None:
            self._boot()
        if args.flags & StartFlags.CLEAR:
            self.cycles = 0
        self._run = self._events(args)

    def _events(self, args):
        context = self.board.registers["context"]
        self.board.tokens[:] = [int(t) for t in self.tokens[:context]]
        fed = args.position
        for number, (kind, event) in enumerate(self.board.start(args)):
            if self.cut_after is not None and number == self.cut_after:
                raise self.error
            while fed <= event.position and kind == EventType.TOKEN:
                self.cycles += CYCLES + fed
                fed += 1
            if self.stopped:
                yield EventType.DONE, replace(event, logit=DoneReason.STOPPED)
                return
            self.tokens[:context] = self.board.tokens
            if args.flags & StartFlags.DUMP:
                base = 4 * self.board.registers["logits_base"]
                dumped = self.board.pass_logits.T.astype("<i4").tobytes()
                self.memory[base:base + len(dumped)] = dumped
            yield kind, replace(event, cycles=self.cycles % 2**32, read_words=3 * self.cycles % 2**32,
                                write_words=self.cycles // 10, sdram_busy=self.cycles // 2)

    def events(self):
        return self._run

    def stop(self):
        self.stopped = True

    def watch(self, cycles):
        self.watched = cycles

    def close(self):
        self.closed = True


class SlottedClient(FakeClient):
    """A fake board whose slots run side by side: ``listen`` makes a pass where no event waits.  A pass takes CYCLES, and as many
    again as the sum of its tokens' positions.

    ``passes`` counts passes by the number of slots that ran; ``stops`` has the slots that were stopped.  After ``cut_after``
    events in all the link fails with ``error``, whatever is asked.
    """

    def __init__(self, config, **options):
        super().__init__(config, **options)
        self._waiting = deque()
        self.told = 0
        self.passes, self.stops = Counter(), []
        self._dumping = set()

    def _check(self):
        if self.closed or self.cut_after is not None and self.told >= self.cut_after:
            raise self.error

    @property
    def running(self):
        """The slots whose DONE was not told."""
        waiting = {event.slot for _, event in self._waiting}
        return set(self.board.running) | waiting if self.board is not None else waiting

    def write(self, address, content, progress=None):
        self._check()
        super().write(address, content, progress)

    def start(self, args):
        self._check()
        assert args.slot not in self.running, "BUSY"
        self.log.append(args)
        if self.board is None:
            self._boot()
        if args.flags & StartFlags.CLEAR:
            self.cycles = 0
        window = self.board.windows[args.slot]
        at = args.slot * len(window)
        window[:] = [int(token) for token in self.tokens[at:at + len(window)]]
        self.board.begin(args)
        if args.flags & StartFlags.DUMP:
            self._dumping.add(args.slot)

    def make_pass(self):
        """Make a pass; its events wait to be told."""
        running = self.board.running
        self.passes[len(running)] += 1
        for kind, event in self.board.make_pass():
            self.cycles += event.position
            self._waiting.append((kind, event))
        self.cycles += CYCLES
        for number in range(len(self._waiting)):
            kind, event = self._waiting[number]
            self._waiting[number] = kind, replace(event, cycles=self.cycles % 2**32, read_words=3 * self.cycles % 2**32,
                                                  write_words=self.cycles // 10, sdram_busy=self.cycles // 2)
        for slot in running:
            window = self.board.windows[slot]
            self.tokens[slot * len(window):(slot + 1) * len(window)] = window
        if self._dumping & set(running):
            base = 4 * self.board.registers["logits_base"]
            dumped = self.board.pass_logits.T.astype("<i4").tobytes()
            self.memory[base:base + len(dumped)] = dumped
        self._dumping &= set(self.board.running)

    def next_event(self):
        """The next event, with a pass if none waits; None if nothing runs."""
        if not self._waiting and self.board is not None and self.board.running:
            self.make_pass()
        return self._waiting.popleft() if self._waiting else None

    def listen(self, slots, seconds):
        self._check()
        if self.running.isdisjoint(slots):
            raise LinkError("no run whose events could come")
        if not self._waiting:
            self.make_pass()
        out, self._waiting = list(self._waiting), deque()
        self.told += len(out)
        return out

    def stop(self, slot=None):
        self._check()
        self.stops += [slot] if slot is not None else sorted(self.running)
        self._waiting += self.board.stop(None if slot is None else [slot])


def slotted_board(config, **options):
    """A fake board of several slots, and the device on it."""
    client = SlottedClient(config, **options)
    return client, BoardDevice("port", config, client, "ab" * 32)
