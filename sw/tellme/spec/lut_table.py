# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""LUT of each unit's terms (:func:`tellme.spec.sizing.lut_terms`); written by ``python -m boards.fit``."""

__all__ = ["LUT"]

LUT: dict[str, dict[str, float]] = {
}
