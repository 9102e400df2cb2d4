# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Lanes that were measured beside the engine's own (docs/dse.md); no core has them."""
