# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What git knows of the checkout: the records of runs name the commit that they are of."""

import subprocess
from pathlib import Path

__all__ = ["ROOT", "commit", "git"]

ROOT = Path(__file__).resolve().parents[1]


def git(*arguments: str, root: Path = ROOT) -> str:
    """What ``git`` prints in ``root``.  Raises OSError without git, subprocess.CalledProcessError outside of a checkout."""
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def commit(*paths: str, untracked: bool = False) -> str:
    """The commit that the checkout is at, 40 digits; a + behind them says that a file below ``paths`` differs from it.

    Without ``paths`` any file counts.  Files that git does not track count with ``untracked`` alone.
    """
    files = "all" if untracked else "no"
    return git("rev-parse", "HEAD") + "+" * bool(git("status", "--porcelain", f"--untracked-files={files}", "--", *paths))
