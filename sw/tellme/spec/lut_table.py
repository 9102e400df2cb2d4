# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""LUT of each unit's terms (:func:`tellme.spec.sizing.lut_terms`); written by ``python -m boards.fit``."""

__all__ = ["LUT"]

LUT: dict[str, dict[str, float]] = {
    "tlmm": {"unit": 631.7, "lane": 429.7, "second row": -225.7},
    "weights": {"unit": 548.0, "block": 8.5},
    "sdram": {"unit": 2631.0},
    "fused": {"compact unit": 7921.0, "unit": 8176.5},
    "attention": {"compact unit": 4768.0, "unit": 2277.5, "head of the group": 1189.5},
    "head": {"compact unit": 1822.0, "unit": 2656.0, "16 rows of codes": 170.0},
    "core": {"compact unit": 2702.0, "accounts": 1435.0, "unit": 2494.0},
    "link": {"unit": 1857.0},
    "top": {"unit": 293.7},
}
