# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What can be wrong with a serial port, and what mends it: rights, the latency timer, another program, names of no port."""

import errno
import os
import re
import shlex
from pathlib import Path

from tellme.boards import boards
from tellme.link.serial_rules import RULES, rules_file
from tellme.link.serial_usb import usb_id

__all__ = ["LATENCY_MS", "cannot_open", "is_terminal", "latency_advice", "latency_timer"]

#: A latency timer of so many ms, or fewer, is quick enough.
LATENCY_MS = 2
#: Where Linux tells of serial ports.
SYSFS = Path("/sys/class/tty")


def is_terminal(port: str) -> bool:
    """Whether a port is a pseudo terminal, as that of the simulated board, and not a serial chip."""
    return bool(re.match(r"/dev/(pts/|ttys\d)", os.path.realpath(port)))


def _timer(port: str) -> Path:
    """The latency timer's file in sysfs; it need not be there."""
    return SYSFS / Path(os.path.realpath(port)).name / "device" / "latency_timer"


def latency_timer(port: str) -> int | None:
    """Milliseconds that the port's serial chip may keep bytes back; None where the system does not tell, or there is no timer."""
    try:
        return int(_timer(port).read_text("ascii"))
    except (OSError, ValueError):
        return None


def _install() -> str:
    """The commands that install the shipped udev rules."""
    return (f"  sudo cp {shlex.quote(str(rules_file()))} /etc/udev/rules.d/\n"
            "  sudo udevadm control --reload && sudo udevadm trigger")


def latency_advice(port: str) -> str:
    """What a slow latency timer costs and how to mend it; empty if the timer is quick enough or there is none."""
    found = latency_timer(port)
    if found is None or found <= LATENCY_MS:
        return ""
    return (f"{port}: the serial chip keeps bytes back for up to {found} ms (its latency timer), so tokens and answers may come "
            f"{found} ms late. Until the board is unplugged, this mends it:\n"
            f"  echo 1 | sudo tee {shlex.quote(str(_timer(port)))}\n"
            f"and for good, the rules {RULES}:\n{_install()}")


def _group(port: str) -> str:
    """The group that owns a port; ``dialout`` if the system does not tell, or if that is root's."""
    try:
        import grp

        number = os.stat(port).st_gid
        return grp.getgrgid(number).gr_name if number else "dialout"
    except (ImportError, KeyError, OSError):
        return "dialout"


def _no_rights(port: str) -> str:
    """What gives the right to use a port."""
    join = f"  sudo usermod -aG {_group(port)} $USER    # and log in again"
    if usb_id(port) in {name.id for board in boards() for name in board.usb}:
        return (f"no permission. Install the rules {RULES}, which let whoever sits at this computer use boards:\n{_install()}\n"
                f"or join the group that owns the port, which helps over ssh too:\n{join}")
    return f"no permission. Join the group that owns the port:\n{join}"


def cannot_open(port: str, baud: int, error: Exception) -> tuple[str, str]:
    """Why a port does not open and what to do about it, and a hint (:class:`tellme.errors.TellmeError`).

    ``error`` is what pyserial raised.
    """
    number = getattr(error, "errno", None)
    if number is None and error.__context__ is not None and error.__context__.args:
        # pyserial keeps only the text of what termios says.
        number = error.__context__.args[0]
    # On Windows pyserial has the name of the error in the text alone, and says so of a port that is in use.
    text = str(error)
    if number in (errno.EAGAIN, errno.EBUSY) or "PermissionError" in text:
        return f"another program uses the port; end that program first (fuser {shlex.quote(port)} tells its number)", ""
    if number in (errno.EACCES, errno.EPERM):
        return _no_rights(port), ""
    if number in (errno.ENOENT, errno.ENOTDIR) or "FileNotFoundError" in text:
        return "there is no such port; without a port's name a board is looked for, or the simulated one is used", "auto"
    if number in (errno.EISDIR, errno.ENOTTY):
        return "this is no serial port; without a port's name a board is looked for, or the simulated one is used", "auto"
    if number in (errno.EIO, errno.ENXIO, errno.ENODEV):
        return "nothing is behind this port; plug the board in again", ""
    if isinstance(error, ValueError) or number == errno.EINVAL:
        return f"the port cannot do {baud} baud ({error})", ""
    return f"{error}; is it a serial port?", ""
