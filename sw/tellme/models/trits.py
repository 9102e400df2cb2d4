# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Rows of codes as base-3 bytes, and back.

A row of ternary codes is its bytes.  A row of codes of several planes, integers in balanced ternary, is the bytes of each plane,
that of 3**0 first: rows of one plane are an array (rows, bytes), rows of more are (rows, planes, bytes).
"""

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import ModelError
from tellme.spec.packing import MAX_LINEAR_PLANES, SLICE_BYTES, TRITS, ZERO_BYTE, plane_reach, slices

__all__ = ["check_packed", "check_planes", "pack_rows", "packed_cols", "packed_shape", "unpack_rows"]

#: The five codes of each byte that is one.
_CODES = (np.arange(3**TRITS)[:, None] // 3 ** np.arange(TRITS) % 3 - 1).astype(np.int8)


def packed_cols(cols: int) -> int:
    """Bytes of a row's plane."""
    return slices(cols) * SLICE_BYTES


def packed_shape(rows: int, cols: int, planes: int = 1) -> tuple[int, ...]:
    """Shape of packed rows."""
    return (rows, packed_cols(cols)) if planes == 1 else (rows, planes, packed_cols(cols))


def check_planes(name: str, planes: int) -> None:
    """Refuse a number of planes that no matrix has."""
    if not 1 <= planes <= MAX_LINEAR_PLANES:
        raise ModelError(f"{name} has {planes} planes; 1 to {MAX_LINEAR_PLANES} can be")


def pack_rows(weights: NDArray[np.int8], planes: int = 1) -> NDArray[np.uint8]:
    """Rows of base-3 bytes, padded to whole slices; the codes are those that the planes hold."""
    if planes > 1:
        # The digits of code + reach in base 3 are the trits + 1.
        rest = weights.astype(np.int16) + plane_reach(planes)
        return np.stack([pack_rows((rest // 3**plane % 3 - 1).astype(np.int8)) for plane in range(planes)], axis=1)
    rows, cols = weights.shape
    digits = np.ones((rows, packed_cols(cols) * TRITS), np.uint8)
    digits[:, :cols] = weights + 1
    grouped = digits.reshape(rows, -1, TRITS)
    packed = grouped[..., TRITS - 1].copy()
    for j in range(TRITS - 2, -1, -1):
        packed *= 3
        packed += grouped[..., j]
    return packed


def check_packed(name: str, packed: NDArray[np.uint8], shape: tuple[int, int], planes: int = 1) -> None:
    """Refuse another shape than packed rows of ``shape`` have, bytes that are no base-3 code, and padding that is not zero."""
    rows, cols = shape
    wanted = packed_shape(rows, cols, planes)
    if packed.shape != wanted or packed.dtype != np.uint8:
        raise ModelError(f"{name} is {packed.dtype} of shape {packed.shape}; {rows} x {cols} weights"
                         f"{f' of {planes} planes' * (planes > 1)} want uint8 of {wanted}")
    if packed.max() >= 3**TRITS:
        raise ModelError(f"{name} holds byte {packed.max()}, which is no base-3 code")
    first, inside = divmod(cols, TRITS)
    if _CODES[packed[..., first:]].reshape(rows, planes, -1)[..., inside:].any():
        raise ModelError(f"{name}: the padding behind column {cols} is not zero (byte {ZERO_BYTE})")


def unpack_rows(name: str, packed: NDArray[np.uint8], shape: tuple[int, int], planes: int = 1) -> NDArray[np.int8]:
    """The codes of packed rows, after :func:`check_packed`."""
    check_packed(name, packed, shape, planes)
    rows, cols = shape
    if planes == 1:
        return np.ascontiguousarray(_CODES[packed].reshape(rows, -1)[:, :cols])
    codes = np.zeros(shape, np.int8)
    for plane in reversed(range(planes)):
        codes *= 3
        codes += _CODES[packed[:, plane]].reshape(rows, -1)[:, :cols]
    return codes
