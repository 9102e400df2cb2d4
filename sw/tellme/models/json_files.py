# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""JSON of files that other programs wrote, read strictly.  Each failure is a ModelError that names the file."""

import json
import math
import re
from pathlib import Path
from typing import Any, NoReturn

from tellme.models.config import ModelError
from tellme.models.files import check_file

__all__ = ["MAX_JSON", "parse_json", "read_json"]

#: Bytes of the longest JSON text that is read here: several times what published models have.  As Python's objects a JSON text
#: takes up to some twenty times its bytes.
MAX_JSON = 1 << 24

#: The longest whole number, in characters: all of them fit a float.
_MAX_DIGITS = 300
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:100]!r} stands twice in an object")
        found[key] = value
    return found


def _constant(text: str) -> NoReturn:
    raise ValueError(f"it holds {text}, which is no number")


def _int(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"it holds a number of {len(text)} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it holds {text[:40]}, which is beyond a float")
    return value


def parse_json(content: bytes, what: str) -> Any:
    """The value of a JSON text; ``what`` names it in errors.

    Refused with a ModelError: bytes that are not UTF-8, text that is not JSON, a key twice in an object, NaN and infinities,
    numbers beyond a float, halves of surrogate pairs, nesting deeper than Python's stack, and more than MAX_JSON bytes.
    """
    if len(content) > MAX_JSON:
        raise ModelError(f"{what} has more than {MAX_JSON} bytes of JSON, which are the most that are read")
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant, parse_int=_int,
                           parse_float=_float)
        if _SURROGATE.search(content):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"{what} is no JSON that can be read (byte {error.start} is no UTF-8)") from error
    except UnicodeEncodeError as error:
        raise ModelError(f"{what} is no JSON that can be read (it holds half of a surrogate pair)") from error
    except ValueError as error:
        raise ModelError(f"{what} is no JSON that can be read ({error})") from error
    except RecursionError as error:
        raise ModelError(f"{what} is no JSON that can be read (it is nested too deep)") from error
    return value


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object; a ModelError says why it cannot be read."""
    check_file(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_JSON + 1)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    value = parse_json(content, str(path))
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object")
    return value
