# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Where a file may be written."""

from pathlib import Path

from tellme.models.model import ModelError

__all__ = ["check_target"]


def check_target(target: Path, what: str) -> None:
    """Refuse a place that cannot be written, before the work is done."""
    if target.is_dir():
        raise ModelError(f"{target} is a folder; give the name of the {what} to write")
    if not target.parent.is_dir():
        raise ModelError(f"there is no folder {target.parent} to write {target.name} to")
