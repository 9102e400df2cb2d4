# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Measurements behind the choices: kinds of lanes, what nextpnr packs, and the analytic model fitted to that."""
