# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Finds boards by the product string of their USB port."""

from serial.tools import list_ports

from tellme.link.errors import LinkError

__all__ = ["KNOWN", "find_board"]

#: Beginnings of product strings of boards that there is a bitstream for.
KNOWN = ("ULX3S",)


def find_board() -> str | None:
    """The port of the one known board that is plugged in, or None; more than one is a LinkError that lists them."""
    ports = [(p.device, p.product) for p in list_ports.comports() if (p.product or "").startswith(KNOWN)]
    if len(ports) > 1:
        listed = "\n".join(f"  tellme-host generate --device {device}    # {product}" for device, product in ports)
        raise LinkError(f"{len(ports)} boards are plugged in; say which:\n{listed}")
    return ports[0][0] if ports else None
