# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Standard output and standard error of a command, and what happens when they fail.

What cannot be written to standard output is an :class:`OutputError`.  What cannot be written to standard error is lost, and
the command goes on: its result matters more.

A terminal obeys control characters: they move its cursor, write to its clipboard, and can make it type.  What is shown may come
from strangers, as a model's text and the names in a file do.  So a terminal gets control characters as escapes, ``\\x1b`` for
ESC.  A pipe and a file get the text as it is.
"""

import errno
import io
import json
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from termcolor import colored

from tellme.cli.errors import OutputError

__all__ = ["check", "flush", "paint", "print_line", "say", "streams", "write"]


#: As escapes: control characters but for tab and line feed, and what overrides the direction of the text behind it.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7f, 0xa0)) if chr(code) not in "\t\n"}
_CONTROLS |= {code: f"\\u{code:04x}" for code in (*range(0x202a, 0x202f), *range(0x2066, 0x206a))}


class _Raw(io.RawIOBase):
    """Writes bytes to a file descriptor.  After the first failure all bytes are dropped, so that no buffer can fail at exit.

    ``must`` says whether the first failure raises an error in the writer.  Without a descriptor the stream is closed, and each
    write fails.
    """

    def __init__(self, descriptor: int | None, *, must: bool):
        self._descriptor, self._must, self.failed = descriptor, must, False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self._descriptor is None:
            raise io.UnsupportedOperation("fileno")
        return self._descriptor

    def isatty(self) -> bool:
        return self._descriptor is not None and os.isatty(self._descriptor)

    @property
    def closed_from_the_start(self) -> bool:
        return self._descriptor is None

    def write(self, content: Any, /) -> int:
        if self.failed:
            return len(content)
        try:
            return self._write(content)
        except OSError:
            self.failed = True
            if self._must:
                raise
            return len(content)

    def _write(self, content: Any) -> int:
        if self._descriptor is None:
            raise OSError(errno.EBADF, "it is closed")
        while True:
            try:
                return os.write(self._descriptor, content)
            except BlockingIOError:
                select.select([], [self._descriptor], [])


def _text(descriptor: int | None, *, must: bool) -> io.TextIOWrapper:
    raw = _Raw(descriptor, must=must)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace",
                            line_buffering=not must or raw.isatty())


def _fill_descriptors() -> None:
    """Open the null device for each closed descriptor of 0, 1 and 2; otherwise the next opened file would get the number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


@contextmanager
def streams() -> Iterator[None]:
    """Standard output and standard error that fail as this module says, as long as the block runs.

    Streams that are not the interpreter's own, such as a test's, stay.
    """
    _fill_descriptors()
    old = sys.stdout, sys.stderr
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(None if sys.stdout is None else sys.stdout.fileno(), must=True)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(None if sys.stderr is None else sys.stderr.fileno(), must=False)
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stdout, sys.stderr = old


def _error(error: OSError) -> OutputError:
    if isinstance(error, BrokenPipeError):
        return OutputError("standard output was closed; stopped")
    return OutputError(f"cannot write to standard output: {error.strerror or error}")


def check() -> None:
    """Refuse a standard output that was closed when the command began, before any work is done."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Raw) and raw.closed_from_the_start:
        raise OutputError("cannot write to standard output: it is closed")


def visible(text: str, stream: TextIO) -> str:
    """The text with its control characters as escapes where the stream is a terminal; elsewhere the text as it is."""
    return text.translate(_CONTROLS) if stream.isatty() else text


def write(text: str, *, mark: str = "") -> None:
    """Write text on standard output, without a buffer; an :class:`OutputError` if the write fails.

    ``mark``: what is written ahead of the text, with the control characters of its colour (:func:`paint`).
    """
    try:
        print(mark + visible(text, sys.stdout), end="", flush=True)
    except OSError as error:
        raise _error(error) from error


def print_line(fields: dict[str, object]) -> None:
    """A line of JSON on standard output."""
    write(json.dumps(fields, ensure_ascii=False) + "\n")


def flush() -> None:
    """Flush standard output; an :class:`OutputError` if that fails."""
    try:
        sys.stdout.flush()
    except OSError as error:
        raise _error(error) from error


def say(text: str) -> None:
    """A line for the person, on standard error."""
    print(visible(text, sys.stderr), file=sys.stderr, flush=True)


def paint(text: str, colour: str) -> str:
    """A text in a colour where standard output is a terminal; elsewhere, and where NO_COLOR is set, the text alone."""
    return colored(text, colour)
