# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Errors of a file that show before the content is read: links to nothing, and git-lfs pointers in place of files."""

import os
from pathlib import Path

from tellme.models.config import ModelError

__all__ = ["check_file", "check_regular", "explain_file", "is_there", "printable"]

#: git-lfs leaves a small text file in place of a file that was not fetched: how such a file begins, and its largest size.
_LFS_START, _LFS_BYTES = b"version https://git-lfs.github.com/spec/", 1024


def explain_file(path: Path) -> str | None:
    """Why a path is not the file that its name promises, and what to do about it; None if no such reason is known."""
    try:
        if path.is_symlink() and not path.exists():
            return (f"{path} is a symbolic link to {os.readlink(path)}, which is not there: the download was not finished, or "
                    "its files were moved; download the model again")
        if path.is_file() and path.stat().st_size <= _LFS_BYTES and path.read_bytes().startswith(_LFS_START):
            return f"{path} is a git-lfs pointer, not the file itself: fetch the file with git lfs pull"
    except OSError as error:
        return f"cannot read {path}: {error.strerror}"
    return None


def check_file(path: Path) -> None:
    """Refuse what :func:`explain_file` explains."""
    why = explain_file(path)
    if why is not None:
        raise ModelError(why)


def check_regular(path: Path) -> None:
    """The same for a file that is read in any order: a pipe or a device is refused too."""
    check_file(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ModelError(f"{path} is neither a file nor a folder")


def is_there(path: Path) -> bool:
    """Whether a file is there; a link to nothing and a git-lfs pointer are refused."""
    check_file(path)
    return path.is_file()


def printable(text: str) -> str:
    """A file name as text that every output takes: bytes that are no UTF-8 become replacement marks."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
