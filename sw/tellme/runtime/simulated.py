# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The simulated board: built from a checkout of the repository, and run as a process of its own."""

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import tellme
from tellme.compiler.image_file import memory_pieces
from tellme.errors import DeviceError
from tellme.link.client import REGION, BoardClient
from tellme.link.process import Child, how_it_ended
from tellme.link.transport import ProcessTransport
from tellme.runtime.device import BoardDevice
from tellme.spec.config import CoreConfig
from tellme.spec.memory import SDRAM_BASE

__all__ = ["SimDevice", "checkout", "sim_command"]

#: Seconds.  A simulated board runs some 50,000 cycles per second of real time, and a token may take several seconds.
SIM_TIMEOUT = 300.0
#: Seconds until a packet to a simulated board is sent again.  The pipe loses nothing: packets again only make the board slower.
SIM_RETRY = 60.0
#: Seconds without an event of a run until its STATUS is asked for: a run that makes no progress is found out by its cycles.
SIM_POLL = 10.0
#: Seconds that an interrupted build may take to remove its scratch files; its compilers end at once.
BUILD_GRACE = 2.0


def checkout() -> Path | None:
    """The checkout that this package runs from, or that the working directory lies in."""
    places = [Path(tellme.__file__).resolve().parents[2], *[Path.cwd(), *Path.cwd().parents]]
    for place in places:
        if (place / "sim" / "board" / "__main__.py").is_file() and (place / "hw" / "top.py").is_file():
            return place
    return None


def sim_command(config: CoreConfig, preload: Path | None = None) -> tuple[list[str], Path, dict[str, str]]:
    """Command, folder and environment that start the simulated board; outside a checkout a DeviceError.

    ``preload``: an image that the board's memory holds when power comes (:mod:`tellme.compiler.image_file`).  A file that is no
    image for the configuration is an InputError.
    """
    if preload is not None:
        memory_pieces(preload, config)
    root = checkout()
    if root is None:
        raise DeviceError("the simulated board is built from a checkout of the repository, and this is none. Type:\n"
                          "  git clone <address of the repository> tellme && cd tellme\n  make demo\n"
                          "or use the golden model", hint="golden")
    if importlib.util.find_spec("amaranth") is None:
        raise DeviceError(f"the simulated board needs the gateware's tools, which this Python does not have. Type:\n"
                          f"  cd '{root}'\n  make demo\nor install them:  '{sys.executable}' -m pip install -e "
                          f"'{root}[hw,sim]'\nor use the golden model", hint="golden")
    paths = [str(root), str(root / "sw")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    more = ["--preload", str(preload.resolve())] if preload is not None else []
    return [sys.executable, "-m", "sim.board", "--preset", config.name, *more], root, env


def build(command: list[str], root: Path, env: dict[str, str]) -> list[str]:
    """Build the simulated board if it is not built yet, and return the command that starts it.

    The build's messages go to standard error.
    The build and its compilers end with the host, and with an interruption.
    """
    child = Child([*command, "--build-only"], cwd=root, env=env)
    try:
        code = child.wait()
        # The build writes one line, which the pipe holds.  After a killed build a compiler may still hold the pipe's other end.
        answer = child.output.read(1 << 16) if code == 0 else b""
    finally:
        child.end(BUILD_GRACE)
    if code < 0:
        raise DeviceError(f"the build of the simulated board was ended by {how_it_ended(code)}; if nobody ended it, the memory "
                          "may have run out: close other programs, and start again")
    if code != 0:
        raise DeviceError("the simulated board could not be built; the messages above say why")
    start: list[str] = json.loads(answer)
    return start


class SimDevice(BoardDevice):
    """The simulated board: a process of its own, started when the model is known to fit.

    ``preload``: an image (:mod:`tellme.compiler.image_file`) that the memory holds when power comes, as if it had been loaded
    before.  A load finds by checksums what the memory holds, as on a real board.  ``trusted``: a load of the model whose image it
    is takes no checksums of it, which would take cycles for each byte.
    """

    def __init__(self, name: str, config: CoreConfig, *, preload: Path | None = None, trusted: bool = False):
        super().__init__(name, config)
        self._preload, self._trusted = preload, trusted

    def connect(self) -> None:
        if self._given is not None:
            return
        command, root, env = sim_command(self._config, self._preload)
        transport = ProcessTransport(build(command, root, env), cwd=root, env=env)
        try:
            client = BoardClient(transport, timeout=SIM_TIMEOUT, hello_timeout=SIM_TIMEOUT, retry=SIM_RETRY, poll=SIM_POLL)
        except BaseException:
            transport.close()
            raise
        self._given = client
        self._known = set() if self._preload is None or self._trusted else None
        hello = client.hello()
        if hello.preset != self._config.name:
            raise DeviceError(f"the simulated board was built for {hello.preset!r}, not {self._config.name!r}")
        self.core_sha256 = hello.core_sha256

    def _load(self, address: int, content: bytes, say: Callable[[], None]) -> list[tuple[int, int, int]]:
        if not self._trusted:
            return super()._load(address, content, say)
        # The training of a DDR3 memory has written to its first bytes.
        first = content[:REGION] if address == SDRAM_BASE else b""
        if first:
            self._send(address, first, say)
        self.skipped += len(content) - len(first)
        say()
        return []
