# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A board whose memory, link or core has a fault: what the tests of a board must find."""

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from tellme.golden.ddr3 import LanesTrainer
from tellme.link.errors import LinkError
from tellme.runtime.board import Board
from tellme.runtime.device import BoardDevice
from tellme.spec.config import CoreConfig
from tellme.spec.ddr3_training import LaneSettings, unpack_overrides
from tellme.spec.memory import COUNTER_BASE, COUNTERS, CRC_BASE, PROGRAM_BASE, TOP_BASE, StatusWord, register_address
from tellme.spec.status import StatusFlag, Training
from tests.cli.fake_client import PAGE, FakeClient

__all__ = ["Faults", "FaultyClient", "board_of", "steps"]


def steps(slip, first, last):
    """Settings of a lane that work: one slip, and READCLKSEL from ``first`` to ``last``."""
    return {LaneSettings(readclksel, slip) for readclksel in range(first, last + 1)}


@dataclass
class Faults:
    """What is wrong.  Bits of addresses are those of byte addresses.

    ``stuck``: byte address of a word (None: of each) -> (mask of bits that read 0, mask of bits that read 1).  ``dead``: address
    bits that choose nothing.  ``shorted``: two address bits, of which each pulls the other up.  ``flaky``: a checksum whose
    number is in here is wrong.  ``lanes``: settings that work for each lane of a DDR3 memory.
    ``crc``: number of a step whose CRC is wrong.  ``silent_after``: packets after which the board
    does not answer.
    """

    stuck: dict = None
    dead: tuple = ()
    shorted: tuple = ()
    flaky: tuple = ()
    crc: int | None = None
    logit: bool = False
    refused: int = 0
    cut: int | None = None
    training: Training = Training(13, 20, 9, False)
    ready: bool = True
    silent_after: int | None = None
    lanes: tuple = (steps(1, 2, 5), steps(3, 1, 3))


class FaultyClient(FakeClient):
    """A :class:`FakeClient` with faults, a STATUS and counters.  ``packets`` counts what was asked."""

    def __init__(self, config, faults=None):
        super().__init__(config)
        self.faults = faults or Faults()
        self.words = np.frombuffer(self.memory, "<u4")
        self.packets = self.sums = 0
        self.trainer = LanesTrainer(self.faults.lanes)
        self.trainer.sweep()

    def _asked(self):
        self.packets += 1
        if self.faults.silent_after is not None and self.packets > self.faults.silent_after:
            raise LinkError("/dev/ttyX does not answer")

    def _places(self, address, size):
        """The words of the chip that a range of addresses chooses."""
        at = np.arange(address, address + size, 4)
        for bit in self.faults.dead:
            at &= ~(1 << bit)
        if self.faults.shorted:
            both = sum(1 << bit for bit in self.faults.shorted)
            at = np.where(at & both != 0, at | both, at)
        return at // 4

    def write(self, address, content, progress=None):
        self._asked()
        if address >= PROGRAM_BASE:
            super().write(address, content, progress)
            if address == register_address("sdram_retrain") and self.config.ddr3:
                settings = super().read(register_address("sdram_settings"), 4)
                self.trainer.sweep(unpack_overrides(int.from_bytes(settings, "little")))
            return
        self.board = None
        places = self._places(address, len(content))
        self.words[places] = np.frombuffer(content, "<u4")
        self.pages |= {int(page) for page in np.unique(4 * places // PAGE)}
        if progress is not None:
            progress(len(content))

    def read(self, address, size):
        self._asked()
        if CRC_BASE <= address < TOP_BASE:
            crcs = list(self.board.crcs)
            if self.faults.crc is not None:
                crcs[self.faults.crc] ^= 1
            return np.array(crcs, "<u4").tobytes()[address - CRC_BASE:][:size]
        if COUNTER_BASE <= address < CRC_BASE:
            values = {"weights_words": 985, "weights_busy": 1000, "cycles": 4000}
            return np.array([values.get(name, 0) for name in COUNTERS], "<u4").tobytes()[:size]
        if address >= PROGRAM_BASE:
            return super().read(address, size)
        places = self._places(address, size)
        out = self.words[places].copy()
        for where, (low, high) in (self.faults.stuck or {}).items():
            hit = slice(None) if where is None else places == where // 4
            out[hit] = out[hit] & np.uint32(~low & 0xFFFF_FFFF) | np.uint32(high)
        if self.faults.cut is not None and size == self.faults.cut:
            out[-1] ^= 0x80
        content = out.tobytes()
        if self.faults.logit and self.board is not None and address == 4 * self.board.registers["logits_base"]:
            content = bytes([content[0] ^ 1]) + content[1:]
        return content

    def checksum(self, address, size):
        self.sums += 1
        return crc32(self.read(address, size)) ^ (self.sums in self.faults.flaky)

    def checksums(self, ranges):
        return [self.checksum(address, size) for address, size in ranges]

    def verify_sums(self, regions):
        for address, size, wanted in regions:
            if self.checksum(address, size) != wanted:
                raise LinkError(f"the board's memory does not hold what was written at {address:#x}")

    def status(self):
        self._asked()
        words = [0] * 8
        ready = self.trainer.done if self.config.ddr3 else self.faults.ready
        words[StatusWord.FLAGS] = StatusFlag.SDRAM_READY if ready else 0
        # What is refused is refused packet by packet.
        words[StatusWord.BAD_PACKETS] = 7 + (self.faults.refused if self.packets > 20 else 0)
        words[StatusWord.TRAINING] = (self.trainer.found if self.config.ddr3 else self.faults.training).pack()
        words[StatusWord.CYCLES] = 12345
        return tuple(words)


def board_of(config: CoreConfig, faults: Faults | None = None, name: str = "/dev/ttyX") -> Board:
    """A board with faults."""
    return Board(BoardDevice(name, config, FaultyClient(config, faults), "ab" * 32, verify=True))
