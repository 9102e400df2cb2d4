# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The messages of ports in docs/bring-up.md are those that tellme-host has."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_messages_of_ports():
    page = (ROOT / "docs" / "bring-up.md").read_text("utf-8")
    table = page.partition("## What tellme-host says of a port")[2].partition("\n## ")[0]
    messages = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(messages) >= 16
    folders = (ROOT / "sw" / "tellme" / "link", ROOT / "sw" / "tellme" / "runtime")
    sources = "".join(path.read_text("utf-8") for folder in folders for path in sorted(folder.glob("*.py")))
    # One literal may go over several lines.
    sources = re.sub(r'" *\n *f?"', "", sources)
    for message in messages:
        # Numbers are filled in.
        for part in re.split(r"\bN\b|\bM\b|\b10\b|;", message):
            assert part.strip(" ,") in sources, message
