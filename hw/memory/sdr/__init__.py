# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The controller for one 16-bit SDR SDRAM, with what starts it, and its PHY."""
