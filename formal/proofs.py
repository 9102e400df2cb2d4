# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""All proofs."""

from formal import chips, memory, streams

__all__ = ["PROOFS"]

PROOFS = (*streams.PROOFS, *memory.PROOFS, *chips.PROOFS)
