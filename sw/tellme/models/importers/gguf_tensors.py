# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The metadata and tensors of GGUF files, split ones too, and the I2_S weights of bitnet.cpp.

The ``gguf`` package decodes the tensors.  The index is read here, because the package's reader fails at the first unknown type
(I2_S is one), and works for hours on an array whose length is damaged.
"""

import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tellme.models.config import ModelError
from tellme.models.files import check_file, check_regular
from tellme.models.importers.gguf_groups import GROUP_NUMBERS, GROUP_TYPES, decode, type_of
from tellme.models.importers.tensors import Tensors, as_numbers, listed, read_exactly

__all__ = ["I2S_LAYOUTS", "I2S_WAY_OUT", "MOST_LISTED", "GgufTensors"]

_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_HEADER = struct.Struct("<4sIQQ")
#: The scalar types of metadata: what ``struct`` and NumPy call them.
_SCALARS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8"}
_STRING, _ARRAY = 8, 9
#: The fewest bytes that a metadata value, a string and a tensor take in the index; a larger count than these allow is damage.
_LEAST_FIELD, _LEAST_STRING, _LEAST_TENSOR = 13, 8, 24
_MAX_DIMS = 4
#: Elements of the longest metadata array that is read: several times the tokens, or the merges, of any tokenizer.
MOST_LISTED = 1 << 21
_ALIGNMENT = 32

#: Types of bitnet.cpp, a fork of llama.cpp; upstream has never used the numbers in files since.
_BITNET_CPP = {36: "I2_S", 37: "I8_S", 38: "TL1"}
TERNARY = ("TQ1_0", "TQ2_0", "I2_S", *GROUP_TYPES, "F16", "F32", "BF16")
#: Bytes after the codes of an I2_S matrix: a float32 scale, and padding.
_I2S_TAIL = 32
#: How bitnet.cpp has packed I2_S: four codes (weight plus 1) a byte, the first in the top bits.  The file does not say which.
#: Name -> weights of a block whose quarters share bytes, or 0 for four rows that share bytes.
I2S_LAYOUTS = {"blocks of 128": 128, "blocks of 64": 64, "four rows a byte": 0, "four weights a byte": 4}
#: What to do about an I2_S file that cannot be read.
I2S_WAY_OUT = ("Convert the safetensors checkpoint that the file was made of, or make a TQ2_0 file of that checkpoint with "
               "llama.cpp")


@dataclass(frozen=True)
class _Entry:
    file: BinaryIO
    path: Path
    kind: str
    shape: tuple[int, ...]
    at: int


@dataclass(frozen=True)
class _Array:
    """A metadata array: where it lies in the file, from which it is read when it is asked for.  As Python's numbers and texts an
    array takes up to eight times its bytes."""

    file: BinaryIO
    at: int
    count: int
    #: NumPy's name of the elements' type; None: strings.
    kind: str | None

    def read(self) -> list[Any]:
        """The elements; strings as bytes."""
        self.file.seek(self.at)
        if self.kind is not None:
            dtype = np.dtype(self.kind)
            return np.frombuffer(read_exactly(self.file, self.count * dtype.itemsize), dtype).tolist()
        return [read_exactly(self.file, int.from_bytes(read_exactly(self.file, 8), "little")) for _ in range(self.count)]


@dataclass
class _Info:
    """A tensor as an index describes it."""

    name: str
    number: int
    shape: tuple[int, ...]
    offset: int


class _Cursor:
    """An index, read from its start; each length is checked against what is left of the file."""

    def __init__(self, file: BinaryIO, size: int):
        self._file = file
        self.size = size
        self.at = 0

    def take(self, count: int) -> bytes:
        if count > self.size - self.at:
            raise ValueError(f"its index goes on behind its end at {self.size}")
        self.at += count
        return read_exactly(self._file, count)

    def skip(self, count: int) -> None:
        """Go on behind some bytes."""
        if count > self.size - self.at:
            raise ValueError(f"its index goes on behind its end at {self.size}")
        self.at += count
        self._file.seek(self.at)

    def number(self, kind: int) -> Any:
        dtype = np.dtype(_SCALARS[kind])
        return np.frombuffer(self.take(dtype.itemsize), dtype)[0].item()

    def count(self, least: int) -> int:
        """A count of items, each of which takes at least ``least`` bytes."""
        count = int(self.number(10))
        if count * least > self.size - self.at:
            raise ValueError(f"it counts {count} parts of {least} bytes at least, with {self.size - self.at} bytes to go")
        return count

    def string(self) -> bytes:
        return self.take(self.count(1))

    def name(self) -> str:
        raw = self.string()
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"the name {raw[:40]!r} is no UTF-8") from error

    def value(self) -> Any:
        """A metadata value; strings as bytes, arrays as where they lie."""
        kind = self.number(4)
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            if kind not in _SCALARS:
                raise ValueError(f"a metadata value has the unknown type {kind}")
            return self.number(kind)
        kind = self.number(4)
        if kind == _STRING:
            count = self.count(_LEAST_STRING)
            if count > MOST_LISTED:
                raise ValueError(f"a metadata array has {count} strings; up to {MOST_LISTED} are read")
            array = _Array(self._file, self.at, count, None)
            for _ in range(count):
                self.skip(self.count(1))
            return array
        if kind not in _SCALARS:
            raise ValueError(f"a metadata array has the type {kind}, which no array can have")
        size = np.dtype(_SCALARS[kind]).itemsize
        array = _Array(self._file, self.at + 8, self.count(size), _SCALARS[kind])
        self.skip(array.count * size)
        return array

    def info(self) -> _Info:
        name, dims = self.name(), self.number(4)
        if dims > _MAX_DIMS:
            raise ValueError(f"{name} has {dims} dimensions; {_MAX_DIMS} is the most")
        shape = tuple(int(self.number(10)) for _ in range(dims))[::-1]
        # A number is a vector of one.
        return _Info(name, self.number(4), shape or (1,), self.number(10))


class _File:
    """One GGUF file: its metadata, and where its tensors lie."""

    def __init__(self, path: Path, package: Any):
        self.path = path
        #: The gguf package.
        self.package = package
        check_regular(path)
        try:
            self._file = path.open("rb")
            self._read(_Cursor(self._file, path.stat().st_size), package)
        except OSError as error:
            raise ModelError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, EOFError) as error:
            raise ModelError(f"{path} is no GGUF file, or is cut short or damaged ({error})") from error

    def _read(self, cursor: _Cursor, package: Any) -> None:
        magic, version, tensors, fields = _HEADER.unpack(cursor.take(_HEADER.size))
        if magic != _MAGIC:
            raise ValueError("it does not begin with GGUF")
        if version & 0xFFFF == 0:
            raise ModelError(f"{self.path} is a GGUF file of a big-endian machine; little-endian ones are read")
        if version not in _VERSIONS:
            raise ModelError(f"{self.path} is a GGUF file of version {version}; versions 2 and 3 are read")
        if fields * _LEAST_FIELD + tensors * _LEAST_TENSOR > cursor.size:
            raise ValueError(f"it counts {tensors} tensors and {fields} metadata values")
        self.fields: dict[str, Any] = {}
        for _ in range(fields):
            key = cursor.name()
            if key in self.fields:
                raise ValueError(f"{key} stands twice in its metadata")
            self.fields[key] = cursor.value()
        infos = [cursor.info() for _ in range(tensors)]
        alignment = self.fields.get("general.alignment", _ALIGNMENT)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise ValueError(f"general.alignment is {alignment!r}, which is no power of two")
        start = -(-cursor.at // alignment) * alignment
        kinds = _group_kinds(infos, cursor.size - start, alignment)
        self.entries: dict[str, _Entry] = {}
        # Where each tensor ends; the next one may begin there or later.
        ends: list[tuple[int, int, str]] = []
        for info in infos:
            if info.name in self.entries:
                raise ValueError(f"the tensor {info.name} stands twice in it")
            if info.offset % alignment:
                raise ValueError(f"the tensor {info.name} lies at {info.offset}, which is no multiple of {alignment}")
            kind, size = _kind_and_size(info, package, kinds.get(info.number))
            at = start + info.offset
            if at + size > cursor.size:
                raise ValueError(f"its tensor {info.name} ends at {at + size}, and the file at {cursor.size}")
            self.entries[info.name] = _Entry(self._file, self.path, kind, info.shape, at)
            ends.append((at, at + size, info.name))
        ends.sort()
        for (_, end, name), (at, _, other) in pairwise(ends):
            if at < end:
                raise ValueError(f"the tensors {name} and {other} overlap")
        self._check_i2s({name: (at, after) for (at, _, name), (after, *_) in pairwise([*ends, (cursor.size, 0, "")])}, alignment)

    def _check_i2s(self, places: dict[str, tuple[int, int]], alignment: int) -> None:
        """Type 36 has had other meanings.  The tensor is I2_S if the number of bytes up to the next tensor is that of I2_S."""
        last = max(places.values(), default=None)
        for name, entry in self.entries.items():
            if entry.kind == "I2_S":
                at, after = places[name]
                size = _i2s_bytes(entry.shape)
                if (at, after) != last and after - at != -(-size // alignment) * alignment:
                    raise ModelError(f"{self.path}: {name} is of type 36, I2_S of bitnet.cpp, and has {after - at} bytes, where "
                                     f"I2_S has {size}: the file is damaged, or another program's. {I2S_WAY_OUT}")


def _i2s_bytes(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=object)) // 4 + _I2S_TAIL


def _group_kinds(infos: list[_Info], size: int, alignment: int) -> dict[int, str]:
    """The numbers of types that forks share, and what they mean in this file of ``size`` bytes of tensors."""
    after = dict(pairwise([*sorted(info.offset for info in infos), size]))
    out = {}
    for number in GROUP_NUMBERS.keys() & {info.number for info in infos}:
        kind = type_of(number, [(info.shape, after[info.offset] - info.offset, after[info.offset] == size) for info in infos
                                if info.number == number], alignment)
        if kind is not None:
            out[number] = kind
    return out


def _kind_and_size(info: _Info, package: Any, group_kind: str | None) -> tuple[str, int]:
    """What a tensor's type is called, and its bytes: none for a type whose size is not known.  ``group_kind``: what the type's
    number means in this file, where it is one of those that forks share."""
    count = int(np.prod(info.shape, dtype=object))
    if group_kind is not None:
        return group_kind, GROUP_TYPES[group_kind].bytes_of(count)
    if info.number in _BITNET_CPP:
        kind = _BITNET_CPP[info.number]
        if kind == "I2_S" and count % 4:
            raise ValueError(f"the tensor {info.name} is I2_S, and its {count} weights are no multiple of 4")
        # The padding after the scale of the last tensor may be missing.
        return kind, _i2s_bytes(info.shape) - _I2S_TAIL + 4 if kind == "I2_S" else 0
    try:
        known = package.GGMLQuantizationType(info.number)
    except ValueError:
        return f"type {info.number}", 0
    block, size = package.GGML_QUANT_SIZES[known]
    if info.shape[-1] % block:
        raise ValueError(f"the tensor {info.name} is {known.name}, and its {info.shape[-1]} columns are no multiple of {block}")
    return str(known.name), count * size // block


class GgufTensors(Tensors):
    """The tensors of a GGUF file, or of all files of a split one, whichever of them is given.

    Metadata are those of the first file.  Before rows of an I2_S matrix are read, :meth:`set_layout` has to be called.
    """

    def __init__(self, path: Path):
        # Late: nothing else needs the package.
        import gguf

        self.label = str(path)
        self._gguf = gguf
        self._layout: str | None = None
        parts = self._parts(_File(path, gguf))
        self.fields = parts[0].fields
        self._entries: dict[str, _Entry] = {}
        for part in parts:
            for name, entry in part.entries.items():
                if name in self._entries:
                    raise ModelError(f"{part.path} holds the tensor {name}, and so does {self._entries[name].path}")
                self._entries[name] = entry
        total = self.fields.get("split.tensors.count")
        if len(parts) > 1 and total is not None and total != len(self._entries):
            raise ModelError(f"{self.label}: its {len(parts)} parts hold {len(self._entries)} tensors, and split.tensors.count "
                             f"is {total}")

    @staticmethod
    def _parts(given: _File) -> list[_File]:
        """All files of a split one, as llama-gguf-split names them."""
        number, count = (given.fields.get(f"split.{key}", default) for key, default in (("no", 0), ("count", 1)))
        if type(number) is not int or type(count) is not int or not 0 <= number < max(count, 1):
            raise ModelError(f"{given.path} is damaged: split.no is {number!r} and split.count {count!r}")
        if count <= 1:
            return [given]
        what = f"{given.path} is file {number + 1} of {count} of a split GGUF file"
        ending = f"-{number + 1:05}-of-{count:05}.gguf"
        if not given.path.name.endswith(ending):
            raise ModelError(f"{what}, and its name does not end in {ending}, so that the others cannot be found: give all files "
                             "the names that they had, or join them with llama-gguf-split --merge")
        stem = given.path.name.removesuffix(ending)
        paths = [given.path.with_name(f"{stem}-{i + 1:05}-of-{count:05}.gguf") for i in range(count)]
        for path in paths:
            check_file(path)
        missing = [path.name for path in paths if not path.exists()]
        if missing:
            raise ModelError(f"{what}, and beside it {listed(missing)} cannot be found: put all files into one folder")
        parts = [given if path == given.path else _File(path, given.package) for path in paths]
        for i, part in enumerate(parts):
            for key, want in (("no", i), ("count", count)):
                if part.fields.get(f"split.{key}") != want:
                    raise ModelError(f"{part.path} does not belong to {given.path}: its split.{key} is "
                                     f"{part.fields.get(f'split.{key}')}, {want} is wanted")
        return parts

    def field(self, key: str, default: Any = None) -> Any:
        """A metadata value."""
        value = self.fields.get(key, default)
        if isinstance(value, _Array):
            value = self._listed(key, value)
        try:
            if isinstance(value, bytes):
                return value.decode("utf-8")
            if isinstance(value, list) and value and isinstance(value[0], bytes):
                return [text.decode("utf-8") for text in value]
        except UnicodeDecodeError as error:
            raise ModelError(f"{self.label}: {key} holds text that is no UTF-8") from error
        return value

    def _listed(self, key: str, array: _Array) -> list[Any]:
        if array.count > MOST_LISTED:
            raise ModelError(f"{self.label}: {key} has {array.count} elements; up to {MOST_LISTED} are read")
        try:
            return array.read()
        except OSError as error:
            raise ModelError(f"cannot read {self.label}: {error.strerror}") from error
        except EOFError as error:
            raise ModelError(f"{self.label} has become shorter while it was read ({error})") from error

    def names(self) -> set[str]:
        return set(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._entries[name].shape

    def kind(self, name: str) -> str:
        return self._entries[name].kind

    def check_kind(self, name: str, *, floats: bool = False) -> None:
        """Refuse a matrix of a type that holds no ternary weights, or none that can be read; or with ``floats`` one of a type
        that holds nothing else."""
        kind = self.kind(name)
        if floats:
            if kind in _BITNET_CPP.values() or kind in TERNARY[:2]:
                raise ModelError(f"{name} is {kind}, which is ternary already", hint="convert")
        elif kind not in TERNARY:
            out = f". Of bitnet.cpp's types I2_S is read. {I2S_WAY_OUT}" if kind in _BITNET_CPP.values() else ""
            raise ModelError(f"{name} is {kind}; ternary weights are {', '.join(TERNARY)}{out}", hint="" if out else "quantise")

    def i2s_layouts(self) -> list[str]:
        """The layouts in which the I2_S matrices can be read; none where there is no such matrix."""
        shapes = [entry.shape for entry in self._entries.values() if entry.kind == "I2_S"]
        return [name for name, block in I2S_LAYOUTS.items() if shapes and all(
            int(np.prod(shape)) % block == 0 if block else int(np.prod(shape[:-1])) % 4 == 0 for shape in shapes)]

    def set_layout(self, name: str) -> None:
        """Read I2_S matrices in one of I2S_LAYOUTS."""
        self._layout = name

    def rows(self, name: str, first: int, end: int) -> np.ndarray:
        entry = self._entries[name]
        if entry.kind == "I2_S":
            return self._i2s_rows(name, entry, first, end)
        width = int(np.prod(entry.shape[1:]))
        if entry.kind in GROUP_TYPES:
            row = GROUP_TYPES[entry.kind].bytes_of(width)
            raw = np.frombuffer(self._read(entry, first * row, (end - first) * row), np.uint8)
            return decode(entry.kind, raw.reshape(end - first, row)).reshape(end - first, *entry.shape[1:])
        try:
            kind = self._gguf.GGMLQuantizationType[entry.kind]
        except KeyError as error:
            raise ModelError(f"{self.label}: {name} is {entry.kind}, which the gguf package does not know") from error
        block, size = self._gguf.GGML_QUANT_SIZES[kind]
        row = width * size // block
        raw = np.frombuffer(self._read(entry, first * row, (end - first) * row), np.uint8)
        plain = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}.get(entry.kind)
        if plain is not None:
            return as_numbers(raw.view(plain).reshape(end - first, *entry.shape[1:]), entry.kind)
        try:
            return np.asarray(self._gguf.quants.dequantize(raw.reshape(end - first, row), kind))
        except NotImplementedError as error:
            raise ModelError(f"{self.label}: {name} is {entry.kind}, which the gguf package does not decode") from error

    def _read(self, entry: _Entry, at: int, count: int) -> bytes:
        try:
            entry.file.seek(entry.at + at)
            return read_exactly(entry.file, count)
        except OSError as error:
            raise ModelError(f"cannot read {entry.path}: {error.strerror}") from error
        except EOFError as error:
            raise ModelError(f"{entry.path} has become shorter while it was read ({error})") from error

    def _i2s_rows(self, name: str, entry: _Entry, first: int, end: int) -> np.ndarray:
        """Rows of an I2_S matrix in the layout that is set: codes times the scale after them."""
        if self._layout is None:
            raise ModelError(f"{self.label}: {name} is I2_S, of which the layout is not known")
        cols = int(np.prod(entry.shape[1:]))
        scale = np.frombuffer(self._read(entry, int(np.prod(entry.shape)) // 4, 4), "<f4")[0]
        if not (np.isfinite(scale) and scale > 0):
            raise ModelError(f"{name}: its I2_S scale is {scale}; a positive finite number is wanted")
        block = I2S_LAYOUTS[self._layout]
        # The weights whose bytes have to be read, and the shape of their bytes: groups of bytes side by side.
        unit = block or 4 * cols
        begin, stop = first * cols // unit * unit, -(-end * cols // unit) * unit
        raw = np.frombuffer(self._read(entry, begin // 4, (stop - begin) // 4), np.uint8).reshape(-1, 1, unit // 4)
        codes = raw >> np.array([6, 4, 2, 0], np.uint8)[:, None] & 3
        if (codes == 3).any():
            raise ModelError(f"{name} holds the I2_S code 3, which is no weight")
        flat = codes.reshape(-1)[first * cols - begin:end * cols - begin].astype(np.float32) - 1
        return flat.reshape(end - first, *entry.shape[1:]) * scale

