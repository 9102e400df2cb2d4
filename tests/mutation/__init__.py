# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Mutants of the gateware by rule, a sample of which the testbenches must kill: ``python -m tests.mutation``."""
