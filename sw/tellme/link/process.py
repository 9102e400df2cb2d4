# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Processes that end when the host does."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["GRACE", "Child", "how_it_ended"]

#: Seconds that a process may take to end after its standard input has ended.
GRACE = 0.5
#: Seconds between looks at a process that is waited for.
LOOK = 0.02


class Child:
    """A process with pipes to its standard input and output, in a session of its own.

    Ctrl-C in a terminal reaches only the host.  The process ends by itself when its standard input ends.  No other process
    inherits the host's end of this pipe, so that the operating system closes the pipe however the host ends.  OSError if the
    process does not start.
    """

    def __init__(self, command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None):
        self._process = subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         bufsize=0, start_new_session=True)
        assert self._process.stdin is not None and self._process.stdout is not None
        #: The host's ends of its standard input and output, unbuffered.
        self.input, self.output = self._process.stdin, self._process.stdout
        self._killed = False

    @property
    def pid(self) -> int:
        """Id of the process, and of its session."""
        return self._process.pid

    def wait(self) -> int:
        """Wait for the process to end by itself; the exit code as in :mod:`subprocess`."""
        # Popen.wait would delay a KeyboardInterrupt by a quarter of a second.
        while (code := self._process.poll()) is None:
            time.sleep(LOOK)
        return code

    def end(self, grace: float = GRACE) -> int | None:
        """End the process and every process that it has started.  A second call changes nothing.

        Standard input is closed.  Processes that remain after ``grace`` seconds, or when an interruption cuts the wait short, are
        killed.  Returns the exit code as in :mod:`subprocess`, or None if the process was killed here.
        """
        code: int | None = None
        try:
            with suppress(OSError):
                self.input.close()
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(grace)
        finally:
            # Kill only once: afterwards the system may give the id to another process.
            if not self._killed:
                self._killed = True
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self.output.close()
        return code


def how_it_ended(code: int | None) -> str:
    """An exit code in words: "exit code 3", "SIGKILL"; None: the process had to be ended."""
    if code is None:
        return "it closed its output"
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
