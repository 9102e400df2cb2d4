# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tellme: a ternary language model on a small FPGA; host software, specification and golden model."""

__version__ = "0.1.0"
