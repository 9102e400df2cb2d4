# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m docs.recording``: runs tellme-host in a terminal and writes what the terminal showed as docs/images/demo.svg.

The picture moves once, in the order and with the pauses of the run, all of them shortened by one factor, which the picture names;
a longer pause than :data:`LONGEST` is cut.  A viewer that moves no pictures shows the last screen.
"""

import argparse
import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pyte

__all__ = ["COMMAND", "Frame", "Recording", "frames_of", "picture", "record", "shown"]

ROOT = Path(__file__).resolve().parents[1]
#: What is typed.
COMMAND = 'tellme-host generate --device sim --prompt "Once upon a time, a frog" --temperature 0.6 --min-p 0.1 --seed 1 ' \
          "--max-tokens 60"
TITLE = "tellme-host on the simulated board: every operation in the gateware"
#: Size of the terminal: characters.
COLUMNS, ROWS = 110, 24
#: Pixels: a line, a character, and the edges.
LINE, CHARACTER, LEFT, TOP = 19, 8.43, 16, 46
#: Seconds of the picture: the command's run, typing a word, the longest pause; and steps in which the picture changes.
RUNS, TYPED, LONGEST, STEP = 12.0, 0.15, 1.5, 0.05
#: Colours of a terminal on a dark ground; what is not here is the text's own.
COLOURS = {"red": "#e06c75", "green": "#8fd18f", "brown": "#d8b26a", "blue": "#7fb2ee", "magenta": "#c99ae0", "cyan": "#6cc7cf"}
GROUND, TEXT, DIM = "#1d2126", "#dfe4e8", "#9aa4ae"

#: Characters of a line with the same look: text, colour, whether bold.
Part = tuple[str, str, bool]
Row = tuple[Part, ...]


@dataclass(frozen=True)
class Frame:
    """What a terminal shows from a time on: seconds, and its rows from the top one to the last that is not empty."""

    seconds: float
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Recording:
    """Bytes that a command wrote to a terminal, each piece with the seconds since the command began; ``code``: its exit code."""

    pieces: tuple[tuple[float, bytes], ...]
    code: int


def record(command: Sequence[str]) -> Recording:
    """Run a command on a terminal of its own."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    env = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
    began = time.monotonic()
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, env=env, start_new_session=True) as process:
        os.close(slave)
        pieces = []
        while True:
            try:
                content = os.read(master, 65536)
            except OSError:
                # A terminal that nobody has open any more.
                break
            if not content:
                break
            pieces.append((time.monotonic() - began, content))
    os.close(master)
    return Recording(tuple(pieces), process.returncode)


def _rows(screen: pyte.Screen) -> tuple[Row, ...]:
    """The rows of a screen."""
    rows = []
    for y in range(screen.lines):
        parts: list[Part] = []
        for x in range(screen.columns):
            cell = screen.buffer[y][x]
            if parts and parts[-1][1:] == (cell.fg, cell.bold):
                parts[-1] = (parts[-1][0] + cell.data, cell.fg, cell.bold)
            else:
                parts.append((cell.data, cell.fg, cell.bold))
        while parts and not parts[-1][0].strip():
            parts.pop()
        if parts:
            parts[-1] = (parts[-1][0].rstrip(), *parts[-1][1:])
        rows.append(tuple(parts))
    while rows and not rows[-1]:
        rows.pop()
    return tuple(rows)


def frames_of(typed: str, recording: Recording) -> tuple[list[Frame], float]:
    """The frames, with a command that is typed first, in seconds of the picture; and how many times faster these pass."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    stream.feed(b"\x1b[32m$ ")
    frames = [Frame(0.0, _rows(screen))]
    now = 0.3
    for word in re.findall(r"\S+\s*", typed):
        stream.feed(word.encode())
        frames.append(Frame(now, _rows(screen)))
        now += TYPED
    stream.feed(b"\x1b[0m\r\n")
    # The whole run, its pauses cut, is to take RUNS seconds at most.
    times = [0.0, *(seconds for seconds, _ in recording.pieces)]
    gaps = [after - before for before, after in zip(times, times[1:], strict=False)]
    faster = 1.0
    while sum(min(gap / faster, LONGEST) for gap in gaps) > RUNS:
        faster *= 1.02
    for gap, (_, content) in zip(gaps, recording.pieces, strict=True):
        now += min(gap / faster, LONGEST)
        stream.feed(content)
        step = Frame(round(now / STEP) * STEP, _rows(screen))
        if step.seconds == frames[-1].seconds:
            frames[-1] = step
        else:
            frames.append(step)
    return frames, faster


def shown(frames: Sequence[Frame]) -> list[tuple[int, Row, float, float | None]]:
    """Each state of a row: number, contents, and from when to when it is there; None: to the end."""
    found: list[tuple[int, Row, float, float | None]] = []
    for y in range(max(len(frame.rows) for frame in frames)):
        states: list[tuple[float, Row]] = []
        for frame in frames:
            row = frame.rows[y] if y < len(frame.rows) else ()
            if not states or states[-1][1] != row:
                states.append((frame.seconds, row))
        ends = [*(seconds for seconds, _ in states[1:]), None]
        found += [(y, row, begin, end) for (begin, row), end in zip(states, ends, strict=True) if row]
    return found


def picture(title: str, frames: Sequence[Frame]) -> str:
    """The SVG picture of frames."""
    total = frames[-1].seconds + 0.1
    states = shown(frames)
    width = 2 * LEFT + round(CHARACTER * COLUMNS)
    height = TOP + LINE * (max(y for y, *_ in states) + 1)
    css, rows = [], []
    for number, (y, row, begin, end) in enumerate(states):
        if end is not None or begin > 0:
            until = "" if end is None else f"{100 * end / total:.2f}%{{visibility:hidden}}"
            css.append(f"@keyframes k{number}{{0%{{visibility:hidden}}{100 * begin / total:.2f}%{{visibility:visible}}{until}}}"
                       f"#r{number}{{animation-name:k{number}}}")
        hidden = "" if end is None else ' class="h"'
        rows.append(f'<text id="r{number}"{hidden} x="{LEFT}" y="{TOP + LINE * y}" xml:space="preserve">{_spans(row)}</text>')
    style = [".h{visibility:hidden}", "@media (prefers-reduced-motion:no-preference){",
             f"text[id]{{animation:{total:.2f}s step-end both}}", *css, "}"]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}">',
        "<style>", *style, "</style>",
        f'<rect width="{width}" height="{height}" rx="8" fill="{GROUND}"/>',
        f'<text x="{width // 2}" y="20" fill="{DIM}" text-anchor="middle" font-family="sans-serif" font-size="13">'
        f"{escape(title)}</text>",
        f'<g fill="{TEXT}" font-family="ui-monospace,Menlo,Consolas,DejaVu Sans Mono,monospace" font-size="14">',
        *rows, "</g>", "</svg>", ""])


def _spans(row: Row) -> str:
    """A row's parts in their colours."""
    out = []
    for text, colour, bold in row:
        fill = COLOURS.get(colour.removeprefix("bright"))
        marks = (f' fill="{fill}"' if fill else "") + (' font-weight="bold"' if bold else "")
        out.append(f"<tspan{marks}>{escape(text)}</tspan>" if marks else escape(text))
    return "".join(out)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m docs.recording")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "images" / "demo.svg")
    args = parser.parse_args()
    program, *arguments = shlex.split(COMMAND)
    assert program == "tellme-host"
    recording = record([sys.executable, "-m", "tellme.cli", *arguments])
    if recording.code != 0:
        sys.stderr.write(b"".join(content for _, content in recording.pieces).decode("utf-8", "replace"))
        return 1
    frames, faster = frames_of(COMMAND, recording)
    args.output.write_text(picture(f"{TITLE} ({faster:.0f} times as fast as it was)" if faster >= 2 else TITLE, frames), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
