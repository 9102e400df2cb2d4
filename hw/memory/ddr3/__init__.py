# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A DDR3 chip of 16 bits: the controller, and the cut between the controller and a PHY."""
