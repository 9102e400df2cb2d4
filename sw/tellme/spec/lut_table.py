# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""LUT of each unit's terms (:func:`tellme.spec.sizing.lut_terms`); written by ``python -m boards.fit``."""

__all__ = ["LUT"]

LUT: dict[str, dict[str, float]] = {
    "tlmm": {
        "unit": 666.0,
        "lane": 395.5,
        "second row": -123.0,
        "second drain": 38.0,
    },
    "attention": {
        "chunk unit": 2652.0,
        "PE": 631.2,
        "softmax unit": 1253.0,
        "compact unit": 4768.0,
        "unit": 2277.5,
        "head of the group": 1189.5,
    },
    "weights": {
        "unit": 548.0,
        "block": 8.5,
    },
    "sdram": {
        "unit": 2628.5,
    },
    "fused": {
        "compact unit": 7921.0,
        "unit": 8176.5,
        "chunk unit": 8606.0,
    },
    "head": {
        "compact unit": 1822.0,
        "unit": 2709.5,
        "16 rows of codes": 143.2,
    },
    "core": {
        "compact unit": 2702.0,
        "accounts": 1435.0,
        "unit": 2494.0,
        "chunk unit": 2737.0,
    },
    "link": {
        "unit": 1802.8,
    },
    "top": {
        "unit": 293.7,
        "second pipeline": -104.7,
    },
}
