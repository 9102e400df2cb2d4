# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Words that consist of fields: a layout is the fields' widths in bits by name, from bit 0 on.

The gateware makes its structures of the same layouts (``data.StructLayout``), so that no place is written twice.
"""

from collections.abc import Mapping

from tellme.spec.ranges import Range

__all__ = ["ZEROS", "pack_word", "unpack_word"]

#: Name of bits that have no meaning yet: written as 0.
ZEROS = "zeros"


def pack_word(layout: Mapping[str, int], values: Mapping[str, int]) -> int:
    """The word of unsigned ``values``; a field that is not named is 0.

    A value that its field cannot hold is a RangeError with the field's name; a name that the layout lacks is a KeyError.
    """
    unknown = values.keys() - layout.keys()
    if unknown:
        raise KeyError(min(unknown))
    word = at = 0
    for name, bits in layout.items():
        word |= Range(0, (1 << bits) - 1).check(name, int(values.get(name, 0))) << at
        at += bits
    return word


def unpack_word(layout: Mapping[str, int], word: int) -> dict[str, int]:
    """The fields of a word, each unsigned."""
    values = {}
    for name, bits in layout.items():
        values[name] = word & (1 << bits) - 1
        word >>= bits
    return values
