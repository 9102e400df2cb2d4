# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tellme-host as a process that is ended in many ways, and what is left of the processes that it started."""

import os
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

__all__ = ["ENDS", "SOON", "Host", "needs_proc", "summary", "tries"]

ROOT = Path(__file__).resolve().parents[2]
#: Seconds in which all processes must end.
SOON = 1.0
#: An environment variable that all processes of a host inherit, with a different value in each host.
MARK = "TELLME_TEST_MARK"
INTERRUPTED = "tellme-host: interrupted"

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes by /proc")


def tries(few: int) -> int:
    """Tries of each kind: as many as the variable TELLME_TRIES says, else few."""
    return int(os.environ.get("TELLME_TRIES", few))


class Host:
    """``python -m tellme.cli`` with arguments, or another Python program, whose standard error goes to a file."""

    def __init__(self, folder: Path, arguments: Sequence[str], *, program: Sequence[str] = ("-m", "tellme.cli"),
                 root: Path = ROOT, inherited: Sequence[int] = ()):
        self.mark = str(uuid.uuid4())
        self._log = folder / f"{self.mark}.log"
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "sw"), str(root)]), MARK: self.mark}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen([sys.executable, *program, *arguments], cwd=root, env=env, stdin=subprocess.DEVNULL,
                                            stdout=subprocess.PIPE, stderr=log, pass_fds=inherited)

    def others(self) -> dict[int, str]:
        """Command lines of the living processes that the host has started, and these in their turn."""
        found = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit() or int(folder.name) == self.process.pid:
                continue
            try:
                # A zombie process has an empty environment.
                if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue
        return found

    def until(self, ready: Callable[[], bool], seconds: float = 600.0) -> None:
        """Wait until something is the case; an AssertionError with the host's words if the host ends or time runs out."""
        end = time.monotonic() + seconds
        while not ready():
            assert self.process.poll() is None, f"the host ended with {self.process.returncode}:\n{self.errors()}"
            assert time.monotonic() < end, f"{seconds} s were not enough:\n{self.errors()}"
            time.sleep(0.01)

    def board(self, name: str) -> int:
        """Wait until a process runs whose command line has the name; its id."""
        found: list[int] = []

        def ready() -> bool:
            found[:] = [pid for pid, command in self.others().items() if re.search(name, command)]
            return bool(found)

        self.until(ready)
        return found[0]

    def line(self) -> bytes:
        """The next line of standard output."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def send(self, number: signal.Signals) -> None:
        """A signal, unless the host has ended."""
        self.process.send_signal(number)

    def end(self, kind: str, rng: random.Random, limit: float = SOON) -> tuple[float, float]:
        """End the host in one of the ENDS.  Seconds as :meth:`gone` has them, counted from the first signal.

        An AssertionError for another exit code or a traceback.
        """
        began = time.monotonic()
        ENDS[kind][0](self, rng)
        seconds = self.gone(began, limit)
        assert self.process.returncode == ENDS[kind][1], f"exit code {self.process.returncode}:\n{self.errors()}"
        assert "Traceback" not in self.errors(), self.errors()
        return seconds

    def gone(self, began: float, limit: float = SOON) -> tuple[float, float]:
        """Seconds from ``began`` until all processes that the host started have ended, and until the host has ended.

        An AssertionError if the first takes longer than the limit, or the host more than three times as long: Python needs time
        to end.
        """
        rest: float | None = None
        while True:
            over = self.process.poll() is not None
            left = self.others()
            now = time.monotonic() - began
            rest = None if left else rest if rest is not None else now
            if over and rest is not None:
                assert self.process.stdout is not None
                self.process.stdout.close()
                return rest, now
            if now > 3 * limit or (left and now > limit):
                self.kill()
                raise AssertionError(f"after {now:.2f} s the host {'has ended' if over else 'runs'}, and so do "
                                     f"{list(left.values())}:\n{self.errors()}")
            time.sleep(0.005)

    def kill(self) -> None:
        """Leave no process after a test that failed."""
        self.process.kill()
        self.process.wait()
        # A process that is listed may have ended since, and one that has just started may not be listed yet.
        while others := self.others():
            for pid in others:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    def errors(self) -> str:
        """Standard error, as it is."""
        return self._log.read_text("utf-8")

    def lines(self) -> list[str]:
        """Lines of standard error, without progress bars."""
        # A line of another process may follow a bar that waits for its next state.
        bar = re.compile("^loading.*?(?=(?:fake board|tellme-host|device):)")
        parts = [bar.sub("", part) for part in re.split(r"[\r\n]", self.errors())]
        return [part for part in parts if part.strip() and not part.startswith("loading")]


def once(number: signal.Signals) -> Callable[[Host, random.Random], None]:
    """A way to end a host: one signal."""
    return lambda host, rng: host.send(number)


def twice(host: Host, rng: random.Random) -> None:
    """A way to end a host: Ctrl-C, and again within 300 ms."""
    host.send(signal.SIGINT)
    time.sleep(rng.uniform(0, 0.3))
    host.send(signal.SIGINT)


#: Ways to end a host, and the exit code.
ENDS: dict[str, tuple[Callable[[Host, random.Random], None], int]] = {
    "ctrl-c": (once(signal.SIGINT), 130),
    "ctrl-c twice": (twice, 130),
    "SIGTERM": (once(signal.SIGTERM), 130),
    "SIGHUP": (once(signal.SIGHUP), 130),
    "SIGKILL": (once(signal.SIGKILL), -signal.SIGKILL),
}


def summary(what: str, seconds: Sequence[tuple[float, float]]) -> None:
    """Print what was measured."""
    parts = []
    for name, each in zip(("board", "host"), zip(*seconds, strict=True), strict=True):
        ordered = sorted(1000 * value for value in each)
        parts.append(f"{name} gone after {ordered[len(ordered) // 2]:.0f} ms (median), {ordered[-1]:.0f} ms (longest)")
    print(f"{what}: {len(seconds)} tries, {'; '.join(parts)}", flush=True)
