# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A file with all that a host writes into a board before a run, for hosts that do not compile models themselves.

The file is HEADER, then ``pieces`` times PIECE and the piece's bytes, whole words.  All is little-endian.  A host writes each
piece at its address, in the order of the file.
"""

from struct import Struct

from tellme.spec.packets import NAME_BYTES

__all__ = ["HEADER", "MAGIC", "PIECE"]

#: The first bytes of the file.
MAGIC = b"tlmi"
#: Magic, version of the format (tellme.spec.program.FORMAT_VERSION), number of pieces, name of the preset (zero padded).  Both
#: the version and the preset have to be those of HELLO's answer.
HEADER = Struct(f"<4sHH{NAME_BYTES}s")
#: Address (tellme.spec.memory), bytes.
PIECE = Struct("<II")
