# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Files that are there whole or not at all, and safetensors files written tensor by tensor."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tellme.models.config import ModelError

__all__ = ["ITEM_BYTES", "SafetensorsWriter", "whole_file"]

_DTYPES = {"uint8": "U8", "int8": "I8", "int16": "I16", "uint16": "U16", "int32": "I32", "float16": "F16", "float32": "F32"}

#: Bytes of an element, by the format's names of types.
ITEM_BYTES = {name: np.dtype(dtype).itemsize for dtype, name in _DTYPES.items()}


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file beside ``path`` that takes its place when the block ends without an error."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield scratch
        scratch.replace(path)
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror}") from error
    finally:
        scratch.unlink(missing_ok=True)


class SafetensorsWriter:
    """Tensors in the order in which they come; the header, which lies ahead of them, is made last.

    ``content`` is an empty scratch file for the tensors; :meth:`finish` writes the whole.
    """

    def __init__(self, content: BinaryIO):
        self._content = content
        self._header: dict[str, object] = {}
        self._at = 0

    def begin(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        """A tensor whose content the next calls of :meth:`put` give."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._header[name] = {"dtype": _DTYPES[dtype], "shape": list(shape), "data_offsets": [self._at, self._at + size]}
        self._at += size

    def put(self, part: np.ndarray) -> None:
        """Some more of the tensor that was begun last."""
        self._content.write(np.ascontiguousarray(part).data)

    def add(self, name: str, tensor: np.ndarray) -> None:
        """A tensor at once."""
        self.begin(name, str(tensor.dtype), tensor.shape)
        if tensor.size:
            self.put(tensor)

    def finish(self, target: BinaryIO, metadata: dict[str, str]) -> None:
        """Header and tensors into ``target``."""
        if self._content.tell() != self._at:
            raise ValueError(f"{self._content.tell()} bytes were written for tensors of {self._at}")
        header = json.dumps({"__metadata__": metadata, **self._header}, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)
        target.write(len(header).to_bytes(8, "little") + header)
        self._content.seek(0)
        shutil.copyfileobj(self._content, target, 1 << 20)
