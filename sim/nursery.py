# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Benches as forks of a process that has imported what each of them needs: that takes a second of CPU a process.

``python -m sim.nursery`` reads a job a line from its input, and runs :func:`sim.run_one.main` in a child of its own session.  It
says the child's process number when it has begun and ``ENDED CODE`` when it has ended.  Internal to :mod:`sim.run_tests`.
"""

import atexit
import gc
import importlib
import json
import os
import select
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["Child", "Nursery", "nursery"]

#: What the children need.
IMPORTED = ("amaranth.back.verilog", "cocotb_tools.runner", "numpy", "sim.run_one")
_HERE = threading.local()


class Child:
    """A bench under way; ``pid`` is its process and its process group."""

    def __init__(self, nursery: "Nursery", pid: int):
        self._nursery, self.pid = nursery, pid
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, or less than 0: the signal that ended it.  TimeoutExpired: it runs on after ``timeout`` seconds."""
        if self.returncode is None:
            line = self._nursery.line(timeout)
            if line is None:
                raise subprocess.TimeoutExpired("sim.run_one", timeout or 0.0)
            self.returncode = int(line.removeprefix("ENDED "))
        return self.returncode


class Nursery:
    """The process, and its benches, one at a time.  ``path``: entries of Python's path; ``env``: variables."""

    def __init__(self, path: Sequence[str], env: Mapping[str, str]):
        # A fixed hash seed, for the order of names in the Verilog.  A session of its own, so that Ctrl-C reaches run_tests alone.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sim.nursery"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env={**env, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(path)}, start_new_session=True)
        atexit.register(self.close)

    def start(self, arguments: Sequence[str], *, folder: Path, env: Mapping[str, str], log: Path) -> Child:
        """A bench in ``folder``, with ``env`` as its environment and its output in ``log``.  The one before must have ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"arguments": [*arguments], "folder": str(folder), "env": {**env},
                                              "log": str(log)}) + "\n")
        number = self.line(None)
        assert number is not None
        return Child(self, int(number))

    def line(self, timeout: float | None) -> str | None:
        """The next line of the process, None after ``timeout`` seconds; RuntimeError if the process has ended."""
        assert self._process.stdout is not None
        if timeout is not None and not select.select([self._process.stdout], [], [], timeout)[0]:
            return None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"sim.nursery ended with code {self._process.wait()}; its error is above")
        return line.rstrip("\n")

    def close(self) -> None:
        """End the process when its bench has ended."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
            self._process.wait()


def nursery(path: Sequence[str]) -> Nursery:
    """That of this thread."""
    if not hasattr(_HERE, "nursery"):
        _HERE.nursery = Nursery(path, os.environ)
    found: Nursery = _HERE.nursery
    return found


def run_child(job: Mapping[str, Any]) -> int:
    """In the child: :mod:`sim.run_one` as its own program; its exit code."""
    from sim import run_one

    os.setsid()
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.environ.clear()
    os.environ.update(job["env"])
    os.chdir(job["folder"])
    sys.path[:0] = [entry for entry in os.environ["PYTHONPATH"].split(os.pathsep) if entry not in sys.path]
    sys.argv = ["sim.run_one", *job["arguments"]]
    try:
        return run_one.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
        return 1


def main() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    with suppress(BrokenPipeError):
        for line in iter(sys.stdin.readline, ""):
            job = json.loads(line)
            pid = os.fork()
            if pid == 0:
                code = run_child(job)
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
            print(pid, flush=True)
            print(f"ENDED {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}", flush=True)
    # Nobody listens any more: run_tests has ended all, or has ended.  Nothing is left that could be written.
    os._exit(0)


if __name__ == "__main__":
    main()
