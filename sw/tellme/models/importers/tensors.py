# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Tensors of checkpoint files, read a few rows at a time.

The safetensors package maps files into memory and cannot give bfloat16 to NumPy.  Here rows are read from the file directly, so
that a conversion's memory does not grow with the checkpoint.  A file that the package refuses is refused here too.
"""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from tellme.models.config import ModelError
from tellme.models.files import check_regular, is_there
from tellme.models.json_files import MAX_JSON, parse_json, read_json

__all__ = ["READ_TYPES", "SafetensorsFile", "SafetensorsFolder", "Tensors", "as_numbers", "check_no_adapter", "listed",
           "read_exactly", "without_ones"]

#: The types that are read -> their NumPy types in a file.
_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8", "F8_E4M3": "u1", "F8_E5M2": "u1", "I8": "i1", "U8": "u1"}
#: The types that are read, for a message.
READ_TYPES = f"{', '.join([*_TYPES][:-1])} and {[*_TYPES][-1]}"


def _eight_bit_floats(mantissa: int, bias: int, *, infinities: bool) -> np.ndarray:
    """The values of all patterns of an 8-bit float: a sign, an exponent, ``mantissa`` bits.

    ``infinities``: the largest exponent is that of infinities and NaNs, as in IEEE 754; else only the pattern of ones is NaN.
    """
    bits = np.arange(256)
    exponent, fraction = bits >> mantissa & (0x7F >> mantissa), bits & ((1 << mantissa) - 1)
    value = np.ldexp((fraction + ((exponent > 0) << mantissa)).astype(np.float64), np.maximum(exponent, 1) - bias - mantissa)
    if infinities:
        value = np.where(exponent == exponent.max(), np.where(fraction == 0, np.inf, np.nan), value)
    else:
        value = np.where(bits & 0x7F == 0x7F, np.nan, value)
    return np.where(bits < 128, value, -value).astype(np.float32)


#: F8_E4M3 and F8_E5M2 as torch and the Open Compute Project define them (E4M3 as torch.float8_e4m3fn).
_EIGHT_BITS = {"F8_E4M3": _eight_bit_floats(3, 7, infinities=False), "F8_E5M2": _eight_bit_floats(2, 15, infinities=True)}


def as_numbers(raw: np.ndarray, kind: str) -> np.ndarray:
    """float32 from bit patterns of bfloat16 and of 8-bit floats, and from other float types; int8 and uint8 unchanged."""
    if kind == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    if kind in _EIGHT_BITS:
        return np.asarray(_EIGHT_BITS[kind][raw])
    if kind in ("U8", "I8", "F32"):
        return raw
    with np.errstate(over="ignore"):
        return raw.astype(np.float32)


def read_exactly(file: BinaryIO, count: int) -> bytes:
    """Exactly this number of bytes; an EOFError if the file has fewer."""
    content = file.read(count)
    if len(content) != count:
        raise EOFError(f"it ends after {len(content)} of {count} bytes")
    return content


def without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A vector's shape without the ones before its length, which change none of its values."""
    ones = next((i for i, n in enumerate(shape[:-1]) if n != 1), max(len(shape) - 1, 0))
    return shape[ones:]


class Tensors(ABC):
    """Named tensors.  Errors are ModelErrors that name the file."""

    #: What messages call the whole.
    label: str

    @abstractmethod
    def names(self) -> set[str]:
        """All names."""

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, its rows first; a tensor of rank 0 is a vector of one."""

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
        check_regular(path)
        try:
            self._file = path.open("rb")
            size = os.fstat(self._file.fileno()).st_size
            length = int.from_bytes(self._file.read(8), "little")
            if size < 8 or not 2 <= length <= size - 8:
                raise ModelError(f"{path} is no safetensors file, or is cut short ({size} bytes)")
            if length > MAX_JSON:
                raise ModelError(f"{path} has a header of {length} bytes; up to {MAX_JSON} are read")
            header = parse_json(read_exactly(self._file, length), f"the header of {path}")
            _check_ends(path, header, size - 8 - length)
            with safe_open(path, framework="numpy") as file:
                #: Text by key.
                self.metadata: dict[str, str] = dict(file.metadata() or {})
        except OSError as error:
            raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
        except EOFError as error:
            raise ModelError(f"{path} is no safetensors file, or is cut short ({error})") from error
        except SafetensorError as error:
            raise ModelError(f"{path} is no safetensors file, or is damaged ({error})") from error
        header.pop("__metadata__", None)
        self._entries = {name: _Entry(fields["dtype"], tuple(fields["shape"]) or (1,), 8 + length + fields["data_offsets"][0])
                         for name, fields in header.items()}

    def names(self) -> set[str]:
        return set(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._entries[name].shape

    def kind(self, name: str) -> str:
        return self._entries[name].kind

    def rows(self, name: str, first: int, end: int) -> np.ndarray:
        entry = self._entries[name]
        if entry.kind not in _TYPES:
            raise ModelError(f"{self.path}: {name} is {entry.kind}; {READ_TYPES} are read")
        dtype = np.dtype(_TYPES[entry.kind])
        width = int(np.prod(entry.shape[1:]))
        try:
            self._file.seek(entry.at + first * width * dtype.itemsize)
            content = read_exactly(self._file, (end - first) * width * dtype.itemsize)
        except OSError as error:
            raise ModelError(f"cannot read {self.path}: {error.strerror}") from error
        except EOFError as error:
            raise ModelError(f"{self.path} has become shorter while it was read ({error})") from error
        raw = np.frombuffer(content, dtype).reshape(end - first, *entry.shape[1:])
        return as_numbers(raw, entry.kind)


def _check_ends(path: Path, header: object, size: int) -> None:
    """Check a file's length first: a file that is cut short is the most common damage and gets a message of its own.  The package
    refuses all other damage."""
    if not isinstance(header, dict):
        raise ModelError(f"{path} is no safetensors file, or is damaged (its header is no object)")
    for name, fields in header.items():
        offsets = fields.get("data_offsets") if isinstance(fields, dict) and name != "__metadata__" else None
        if isinstance(offsets, list) and len(offsets) == 2 and type(offsets[1]) is int and offsets[1] > size:
            raise ModelError(f"{path} has {size} bytes of tensors, and its tensor {name} ends at {offsets[1]}: it is cut short; "
                             "copy it again")


#: The longest file name in bytes that common file systems take.
_MAX_NAME = 255
#: Names that folders of the hub have beside the model's own files, and what they are.
_MODEL, _INDEX = "model.safetensors", "model.safetensors.index.json"
_ADAPTER_CONFIG = "adapter_config.json"
_BESIDE = ((re.compile(r"adapter_model.*"), "a LoRA adapter, which is not applied"),
           (re.compile(r"consolidated.*"), "the same model under the names of its makers"),
           (re.compile(r"optimizer.*|scheduler.*|rng_state.*|training_args.*"), "the state of a training run"))
ADAPTER_WAY_OUT = ("a LoRA adapter, not a model: put it into its base model (merge_and_unload of the peft package), and convert "
                   "what that saves")


def check_no_adapter(folder: Path) -> None:
    """Refuse a folder that holds an adapter and no model."""
    if (folder / _ADAPTER_CONFIG).is_file() and not any(
            path for ending in ("*.safetensors", "*.safetensors.index.json") for path in folder.glob(ending)
            if not path.name.startswith("adapter_")):
        raise ModelError(f"{folder} holds {ADAPTER_WAY_OUT}")


class SafetensorsFolder(Tensors):
    """The safetensors files of a Hugging Face folder: model.safetensors, or several files that an index names.

    If there are several, ``say`` hears which one is taken (the one that transformers takes), and what is not read.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]):
        self.label = str(folder)
        self._folder, self._say = folder, say
        files = sorted(path.name for path in folder.glob("*.safetensors"))
        index, single = folder / _INDEX, folder / _MODEL
        places = read_index(index) if is_there(index) else None
        if places is not None and is_there(single) and set(places.values()) != {_MODEL}:
            absent = sorted(name for name in set(places.values()) if not (folder / name).exists())
            say(f"{single.name} is taken, and {index.name} is not: " + (
                f"{listed(absent)}, which it names, cannot be found" if absent else "transformers takes the one file as well"))
            places = None
        if places is None:
            taken = self._one_file(files)
            places = dict.fromkeys(SafetensorsFile(folder / taken).names(), taken)
        self._say_beside(sorted(set(files) - set(places.values())))
        by_name = {shard: self._shard(index, shard) for shard in sorted(set(places.values()))}
        self._places = {name: by_name[shard] for name, shard in places.items()}
        for name, file in self._places.items():
            if name not in file.names():
                raise ModelError(f"{file.path} lacks {name}, which {index.name} says is there")
        for file in by_name.values():
            extra = file.names() - self._places.keys()
            if extra:
                raise ModelError(f"{file.path} holds {min(extra)}, which {index.name} does not name")

    def _one_file(self, files: list[str]) -> str:
        """The file that holds the whole model."""
        if _MODEL in files:
            return _MODEL
        own = [name for name in files if not any(pattern.fullmatch(name) for pattern, _ in _BESIDE[:1])]
        if files and not own:
            raise ModelError(f"{self.label} holds {ADAPTER_WAY_OUT}")
        if not own:
            raise ModelError(f"{self.label} has no .safetensors file" + (
                "; .bin files are Python pickles, which can run code: save the model with safe_serialization"
                if any(self._folder.glob("*.bin")) else ""))
        if len(own) > 1:
            raise ModelError(f"{self.label} has {len(own)} .safetensors files and no {_INDEX}: {listed(own)}. Fetch the index, "
                             f"or call the one that is the whole model {_MODEL}")
        return own[0]

    def _say_beside(self, others: list[str]) -> None:
        for name in others:
            what = next((text for pattern, text in _BESIDE if pattern.fullmatch(name)), "no part of the model that is taken")
            self._say(f"{name} is not read: {what}")

    def _shard(self, index: Path, name: str) -> SafetensorsFile:
        if not is_there(self._folder / name):
            raise ModelError(f"cannot read {self._folder / name}: No such file, though {index.name} names it: fetch the file")
        return SafetensorsFile(self._folder / name)

    def names(self) -> set[str]:
        return set(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._places[name].shape(name)

    def kind(self, name: str) -> str:
        return self._places[name].kind(name)

    def rows(self, name: str, first: int, end: int) -> np.ndarray:
        return self._places[name].rows(name, first, end)


def read_index(index: Path) -> dict[str, str]:
    """The file of each tensor, by its name."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ModelError(f"{index} is no index of safetensors files (it has no weight_map)")
    for name, shard in places.items():
        if not isinstance(shard, str) or Path(shard).name != shard or "\0" in shard or len(shard.encode()) > _MAX_NAME:
            raise ModelError(f"{index} is no index of safetensors files ({name} lies in {shard!r}, which is no file name)")
    return places


def listed(names: list[str]) -> str:
    """The first few of some names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
