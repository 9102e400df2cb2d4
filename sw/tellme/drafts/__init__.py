# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Drafted tokens: guesses of the next tokens, which a pass of the model verifies (docs/decisions/0018-tokens-a-byte.md)."""
