# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A golden board with several slots behind the real packets, in simulated time."""

from tellme.golden.link import BoardLink
from tellme.link.client import BoardClient
from tellme.runtime.device import BoardDevice
from tellme.spec.config import preset
from tellme.spec.memory import (
    COUNTERS,
    PROGRAM_BASE,
    REGISTER_BASE,
    SDRAM_BASE,
    SEGMENT_BASE,
    TOKEN_BASE,
    TOP_BASE,
    TOP_BYTES,
    EventType,
    StartArgs,
    counter_address,
)
from tests.cli.fake_client import SlottedClient
from tests.link.model_transport import Clock, ModelTransport

__all__ = ["CONFIG", "GoldenSlots", "device"]

#: A core with four slots of 128 words of token memory each.
CONFIG = preset("sim-slots")


class GoldenSlots:
    """A tellme.golden.link.Core and the link before it, as :class:`tests.link.plain_board.PlainBoard`."""

    def __init__(self, config=CONFIG):
        self.client = client = SlottedClient(config)
        windows = [(SDRAM_BASE, len(client.memory), True), (PROGRAM_BASE, len(client.program), True),
                   (SEGMENT_BASE, len(client.segments), True), (REGISTER_BASE, len(client.registers), True),
                   (TOKEN_BASE, 4 * len(client.tokens), True), (TOP_BASE, TOP_BYTES * config.head_tokens, False),
                   (REGISTER_BASE, counter_address(list(COUNTERS)[-1]) + 4 - REGISTER_BASE, False)]
        self.link = BoardLink(self, windows, name=config.name, build_id=bytes(32), slots=config.slots)
        self._going = 0

    def read(self, address, size):
        return self.client.read(address, size)

    def write(self, address, content):
        self.client.write(address, content)

    @property
    def running(self):
        return self._going

    def start(self, args):
        args = StartArgs.unpack(args)
        self.client.start(args)
        self._going |= 1 << args.slot

    def stop(self, slots):
        for slot in range(16):
            if slots >> slot & 1 and slot in self.client.running:
                self.client.stop(slot)

    def status(self):
        return int(bool(self._going)).to_bytes(4, "little") + bytes(28)

    def run_step(self):
        if self.link.room and (told := self.client.next_event()) is not None:
            kind, event = told
            if kind == EventType.DONE:
                self._going &= ~(1 << event.slot)
            self.link.event(kind, event.pack())


def device(config=CONFIG, board=None, transport=ModelTransport):
    """The device of a board, and the board."""
    board, clock = board or GoldenSlots(config), Clock()
    client = BoardClient(transport(board, clock), clock=clock)
    return BoardDevice("port", config, client, "ab" * 32, verify=True), board
