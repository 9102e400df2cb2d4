# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tools.terminal_svg TITLE < TEXT > PICTURE``: a terminal's text as an SVG picture, lines wrapped at 100 characters.

A line that begins with ``$ `` is what a person typed.
"""

import sys
import textwrap
from html import escape

__all__ = ["picture"]

COLUMNS, LINE, LEFT, TOP = 100, 19, 16, 46


def picture(title: str, text: str) -> str:
    """The picture of a text."""
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, COLUMNS, drop_whitespace=False) or [""]]
    width, height = 2 * LEFT + round(8.43 * COLUMNS), TOP + LINE * len(lines) + 8
    rows = "\n".join(
        f'<text x="{LEFT}" y="{TOP + LINE * i}"{" fill=" + chr(34) + "#8fd18f" + chr(34) if line.startswith("$ ") else ""} '
        f'xml:space="preserve">{escape(line)}</text>' for i, line in enumerate(lines))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" role="img" '
            f'aria-label="{escape(title)}">\n'
            f'<rect width="{width}" height="{height}" rx="8" fill="#1d2126"/>\n'
            f'<text x="{width // 2}" y="20" fill="#9aa4ae" text-anchor="middle" font-family="sans-serif" font-size="13">'
            f'{escape(title)}</text>\n'
            f'<g fill="#dfe4e8" font-family="monospace" font-size="14">\n{rows}\n</g>\n</svg>\n')


if __name__ == "__main__":
    sys.stdout.write(picture(sys.argv[1], sys.stdin.read()))
