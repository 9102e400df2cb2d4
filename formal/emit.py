# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m formal.emit NAME FILE``: a proof's harness as RTLIL, from the gateware that Python finds; prints its numbers of
properties and of covers.  A process of its own, so that a fault can be planted in a copy of the gateware."""

import sys
from pathlib import Path

from formal.proofs import PROOFS

if __name__ == "__main__":
    name, file = sys.argv[1:]
    [proof] = [proof for proof in PROOFS if proof.name == name]
    harness = proof.build()
    Path(file).write_text(harness.rtlil())
    print(harness.asserts, harness.covers)
