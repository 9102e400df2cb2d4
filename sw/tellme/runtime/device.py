# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What a model can run on: the golden model, and boards, behind one interface."""

import threading
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from struct import Struct
from typing import Literal, Protocol
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from tellme.compiler.image import Image
from tellme.errors import DeviceError
from tellme.golden.board import CHUNK, GoldenBoard
from tellme.golden.perplexity import unlimited_config, window_losses
from tellme.link.client import REGION, padded
from tellme.link.errors import StuckError
from tellme.models.source import Source
from tellme.spec.config import CoreConfig
from tellme.spec.drafts import SETTINGS_FIELDS
from tellme.spec.memory import (
    COUNTER_BASE,
    COUNTERS,
    CRC_BASE,
    HEAD_COUNTERS,
    SAMPLING_REGISTERS,
    SDRAM_BASE,
    TOP_ENTRIES,
    Event,
    EventType,
    StartArgs,
    StartFlags,
    check_tokens,
    register_address,
    token_address,
    top_address,
)
from tellme.spec.ranges import Range
from tellme.spec.sampling import DrawSettings, pack_settings
from tellme.spec.words import unpack_word

__all__ = ["BoardDevice", "Client", "Device", "GoldenDevice"]

#: Bytes done and bytes in all.
Progress = Callable[[int, int], None]
#: Sequences that the golden model runs side by side.
GOLDEN_SLOTS = 16
#: Seconds that a caller who waits for events keeps a board's client from the callers who have something to say.
SLICE = 0.01


class Device(ABC):
    """A board to the host: load an image, place tokens, start, hear events, read results.

    ``start`` gives a TOKEN event for each pick, and a DONE event last.  After DONE the results of the last LM head pass (``top``,
    ``logits``) can be read.  Failures of a device are DeviceErrors or LinkErrors.

    A device with several ``slots`` runs as many sequences side by side.  Each start is of a slot, and its iterator gives the
    slot's events alone.  The iterators may be taken in turns by one thread, or each by a thread of its own; a slot is used by one
    thread at a time.  While an iterator is waited for, the events of the other slots are kept.
    """

    #: "golden", "sim", or the port.
    name: str
    #: Preset and hash of the core's Verilog; None on golden.
    preset: str | None = None
    core_sha256: str | None = None
    #: Rate of the fabric's clock; None where cycles mean nothing.
    fabric_mhz: float | None = None
    #: Bytes of a word of the memory, in which events count what was moved.
    word_bytes: int = 4
    #: Bytes of the last load that were sent, and that the board held already.
    sent: int = 0
    skipped: int = 0
    #: Whether a start with the flag SAMPLE draws as :meth:`draw_as` said.
    sampler: bool = False
    #: Tokens of a chunk after which a start with the flag ALL gives a pick, the best 64 and the logits; 1: it is refused.
    head_tokens: int = 1
    #: Sequences that run side by side; known once an image is loaded.
    slots: int = 1
    #: Tokens that a start feeds at most; None: as many as the context has positions.
    token_window: int | None = None
    #: How often a start zeroed the counters.
    zeroed: int = 0
    #: Whether starts with the flag TWO_STEPS are taken, of the image that is loaded.
    two_steps: bool = False
    #: Who picks the tokens of a start.
    picks_by: Literal["board", "host"] = "board"
    #: Tokens that a pass drafts for a slot at most, with the image that is loaded; 0: none (:meth:`draft_as`).
    draft_most: int = 0

    @abstractmethod
    def config(self, model: Source) -> CoreConfig:
        """The configuration to compile a model for."""

    def connect(self) -> None:  # noqa: B027 - most devices are there when they are opened
        """Start the device, which may take long; called once it is clear that the model and the prompt fit."""

    @abstractmethod
    def load(self, image: Image, progress: Progress) -> None:
        """Write an image."""

    def watch(self, cycles: int) -> None:  # noqa: B027 - nothing to do on a device that runs in this process
        """End runs of the loaded image that make no progress within so many cycles with a StuckError."""

    @abstractmethod
    def place(self, position: int, tokens: Sequence[int], slot: int = 0) -> None:
        """Write tokens into a slot's token memory, up to ``token_window`` of them."""

    @abstractmethod
    def write(self, address: int, content: bytes) -> None:
        """Write whole words into the memory of a device that is loaded, between runs."""

    @abstractmethod
    def draw_as(self, settings: DrawSettings, slot: int = 0) -> None:
        """How a slot's starts with the flag SAMPLE draw from now on, on a device that is loaded and has a ``sampler``, between
        runs of the slot.

        ``settings``: such as :func:`tellme.spec.sampling.board_draws` takes.
        """

    def draft_as(self, settings: int) -> None:
        """The register ``draft_settings`` from now on, on a device that is loaded with a table of drafted tokens, between runs:
        SETTINGS_FIELDS of :mod:`tellme.spec.drafts`, 0: nothing is drafted.  Without a table a DeviceError."""
        raise DeviceError(f"{self.name} has no table of drafted tokens")

    @abstractmethod
    def start(self, args: StartArgs) -> Iterator[tuple[EventType, Event]]:
        """Run, and yield the events up to DONE.  A run of the slot that goes on from before is stopped first.

        The picks of one pass, of which there are several where tokens are drafted, have the same number of cycles, and those of a
        slot's next pass have another one.

        The flag CLEAR counts if no other slot runs (:meth:`cleared`).  A slot that the device does not have, the flag SAMPLE on a
        device without a ``sampler``, the flag ALL on a device with ``head_tokens`` 1, and the flag DUMP while other slots run,
        are a DeviceError; and so is the flag TWO_STEPS on a device without ``two_steps``, with ALL or DUMP.  With settings that
        two steps do not serve (:func:`tellme.spec.two_steps.serves`) draws would differ."""

    @abstractmethod
    def top(self, number: int = -1, slot: int | None = None) -> list[tuple[int, int]]:
        """The 64 best (id, logit) of a token of the last LM head pass, best first: of the last token, or of the one with this
        number in the pass.  A pass is of one token, or with the flag ALL of a chunk's tokens.

        They belong to the run that was started last.  If others ran beside it, or run, or it was of another slot than ``slot``,
        they cannot be told from others': a DeviceError; and so it is on a board whose last run had the flag TWO_STEPS, and knows
        the best 64 no more."""

    @abstractmethod
    def pass_logits(self, slot: int | None = None) -> NDArray[np.int32]:
        """All logits (tokens, vocab) of the last LM head pass, in Q15.16; on a board the run must have had the DUMP flag.  They
        are refused as those of :meth:`top` are."""

    def logits(self, slot: int | None = None) -> NDArray[np.int32]:
        """Those of its last token, (vocab,)."""
        return self.pass_logits(slot)[-1]

    @abstractmethod
    def crcs(self) -> list[int]:
        """CRC-32 of the last run of each step of the program, END left out."""

    @abstractmethod
    def counters(self) -> dict[str, int]:
        """What the board counted since the last start with the CLEAR flag, by the names of :data:`tellme.spec.memory.COUNTERS`;
        where the core has ``two_steps``, those of :data:`tellme.spec.memory.HEAD_COUNTERS` too.  A DeviceError where nothing
        counts."""

    def checksums(self, ranges: Sequence[tuple[int, int]]) -> list[int]:
        """CRC-32 of ranges (address, bytes) of the memory, computed by the board, also while it runs.  A DeviceError where there
        is no memory behind packets."""
        raise DeviceError(f"{self.name} has no memory whose checksums could be taken: use it with a board", hint="board")

    def cleared(self, slot: int = 0) -> bool:
        """Whether the counters count from the slot's last start with the flag CLEAR on; they do unless others ran beside it."""
        return True

    def stop(self, slot: int | None = None) -> None:  # noqa: B027 - nothing to do on a device that runs in this process
        """End the run of a slot early, or of all slots; its remaining events are dropped."""

    def close(self) -> None:  # noqa: B027
        """Close the device."""


def check_slot(slot: int, device: Device) -> None:
    """Refuse a slot for which a device that is loaded has no cache: a DeviceError."""
    if not 0 <= slot < device.slots:
        have = "one sequence at a time" if device.slots == 1 else f"{device.slots} sequences side by side"
        raise DeviceError(f"{device.name} runs {have} with this model, and slot {slot} is not one of theirs")


def check_dump(args: StartArgs, running: Collection[int]) -> None:
    """Refuse a start that asks for all logits while other slots run: a DeviceError."""
    if args.flags & StartFlags.DUMP and running:
        slots = ", ".join(map(str, sorted(running)))
        raise DeviceError(f"all logits cannot be asked for while other sequences run (slot {slots})")


class Alone:
    """Whether the last pass of a device was of one slot, so that its logits and its best 64 are that slot's."""

    def __init__(self) -> None:
        #: The slot that was started last, and whether no other one ran then.
        self._latest, self._alone = 0, True

    def started(self, slot: int, running: Collection[int]) -> None:
        """A slot was started while some run."""
        self._latest, self._alone = slot, not set(running) - {slot}

    def check(self, what: str, slot: int | None, running: Collection[int]) -> None:
        """Refuse ``what`` where other slots than ``slot`` (None: the one that was started last) may have made the last pass, or
        a part of it: a DeviceError."""
        own = self._latest if slot is None else slot
        others = sorted(set(running) - {own})
        if others:
            raise DeviceError(f"{what} cannot be read while other sequences run (slot {', '.join(map(str, others))})")
        if own != self._latest or not self._alone:
            raise DeviceError(f"{what} may be those of another sequence, as several ran: generate while no other one does")


def drafted_at_most(settings: int) -> int:
    """Drafted tokens of a pass and slot at most, of the register ``draft_settings``."""
    return unpack_word(SETTINGS_FIELDS, settings)["most"]


class GoldenDevice(Device):
    """The golden model: no board's limits, no cycles."""

    name = "golden"
    sampler = True
    slots = GOLDEN_SLOTS
    #: Whether the image that is loaded has a table of drafted tokens.
    _tabled = False

    def __init__(self) -> None:
        self._board: GoldenBoard | None = None
        self._lock = threading.Lock()
        self._settings: dict[int, DrawSettings] = {}
        #: Events of each slot that nobody took.
        self._heard: defaultdict[int, deque[tuple[EventType, Event]]] = defaultdict(deque)
        self._alone = Alone()
        #: Passes that were made, which events have for their cycles.
        self._passes = 0

    @property
    def board(self) -> GoldenBoard:
        assert self._board is not None, "no image is loaded"
        return self._board

    def config(self, model: Source) -> CoreConfig:
        return unlimited_config(model)

    def load(self, image: Image, progress: Progress) -> None:
        size = sum(len(part) for _, part in image.sections)
        progress(0, size)
        self.slots = 1 if image.probe is not None else GOLDEN_SLOTS
        self._board = GoldenBoard(image, CHUNK, head_tokens=CHUNK, slots=self.slots, drafts=True)
        self._tabled = image.draft_base is not None
        self._board.registers |= image.draft_registers
        self.draft_most = drafted_at_most(image.draft_settings or 0)
        self._heard.clear()
        progress(size, size)

    def place(self, position: int, tokens: Sequence[int], slot: int = 0) -> None:
        check_slot(slot, self)
        check_tokens(position, tokens, self.board.registers["context"])
        self.board.windows[slot][position:position + len(tokens)] = tokens

    def write(self, address: int, content: bytes) -> None:
        self.board.write(address, content)

    def draw_as(self, settings: DrawSettings, slot: int = 0) -> None:
        check_slot(slot, self)
        self._settings[slot] = settings

    def draft_as(self, settings: int) -> None:
        if not self._tabled:
            super().draft_as(settings)
        self.board.registers["draft_settings"] = settings
        self.draft_most = drafted_at_most(settings)

    def start(self, args: StartArgs) -> Iterator[tuple[EventType, Event]]:
        slot = args.slot
        check_slot(slot, self)
        if args.flags & StartFlags.ALL:
            raise DeviceError("the golden model gives no picks after all tokens: feed the tokens one by one")
        self.stop(slot)
        with self._lock:
            check_dump(args, self.board.running)
            if args.flags & StartFlags.SAMPLE:
                self.board.registers.update(pack_settings(self._settings[slot]))
            self._alone.started(slot, self.board.running)
            self.board.begin(args)
        while True:
            with self._lock:
                while not self._heard[slot]:
                    if slot not in self.board.running:
                        raise DeviceError("the golden model was stopped")
                    # Each pass is of all slots that run.
                    self._passes += 1
                    for kind, event in self.board.make_pass():
                        self._heard[event.slot].append((kind, replace(event, cycles=self._passes)))
                kind, event = self._heard[slot].popleft()
            yield kind, event
            if kind == EventType.DONE:
                return

    def top(self, number: int = -1, slot: int | None = None) -> list[tuple[int, int]]:
        with self._lock:
            self._alone.check("the best 64", slot, self.board.running)
            return self.board.top(number)

    def pass_logits(self, slot: int | None = None) -> NDArray[np.int32]:
        with self._lock:
            self._alone.check("all logits", slot, self.board.running)
            return self.board.pass_logits

    def losses(self, ids: Sequence[int]) -> Iterator[list[float]]:
        """The losses of :func:`tellme.golden.perplexity.window_losses` in slot 0, which runs nothing else; others may run."""
        parts = window_losses(self.board, ids)
        while True:
            with self._lock:
                part = next(parts, None)
            if part is None:
                return
            yield part

    def crcs(self) -> list[int]:
        return self.board.crcs[:-1]

    def counters(self) -> dict[str, int]:
        raise DeviceError("the golden model counts no cycles: open the simulated board, or a real one")

    def stop(self, slot: int | None = None) -> None:
        if self._board is None:
            return
        with self._lock:
            self.board.stop(None if slot is None else [slot])
            for each in list(self._heard) if slot is None else [slot]:
                self._heard[each].clear()


class Client(Protocol):
    """The packets' interface to a board, which tellme.link.client.BoardClient has."""

    def write(self, address: int, content: bytes, progress: Callable[[int], None] | None = None) -> None: ...

    def read(self, address: int, size: int) -> bytes: ...

    def checksums(self, ranges: Iterable[tuple[int, int]]) -> list[int]: ...

    def verify_sums(self, regions: Iterable[tuple[int, int, int]]) -> None: ...

    def checksum(self, address: int, size: int) -> int: ...

    def status(self) -> tuple[int, ...]: ...

    def start(self, args: StartArgs) -> None: ...

    def events(self) -> Iterator[tuple[EventType, Event]]: ...

    def listen(self, slots: Collection[int], seconds: float) -> list[tuple[EventType, Event]]: ...

    def stop(self, slot: int | None = None) -> None: ...

    def watch(self, cycles: int | None) -> None: ...

    def close(self) -> None: ...


class BoardDevice(Device):
    """A board behind a client.  What the board does is seen through packets alone."""

    _ENTRY = Struct("<iI")

    def __init__(self, name: str, config: CoreConfig, client: Client | None = None, core_sha256: str | None = None,
                 *, verify: bool = False, blank: bool = False):
        self.name = name
        self.preset = config.name
        self.core_sha256 = core_sha256
        self.fabric_mhz = config.fabric_mhz
        self.word_bytes = config.word_bits // 8
        self.sampler = config.sampler
        self.head_tokens = config.head_tokens
        self._config = config
        self._given = client
        #: Compare the memory with what was written: an SDRAM on a real board may fail where no packet did.  The simulated SDRAM
        #: does not, and there the comparison would take a quarter of the time of the load.
        self._verify = verify
        #: Regions (address, bytes) that may be compared before they are written; None: all.  Memory that was never written is
        #: not worth a look, and the simulated SDRAM ends the board that reads it.
        self._known: set[tuple[int, int]] | None = set() if blank else None
        self._image: Image | None = None
        #: Whether the core has several slots, whatever the memory has room for.
        self._several = config.slots > 1
        self.token_window = config.widths.token_window if self._several else None
        #: Slots that run, as far as their events have come.
        self._running: set[int] = set()
        #: Tokens of the last LM head pass, and whether it was in two steps.
        self._pass_tokens = 1
        self._in_two_steps = False
        self._alone = Alone()
        self._cleared: dict[int, bool] = {}
        self._settings: dict[int, DrawSettings] = {}
        #: Events of each slot that nobody took, and the slots whose callers wait for one.
        self._heard: defaultdict[int, deque[tuple[EventType, Event]]] = defaultdict(deque)
        self._waiting: set[int] = set()
        #: One thread at a time uses the client: who has something to say comes ahead of who waits for events.
        self._turn = threading.Condition()
        self._busy = False
        self._wanted = 0

    @property
    def _client(self) -> Client:
        assert self._given is not None, "the board is not connected"
        return self._given

    @property
    def client(self) -> Client:
        """The packets of the board, which is connected: for what is no run, such as its status and tests of its memory."""
        return self._client

    @contextmanager
    def _talk(self) -> Iterator[Client]:
        """The client, for this thread alone."""
        with self._turn:
            self._wanted += 1
            try:
                while self._busy:
                    self._turn.wait()
                self._busy = True
            finally:
                self._wanted -= 1
        try:
            yield self._client
        finally:
            self._release()

    def _release(self) -> None:
        with self._turn:
            self._busy = False
            self._turn.notify_all()

    @property
    def core(self) -> CoreConfig:
        """The configuration of the board's core."""
        return self._config

    def config(self, model: Source) -> CoreConfig:
        return self._config

    def load(self, image: Image, progress: Progress) -> None:
        """Write an image.  Regions that the board's memory holds already, by their checksums, are not sent.

        With ``verify`` the board's checksums of what was sent are compared at the end.
        ``sent`` and ``skipped`` are brought up to date before ``progress`` hears of the bytes.
        """
        self._image = image
        self.slots = min(self._config.slots, image.slots)
        self.draft_most = drafted_at_most(image.draft_settings or 0)
        self.two_steps = self._config.two_steps and image.two_steps
        sections = [(SDRAM_BASE + base, part) for base, part in image.sections]
        tables = image.tables
        total = sum(len(part) for _, part in sections) + sum(len(table) for _, table in tables)
        self.sent = self.skipped = 0

        def say() -> None:
            progress(self.sent + self.skipped, total)

        say()
        written: list[tuple[int, int, int]] = []
        for address, part in sections:
            for content in part.chunks():
                written += self._load(address, content, say)
                address += len(content)
        # The host cannot read these back: they are always sent.
        for address, table in tables:
            self._send(address, table, say)
        if self._verify:
            self._client.verify_sums(written)

    def watch(self, cycles: int) -> None:
        self._client.watch(cycles)

    def _load(self, address: int, content: bytes, say: Callable[[], None]) -> list[tuple[int, int, int]]:
        """Write a part of a section where the memory differs; (address, bytes, CRC-32) of the regions that were written."""
        regions = [(address + at, content[at:at + REGION]) for at in range(0, len(content), REGION)]
        wanted = [(base, len(padded(region)), crc32(padded(region))) for base, region in regions]
        asked = [(base, size) for base, size, _ in wanted if self._known is None or (base, size) in self._known]
        sums = dict(zip(asked, self._client.checksums(asked), strict=True))
        held = [sums.get((base, size)) for base, size, _ in wanted]
        written = []
        for differs, group in groupby(zip(regions, wanted, held, strict=True), lambda item: item[1][2] != item[2]):
            found = list(group)
            piece = b"".join(region for (_, region), _, _ in found)
            if differs:
                self._send(found[0][0][0], piece, say)
                written += [item for _, item, _ in found]
            else:
                self.skipped += len(piece)
                say()
        if self._known is not None:
            self._known |= {(base, size) for base, size, _ in written}
        return written

    def _send(self, address: int, content: bytes, say: Callable[[], None]) -> None:
        before = self.sent

        def heard(size: int) -> None:
            self.sent = before + size
            say()

        self._client.write(address, content, heard)
        heard(len(content))

    def place(self, position: int, tokens: Sequence[int], slot: int = 0) -> None:
        check_slot(slot, self)
        check_tokens(position, tokens, self._loaded().registers["context"], self._config.max_vocab)
        window = self._config.widths.token_window
        if self._several:
            Range(0, window).check("tokens in a slot's window", len(tokens))
        content = np.array(tokens, "<u4").tobytes()
        # Up to the window's end, and from its beginning on.
        first = 4 * (window - position % window) if self._several else len(content)
        with self._talk() as client:
            for at, part in ((0, content[:first]), (first // 4, content[first:])):
                if part:
                    client.write(token_address(position + at, slot, window), part)

    def write(self, address: int, content: bytes) -> None:
        with self._talk() as client:
            client.write(SDRAM_BASE + address, content)

    def draw_as(self, settings: DrawSettings, slot: int = 0) -> None:
        self._check_sampler()
        check_slot(slot, self)
        self._settings[slot] = settings
        if not self._several:
            self._set_sampling(self._client, settings)

    @staticmethod
    def _set_sampling(client: Client, settings: DrawSettings) -> None:
        registers = pack_settings(settings)
        content = b"".join(registers[name].to_bytes(4, "little") for name in SAMPLING_REGISTERS)
        client.write(register_address(SAMPLING_REGISTERS[0]), content)

    def draft_as(self, settings: int) -> None:
        if self._loaded().draft_base is None:
            super().draft_as(settings)
        with self._talk() as client:
            client.write(register_address("draft_settings"), settings.to_bytes(4, "little"))
        self.draft_most = drafted_at_most(settings)

    def _check_sampler(self) -> None:
        if not self.sampler:
            raise DeviceError(f"the core {self.preset} has no sampler: the host has to draw the tokens")

    def start(self, args: StartArgs) -> Iterator[tuple[EventType, Event]]:
        check_slot(args.slot, self)
        args.check_context(self._loaded().registers["context"])
        if args.flags & StartFlags.SAMPLE:
            self._check_sampler()
        if args.flags & StartFlags.ALL and self.head_tokens == 1:
            raise DeviceError(f"the core {self.preset} gives no picks after all tokens: feed the tokens one by one")
        if args.flags & StartFlags.TWO_STEPS and (not self.two_steps or args.flags & (StartFlags.ALL | StartFlags.DUMP)):
            raise DeviceError(f"the core {self.preset} and the loaded model do not let this run's LM head go in two steps")
        self._in_two_steps = bool(args.flags & StartFlags.TWO_STEPS)
        events = self._begin_beside(args) if self._several else self._begin_alone(args)
        # The last chunk of what is fed; behind it a pass has a pick, and one more for each drafted token that was right.
        most = min(args.chunk or self.head_tokens, self.head_tokens)
        every = bool(args.flags & StartFlags.ALL)
        self._pass_tokens, told, cycles = (args.feed - 1) % most + 1 if every else 1, 0, -1
        for kind, event in events:
            if kind != EventType.DONE:
                told += 1
                if told > (args.feed if every else 1):
                    # Up to the last pick that counts.
                    self._pass_tokens = self._pass_tokens + 1 if self.draft_most and event.cycles == cycles else 1
                cycles = event.cycles
            yield kind, event
            if kind == EventType.DONE:
                return

    def _begin_alone(self, args: StartArgs) -> Iterator[tuple[EventType, Event]]:
        """A run on a core with one slot."""
        self._client.start(args)
        self._running.add(0)
        self.zeroed += bool(args.flags & StartFlags.CLEAR)
        try:
            for kind, event in self._client.events():
                if kind == EventType.DONE:
                    self._running.discard(0)
                yield kind, event
        except StuckError:
            self._running.discard(0)
            raise

    def _begin_beside(self, args: StartArgs) -> Iterator[tuple[EventType, Event]]:
        """A run of a slot, while others go on."""
        slot = args.slot
        self.stop(slot)
        with self._talk() as client:
            check_dump(args, self._running)
            if args.flags & StartFlags.CLEAR:
                # The counters are the board's, and those of the others go on.
                self._cleared[slot] = not self._running
                if self._running:
                    args = replace(args, flags=args.flags & ~StartFlags.CLEAR)
                else:
                    self.zeroed += 1
            if args.flags & StartFlags.SAMPLE:
                # The slot takes the registers over with its START.
                self._set_sampling(client, self._settings[slot])
            client.start(args)
            self._alone.started(slot, self._running)
            self._running.add(slot)
        while True:
            yield self._next(slot)

    def _next(self, slot: int) -> tuple[EventType, Event]:
        """The next event of a slot that runs, or whose events have come."""
        with self._turn:
            self._waiting.add(slot)
            try:
                while not self._heard[slot]:
                    if self._busy or self._wanted:
                        self._turn.wait()
                        continue
                    self._busy = True
                    waiting = set(self._waiting)
                    self._turn.release()
                    try:
                        heard = self._client.listen(waiting, SLICE)
                    except StuckError:
                        self._running.clear()
                        raise
                    finally:
                        self._turn.acquire()
                        self._busy = False
                        self._turn.notify_all()
                    for kind, event in heard:
                        self._heard[event.slot].append((kind, event))
                        if kind == EventType.DONE:
                            self._running.discard(event.slot)
                return self._heard[slot].popleft()
            finally:
                self._waiting.discard(slot)

    def _loaded(self) -> Image:
        assert self._image is not None, "no image is loaded"
        return self._image

    def top(self, number: int = -1, slot: int | None = None) -> list[tuple[int, int]]:
        if self._in_two_steps:
            raise DeviceError("the last run's LM head went in two steps: only the pick is known, not the best 64")
        n = min(TOP_ENTRIES, self._loaded().registers["vocab"])
        with self._talk() as client:
            if self._several:
                self._alone.check("the best 64", slot, self._running)
            content = client.read(top_address(range(self._pass_tokens)[number]), self._ENTRY.size * n)
        return [(token, logit) for logit, token in self._ENTRY.iter_unpack(content)]

    def pass_logits(self, slot: int | None = None) -> NDArray[np.int32]:
        r = self._loaded().registers
        with self._talk() as client:
            if self._several:
                self._alone.check("all logits", slot, self._running)
            tokens = self._pass_tokens
            content = client.read(SDRAM_BASE + 4 * r["logits_base"], 4 * r["vocab"] * tokens)
        return np.ascontiguousarray(np.frombuffer(content, "<i4").reshape(-1, tokens).T.astype(np.int32))

    def crcs(self) -> list[int]:
        with self._talk() as client:
            content = client.read(CRC_BASE, 4 * (len(self._loaded().program) - 1))
        return [int(crc) for crc in np.frombuffer(content, "<u4")]

    def counters(self) -> dict[str, int]:
        names = [*COUNTERS, *(HEAD_COUNTERS if self._config.two_steps else ())]
        with self._talk() as client:
            content = client.read(COUNTER_BASE, 4 * len(names))
        return dict(zip(names, (int(n) for n in np.frombuffer(content, "<u4")), strict=True))

    def checksums(self, ranges: Sequence[tuple[int, int]]) -> list[int]:
        with self._talk() as client:
            return client.checksums(ranges)

    def cleared(self, slot: int = 0) -> bool:
        return self._cleared.get(slot, True)

    def stop(self, slot: int | None = None) -> None:
        if not self._several:
            if self._running:
                self._client.stop()
                for kind, _ in self._client.events():
                    if kind == EventType.DONE:
                        break
                self._running.clear()
            return
        for each in sorted(self._running | self._heard.keys()) if slot is None else [slot]:
            if each in self._running:
                with self._talk() as client:
                    client.stop(each)
                while self._next(each)[0] != EventType.DONE:
                    pass
            self._heard[each].clear()

    def close(self) -> None:
        if self._given is not None:
            self._given.close()
