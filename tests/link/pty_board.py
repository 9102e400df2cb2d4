# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A board behind the link as a pseudo terminal, in a thread; bytes may be lost or changed on their way."""

import os
import pty
import random
import select
import threading
import tty

__all__ = ["PtyBoard"]


class PtyBoard:
    """Serves ``board`` at ``path``: a ``link`` (tellme.golden.link.BoardLink) and ``run_step``, the next event of a run.

    With ``loss`` each piece of bytes, in either direction, is lost, cut short or changed with this probability.
    """

    def __init__(self, board, *, loss: float = 0.0, seed: int = 0):
        self.board, self.faults = board, 0
        self._loss, self._rng = loss, random.Random(seed)
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self._end, self._ended = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _damage(self, content: bytes) -> bytes:
        if not content or self._rng.random() >= self._loss:
            return content
        self.faults += 1
        at = self._rng.randrange(len(content))
        return self._rng.choice((b"", content[:at], content[at:],
                                 content[:at] + bytes([content[at] ^ self._rng.randrange(1, 256)]) + content[at + 1:]))

    def _serve(self) -> None:
        while True:
            busy = self.board.running and self.board.link.room
            ready = select.select([self._master, self._end], [], [], 0 if busy else None)[0]
            if self._end in ready:
                return
            if ready:
                out = self.board.link.receive(self._damage(os.read(self._master, 65536)))
                if out:
                    os.write(self._master, self._damage(out))
            else:
                self.board.run_step()
            while event := self.board.link.poll():
                os.write(self._master, self._damage(event))

    def close(self) -> None:
        """Take the port away."""
        os.write(self._ended, b"x")
        self._thread.join()
        for descriptor in (self._master, self._slave, self._end, self._ended):
            os.close(descriptor)

    def __enter__(self) -> "PtyBoard":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
