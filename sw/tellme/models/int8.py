# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Embedding and head as int8 rows with a scale a row."""

import numpy as np
from numpy.typing import NDArray

from tellme.spec.scale import SCALE16_BIAS, pack16, scale_from_fraction

__all__ = ["float_rows", "int8_rows", "stored_values"]


def stored_values(stored: NDArray[np.uint16]) -> NDArray[np.float64]:
    """The values of stored scales."""
    bits = stored.astype(np.int64)
    return np.where(bits == 0, 0.0, np.ldexp((1024 + (bits & 0x3FF)).astype(np.float64), (bits >> 10) - SCALE16_BIAS))


def int8_rows(table: NDArray[np.floating]) -> tuple[NDArray[np.int8], NDArray[np.uint16]]:
    """Rows as int8 with a stored scale each: absmax / 127, rounded to a stored scale; codes round(x / scale)."""
    x = table.astype(np.float64)
    peak = np.abs(x).max(axis=1)
    stored = np.array([pack16(scale_from_fraction(float(p) / 127)) for p in peak], np.uint16)
    value = stored_values(stored)
    codes = np.rint(x / np.where(value == 0, 1, value)[:, None])
    return np.clip(codes, -127, 127).astype(np.int8), stored


def float_rows(codes: NDArray[np.int8], stored: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The values of int8 rows: exact, as code and scale have 19 bits together."""
    return (codes * stored_values(stored)[:, None]).astype(np.float32)
