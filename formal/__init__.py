# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Proofs about units of the gateware: ``python -m formal.run``; docs/testing.md says how to read them."""
