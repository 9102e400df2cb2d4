# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""How a text is read from a file or standard input, and names of files."""

import sys
from pathlib import Path

from tellme.cli.errors import UserError

__all__ = ["checked_text", "read_text", "unicode_name"]


def read_text(name: str, what: str) -> str:
    """The text of a file, or of standard input where ``name`` is ``-``, unchanged.

    The bytes must be UTF-8.  Line ends stay as they are, and so do a byte order mark and the line end after the last line.
    """
    source = "standard input" if name == "-" else name
    try:
        if name != "-":
            content = Path(name).read_bytes()
        elif sys.stdin is not None:
            content = sys.stdin.buffer.read()
        else:
            raise UserError(f"cannot read {what} from standard input: it is closed")
    except OSError as error:
        raise UserError(f"cannot read {what} from {source}: {error.strerror}") from error
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{what} from {source} is not UTF-8: byte {error.start} is 0x{content[error.start]:02x}") from error


def checked_text(text: str, what: str) -> str:
    """A text from the command line, whose bytes are UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        # Python represents a byte that is not UTF-8 by a surrogate.
        number = ord(text[error.start])
        name = f"the byte 0x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else f"the surrogate U+{number:04X}"
        raise UserError(f"{what} is not UTF-8: after {error.start} characters comes {name}") from error
    return text


def unicode_name(name: str) -> str:
    """A name as a file's metadata can hold it: bytes of a file name that are no UTF-8 become replacement characters."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
