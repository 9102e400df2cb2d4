# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Embedding and head as int8 rows with a scale a row."""

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import ModelConfig
from tellme.spec.packing import HEAD_CODE
from tellme.spec.ranges import I8
from tellme.spec.scale import SCALE16_BIAS, pack16, scale_from_fraction

__all__ = ["float_rows", "int8_rows", "stored_values", "table_code"]

#: Columns of which a row of floats is hardly ever a row of codes.
COLUMNS_THAT_TELL = 32


def stored_values(stored: NDArray[np.uint16]) -> NDArray[np.float64]:
    """The values of stored scales."""
    bits = stored.astype(np.int64)
    return np.where(bits == 0, 0.0, np.ldexp((1024 + (bits & 0x3FF)).astype(np.float64), (bits >> 10) - SCALE16_BIAS))


def table_code(config: ModelConfig, name: str) -> int:
    """The largest code of a table that is made from floats: HEAD_CODE of the ``head``, and of an ``embedding`` that is the
    head; 127 of an embedding that is not."""
    return HEAD_CODE if name == "head" or config.tied else I8.most


def int8_rows(table: NDArray[np.floating], most: int) -> tuple[NDArray[np.int8], NDArray[np.uint16]]:
    """Rows as int8 with a stored scale each: absmax / ``most``, rounded to a stored scale; codes round(x / scale).

    A row that is int8 already, with codes up to 127 and a stored scale, keeps both: its values do not change.  A row whose codes
    have a common divisor gets the smaller codes, whose values are the same.
    """
    x = table.astype(np.float64)
    codes, stored = _quantised(x, most)
    rows, its_codes, its_scales = _coded(x)
    codes[rows], stored[rows] = its_codes, its_scales
    return codes, stored


def _coded(x: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.int8], NDArray[np.uint16]]:
    """The rows that are codes of int8 times a stored scale, with codes and stored scales: the smallest codes there are."""
    peak = np.abs(x).max(axis=1, initial=0)
    left = np.flatnonzero(peak)
    rows, codes, stored = [np.empty(0, np.intp)], [np.empty((0, x.shape[1]), np.int8)], [np.empty(0, np.uint16)]
    for most in range(1, I8.most + 1):
        # Of most rows some columns tell that they are no multiples.
        times = x[left, :COLUMNS_THAT_TELL] * (most / peak[left, None])
        maybe = left[(np.abs(times - np.rint(times)) < 1e-6).all(axis=1)]
        found = np.array([pack16(scale_from_fraction(float(p) / most)) for p in peak[maybe]], np.uint16)
        value = stored_values(found)[:, None]
        multiples = np.rint(x[maybe] / np.where(value == 0, 1, value))
        exact = (multiples * value == x[maybe]).all(axis=1) & (np.abs(multiples).max(axis=1, initial=0) == most)
        rows.append(maybe[exact])
        codes.append(multiples[exact].astype(np.int8))
        stored.append(found[exact])
        left = np.setdiff1d(left, maybe[exact], assume_unique=True)
    return np.concatenate(rows), np.concatenate(codes), np.concatenate(stored)


def _quantised(x: NDArray[np.float64], most: int) -> tuple[NDArray[np.int8], NDArray[np.uint16]]:
    """Codes of up to ``most``, and stored scales."""
    peak = np.abs(x).max(axis=1, initial=0)
    stored = np.array([pack16(scale_from_fraction(float(p) / most)) for p in peak], np.uint16)
    value = stored_values(stored)
    codes = np.rint(x / np.where(value == 0, 1, value)[:, None])
    return np.clip(codes, -most, most).astype(np.int8), stored


def float_rows(codes: NDArray[np.int8], stored: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The values of int8 rows: exact, as code and scale have 19 bits together."""
    return (codes * stored_values(stored)[:, None]).astype(np.float32)
