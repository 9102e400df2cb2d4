# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Memory that a process holds, from /proc: of this process, and of a program that is run for the purpose."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

__all__ = ["Peak", "memory_bytes", "run_measured"]

ROOT = Path(__file__).resolve().parent.parent


def memory_bytes(key: str = "RssAnon") -> int:
    """A number of /proc/self/status in bytes.  RssAnon is the memory that no file backs."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:"))
    return 1024 * int(line.split()[1])


class Peak:
    """The largest RssAnon of this process within a ``with`` block, looked at each millisecond and with :meth:`sample`."""

    def __init__(self) -> None:
        self.bytes = 0
        self._working = True
        self._thread = threading.Thread(target=self._watch)

    def sample(self) -> None:
        """Look now."""
        self.bytes = max(self.bytes, memory_bytes())

    def _watch(self) -> None:
        while self._working:
            self.sample()
            time.sleep(0.001)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._working = False
        self._thread.join()


def run_measured(program: str, *arguments: object) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
    """Run a Python program whose last line of output is a JSON object; returns the object and the run.

    A process inherits the peak of the one that started it, so a shell stands between.
    """
    path = os.pathsep.join([str(ROOT), str(ROOT / "sw"), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = subprocess.run(["/bin/sh", "-c", '"$0" "$@"; exit $?', sys.executable, "-c", program, *map(str, arguments)],
                         capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found, run
