# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The serial ports that there are, and what each is."""

from dataclasses import asdict, dataclass
from typing import Any

from serial.tools import list_ports

from tellme.boards import boards

__all__ = ["FoundPort", "found_ports"]


@dataclass(frozen=True)
class FoundPort:
    """A serial port.

    ``usb_id``: vendor and product, as ``0403:6015``; empty for a port that is not on USB.  ``product``: what it calls itself on
    USB.  ``boards``: the boards that have this name on USB.  ``own``: no other thing has the name.
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
    for port in sorted(list_ports.comports(), key=lambda port: str(port.device)):
        product = port.product or ""
        known = [(board, usb) for board in boards() for usb in board.usb if product.startswith(usb.product)]
        usb_id = "" if getattr(port, "vid", None) is None else f"{port.vid:04x}:{port.pid:04x}"
        found.append(FoundPort(port.device, usb_id, product, tuple(dict.fromkeys(board.name for board, _ in known)),
                               any(usb.own for _, usb in known)))
    return found
