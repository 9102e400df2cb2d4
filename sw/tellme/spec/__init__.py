# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The numeric and binary contract of tellme: pure Python integers, neither NumPy nor Amaranth.

Gateware, golden model, compiler, host and tests all import these modules, so that each format, table and layout is
written down once.
"""
