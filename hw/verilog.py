# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Verilog of the core, the same bytes for the same sources, and its hash.

``python -m hw.verilog --preset NAME -o FILE`` writes it.  Simulated board and bitstream build both take the file from
:func:`core_verilog`, so that their core_sha256 can be compared.
"""

import argparse
import gc
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["core_sha256", "core_verilog", "source_key", "to_verilog", "uncollected"]

ROOT = Path(__file__).resolve().parent.parent


def source_key(*extra: str) -> str:
    """Hash of everything that the Verilog depends on: gateware, specification, the version of Amaranth."""
    from importlib.metadata import version

    digest = hashlib.sha256()
    for folder in ("hw", "sw/tellme/spec"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    for text in (version("amaranth"), *extra):
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:20]


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection within the block, for elaborations.

    Amaranth makes millions of small objects for a core and keeps them to the end.  The collector walks through all of them over
    and over and finds nothing: a third to a half of the CPU seconds of an elaboration (9.1 and 6.2, 11.5 and 5.5 in one run).
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def to_verilog(component: Any, name: str) -> str:
    """A component's Verilog, whole: with the adder that Amaranth cannot say, where it is used; and the same in every
    checkout: without the places in the sources that Amaranth gives to memories."""
    from amaranth.back import verilog

    from hw.tlmm.carry import ADD_MODULE, ADD_VERILOG

    with uncollected():
        text = verilog.convert(component, name=name, strip_internal_attrs=True)
    text = re.sub(r'^ *\(\* src = "[^"]*" \*\)\n', "", text, flags=re.M)
    return text + ADD_VERILOG if ADD_MODULE in text else text


def core_verilog(preset: str) -> Path:
    """Path of the preset's Verilog below build/verilog; made if the sources changed."""
    folder = ROOT / "build" / "verilog" / f"{preset}-{source_key(preset)}"
    target = folder / "core.v"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # A process of its own, for the hash seed: the order of names in the output must not depend on it.
        env = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "sw")])}
        scratch = folder / f"core.v.{os.getpid()}"
        subprocess.run([sys.executable, "-m", "hw.verilog", "--preset", preset, "-o", str(scratch)], check=True,
                       cwd=ROOT, env=env, stdout=sys.stderr)
        scratch.replace(target)
    return target


def core_sha256(path: Path) -> str:
    """Hash that names a core: of its Verilog."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hw.verilog", description="Write the core's Verilog.")
    parser.add_argument("--preset", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    from hw.top import Core
    from tellme.spec.config import preset

    args.output.write_text(to_verilog(Core(preset(args.preset)), "core"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
