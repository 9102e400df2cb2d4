# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""How ternary weights and int8 tables lie in memory, in the order in which the gateware eats them.

Weights are base-3 bytes, five trits each: byte = sum((w_j + 1) * 3**j), 243..255 invalid.  A matrix of N rows and K
columns is cut into tiles of up to TILE_ROWS rows, or as many as a board takes; a tile is a 64-bit header and then slices
of SLICE columns; a slice is its rows in order, SLICE_BYTES each.  K is padded to a whole slice with zero trits (byte 121),
as are the activations with zeros; a byte is one lookup of three trits and one of two, so a width that is no multiple of
either group needs no other tail.  Row counts are even: a 64-bit word holds two rows of a slice, the even one in its low
half.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tellme.spec.program import FORMAT_VERSION, FormatError
from tellme.spec.ranges import I8, U8, U16, Range
from tellme.spec.scale import SCALE_EXP_BITS, SCALE_SIG_BITS, Scale
from tellme.spec.words import ZEROS, pack_word, unpack_word

__all__ = ["HEAD_BLOCK_ROWS", "LEAST_STEPS", "SLICE", "SLICE_BYTES", "TILE_HEADER_FIELDS", "TILE_HEADER_ROWS", "TILE_ROWS",
           "TRITS", "ZERO_BYTE", "TileHeader", "head_block_words", "head_row_words", "matrix_words", "pack_gains",
           "pack_head_block", "pack_matrix", "pack_trits", "slices", "tile_rows", "unpack_trits"]

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
#: Rows of a block of the LM head: their bytes lie column by column.
HEAD_BLOCK_ROWS = 4
#: The word before a tile: widths of its fields, from bit 0 on.
TILE_HEADER_FIELDS = {"scale": SCALE_SIG_BITS + SCALE_EXP_BITS, "rows": 8, "odd_scale": SCALE_SIG_BITS + SCALE_EXP_BITS,
                      "scale_words": 8, ZEROS: 10}
#: Rows that a tile's header can say.
TILE_HEADER_ROWS = Range(1, U8.most)


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


class TileHeader(NamedTuple):
    """The 64-bit word before a tile.

    Scale of the even rows: sig [10:0], exp [18:11] signed; rows [26:19]; scale of the odd rows: sig [37:27], exp
    [45:38] signed; 64-bit words of scales that follow the header [53:46]; zeros above.  The two scales differ where gate and up
    rows alternate.  Format 2 has no words of scales: a header says 0.
    """

    scale: Scale
    rows: int
    odd_scale: Scale

    def pack(self) -> int:
        """The word; rows or a scale that it cannot hold are a RangeError."""
        TILE_HEADER_ROWS.check("rows of a tile", self.rows)
        return pack_word(TILE_HEADER_FIELDS, {"scale": self.scale.pack(), "rows": self.rows, "odd_scale": self.odd_scale.pack()})

    @classmethod
    def unpack(cls, word: int) -> "TileHeader":
        """The header of a word; one with words of scales, or with bits above them, is a FormatError."""
        f = unpack_word(TILE_HEADER_FIELDS, word)
        if f["scale_words"] or f[ZEROS]:
            what = f"{f['scale_words']} words of scales behind it" if f["scale_words"] else "bits above its fields"
            raise FormatError(f"the header {word:016x} of a tile has {what}, which format {FORMAT_VERSION} does not know: the "
                              "weights are of a later format, or damaged")
        return cls(Scale.unpack(f["scale"]), f["rows"], Scale.unpack(f["odd_scale"]))


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


def matrix_words(rows: int, cols: int) -> int:
    """64-bit words of a packed matrix, headers included."""
    return -(-rows // TILE_ROWS) + rows // 2 * slices(cols)


def pack_matrix(weights: Sequence[Sequence[int]], scale: Scale, odd_scale: Scale | None = None, *, most: int = TILE_ROWS,
                least: int = 0) -> list[int]:
    """64-bit words of a matrix: plain reference (the compiler packs with NumPy and is tested against this).

    ``odd_scale`` is the scale of the odd rows where it is not that of the even ones; tiles as :func:`tile_rows` says.
    """
    if len(weights) % 2:
        raise ValueError(f"{len(weights)} rows: a packed matrix has an even number")
    cols = len(weights[0])
    words = []
    for first, rows in tile_rows(len(weights), most=most, least=least):
        words.append(TileHeader(scale, rows, odd_scale or scale).pack())
        for s in range(slices(cols)):
            for r in range(first, first + rows, 2):
                word = 0
                for half in range(2):
                    row = weights[r + half]
                    for b in range(SLICE_BYTES):
                        at = s * SLICE + b * TRITS
                        word |= pack_trits(row[at:at + TRITS]) << 8 * (4 * half + b)
                words.append(word)
    return words


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
