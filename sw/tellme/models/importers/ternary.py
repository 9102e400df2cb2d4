# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""From the tensors of checkpoints to ternary codes and scales, a part of the rows at a time."""

from collections.abc import Callable, Iterator
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import ModelError
from tellme.models.importers.tensors import Tensors
from tellme.models.source import Block, Linear, row_chunks
from tellme.spec.scale import Scale, scale_from_fraction

__all__ = ["WAY_OUT", "FloatWeightsError", "from_absmean", "from_codes", "from_packed", "from_values", "halves_to_pairs",
           "not_ternary", "pairs_to_halves", "positive_scales", "row_blocks"]

Rows = NDArray[np.float32]

#: What to do about a float checkpoint.
WAY_OUT = ("This is a float checkpoint: rounding it to -1, 0, 1 would leave noise. Take a checkpoint that was trained "
           "as ternary (BitNet b1.58, TriLM, Falcon 1.58bit), train this one to ternary first (quantisation-aware, "
           "with an RMSNorm ahead of every linear), or quantise it to several planes (Hugging Face folders and GGUF files)")


class FloatWeightsError(ModelError):
    """A matrix that is not ternary."""


def halves_to_pairs(rows: NDArray, head_dim: int) -> NDArray:
    """Reorder the rows of whole heads from RoPE on pairs (t, t + head_dim / 2) to RoPE on adjacent pairs (2t, 2t + 1)."""
    return rows.reshape(-1, 2, head_dim // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def pairs_to_halves(rows: NDArray, head_dim: int) -> NDArray:
    """The inverse of :func:`halves_to_pairs`."""
    return rows.reshape(-1, head_dim // 2, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def row_blocks(name: str, magnitudes: NDArray[np.floating]) -> tuple[Block, ...]:
    """Blocks of rows with the same scale; a row of zeros goes with the row before it."""
    known = np.flatnonzero(magnitudes)
    if not known.size:
        raise ModelError(f"{name} is all zeros: no scale can be found")
    before = np.searchsorted(known, np.arange(len(magnitudes)), side="right") - 1
    filled = magnitudes[known[np.maximum(before, 0)]]
    found: dict[float, Scale] = {float(m): scale_from_fraction(float(m)) for m in np.unique(filled)}
    return tuple(Block(sum(1 for _ in rows), scale) for scale, rows in groupby(found[float(m)] for m in filled))


def positive_scales(name: str, scales: NDArray[np.floating], rows: int) -> NDArray[np.float64]:
    """A scale for each row, from a tensor with one scale, or with one scale for each of several equal blocks of rows.

    Further dimensions of the tensor must be 1: (1, 1) is one scale, (rows, 1) is one per row.  Dimensions of 1 in front would
    mean scales of columns, and are refused.
    """
    if scales.dtype.kind != "f":
        raise ModelError(f"{name} is {scales.dtype}; a scale is a floating-point number")
    if any(n != 1 for n in scales.shape[1:]):
        raise ModelError(f"{name} has shape {scales.shape}; one scale is wanted, or one for each row or block of rows")
    flat = scales.astype(np.float64).reshape(-1)
    if not (np.isfinite(flat) & (flat > 0)).all():
        bad = flat[~(np.isfinite(flat) & (flat > 0))][0]
        raise ModelError(f"{name} is {bad}; a positive finite number is wanted")
    if not flat.size or rows % flat.size:
        raise ModelError(f"{name} has {flat.size} values for {rows} rows")
    return np.repeat(flat, rows // flat.size)


def _finite(name: str, part: Rows) -> Rows:
    if not np.isfinite(part).all():
        raise ModelError(f"{name} holds an infinity or NaN")
    return part


def not_ternary(name: str, row: Rows) -> FloatWeightsError:
    """The error about a row of floats."""
    return FloatWeightsError(f"{name} is not ternary: a row of it holds {len(np.unique(np.abs(row[row != 0])))} different "
                             f"magnitudes. {WAY_OUT}", hint="quantise")


def _magnitudes(name: str, part: Rows) -> Rows:
    """The one magnitude of each row's weights, 0 for a row of zeros."""
    size = np.abs(part)
    top = size.max(axis=1)
    low = np.where(size == 0, np.inf, size).min(axis=1)
    odd = np.flatnonzero((top != low) & (top != 0))
    if odd.size:
        raise not_ternary(name, part[odd[0]])
    return top


def from_values(tensors: Tensors, name: str, *, head_dim: int = 0, times: float = 1.0,
                bias: NDArray[np.float16] | None = None) -> Linear:
    """A linear from weights that are 0 or plus or minus the magnitude of their row; ``times`` multiplies the magnitudes.

    ``head_dim`` other than 0: RoPE's halves become adjacent pairs.
    """
    rows, cols = tensors.shape(name)
    found: list[Rows] = []

    def chunks() -> Iterator[NDArray[np.int8]]:
        found.clear()
        for first, end in row_chunks(rows, cols, head_dim or 1):
            part = _finite(name, tensors.rows(name, first, end).astype(np.float32))
            found.append(_ordered(_magnitudes(name, part), head_dim))
            yield _ordered(np.sign(part).astype(np.int8), head_dim)

    return Linear((rows, cols), chunks, lambda: row_blocks(name, np.concatenate(found).astype(np.float64) * times), bias)


def _ordered(rows: NDArray, head_dim: int) -> NDArray:
    return halves_to_pairs(rows, head_dim) if head_dim else rows


def from_packed(tensors: Tensors, name: str, scales: NDArray[np.float64], *, head_dim: int = 0,
                bias: NDArray[np.float16] | None = None) -> Linear:
    """A linear with four rows in a byte: bits 2i and 2i + 1 of byte row r hold row r + i * (rows / 4), as the code plus 1.

    ``scales`` has the scale of each row in the checkpoint's order.
    """
    quarter, cols = tensors.shape(name)
    rows = 4 * quarter

    def chunks() -> Iterator[NDArray[np.int8]]:
        packed = tensors.whole(name)
        for first, end in row_chunks(rows, cols, head_dim or 1):
            at = _ordered(np.arange(first, end), head_dim)
            digits = packed[at % quarter] >> (2 * (at // quarter)).astype(np.uint8)[:, None] & 3
            if digits.max() == 3:
                raise ModelError(f"{name} holds the code 3, which is no weight")
            yield digits.astype(np.int8) - 1

    return Linear((rows, cols), chunks, lambda: row_blocks(name, _ordered(scales, head_dim)), bias)


def from_codes(tensors: Tensors, name: str, scales: NDArray[np.float64], *, head_dim: int = 0,
               bias: NDArray[np.float16] | None = None) -> Linear:
    """A linear from the numbers -1, 0 and 1, alone or with their scale multiplied in; ``scales`` has one scale for each row, in
    the checkpoint's order."""
    rows, cols = tensors.shape(name)

    def chunks() -> Iterator[NDArray[np.int8]]:
        for first, end in row_chunks(rows, cols, head_dim or 1):
            part = _finite(name, tensors.rows(name, first, end).astype(np.float32))
            size, scale = np.abs(part), scales[first:end, None]
            odd = np.argwhere((size != 0) & (size != 1) & (np.abs(size - scale) > 0.01 * scale))
            if odd.size:
                row, col = (int(n) for n in odd[0])
                raise ModelError(f"{name}: row {first + row} holds a code outside -1, 0, 1: {part[row, col]:g}, and the "
                                 f"scale beside it is {scales[first + row]:g}")
            yield _ordered(np.sign(part).astype(np.int8), head_dim)

    return Linear((rows, cols), chunks, lambda: row_blocks(name, _ordered(scales, head_dim)), bias)


def from_absmean(tensors: Tensors, name: str, *, head_dim: int = 0, bias: NDArray[np.float16] | None = None,
                 say: Callable[[str], None]) -> Linear:
    """A linear whose model makes the weights ternary each time it runs: g = mean |W|, round(W / g) within -1 and 1.

    Weights that are ternary already are taken unchanged, and ``say`` hears of that.
    """
    rows, cols = tensors.shape(name)
    total, tops, ternary = 0.0, np.zeros(0, np.float32), True
    for first, end in row_chunks(rows, cols):
        size = np.abs(_finite(name, tensors.rows(name, first, end).astype(np.float32)))
        total += float(size.sum(dtype=np.float64))
        if ternary:
            tops = np.unique(np.concatenate([tops, np.unique(size[size != 0])[:3]]))
            ternary = len(tops) <= 1
    if ternary:
        say(f"{name} is ternary already")
        return from_values(tensors, name, head_dim=head_dim, bias=bias)
    inverse = np.float32(1) / np.float32(max(total / (rows * cols), 1e-5))

    def chunks() -> Iterator[NDArray[np.int8]]:
        for first, end in row_chunks(rows, cols, head_dim or 1):
            part = tensors.rows(name, first, end).astype(np.float32)
            yield _ordered(np.clip(np.rint(part * inverse), -1, 1).astype(np.int8), head_dim)

    return Linear((rows, cols), chunks, lambda: (Block(rows, scale_from_fraction(float(1 / inverse))),), bias)
