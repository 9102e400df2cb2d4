# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""LUT of each unit's terms (:func:`tellme.spec.sizing.lut_terms`); written by ``python -m boards.study.fit``."""

__all__ = ["LUT"]

#: Unit -> term -> LUT a unit of the term.
LUT: dict[str, dict[str, float]] = {
    "tlmm": {
        "unit": 662.3,
        "lane": 394.8,
        "second row": -113.3,
        "second drain": -0.5,
        "planes of a lane": 56.7,
        "row words of a drain": 113.5,
        "multipliers": 261.3,
        "multipliers of a lane": 2.3,
    },
    "attention": {
        "compact unit": 4258.0,
        "chunk unit": 2688.0,
        "PE": 617.9,
        "softmax unit": 1326.3,
        "wide PE": 1570.2,
        "unit": 2337.0,
        "head of the group": 1156.0,
    },
    "lm_head": {
        "unit": 1900.0,
        "compact unit": 1143.0,
        "chunk unit": 2156.5,
    },
    "fused": {
        "unit": 8094.5,
        "biases": 44.0,
        "compact unit": 7785.0,
        "chunk unit": 8684.5,
    },
    "core": {
        "chunk unit": 3788.0,
        "accounts": 888.0,
        "slots": 778.7,
        "slot": 27.7,
        "drafts": 704.0,
        "compact unit": 2701.0,
        "unit": 2624.0,
    },
    "weights": {
        "unit": 552.3,
        "block": 11.3,
    },
    "sdram": {
        "unit": 2612.2,
    },
    "link": {
        "unit": 1922.2,
    },
    "top": {
        "unit": 258.0,
        "second pipeline": 79.0,
    },
}
