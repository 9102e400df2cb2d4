# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Ctrl-C, a supervisor's SIGTERM and a terminal that closes: the first one is a KeyboardInterrupt, and none comes after it."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tellme.cli.errors import ExitCode

__all__ = ["arm", "disarm", "held", "ignore", "restore"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Seconds that the way out may take; after them one more signal ends the program at once.
PATIENCE = 2.0

_armed = False
_holding = False
_noted = False
_since = 0.0
_before: dict[int, object] = {}


def arm() -> None:
    """Make the next of these signals a KeyboardInterrupt, which also disarms.  Call this inside the ``try`` that catches it.

    A signal that the program was started with as ignored (``nohup``, a shell's background job) stays ignored.
    """
    global _armed
    for number in SIGNALS:
        handler = signal.getsignal(number)
        if handler not in (signal.SIG_IGN, _interrupt):
            _before[number] = handler
            signal.signal(number, _interrupt)
    _armed = True


def disarm() -> None:
    """No KeyboardInterrupt from now on: the program is on its way out."""
    global _armed, _since
    _armed, _since = False, time.monotonic()


def ignore() -> None:
    """The process is about to end, with its exit code: no signal changes that."""
    disarm()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def restore() -> None:
    """Give the signals back their handlers: the caller goes on."""
    disarm()
    for number, handler in _before.items():
        signal.signal(number, handler)  # type: ignore[arg-type]
    _before.clear()


@contextmanager
def held() -> Iterator[None]:
    """A block that one signal does not cut short: the KeyboardInterrupt comes at the end.  A second signal does not wait."""
    global _holding, _noted
    _holding, _noted = True, False
    try:
        yield
    finally:
        _holding = False
    if _noted:
        disarm()
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _noted
    if _armed and _holding and not _noted:
        _noted = True
    elif _armed:
        disarm()
        raise KeyboardInterrupt
    elif time.monotonic() - _since > PATIENCE:
        # Something on the way out hangs.  The simulated board and its compilers end with this process, whose pipes close.
        os._exit(ExitCode.INTERRUPTED)
