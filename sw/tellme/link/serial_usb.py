# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What a serial port's USB id and product string tell of the board behind it."""

import os
from typing import Protocol

from serial.tools import list_ports

from tellme.boards import BoardInfo, UsbName, boards

__all__ = ["DEFAULT_BAUD", "Port", "board_baud", "known_as", "port_id", "ports", "usb_id"]

#: Rate in baud of a port whose board is not known.
DEFAULT_BAUD = 3_000_000


class Port(Protocol):
    """What pyserial tells of a port: its name, and on USB vendor, product and product string."""

    device: str
    vid: int | None
    pid: int | None
    product: str | None


def ports() -> list[Port]:
    """The serial ports that there are."""
    found: list[Port] = list_ports.comports()
    return found


def port_id(port: Port) -> str:
    """USB id of a port as boards.json writes it; empty for a port that is not on USB."""
    return "" if port.vid is None or port.pid is None else f"{port.vid:04x}:{port.pid:04x}"


def known_as(port: Port) -> list[tuple[BoardInfo, UsbName]]:
    """The boards that a port's USB id and product string may be of.

    Some systems do not tell the product string.  Then the id alone decides.
    """
    number = port_id(port)
    return [(board, usb) for board in boards() for usb in board.usb
            if usb.id == number and (port.product is None or port.product.startswith(usb.product))]


def _named(name: str) -> Port | None:
    """The port with a name, which may be a link such as those below /dev/serial/by-id; None if it is not among the ports."""
    names = {name, os.path.realpath(name)}
    return next((port for port in ports() if port.device in names), None)


def usb_id(name: str) -> str:
    """USB id of the port with a name, as ``0403:6015``; empty for a port that is not on USB."""
    port = _named(name)
    return "" if port is None else port_id(port)


def board_baud(name: str) -> int:
    """The UART's rate in baud of the board at a port; DEFAULT_BAUD if the port's USB id is no board's, or of boards with several
    rates."""
    port = _named(name)
    rates = set() if port is None else {board.baud for board, _ in known_as(port)}
    return rates.pop() if len(rates) == 1 else DEFAULT_BAUD
