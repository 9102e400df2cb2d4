# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``tellme-host simulate``."""

import argparse
import importlib.util
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from tellme.cli.boards import drafts_of
from tellme.cli.errors import UserError
from tellme.cli.output import say, write
from tellme.compiler.image_file import is_image, save_image
from tellme.drafts.placing import Drafts
from tellme.errors import DeviceError
from tellme.link.process import Child
from tellme.link.transport import board_ended
from tellme.models.shipped import checked_model
from tellme.runtime.simulated import build, sim_command
from tellme.spec.config import CoreConfig, preset

__all__ = ["simulate"]

#: Memory that was never written can be read, as a host does that looks whether a model is there already.
AS_REAL = ("--check-unwritten", "0")
#: Targets of links that an earlier simulate may have left.
TERMINALS = re.compile(r"/dev/(pts/|ttys)\d+")


def configuration(name: str) -> CoreConfig:
    """The core's configuration."""
    try:
        return preset(name)
    except ValueError as error:
        raise DeviceError(str(error)) from error


def check_link(path: Path) -> None:
    """Refuse a name that something else has than a link to a terminal."""
    if not path.parent.is_dir():
        raise UserError(f"--link {path}: there is no folder {path.parent}")
    if os.path.lexists(path) and not (path.is_symlink() and TERMINALS.fullmatch(os.readlink(path))):
        raise UserError(f"--link {path}: there is something with this name already; remove it, or give another name")


@contextmanager
def linked(path: Path | None, target: str) -> Iterator[str]:
    """A symbolic link to a terminal as long as the block runs; the name that hosts open."""
    if path is None:
        yield target
        return
    check_link(path)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    os.symlink(target, fresh)
    # At one go, so that there is no moment without a link.
    fresh.replace(path)
    try:
        yield str(path)
    finally:
        with suppress(OSError):
            if os.readlink(path) == target:
                path.unlink()


@contextmanager
def preloaded(name: str | None, config: CoreConfig, drafts: Drafts = "auto") -> Iterator[Path | None]:
    """The image that the memory is to hold when power comes: a file that is one, or a model's that is compiled for the time that
    the block runs, with the table of drafted tokens that ``drafts`` says."""
    if isinstance(drafts, Path) and (name is None or is_image(Path(name))):
        raise UserError("--drafts goes with --preload and a model: an image has its table, if it has one, and other memory none")
    if name is None:
        yield None
    elif is_image(Path(name)):
        yield Path(name)
    else:
        model = checked_model(name)
        with TemporaryDirectory(prefix="tellme-") as folder:
            path = Path(folder) / "image"
            save_image(path, model, config, head=None, drafts=drafts, say=say)
            yield path


def simulate(args: argparse.Namespace) -> int:
    """The command.  It returns only by an error: the board's end is a LinkError, Ctrl-C a KeyboardInterrupt."""
    config = configuration(args.preset)
    if importlib.util.find_spec("termios") is None:
        raise UserError("simulate needs pseudo terminals, which this system does not have")
    from tellme.link.serial_pty import PtyPort

    if args.link is not None:
        check_link(args.link)
    with preloaded(args.preload, config, drafts_of(args)) as image:
        command, root, env = sim_command(config, image)
        board = build(command, root, env)
        with PtyPort() as port, linked(args.link, port.path) as name:
            child = Child([*board, *AS_REAL], cwd=root, env=env)
            try:
                write(f"{port.path}\n")
                say(f"the simulated board ({config.name}) is at {name}; in another terminal:\n"
                    f"  tellme-host generate --device {shlex.quote(name)}\n"
                    "the board keeps its memory when a host ends; Ctrl-C ends the board")
                port.serve(child.output.fileno(), child.input.fileno())
                raise board_ended(child.end())
            finally:
                child.end()
