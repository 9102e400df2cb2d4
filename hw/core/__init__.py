# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Command processor: the layer program, the address space, counters and step CRCs."""
