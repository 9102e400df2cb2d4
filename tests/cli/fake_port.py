# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A board at a serial port: its packets on a pseudo terminal, answered by the golden model."""

import os
import pty
import select
import threading
import tty

from tellme.spec.packets import MAGIC, PROTOCOL_VERSION
from tellme.spec.program import FORMAT_VERSION
from tests.cli.fake_board import FakeBoard

__all__ = ["Port"]


class Port:
    """The board's end of a pseudo terminal.

    ``name``, ``version``, ``program_format``, ``magic``: what HELLO says; ``silent_after``: events after which nothing is said
    any more; ``chatter``: what is said instead of answers.
    """

    def __init__(self, *, name="ulx3s-85f-l8", version=PROTOCOL_VERSION, program_format=FORMAT_VERSION, silent_after=None,
                 chatter=b"", magic=MAGIC):
        self.fake = FakeBoard(self.say, name=name, version=version, program_format=program_format)
        self.fake.link._hello = magic + self.fake.link._hello[len(MAGIC):]
        self.silent_after = silent_after
        self.board, self.host = pty.openpty()
        tty.setraw(self.host)
        self.path = os.ttyname(self.host)
        self.chatter = chatter
        self.stopped = False
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                content = os.read(self.board, 65536)
                if self.chatter:
                    self.say(self.chatter)
                    continue
                self.fake.hear(content)
                self.fake.step()
                while self.fake.busy and not select.select([self.board], [], [], 0)[0]:
                    self.fake.step()
            except (OSError, ValueError):
                return

    def say(self, content):
        if self.silent_after is None or self.fake.events <= self.silent_after:
            os.write(self.board, content)

    def close(self):
        # Before the next port gets the same numbers: the thread would serve that port too.
        ends, self.board, self.host = (self.board, self.host), -1, -1
        for end in ends:
            os.close(end)
