# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``tellme-host serve``."""

import argparse
import importlib.util
import os
import socket
import threading
from collections.abc import Callable
from contextlib import nullcontext

from tellme.cli import interrupts
from tellme.cli.boards import drafts_of
from tellme.cli.errors import ExitCode, UserError
from tellme.cli.output import say
from tellme.errors import DeviceError
from tellme.link.discover import find_board
from tellme.link.errors import LinkError
from tellme.models.model import Model
from tellme.models.shipped import find_model
from tellme.runtime.board import Board
from tellme.runtime.session import Session

__all__ = ["serve"]

_BUILDING = threading.Lock()
#: Bytes of a board's memory that are compared after a request.
CHECK_BYTES = 1 << 22


def opener(name: str, model: Model, args: argparse.Namespace) -> Callable[[], tuple[Board, Session]]:
    """What opens a board by its name and loads the model, whenever it is called.

    ``auto`` that was a board once stays one: after an unplug the simulated board does not take its place.
    """
    was_plugged_in = False

    def open_board() -> tuple[Board, Session]:
        nonlocal was_plugged_in
        if was_plugged_in and find_board() is None:
            raise LinkError("no board is plugged in")
        board = Board.open(name, preset=args.preset, baud=args.baud, say=say)
        try:
            was_plugged_in = name == "auto" and board.device.name != "sim"
            # The first simulated board is built once, and not by each of several at a time.
            with _BUILDING if board.device.name == "sim" else nullcontext():
                return board, board.load(model, head=args.head, drafts=drafts_of(args), check=args.check)
        except BaseException:
            board.close()
            raise

    return open_board


def listening(host: str, port: int) -> socket.socket:
    """A socket at an address, so that a port that is taken is found out before the boards are opened."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        found = socket.socket(family, kind, number)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        return found
    except OSError as error:
        raise UserError(f"cannot listen at {host}, port {port}: {error.strerror or error} (--host ADDRESS, --port N)") from error


def serve(args: argparse.Namespace) -> int:
    """The command."""
    for package in ("starlette", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"serve needs the package {package}, which this Python does not have: "
                            "pip install '.[serve]' in tellme's folder")
    from tellme.serve.app import Settings, make_app
    from tellme.serve.pool import Limits, Pool
    from tellme.serve.run import Server

    key = args.api_key if args.api_key is not None else os.environ.get("TELLME_API_KEY") or None
    if key is not None and (not key.strip() or not key.isascii()):
        raise UserError("--api-key: ASCII characters are wanted, one at least that is no space")
    model = find_model(args.model)
    names = args.device or ["auto"]
    if len({name for name in names if name not in ("golden", "sim")}) < sum(name not in ("golden", "sim") for name in names):
        raise UserError("--device: a board is named twice")
    boards = [(f"{name}-{i}" if names.count(name) > 1 else name, opener(name, model, args)) for i, name in enumerate(names)]
    limits = Limits(args.max_queue, args.timeout, check_weights=CHECK_BYTES if args.check_weights else 0)
    pool = Pool(boards, limits, say=say)
    app = make_app(model, pool, Settings(args.host, key, args.max_body, args.max_tokens))
    with listening(args.host, args.port) as found:
        try:
            pool.start()
            if not pool.wait_until_ready():
                raise DeviceError("no board is ready: " + "; ".join(f"{board['board']}: {board['error']}"
                                                                    for board in pool.boards()))
            # Whoever reads the next line can connect.
            found.listen()
            host, port = found.getsockname()[:2]
            say(f"serving {model.name} at http://{f'[{host}]' if ':' in host else host}:{port}; Ctrl-C ends the server")
            if key is None and args.host not in ("127.0.0.1", "localhost", "::1"):
                say("anybody who reaches this computer can use the server: --api-key KEY asks for a key")
            # uvicorn takes the signals, and raises them again when it has ended.
            Server(app, pool).run(sockets=[found])
        finally:
            interrupts.disarm()
            pool.close()
    return ExitCode.DONE
