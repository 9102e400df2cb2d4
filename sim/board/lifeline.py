# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Ends a process, and the processes that it has started, when its host ends.

The host holds the other end of standard input.  When the host ends, even by SIGKILL, the operating system closes this end and
reports a hang-up here, whether bytes are pending or not.
"""

import os
import select
import signal
import threading
import time
from types import FrameType

__all__ = ["hold", "release"]

#: Seconds for the main thread to remove its scratch files.
GRACE = 1.0


def hold() -> None:
    """End this process when the host closes standard input, and on SIGINT and SIGTERM.

    The end is a KeyboardInterrupt in the main thread, so that scratch files are removed; only one comes, however many signals
    arrive.  If this process leads its process group, as under the host, the other processes of the group get SIGTERM.
    """
    signal.signal(signal.SIGTERM, _end)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _end)
    threading.Thread(target=_watch, daemon=True).start()


def release() -> None:
    """No KeyboardInterrupt from now on: this process is about to end by itself."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end(number: int, frame: FrameType | None) -> None:
    release()
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGTERM)
    raise KeyboardInterrupt


def _watch() -> None:
    poll = select.poll()
    poll.register(0, select.POLLHUP)
    while not (events := poll.poll()):
        pass
    if events[0][1] & select.POLLNVAL:
        # Started without a standard input: there is no host to watch.
        return
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(130)
