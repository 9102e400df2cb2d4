# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Boards, sessions and generation: what a program uses to run a model; the command line is one such program."""
