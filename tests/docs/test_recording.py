# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The recording of a terminal: what a command showed, when it showed it, as a picture that moves once."""

import re
import sys
from xml.etree import ElementTree

import pytest

from docs import recording

SVG = "{http://www.w3.org/2000/svg}"
#: A progress bar that is written over, colours, and text that comes piece by piece.
PROGRAM = r"""
import sys, time
assert sys.stdout.isatty()
for part in ("loading 1 %\r", "loading 99 %\r", "\x1b[K\x1b[1mbold\x1b[0m \x1b[31mred\x1b[0m <&>\n", "One", " two", " three\n"):
    print(part, end="", flush=True)
    time.sleep(0.1)
"""


def text(row):
    return "".join(part for part, _, _ in row)


@pytest.fixture(scope="module")
def recorded():
    return recording.record([sys.executable, "-c", PROGRAM])


def test_what_the_terminal_showed(recorded):
    frames, faster = recording.frames_of("program --option", recorded)
    assert recorded.code == 0 and faster == 1
    seen = [[text(row) for row in frame.rows] for frame in frames]
    assert seen[0] == ["$"] and ["$ program --option"] in seen
    assert ["$ program --option", "loading 99 %"] in seen
    assert seen[-1] == ["$ program --option", "bold red <&>", "One two three"]
    # Text came piece by piece, and no sooner than it came.
    part = next(frame.seconds for frame, rows in zip(frames, seen, strict=True) if rows[-1] == "One two")
    assert frames[-1].seconds - part >= 0.05
    assert [frame.seconds for frame in frames] == sorted({frame.seconds for frame in frames})
    assert frames[-1].rows[0] == (("$ program --option", "green", False),)
    assert frames[-1].rows[1][:3] == (("bold", "default", True), (" ", "default", False), ("red", "red", False))


def test_a_long_run_is_shortened_by_one_factor_and_long_pauses_are_cut():
    pieces = [(1000.0, b"loaded\r\n")] + [(1000.0 + 10 * i, b"x") for i in range(1, 21)]
    frames, faster = recording.frames_of("p", recording.Recording(tuple(pieces), 0))
    typed = next(frame.seconds for frame in frames if text(frame.rows[-1]) == "$ p")
    assert recording.RUNS - 0.5 <= frames[-1].seconds - typed <= recording.RUNS + recording.TYPED + 0.1
    times = [frame.seconds for frame in frames if text(frame.rows[-1]).startswith("x")]
    waits = [after - before for before, after in zip(times, times[1:], strict=False)]
    assert times[0] - typed <= recording.TYPED + recording.LONGEST + 10 / faster + 0.1
    assert all(wait == pytest.approx(10 / faster, abs=1.1 * recording.STEP) for wait in waits)


def test_the_picture(recorded):
    frames, _ = recording.frames_of("program --option", recorded)
    picture = recording.picture("A & B", frames)
    root = ElementTree.fromstring(picture)
    title, *rows = root.iter(f"{SVG}text")
    assert title.text == "A & B" == root.attrib["aria-label"]
    # Where nothing moves the last screen is shown, and nothing else.
    still = ["".join(row.itertext()) for row in rows if row.get("class") != "h"]
    assert still == ["$ program --option", "bold red <&>", "One two three"]
    assert "loading 99 %" in ["".join(row.itertext()) for row in rows if row.get("class") == "h"]
    assert len({row.get("id") for row in rows}) == len(rows)
    # Each row that comes or goes has its times.
    named = set(re.findall(r"@keyframes k(\d+)\{", picture))
    assert {row.get("id") for row in rows} <= {f"r{number}" for number in named} | {"r0"}
    assert 'font-weight="bold">bold<' in picture and f'fill="{recording.COLOURS["red"]}">red<' in picture
    # The picture asks nobody for anything.
    assert not re.search(r"https?:(?!//www.w3.org/2000/svg)|url\(|@import|<script", picture)


def test_a_command_that_fails_leaves_the_picture(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(recording, "record", lambda command: recording.Recording(((0.1, b"no\r\n"),), 2))
    monkeypatch.setattr(sys, "argv", ["recording", "-o", str(tmp_path / "demo.svg")])
    assert recording.main() == 1 and not list(tmp_path.iterdir())
    assert "no" in capsys.readouterr().err
