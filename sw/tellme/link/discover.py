# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Finds boards by the product string of their USB port."""

from serial.tools import list_ports

from tellme.boards import boards
from tellme.link.client import BoardClient
from tellme.link.errors import LinkError
from tellme.link.transport import SerialTransport

__all__ = ["find_board"]

#: Seconds that an answer may take from a port where there may be no board.
ASK_TIMEOUT = 0.3


def answers(port: str) -> bool:
    """Whether a tellme board answers a HELLO at a port (13 bytes, sent up to three times)."""
    try:
        client = BoardClient(SerialTransport(port), timeout=ASK_TIMEOUT)
    except LinkError:
        return False
    try:
        client.hello()
    except LinkError:
        return False
    finally:
        client.close()
    return True


def find_board() -> str | None:
    """The port of the one known board that is plugged in, or None; more than one is a LinkError that lists them.

    First choice is a port whose product string only a board has.  If there is none, ports whose product string a board shares
    with other devices are asked with a HELLO, and a port where a tellme board answers is taken.
    """
    names = [usb for board in boards() for usb in board.usb]
    ports = [(port.device, port.product or "") for port in list_ports.comports()]

    def called(own: bool) -> list[tuple[str, str]]:
        known = tuple(usb.product for usb in names if usb.own == own)
        return [(device, product) for device, product in ports if product.startswith(known)]

    found = called(True) or [(device, product) for device, product in called(False) if answers(device)]
    if len(found) > 1:
        listed = "\n".join(f"  {device}    # {product}" for device, product in found)
        raise LinkError(f"{len(found)} boards are plugged in; say which:\n{listed}", hint="device")
    return found[0][0] if found else None
