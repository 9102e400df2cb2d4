# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tests.mutation.elaborate NAME...``: digests of the Verilog that benches and cores are made of.

Internal to :mod:`tests.mutation`, which runs it in a copy of the checkout.  A NAME is a bench, such as lib/streams-skid, or
core:PRESET.  Standard input is a JSON object of digests by name.  A line of JSON a name, ``{"name", "digest"}``, until a digest
is not that of the object; a name that the object has not does not end the run.  An exception ends the run with exit code 1.
"""

import hashlib
import json
import sys
from pathlib import Path

from sim.run_tests import discover

ROOT = Path(__file__).resolve().parents[2]
#: What a preset of a board is called before its name.
CORE = "core:"


def digest(name: str) -> str:
    """Of all Verilog of a bench or of a preset's core."""
    from hw.verilog import to_verilog

    if name.startswith(CORE):
        from hw.top import Core
        from tellme.spec.config import preset

        files = {"": to_verilog(Core(preset(name.removeprefix(CORE))), "core")}
    else:
        # A bench's name ends its file's name at a hyphen, and so does discover's rule of what may match.
        [bench] = [job.bench for job in discover(ROOT / "tests" / "hw", [f"{name}."]) if job.name == name]
        if bench.sources is not None:
            files = bench.sources()
        else:
            assert bench.build is not None
            files = {"": to_verilog(bench.build(), "dut")}
    return hashlib.sha256("\0".join(part for file in sorted(files.items()) for part in file).encode()).hexdigest()[:20]


def main() -> int:
    known = json.loads(sys.stdin.read())
    for name in sys.argv[1:]:
        found = digest(name)
        print(json.dumps({"name": name, "digest": found}), flush=True)
        if known.get(name, found) != found:
            break
    return 0


if __name__ == "__main__":
    sys.exit(main())
