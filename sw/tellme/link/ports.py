# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The serial ports that there are, and what each is."""

from dataclasses import asdict, dataclass
from typing import Any

from tellme.link.serial_usb import known_as, port_id, ports

__all__ = ["FoundPort", "found_ports"]


@dataclass(frozen=True)
class FoundPort:
    """A serial port.

    ``usb_id``: vendor and product, as ``0403:6015``; empty for a port that is not on USB.  ``product``: what it calls itself on
    USB.  ``boards``: the boards that its id and its name may be of.  ``own``: no other thing has the name.
    """

    device: str
    usb_id: str
    product: str
    boards: tuple[str, ...]
    own: bool

    @property
    def what(self) -> str:
        """What the port is, in words."""
        name = " ".join(part for part in (self.usb_id, self.product) if part)
        if not self.boards:
            return f"{name}: no board's name" if name else "not on USB"
        listed = " or ".join(self.boards)
        return f"{name}: {listed}" if self.own else f"{name}: may be {listed}, or another thing of this name"

    def as_json(self) -> dict[str, Any]:
        """The fields for a JSON object."""
        return asdict(self)


def found_ports() -> list[FoundPort]:
    """All serial ports, by name.  No port is opened."""
    found = []
    for port in sorted(ports(), key=lambda port: port.device):
        known = known_as(port)
        found.append(FoundPort(port.device, port_id(port), port.product or "",
                               tuple(dict.fromkeys(board.name for board, _ in known)),
                               port.product is not None and any(usb.own for _, usb in known)))
    return found
