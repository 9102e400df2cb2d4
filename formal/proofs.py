# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""All proofs."""

from formal import chips, hub, link, memory, numbers, packets, streams, vectors, weights

__all__ = ["PROOFS"]

PROOFS = (*streams.PROOFS, *memory.PROOFS, *hub.PROOFS, *weights.PROOFS, *link.PROOFS, *packets.PROOFS, *chips.PROOFS,
          *numbers.PROOFS, *vectors.PROOFS)
