# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The golden model: NumPy, bit for bit what the gateware computes."""

from tellme.golden.board import GoldenBoard, NonfiniteError

__all__ = ["GoldenBoard", "NonfiniteError"]
