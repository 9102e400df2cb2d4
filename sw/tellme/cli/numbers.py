# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Numbers on the command line: each option says its name and its limits where it refuses one."""

from collections.abc import Callable

from tellme.cli.errors import UserError
from tellme.spec.ddr3_training import LANES, LaneSettings
from tellme.spec.ranges import Range, RangeError

__all__ = ["fraction", "id_list", "lane_settings", "whole", "whole_list"]


def shown(text: str) -> str:
    """An argument in a message, which stays one line."""
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


def whole(option: str, limits: Range | None = None, *, least: int | None = None) -> Callable[[str], int]:
    """A reader of whole numbers within ``limits``; or from ``least`` on; or any."""
    if limits is not None:
        wanted = f"a whole number from {limits.least} to {limits.most}"
    else:
        wanted = "a whole number" if least is None else f"a whole number from {least} on"

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise UserError(f"{option} {shown(text)}: {wanted} is wanted") from None
        try:
            if limits is not None:
                limits.check(option, value)
        except RangeError as error:
            raise UserError(str(error)) from None
        if least is not None and value < least:
            raise UserError(f"{option}: {value} is below {least}")
        return value

    return read


def fraction(option: str, least: float, most: float) -> Callable[[str], float]:
    """A reader of numbers from ``least`` to ``most``, both included."""
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise UserError(f"{option} {shown(text)}: a number from {least:.7g} to {most:.7g} is wanted") from None
        if not least <= value <= most:
            raise UserError(f"{option}: {value:g} is outside {least:.7g} to {most:.7g}")
        return value

    return read


def id_list(option: str) -> Callable[[str], list[int]]:
    """A reader of token ids with commas between them."""
    def read(text: str) -> list[int]:
        try:
            return [int(part) for part in text.split(",")]
        except ValueError:
            raise UserError(f"{option} {shown(text)}: token ids like 1,2,3 are wanted") from None

    return read


def whole_list(option: str, *, least: int) -> Callable[[str], list[int]]:
    """A reader of whole numbers from ``least`` on with commas between them; they come back in ascending order, each once."""
    def read(text: str) -> list[int]:
        try:
            values = sorted({int(part) for part in text.split(",")})
        except ValueError:
            raise UserError(f"{option} {shown(text)}: numbers like 1,2,3 are wanted") from None
        if values[0] < least:
            raise UserError(f"{option}: {values[0]} is below {least}")
        return values

    return read


def lane_settings(option: str) -> Callable[[str], list[LaneSettings | None]]:
    """A reader of a DDR3 memory's settings: READCLKSEL:SLIP or ``auto`` (None) for each lane, or one ``auto`` for all lanes."""
    def read(text: str) -> list[LaneSettings | None]:
        parts = text.split(",")
        if parts == ["auto"]:
            return [None] * LANES
        try:
            lanes = [None if part == "auto" else LaneSettings(*map(int, part.split(":"))) for part in parts]
        except RangeError as error:
            raise UserError(f"{option} {shown(text)}: {error}") from None
        except (ValueError, TypeError):
            lanes = []
        if len(lanes) != LANES:
            raise UserError(f"{option} {shown(text)}: READCLKSEL:SLIP or auto for {LANES} lanes is wanted, like 3:1,auto")
        return lanes

    return read
