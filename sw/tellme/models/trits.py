# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Rows of ternary codes as base-3 bytes, and back."""

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import ModelError
from tellme.spec.packing import SLICE_BYTES, TRITS, ZERO_BYTE, slices

__all__ = ["check_packed", "pack_rows", "packed_cols", "unpack_rows"]

#: The five codes of each byte that is one.
_CODES = (np.arange(3**TRITS)[:, None] // 3 ** np.arange(TRITS) % 3 - 1).astype(np.int8)


def packed_cols(cols: int) -> int:
    """Bytes of a row."""
    return slices(cols) * SLICE_BYTES


def pack_rows(weights: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Rows of base-3 bytes, padded to whole slices."""
    rows, cols = weights.shape
    digits = np.ones((rows, packed_cols(cols) * TRITS), np.uint8)
    digits[:, :cols] = weights + 1
    grouped = digits.reshape(rows, -1, TRITS)
    packed = grouped[..., TRITS - 1].copy()
    for j in range(TRITS - 2, -1, -1):
        packed *= 3
        packed += grouped[..., j]
    return packed


def check_packed(name: str, packed: NDArray[np.uint8], shape: tuple[int, int]) -> None:
    """Refuse another shape than packed rows of ``shape`` have, bytes that are no base-3 code, and padding that is not zero."""
    rows, cols = shape
    if packed.shape != (rows, packed_cols(cols)) or packed.dtype != np.uint8:
        raise ModelError(f"{name} is {packed.dtype} of shape {packed.shape}; {rows} x {cols} weights want uint8 of "
                         f"{(rows, packed_cols(cols))}")
    if packed.max() >= 3**TRITS:
        raise ModelError(f"{name} holds byte {packed.max()}, which is no base-3 code")
    first, inside = divmod(cols, TRITS)
    if _CODES[packed[:, first:]].reshape(rows, -1)[:, inside:].any():
        raise ModelError(f"{name}: the padding behind column {cols} is not zero (byte {ZERO_BYTE})")


def unpack_rows(name: str, packed: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.int8]:
    """The codes of packed rows, after :func:`check_packed`."""
    check_packed(name, packed, shape)
    rows, cols = shape
    return np.ascontiguousarray(_CODES[packed].reshape(rows, -1)[:, :cols])
