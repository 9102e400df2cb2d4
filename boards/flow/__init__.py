# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""From a core to a bitstream on a board: synthesis, placement, reports, loading; and what one unit costs."""
