# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The boards that there is a bitstream for: their devices, the preset of each, their UART's rate, and what they are on USB."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

__all__ = ["BoardInfo", "UsbName", "boards", "boards_of_presets"]


@dataclass(frozen=True)
class UsbName:
    """A USB id, and the beginning of the product string.

    ``id``: vendor and product, four hex digits each, as ``0403:6015``.  ``own``: only this board has the product string.
    Otherwise the string is a serial chip's default, which other devices have too, so that the host has to ask what is at the
    port."""

    id: str
    product: str
    own: bool


@dataclass(frozen=True)
class BoardInfo:
    """A board: its file in ``boards``, its name, the preset of each device, its name in openFPGALoader, the UART's rate in baud,
    and its names on USB."""

    key: str
    name: str
    presets: dict[str, str]
    programmer: str
    baud: int
    usb: tuple[UsbName, ...]


@cache
def boards() -> tuple[BoardInfo, ...]:
    """All boards, as ``data/boards.json`` has them."""
    content = json.loads((resources.files("tellme") / "data" / "boards.json").read_text("utf-8"))
    return tuple(BoardInfo(key, fields["name"], dict(fields["presets"]), fields["programmer"], fields["baud"],
                           tuple(UsbName(**usb) for usb in fields["usb"])) for key, fields in content.items())


def boards_of_presets() -> dict[str, list[str]]:
    """Preset -> the boards and devices that are built with the preset."""
    found: dict[str, list[str]] = {}
    for board in sorted(boards(), key=lambda board: board.key):
        for device, preset in board.presets.items():
            found.setdefault(preset, []).append(f"{board.key} {device}")
    return found
