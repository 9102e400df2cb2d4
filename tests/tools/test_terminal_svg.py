# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The picture of a terminal is SVG that holds the text."""

from xml.etree import ElementTree

from tools.terminal_svg import COLUMNS, picture


def test_all_text_is_there():
    text = "$ make demo\n" + "a <b> & c " * 20 + "\n\nend"
    root = ElementTree.fromstring(picture("A & B", text))
    title, *rows = [node.text or "" for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert title == "A & B" and root.attrib["aria-label"] == "A & B"
    assert rows[0] == "$ make demo" and rows[-2:] == ["", "end"] and max(map(len, rows)) <= COLUMNS
    assert "".join(rows) == text.replace("\n", "")
