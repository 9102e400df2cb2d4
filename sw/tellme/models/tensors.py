# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Tensors of checkpoint files, read a few rows at a time.

The safetensors package maps files into memory and gives NumPy no bfloat16; here rows are read where they lie, so that a
conversion's memory does not grow with the checkpoint.
"""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tellme.models.config import ModelError

__all__ = ["SafetensorsFile", "SafetensorsFolder", "Tensors", "as_numbers"]

#: How a type lies in a file.
_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "U8": "u1", "I8": "i1", "F64": "<f8"}
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "U8": 1, "I8": 1, "I64": 8, "I32": 4, "I16": 2, "U64": 8, "U32": 4,
               "U16": 2, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}


def as_numbers(raw: np.ndarray, kind: str) -> np.ndarray:
    """bfloat16 patterns, and whole numbers of other float types, as float32; int8 and uint8 as they are."""
    if kind == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw if kind in ("U8", "I8", "F32") else raw.astype(np.float32)


class Tensors(ABC):
    """Named tensors.  Errors are ModelErrors that name the file."""

    #: What messages call the whole.
    label: str

    @abstractmethod
    def names(self) -> set[str]:
        """All names."""

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, its rows first."""

    @abstractmethod
    def kind(self, name: str) -> str:
        """Its type as the file calls it: F32, U8, TQ1_0..."""

    @abstractmethod
    def rows(self, name: str, first: int, end: int) -> np.ndarray:
        """Some rows: float32, or int8 or uint8 where the file has that."""

    def whole(self, name: str) -> np.ndarray:
        """A tensor at once."""
        return self.rows(name, 0, self.shape(name)[0])


@dataclass(frozen=True)
class _Entry:
    kind: str
    shape: tuple[int, ...]
    at: int


class SafetensorsFile(Tensors):
    """One .safetensors file."""

    def __init__(self, path: Path):
        self.label = str(path)
        self.path = path
        try:
            self._file = path.open("rb")
            size = path.stat().st_size
            length = int.from_bytes(self._file.read(8), "little")
            if size < 8 or not 2 <= length <= size - 8:
                raise ModelError(f"{path} is no safetensors file, or is cut short ({size} bytes)")
            header = json.loads(self._file.read(length))
            metadata = header.pop("__metadata__", {})
            self.metadata: dict[str, str] = metadata if isinstance(metadata, dict) else {}
            self._entries = {name: self._entry(name, fields, 8 + length, size) for name, fields in header.items()}
        except OSError as error:
            raise ModelError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise ModelError(f"{path} is no safetensors file, or is damaged ({error})") from error

    def _entry(self, name: str, fields: dict[str, Any], start: int, size: int) -> _Entry:
        kind, shape = fields["dtype"], tuple(int(n) for n in fields["shape"])
        first, end = (int(n) for n in fields["data_offsets"])
        if kind not in _ITEM_BYTES:
            raise ModelError(f"{self.path}: {name} has the unknown type {kind}")
        if min((0, *shape)) < 0 or first < 0 or end - first != _ITEM_BYTES[kind] * int(np.prod(shape, dtype=object)):
            raise ModelError(f"{self.path} is damaged: {name}, {kind} of shape {shape}, has {end - first} bytes")
        if start + end > size:
            raise ModelError(f"{self.path} has {size} bytes, and its tensor {name} ends at {start + end}: it is cut short; "
                             "copy it again")
        return _Entry(kind, shape, start + first)

    def names(self) -> set[str]:
        return set(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._entries[name].shape

    def kind(self, name: str) -> str:
        return self._entries[name].kind

    def rows(self, name: str, first: int, end: int) -> np.ndarray:
        entry = self._entries[name]
        if entry.kind not in _TYPES:
            raise ModelError(f"{self.path}: {name} is {entry.kind}; F32, F16, BF16, I8 and U8 are read")
        dtype = np.dtype(_TYPES[entry.kind])
        width = int(np.prod(entry.shape[1:]))
        self._file.seek(entry.at + first * width * dtype.itemsize)
        content = self._file.read((end - first) * width * dtype.itemsize)
        raw = np.frombuffer(content, dtype).reshape(end - first, *entry.shape[1:])
        return as_numbers(raw, entry.kind)


class SafetensorsFolder(Tensors):
    """The safetensors files of a Hugging Face folder: one, or several with an index."""

    def __init__(self, folder: Path):
        self.label = str(folder)
        index = folder / "model.safetensors.index.json"
        if index.exists():
            places = self._read_index(index)
        else:
            files = sorted(folder.glob("*.safetensors"))
            if not files:
                raise ModelError(f"{folder} has no .safetensors file" + (
                    "; .bin files are Python pickles, which can run code: save the model with safe_serialization"
                    if any(folder.glob("*.bin")) else ""))
            if len(files) > 1:
                raise ModelError(f"{folder} has {len(files)} .safetensors files and no {index.name}")
            places = dict.fromkeys(SafetensorsFile(files[0]).names(), files[0].name)
        files_by_name = {shard: SafetensorsFile(folder / shard) for shard in sorted(set(places.values()))}
        self._places = {name: files_by_name[shard] for name, shard in places.items()}
        for name, file in self._places.items():
            if name not in file.names():
                raise ModelError(f"{file.path} lacks {name}, which {index.name} says is there")
        for file in files_by_name.values():
            extra = file.names() - self._places.keys()
            if extra:
                raise ModelError(f"{file.path} holds {min(extra)}, which {index.name} does not name")

    @staticmethod
    def _read_index(index: Path) -> dict[str, str]:
        try:
            places = json.loads(index.read_text("utf-8"))["weight_map"]
            if not all(isinstance(v, str) and Path(v).name == v for v in places.values()):
                raise ValueError("a shard is no file name")
            return dict(places)
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelError(f"{index} is no index of safetensors files ({error})") from error

    def names(self) -> set[str]:
        return set(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._places[name].shape(name)

    def kind(self, name: str) -> str:
        return self._places[name].kind(name)

    def rows(self, name: str, first: int, end: int) -> np.ndarray:
        return self._places[name].rows(name, first, end)
