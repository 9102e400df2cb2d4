# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Boards: one file each, and what their tops share (``top``, ``core``)."""
