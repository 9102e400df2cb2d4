# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The simulated board: the verilated core and an SDRAM chip model, reached through a byte pipe."""
