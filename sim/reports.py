# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Reports of several measurements in one file, each with how it was obtained."""

import json
import subprocess
from pathlib import Path
from typing import Any

from sim import checkout
from tellme.errors import InputError
from tellme.models.writing import whole_file

__all__ = ["commit", "keep", "kept"]


def commit() -> str:
    """The commit that the checkout is at, with a + if files differ from it; "unknown" outside of a checkout."""
    try:
        found = checkout.commit()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found[:12] + "+" * found.endswith("+")


def kept(path: Path) -> dict[str, Any]:
    """What a file of reports holds, by their names; nothing if it is not there.  Another file is an InputError."""
    if not path.exists():
        return {}
    try:
        held = json.loads(path.read_text())
    except ValueError:
        held = None
    if not isinstance(held, dict) or not all(isinstance(report, dict) and "how" in report for report in held.values()):
        raise InputError(f"{path} is there and is no file of such reports; name another file")
    return held


def keep(path: Path, name: str, report: dict[str, Any], how: str) -> None:
    """Put a report into a file, in the place of the one of the same name; the others stay."""
    held = kept(path)
    held[name] = {"how": how, "commit": commit(), **report}
    with whole_file(path) as scratch:
        scratch.write_text(json.dumps(dict(sorted(held.items())), indent=2) + "\n")
