# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""How ternary weights and int8 tables lie in memory, in the order in which the gateware eats them.

Weights are base-3 bytes, five trits each: byte = sum((w_j + 1) * 3**j), 243..255 invalid.  A matrix of N rows and K
columns is cut into tiles of up to TILE_ROWS rows, or as many as a board takes; a tile is a 64-bit header, a word for each row
if the header says so, and then its planes, the highest first; a plane is slices of SLICE columns; a slice is its rows in order,
SLICE_BYTES each.  K is padded to a whole slice with zero trits (byte 121), as are the activations with zeros; a byte is one
lookup of three trits and one of two, so a width that is no multiple of either group needs no other tail.  Row counts are even:
a 64-bit word holds two rows of a slice, or two rows' words, the even one in its low half.

A matrix of P planes holds integers in balanced ternary: weight = sum(trit_p * 3**p), p = 0 .. P - 1, of a magnitude up to
(3**P - 1) / 2 (docs/decisions/0017-planes.md).  Planes with multipliers have a signed byte for each row ahead of the first slice
of each column group.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tellme.spec.program import FORMAT_VERSION, FormatError
from tellme.spec.ranges import I8, U8, U16, Range
from tellme.spec.scale import SCALE_EXP_BITS, SCALE_SIG_BITS, Scale
from tellme.spec.widths import plane_reach
from tellme.spec.words import ZEROS, pack_word, unpack_word

__all__ = ["HEAD_BLOCK_ROWS", "HEAD_CODE", "HEAD_PLANES", "LEAST_STEPS", "MAX_LINEAR_PLANES", "MAX_PLANES",
           "MULTIPLIERS_A_WORD", "NO_BIAS", "ROW_WORD_BYTES", "ROW_WORD_FIELDS", "SLICE", "SLICE_BYTES", "TILE_HEADER_FIELDS",
           "TILE_HEADER_GROUP_SLICES", "TILE_HEADER_PLANES", "TILE_HEADER_ROWS", "TILE_ROWS", "TRITS", "ZERO_BYTE", "RowWord",
           "TileHeader", "groups_of", "head_block_words", "head_row_words", "matrix_words", "multiplier_words", "pack_gains",
           "pack_head_block", "pack_matrix", "pack_multipliers", "pack_planes", "pack_trits", "plane_reach", "planes_for",
           "slices", "tile_rows", "trits_of", "unpack_trits"]

#: Ternary weights of a byte.
TRITS = 5
#: Five zero trits.
ZERO_BYTE = 121
#: Columns of a slice.
SLICE = 20
#: Bytes of a row's slice.
SLICE_BYTES = SLICE // TRITS
#: Rows of a tile at most, unless a configuration says another number.
TILE_ROWS = 128
#: Steps of the engine in which a slice's tables are built.  A tile of fewer steps a slice takes as long as one of so many.
LEAST_STEPS = 64
#: Rows of a block of an int8 table: the embedding.
HEAD_BLOCK_ROWS = 4
#: Planes of a tile at most: six hold each int8 code, five the magnitudes up to 121.
MAX_PLANES = 6
#: Planes of a layer's matrix at most: its weights are int8, -121 to 121.
MAX_LINEAR_PLANES = 5
#: Planes of an LM head whose int8 codes are made from floats: a code takes a byte, where one above HEAD_CODE takes six planes.
HEAD_PLANES = 5
#: The largest code of such a head's rows, or of those of an embedding that is the head: 121.
HEAD_CODE = plane_reach(HEAD_PLANES)
#: The word before a tile: widths of its fields, from bit 0 on.
TILE_HEADER_FIELDS = {"scale": SCALE_SIG_BITS + SCALE_EXP_BITS, "rows": 8, "odd_scale": SCALE_SIG_BITS + SCALE_EXP_BITS,
                      "planes_less_1": 3, "row_words": 1, "free": 1, "group_slices": 8, ZEROS: 5}
#: Rows that a tile's header can say.
TILE_HEADER_ROWS = Range(1, U8.most)
#: Planes that a tile's header can say.
TILE_HEADER_PLANES = Range(1, MAX_PLANES)
#: Slices of a column group that a tile's header can say.
TILE_HEADER_GROUP_SLICES = Range(1, U8.most)
#: A row's word: its stored scale (:func:`tellme.spec.scale.pack16`) and its bias (a binary16 pattern), from bit 0 on.
ROW_WORD_FIELDS = {"scale": 16, "bias": 16}
#: Bytes of a row's word.
ROW_WORD_BYTES = 4
#: The bias that changes no element: -0.0.
NO_BIAS = 0x8000
#: Multipliers of rows, a signed byte each, in a 64-bit word.
MULTIPLIERS_A_WORD = 8


def pack_trits(weights: Sequence[int]) -> int:
    """Up to five weights of -1, 0, 1 as a byte; missing ones are zero."""
    byte = 0
    for j in range(TRITS):
        w = weights[j] if j < len(weights) else 0
        if w not in (-1, 0, 1):
            raise ValueError(f"weight {w} is not one of -1, 0, 1")
        byte += (w + 1) * 3**j
    return byte


def unpack_trits(byte: int) -> tuple[int, ...]:
    """The five weights of a byte."""
    if not 0 <= byte < 3**TRITS:
        raise ValueError(f"byte {byte} is no base-3 code (0 to 242)")
    return tuple(byte // 3**j % 3 - 1 for j in range(TRITS))


def planes_for(magnitude: int) -> int:
    """The fewest planes, 1 to MAX_PLANES, that hold a magnitude; a larger one is a RangeError."""
    Range(0, plane_reach(MAX_PLANES)).check("magnitude of a weight", magnitude)
    return next(planes for planes in range(1, MAX_PLANES + 1) if plane_reach(planes) >= magnitude)


def trits_of(weight: int, planes: int) -> tuple[int, ...]:
    """Balanced ternary: the trit of each plane, that of 3**0 first.  A weight that the planes do not hold is a RangeError."""
    reach = plane_reach(planes)
    Range(-reach, reach).check(f"weight of {planes} plane{'s' * (planes > 1)}", weight)
    return tuple((weight + reach) // 3**p % 3 - 1 for p in range(planes))


class RowWord(NamedTuple):
    """The 32-bit word of a row: its stored scale, which takes the place of the tile's, and its bias as a binary16 pattern."""

    scale: int
    bias: int = NO_BIAS

    def pack(self) -> int:
        """The word; a number of more than 16 bits is a RangeError."""
        return pack_word(ROW_WORD_FIELDS, self._asdict())

    @classmethod
    def unpack(cls, word: int) -> "RowWord":
        """The numbers of a word."""
        return cls(**unpack_word(ROW_WORD_FIELDS, word))


class TileHeader(NamedTuple):
    """The 64-bit word before a tile.

    Scale of the even rows: sig [10:0], exp [18:11] signed; rows [26:19]; scale of the odd rows: sig [37:27], exp
    [45:38] signed; planes - 1 [48:46]; row_words [49]: a :class:`RowWord` of each row follows the header; free [50]: a plane is
    not multiplied by three before the next is added; group_slices [58:51]: slices of a column group, whose multipliers come ahead
    of the group's first slice, or 0; zeros above.  The two scales differ where gate and up rows alternate.
    """

    scale: Scale
    rows: int
    odd_scale: Scale
    planes: int = 1
    row_words: bool = False
    free: bool = False
    group_slices: int = 0

    def pack(self) -> int:
        """The word; rows, planes, slices or a scale that it cannot hold are a RangeError."""
        TILE_HEADER_ROWS.check("rows of a tile", self.rows)
        TILE_HEADER_PLANES.check("planes of a tile", self.planes)
        U8.check("slices of a column group", self.group_slices)
        return pack_word(TILE_HEADER_FIELDS, {
            "scale": self.scale.pack(), "rows": self.rows, "odd_scale": self.odd_scale.pack(), "planes_less_1": self.planes - 1,
            "row_words": self.row_words, "free": self.free, "group_slices": self.group_slices})

    @classmethod
    def unpack(cls, word: int) -> "TileHeader":
        """The header of a word; one of more planes than MAX_PLANES, or with bits above its fields, is a FormatError."""
        f = unpack_word(TILE_HEADER_FIELDS, word)
        planes = f["planes_less_1"] + 1
        if f[ZEROS] or planes > MAX_PLANES:
            what = "bits above its fields" if f[ZEROS] else f"{planes} planes"
            raise FormatError(f"the header {word:016x} of a tile has {what}, which format {FORMAT_VERSION} does not know: the "
                              "weights are of a later format, or damaged")
        return cls(Scale.unpack(f["scale"]), f["rows"], Scale.unpack(f["odd_scale"]), planes, bool(f["row_words"]),
                   bool(f["free"]), f["group_slices"])


def slices(cols: int) -> int:
    """Slices of a width."""
    return -(-cols // SLICE)


def tile_rows(rows: int, unit: int = 1, *, most: int = TILE_ROWS, least: int = 0) -> Iterator[tuple[int, int]]:
    """(first row, rows) of each tile: an even number, up to ``most``, of whole units of ``unit`` rows.

    With ``least`` the tiles get smaller towards the end, down to ``least`` rows.  The sums of a tile leave while the next tile
    runs; those of the last one leave alone.
    """
    unit *= 1 + unit % 2
    most, left = most // unit * unit, rows
    while left:
        size = min(most, left)
        if least and 2 * least <= left < 2 * most:
            size = min(size, max(unit, min(5 * left // 8, left - least) // unit * unit))
        yield rows - left, size
        left -= size


def matrix_words(rows: int, cols: int, *, planes: int = 1, row_words: bool = False) -> int:
    """64-bit words of a packed matrix, headers included."""
    return -(-rows // TILE_ROWS) + rows // 2 * (planes * slices(cols) + row_words)


def pack_matrix(weights: Sequence[Sequence[int]], scale: Scale, odd_scale: Scale | None = None, *, most: int = TILE_ROWS,
                least: int = 0, planes: int = 1, row_words: Sequence[RowWord] | None = None) -> list[int]:
    """64-bit words of a matrix: plain reference (the compiler packs with NumPy and is tested against this).

    ``odd_scale`` is the scale of the odd rows where it is not that of the even ones; tiles as :func:`tile_rows` says.
    ``row_words`` has a word of each row, and the tiles' scales count for nothing then.
    """
    split = [[trits_of(w, planes) for w in row] for row in weights]
    return pack_planes([[[trits[plane] for trits in row] for row in split] for plane in range(planes)], scale, odd_scale,
                       most=most, least=least, row_words=row_words)


def pack_planes(planes: Sequence[Sequence[Sequence[int]]], scale: Scale, odd_scale: Scale | None = None, *,
                most: int = TILE_ROWS, least: int = 0, row_words: Sequence[RowWord] | None = None, free: bool = False,
                group_slices: int = 0, multipliers: Sequence[Sequence[Sequence[int]]] = ()) -> list[int]:
    """64-bit words of a matrix from its planes of trits, that of 3**0 first; further arguments as of :func:`pack_matrix`.

    ``free``: a plane is not multiplied by three before the next is added.  ``multipliers``: an int8 number for each plane, column
    group of ``group_slices`` slices, and row.
    """
    height, cols = len(planes[0]), len(planes[0][0])
    if height % 2:
        raise ValueError(f"{height} rows: a packed matrix has an even number")
    words = []
    for first, rows in tile_rows(height, most=most, least=least):
        words.append(TileHeader(scale, rows, odd_scale or scale, len(planes), row_words is not None, free, group_slices).pack())
        if row_words is not None:
            words += [row_words[r].pack() | row_words[r + 1].pack() << 32 for r in range(first, first + rows, 2)]
        for plane in reversed(range(len(planes))):
            for s in range(slices(cols)):
                if group_slices and s % group_slices == 0:
                    words += pack_multipliers(multipliers[plane][s // group_slices][first:first + rows])
                for r in range(first, first + rows, 2):
                    word = 0
                    for half in range(2):
                        row = planes[plane][r + half]
                        for b in range(SLICE_BYTES):
                            at = s * SLICE + b * TRITS
                            word |= pack_trits(row[at:at + TRITS]) << 8 * (4 * half + b)
                    words.append(word)
    return words


def pack_multipliers(multipliers: Sequence[int]) -> list[int]:
    """The multipliers of a tile's rows for a column group: a signed byte a row, eight a 64-bit word, the first lowest.

    A multiplier that is no int8 is a RangeError.
    """
    for multiplier in multipliers:
        I8.check("multiplier", int(multiplier))
    return [sum((m & 0xFF) << 8 * i for i, m in enumerate(multipliers[at:at + MULTIPLIERS_A_WORD]))
            for at in range(0, len(multipliers), MULTIPLIERS_A_WORD)]


def groups_of(cols: int, group_slices: int) -> int:
    """Column groups of a matrix; the last one may have fewer slices."""
    return -(-slices(cols) // group_slices)


def multiplier_words(rows: int) -> int:
    """64-bit words of the multipliers of a tile's rows for a column group."""
    return -(-rows // MULTIPLIERS_A_WORD)


def pack_gains(gains: Sequence[int]) -> list[int]:
    """Norm gains (binary16 patterns) before a step's tiles: four a 64-bit word, the first lowest.

    A gain that is no 16-bit pattern is a RangeError.
    """
    for gain in gains:
        U16.check("gain", int(gain))
    return [sum(g << 16 * i for i, g in enumerate(gains[at:at + 4])) for at in range(0, len(gains), 4)]


def head_row_words(dim: int) -> int:
    """64-bit words of an int8 row."""
    return -(-dim // 8)


def head_block_words(dim: int) -> int:
    """64-bit words of a block of four rows: their stored scales, then the rows."""
    return 1 + HEAD_BLOCK_ROWS * head_row_words(dim)


def pack_head_block(rows: Sequence[Sequence[int]], scales16: Sequence[int]) -> list[int]:
    """64-bit words of up to four int8 rows; missing rows are zero.

    A code that is no int8, or a stored scale of more than 16 bits, is a RangeError.
    """
    if len(rows) > HEAD_BLOCK_ROWS or len(rows) != len(scales16):
        raise ValueError(f"a block has up to {HEAD_BLOCK_ROWS} rows with a scale each, not {len(rows)}")
    for scale in scales16:
        U16.check("stored scale", int(scale))
    for code in (code for row in rows for code in row):
        I8.check("code", int(code))
    words = [sum(s << 16 * i for i, s in enumerate(scales16))]
    dim = len(rows[0])
    for i in range(HEAD_BLOCK_ROWS):
        row = rows[i] if i < len(rows) else [0] * dim
        for at in range(0, dim, 8):
            words.append(sum((v & 0xFF) << 8 * j for j, v in enumerate(row[at:at + 8])))
    return words
