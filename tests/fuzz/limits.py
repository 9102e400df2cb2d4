# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The rule of each target, around one execution: the project's own errors alone, within a time, within a memory.

Memory is the peak of the process's resident set over what was resident before the execution.  Linux counts the peak for each
execution anew (``/proc/self/clear_refs``), so that memory of C++ and Rust counts as well.  Where there is no such file, memory is
not limited, and the record of a run says so.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["CONSTANT", "SECONDS", "Finding", "Guard", "allowed_bytes"]

#: Bytes that an execution may take beside twice its input: interpreter, caches of libraries, a chunk of a reader.
CONSTANT = 64 << 20
#: Seconds that an execution may take: some hundred times what the slowest seed takes.
SECONDS = 10.0
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class Finding(Exception):
    """An execution that broke the rule."""


def allowed_bytes(size: int) -> int:
    """Bytes that an execution with an input of ``size`` bytes may take."""
    return CONSTANT + 2 * size


def _resident(name: str) -> int:
    """A line of /proc/self/status in bytes."""
    text = _STATUS.read_text()
    return int(text.partition(f"{name}:")[2].split(maxsplit=1)[0]) << 10


class Guard:
    """Runs a target, and counts what its executions gave.

    ``accepted`` and ``refused`` count the executions without an error and with one of the project's own.
    """

    def __init__(self, target: Callable[[bytes], None], allowed: tuple[type[BaseException], ...]):
        self._target, self._allowed = target, allowed
        self.measures = os.access(_CLEAR, os.W_OK)
        self.accepted = self.refused = 0
        self.slowest, self.most = 0.0, 0

    def __call__(self, data: bytes) -> None:
        """One execution.  A Finding is what took too long or too much; any error that is not allowed goes through as it is."""
        with self._limited(len(data)):
            try:
                self._target(data)
                self.accepted += 1
            except self._allowed as error:
                if not str(error):
                    raise Finding(f"a {type(error).__name__} without a text") from error
                self.refused += 1

    @contextmanager
    def _limited(self, size: int) -> Iterator[None]:
        before = 0
        if self.measures:
            # 5: the peak begins anew at what is resident now.
            _CLEAR.write_text("5")
            before = _resident("VmRSS")
        began = time.perf_counter()
        yield
        took = time.perf_counter() - began
        self.slowest = max(self.slowest, took)
        if took > SECONDS:
            raise Finding(f"it took {took:.1f} s, and {SECONDS:g} s are allowed")
        if self.measures:
            more = _resident("VmHWM") - before
            self.most = max(self.most, more)
            if more > allowed_bytes(size):
                raise Finding(f"it took {more} bytes of memory, and {allowed_bytes(size)} are allowed for {size} bytes")
