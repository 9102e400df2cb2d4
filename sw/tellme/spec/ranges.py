# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Ranges of the numbers that go into packets, descriptors, registers and tiles, and the error of a number outside its range."""

from collections.abc import Mapping
from typing import NamedTuple

from tellme.errors import InputError

__all__ = ["COUNT16", "I8", "I32", "U8", "U16", "U32", "Range", "RangeError", "check_fields"]


class RangeError(InputError, ValueError):
    """A number that its field cannot hold.  The text has the number's name, the number, and the least and the largest value."""

    def __init__(self, name: str, value: int, least: int, most: int):
        super().__init__(f"{name}: {value} is outside {least} to {most}")
        self.name, self.value, self.least, self.most = name, value, least, most


class Range(NamedTuple):
    """Whole numbers from ``least`` to ``most``, both included."""

    least: int
    most: int

    def check(self, name: str, value: int) -> int:
        """Returns the number itself; for a number outside the range raises a :class:`RangeError` with the name."""
        if not self.least <= value <= self.most:
            raise RangeError(name, value, self.least, self.most)
        return value


#: A field of 8 bits without a sign.
U8 = Range(0, 0xFF)
#: A field of 16 bits without a sign.
U16 = Range(0, 0xFFFF)
#: A field of 16 bits without a sign that counts one thing at least.
COUNT16 = Range(1, 0xFFFF)
#: A field of 32 bits without a sign.
U32 = Range(0, 0xFFFF_FFFF)
#: A field of 8 bits with a sign.
I8 = Range(-0x80, 0x7F)
#: A field of 32 bits with a sign.
I32 = Range(-0x8000_0000, 0x7FFF_FFFF)


def check_fields(record: object, ranges: Mapping[str, Range]) -> None:
    """Check the attributes of ``record`` that ``ranges`` names; the first outside its range is a :class:`RangeError`."""
    for name, limits in ranges.items():
        limits.check(name, getattr(record, name))
