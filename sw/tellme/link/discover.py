# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Finds boards by the USB id and the product string of their port."""

from tellme.link.client import BoardClient
from tellme.link.errors import LinkError
from tellme.link.serial_usb import known_as, port_id, ports
from tellme.link.transport import SerialTransport

__all__ = ["find_board"]

#: Seconds that an answer may take from a port where there may be no board.
ASK_TIMEOUT = 0.3


def answers(port: str, baud: int) -> bool:
    """Whether a tellme board answers a HELLO at a port.  This HELLO changes nothing on a board."""
    try:
        client = BoardClient(SerialTransport(port, baud), timeout=ASK_TIMEOUT)
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

    First choice is a port whose USB id and product string only a board has.  If there is none, ports that may be a board's are
    asked with a HELLO, and a port where a tellme board answers is taken.
    """
    known = [(port, known_as(port)) for port in ports()]
    found = [port for port, names in known if port.product is not None and any(usb.own for _, usb in names)]
    if not found:
        found = [port for port, names in known
                 if any(answers(port.device, baud) for baud in dict.fromkeys(board.baud for board, _ in names))]
    if len(found) > 1:
        listed = "\n".join(f"  {port.device}    # {port.product or port_id(port)}" for port in found)
        raise LinkError(f"{len(found)} boards are plugged in; say which:\n{listed}", hint="device")
    return found[0].device if found else None
