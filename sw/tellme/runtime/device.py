# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What a model can run on: the golden model, and boards, behind one interface."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from struct import Struct
from typing import Literal, Protocol
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from tellme.compiler.image import Image
from tellme.errors import DeviceError
from tellme.golden.board import GoldenBoard
from tellme.golden.perplexity import unlimited_config
from tellme.link.client import REGION, padded
from tellme.models.source import Source
from tellme.spec.config import CoreConfig
from tellme.spec.memory import (
    COUNTER_BASE,
    COUNTERS,
    CRC_BASE,
    HEAD_COUNTERS,
    PROGRAM_BASE,
    REGISTER_BASE,
    SAMPLING_REGISTERS,
    SDRAM_BASE,
    SEGMENT_BASE,
    TOKEN_BASE,
    TOP_ENTRIES,
    Event,
    EventType,
    StartArgs,
    StartFlags,
    check_tokens,
    register_address,
    top_address,
)
from tellme.spec.sampling import DrawSettings, pack_settings

__all__ = ["BoardDevice", "Client", "Device", "GoldenDevice"]

#: Bytes done and bytes in all.
Progress = Callable[[int, int], None]


class Device(ABC):
    """A board to the host: load an image, place tokens, start, hear events, read results.

    ``start`` gives a TOKEN event for each pick, and a DONE event last.  After DONE the results of the last LM head pass (``top``,
    ``logits``) can be read.  Failures of a device are DeviceErrors or LinkErrors.
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
    #: Whether starts with the flag TWO_STEPS are taken, of the image that is loaded.
    two_steps: bool = False
    #: Who picks the tokens of a start.
    picks_by: Literal["board", "host"] = "board"

    @abstractmethod
    def config(self, model: Source) -> CoreConfig:
        """The configuration to compile a model for."""

    def connect(self) -> None:  # noqa: B027 - most devices are there when they are opened
        """Start the device, which may take long; called once it is clear that the model and the prompt fit."""

    @abstractmethod
    def load(self, image: Image, progress: Progress) -> None:
        """Write an image."""

    @abstractmethod
    def place(self, position: int, tokens: Sequence[int]) -> None:
        """Write tokens into token memory."""

    @abstractmethod
    def write(self, address: int, content: bytes) -> None:
        """Write whole words into the memory of a device that is loaded, between runs."""

    @abstractmethod
    def draw_as(self, settings: DrawSettings) -> None:
        """How starts with the flag SAMPLE draw from now on, on a device that is loaded and has a ``sampler``, between runs.

        ``settings``: such as :func:`tellme.spec.sampling.board_draws` takes.
        """

    @abstractmethod
    def start(self, args: StartArgs) -> Iterator[tuple[EventType, Event]]:
        """Run, and yield the events up to DONE.  The flag SAMPLE on a device without a ``sampler``, and the flag ALL on a device
        with ``head_tokens`` 1, are a DeviceError; and so is the flag TWO_STEPS on a device without ``two_steps``, with ALL or
        DUMP.  With settings that two steps do not serve (:func:`tellme.spec.two_steps.serves`) draws would differ."""

    @abstractmethod
    def top(self, number: int = -1) -> list[tuple[int, int]]:
        """The 64 best (id, logit) of a token of the last LM head pass, best first: of the last token, or of the one with this
        number in the pass.  A pass is of one token, or with the flag ALL of a chunk's tokens.  A DeviceError on a board whose
        last run had the flag TWO_STEPS, and knows the best 64 no more."""

    @abstractmethod
    def pass_logits(self) -> NDArray[np.int32]:
        """All logits (tokens, vocab) of the last LM head pass, in Q15.16; on a board the run must have had the DUMP flag."""

    def logits(self) -> NDArray[np.int32]:
        """Those of its last token, (vocab,)."""
        return self.pass_logits()[-1]

    @abstractmethod
    def crcs(self) -> list[int]:
        """CRC-32 of the last run of each step of the program, END left out."""

    @abstractmethod
    def counters(self) -> dict[str, int]:
        """What the board counted since the last start with the CLEAR flag, by the names of :data:`tellme.spec.memory.COUNTERS`;
        where the core has ``two_steps``, those of :data:`tellme.spec.memory.HEAD_COUNTERS` too.  A DeviceError where nothing
        counts."""

    def stop(self) -> None:  # noqa: B027 - nothing to do on a device that runs in this process
        """End a run early; its remaining events are dropped."""

    def close(self) -> None:  # noqa: B027
        """Close the device."""


class GoldenDevice(Device):
    """The golden model: no board's limits, no cycles."""

    name = "golden"
    sampler = True

    def __init__(self) -> None:
        self._board: GoldenBoard | None = None

    @property
    def board(self) -> GoldenBoard:
        assert self._board is not None, "no image is loaded"
        return self._board

    def config(self, model: Source) -> CoreConfig:
        return unlimited_config(model)

    def load(self, image: Image, progress: Progress) -> None:
        size = sum(len(part) for _, part in image.sections)
        progress(0, size)
        self._board = GoldenBoard(image)
        progress(size, size)

    def place(self, position: int, tokens: Sequence[int]) -> None:
        check_tokens(position, tokens, self.board.registers["context"])
        self.board.tokens[position:position + len(tokens)] = tokens

    def write(self, address: int, content: bytes) -> None:
        self.board.write(address, content)

    def draw_as(self, settings: DrawSettings) -> None:
        self.board.registers.update(pack_settings(settings))

    def start(self, args: StartArgs) -> Iterator[tuple[EventType, Event]]:
        return self.board.start(args)

    def top(self, number: int = -1) -> list[tuple[int, int]]:
        return self.board.top(number)

    def pass_logits(self) -> NDArray[np.int32]:
        return self.board.pass_logits

    def crcs(self) -> list[int]:
        return self.board.crcs[:-1]

    def counters(self) -> dict[str, int]:
        raise DeviceError("the golden model counts no cycles: open the simulated board, or a real one")


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

    def stop(self) -> None: ...

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
        self._running = False
        #: Tokens of the last LM head pass, and whether it was in two steps.
        self._pass_tokens = 1
        self._in_two_steps = False

    @property
    def _client(self) -> Client:
        assert self._given is not None, "the board is not connected"
        return self._given

    @property
    def client(self) -> Client:
        """The packets of the board, which is connected: for what is no run, such as its status and tests of its memory."""
        return self._client

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
        self.two_steps = self._config.two_steps and image.two_steps
        sections = [(SDRAM_BASE + base, part) for base, part in image.sections]
        tables = [(PROGRAM_BASE, image.program_bytes), (SEGMENT_BASE, image.segment_bytes), (REGISTER_BASE, image.register_bytes)]
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

    def place(self, position: int, tokens: Sequence[int]) -> None:
        check_tokens(position, tokens, self._loaded().registers["context"], self._config.max_vocab)
        self._client.write(TOKEN_BASE + 4 * position, np.array(tokens, "<u4").tobytes())

    def write(self, address: int, content: bytes) -> None:
        self._client.write(SDRAM_BASE + address, content)

    def draw_as(self, settings: DrawSettings) -> None:
        self._check_sampler()
        registers = pack_settings(settings)
        content = b"".join(registers[name].to_bytes(4, "little") for name in SAMPLING_REGISTERS)
        self._client.write(register_address(SAMPLING_REGISTERS[0]), content)

    def _check_sampler(self) -> None:
        if not self.sampler:
            raise DeviceError(f"the core {self.preset} has no sampler: the host has to draw the tokens")

    def start(self, args: StartArgs) -> Iterator[tuple[EventType, Event]]:
        args.check_context(self._loaded().registers["context"])
        if args.flags & StartFlags.SAMPLE:
            self._check_sampler()
        if args.flags & StartFlags.ALL and self.head_tokens == 1:
            raise DeviceError(f"the core {self.preset} gives no picks after all tokens: feed the tokens one by one")
        if args.flags & StartFlags.TWO_STEPS and (not self.two_steps or args.flags & (StartFlags.ALL | StartFlags.DUMP)):
            raise DeviceError(f"the core {self.preset} and the loaded model do not let this run's LM head go in two steps")
        self._client.start(args)
        self._running = True
        self._in_two_steps = bool(args.flags & StartFlags.TWO_STEPS)
        # The last chunk of what is fed; each pick behind it is a pass of its own.
        most = min(args.chunk or self.head_tokens, self.head_tokens)
        self._pass_tokens, told = (args.feed - 1) % most + 1 if args.flags & StartFlags.ALL else 1, 0
        for kind, event in self._client.events():
            if kind == EventType.DONE:
                self._running = False
            else:
                told += 1
                if told > args.feed:
                    self._pass_tokens = 1
            yield kind, event
            if kind == EventType.DONE:
                return

    def _loaded(self) -> Image:
        assert self._image is not None, "no image is loaded"
        return self._image

    def top(self, number: int = -1) -> list[tuple[int, int]]:
        if self._in_two_steps:
            raise DeviceError("the last run's LM head went in two steps: only the pick is known, not the best 64")
        n = min(TOP_ENTRIES, self._loaded().registers["vocab"])
        content = self._client.read(top_address(range(self._pass_tokens)[number]), self._ENTRY.size * n)
        return [(token, logit) for logit, token in self._ENTRY.iter_unpack(content)]

    def pass_logits(self) -> NDArray[np.int32]:
        r, tokens = self._loaded().registers, self._pass_tokens
        content = self._client.read(SDRAM_BASE + 4 * r["logits_base"], 4 * r["vocab"] * tokens)
        return np.ascontiguousarray(np.frombuffer(content, "<i4").reshape(-1, tokens).T.astype(np.int32))

    def crcs(self) -> list[int]:
        content = self._client.read(CRC_BASE, 4 * (len(self._loaded().program) - 1))
        return [int(crc) for crc in np.frombuffer(content, "<u4")]

    def counters(self) -> dict[str, int]:
        names = [*COUNTERS, *(HEAD_COUNTERS if self._config.two_steps else ())]
        content = self._client.read(COUNTER_BASE, 4 * len(names))
        return dict(zip(names, (int(n) for n in np.frombuffer(content, "<u4")), strict=True))

    def stop(self) -> None:
        if not self._running:
            return
        self._client.stop()
        for kind, _ in self._client.events():
            if kind == EventType.DONE:
                break
        self._running = False

    def close(self) -> None:
        if self._given is not None:
            self._given.close()
