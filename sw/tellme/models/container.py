# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The .tellme file: a safetensors container with everything that a board needs, written and read part by part."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from tellme.models.config import LINEARS, NORMS, ModelConfig, ModelError
from tellme.models.files import check_file, printable
from tellme.models.json_files import parse_json
from tellme.models.source import (
    Block,
    Linear,
    Source,
    StoredSource,
    TableRows,
    check_bias,
    check_blocks,
    check_gain,
    check_gain_wanted,
    check_linear_groups,
    check_parts,
    check_rows,
    row_chunks,
)
from tellme.models.trits import check_packed, check_planes, packed_cols, packed_shape, unpack_rows
from tellme.models.writing import ITEM_BYTES, SafetensorsWriter, whole_file
from tellme.spec.packing import TILE_HEADER_GROUP_SLICES
from tellme.spec.scale import Scale

__all__ = ["FORMAT", "FORMAT_VERSION", "Container", "check_metadata", "write", "written_elements"]

#: The value of the metadata's key ``format``.
FORMAT = "tellme"
#: 1: one scale a matrix, no bias, SentencePiece.  2: may have several scales, biases, a tokenizer.json.  3: may have no BOS,
#: no end token or several, and prompts without BOS; in files of versions 1 and 2 BOS is put ahead, and one token ends a text.
#: 4: may have matrices of several planes, and of column groups whose rows have multipliers, and norms on heads of q and k.
#: 5: may have the norms of OLMo 2 (ModelConfig.vector_norms).  A file has the lowest version that says all of it.
FORMAT_VERSION = VECTOR_NORMS_VERSION = 5
PLANES_VERSION = GROUPS_VERSION = HEAD_NORMS_VERSION = 4


def written_elements(config: ModelConfig) -> int:
    """Ternary weights, and elements of embedding and head, of which :func:`write` tells how many are written."""
    return config.ternary_weights + (1 if config.tied else 2) * config.vocab * config.dim


def write(source: Source, path: Path, progress: Callable[[int], object] | None = None) -> None:
    """Write a model to a file, whole or not at all, with no more than a chunk of it in memory.

    ``progress`` hears after each part how many elements the part has; all parts have :func:`written_elements`.
    """
    c = source.config
    c.check()
    done = progress if progress is not None else _nobody
    with whole_file(path) as scratch, tempfile.TemporaryFile(dir=scratch.parent) as content, scratch.open("wb") as target:
        out = SafetensorsWriter(cast(BinaryIO, content))
        # A tokenizer.json begins with a brace; no SentencePiece model does.
        version = 2 if source.tokenizer[:1] == b"{" else 1
        if not c.plain_conventions:
            version = 3
        if c.qk_norm:
            version = HEAD_NORMS_VERSION
        if c.vector_norms:
            version = VECTOR_NORMS_VERSION
        for name in ("embedding",) if c.tied else ("embedding", "head"):
            _write_table(out, source, name, done)
        for i in range(c.layers):
            for name in LINEARS:
                version = max(version, _write_linear(out, f"layers.{i}.{name}", source.linear(i, name), c.shape(name), done))
            for name in NORMS:
                gain = source.gain(i, name)
                if gain is not None:
                    check_gain_wanted(name, c, i)
                    check_gain(f"layers.{i}.{name}", gain, c.norm_width(name))
                    out.add(f"layers.{i}.{name}", gain)
        final = source.final_norm()
        if final is not None:
            check_gain("final_norm", final, c.dim)
            out.add("final_norm", final)
        if source.tokenizer:
            out.add("tokenizer", np.frombuffer(source.tokenizer, np.uint8))
        # Programs that know no chat template ignore the entry, and lose nothing else: it needs no version.
        chat = {"chat_template": source.chat_template} if source.chat_template else {}
        out.finish(target, {"format": FORMAT, "format_version": str(version), "config": json.dumps(c.as_json()),
                            "name": printable(source.name), "license": source.license, **chat})


def _nobody(elements: int) -> None:
    """Hears of progress, and tells nobody."""


def _write_table(out: SafetensorsWriter, source: Source, name: str, done: Callable[[int], object]) -> None:
    c = source.config
    out.begin(name, "int8", (c.vocab, c.dim))
    scales: list[NDArray[np.uint16]] = []
    rows = 0
    for part in source.table(name):
        check_rows(name, part.codes, part.scales, (len(part.codes), c.dim))
        out.put(part.codes)
        scales.append(part.scales)
        rows += len(part.codes)
        done(part.codes.size)
    if rows != c.vocab:
        raise ModelError(f"{name} has {rows} rows, the configuration says {c.vocab}")
    out.add(f"{name}.scale", np.concatenate(scales))


def _write_linear(out: SafetensorsWriter, name: str, linear: Linear, shape: tuple[int, int],
                  done: Callable[[int], object]) -> int:
    """The format version that the matrix needs."""
    if linear.shape != shape:
        raise ModelError(f"{name} has shape {linear.shape}, the configuration says {shape}")
    check_planes(name, linear.planes)
    out.begin(name, "uint8", packed_shape(*shape, linear.planes))
    for part in linear.packed(name):
        out.put(part)
        done(len(part) * shape[1])
    blocks = linear.blocks()
    check_blocks(name, shape[0], blocks)
    scales = np.array([[b.scale.sig, b.scale.exp] for b in blocks], np.int16)
    out.add(f"{name}.scale", scales[0] if len(blocks) == 1 else scales)
    if len(blocks) > 1:
        out.add(f"{name}.scale_rows", np.array([b.rows for b in blocks], np.int32))
    if linear.bias is not None:
        check_bias(name, linear.bias, shape[0])
        out.add(f"{name}.bias", linear.bias)
    check_linear_groups(name, linear)
    if linear.multipliers is not None:
        out.add(f"{name}.multipliers", linear.multipliers())
        out.add(f"{name}.group_slices", np.array([linear.group_slices], np.int32))
        return GROUPS_VERSION
    return PLANES_VERSION if linear.planes > 1 else 2 if len(blocks) > 1 or linear.bias is not None else 1


class Container(StoredSource):
    """A .tellme file, read part by part: of matrices and tables some rows at a time, from the file that is mapped into memory.

    Anything wrong with the file is a ModelError that names the file.
    """

    def __init__(self, path: Path):
        check_file(path)
        if not path.exists():
            raise ModelError(f"there is no model file {path}")
        if path.is_dir():
            raise ModelError(f"{path} is a folder; a .tellme file is wanted: convert the folder", hint="convert")
        if path.stat().st_size == 0:
            raise ModelError(f"{path} is empty")
        with path.open("rb") as file:
            if file.read(4) == b"GGUF":
                raise ModelError(f"{path} is a GGUF file: convert the file", hint="convert")
        self.path = path
        self._checked = False
        try:
            self._file = safe_open(path, framework="numpy")
            metadata = self._file.metadata() or {}
            self._names = set(self._file.keys())
        except (SafetensorError, OSError, ValueError) as error:
            raise ModelError(f"{path} is no .tellme file, or is cut short or damaged ({error}); "
                             "convert or copy it again") from error
        check_metadata(path, metadata)
        self._version = int(metadata["format_version"])
        try:
            self.config = ModelConfig.of_json(parse_json(metadata["config"].encode(), "its configuration"))
            self.config.check()
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path} misses {error}; convert it again") from error
        self.name = metadata.get("name", "") or path.stem
        self.license = metadata.get("license", "")
        self.chat_template = metadata.get("chat_template", "")
        if "tokenizer" in self._names:
            self.tokenizer = self.tensor("tokenizer").tobytes()

    def tensor(self, name: str) -> np.ndarray:
        """A tensor by the name that it has in the file."""
        if name not in self._names:
            raise ModelError(f"{self.path} misses '{name}'; convert it again")
        try:
            return cast(np.ndarray, self._file.get_tensor(name))
        except (SafetensorError, ValueError, TypeError) as error:
            raise ModelError(f"{self.path}: {name} cannot be read ({error}); convert it again") from error

    def part_bytes(self, name: str) -> int:
        """Bytes of a tensor in the file, 0 if there is none of the name."""
        if name not in self._names:
            return 0
        part = self._file.get_slice(name)
        return int(np.prod(part.get_shape())) * ITEM_BYTES[str(part.get_dtype())]

    def linear(self, layer: int, name: str) -> Linear:
        what, shape = f"layers.{layer}.{name}", self.config.shape(name)
        bias = self.tensor(f"{what}.bias") if f"{what}.bias" in self._names else None
        planes = self._planes(what)

        def stored(step: int) -> Iterator[NDArray[np.uint8]]:
            rows = self._slice(what, packed_shape(*shape, planes), "U8")
            with self._named():
                if rows is None:
                    check_packed(what, self.tensor(what), shape, planes)
                for first, end in row_chunks(shape[0], step):
                    part = rows[first:end]
                    check_packed(what, part, (end - first, shape[1]), planes)
                    yield part

        def chunks() -> Iterator[NDArray[np.int8]]:
            for part in stored(shape[1]):
                yield unpack_rows(what, part, (len(part), shape[1]), planes)

        group_slices = self._group_slices(what)
        return Linear(shape, chunks, lambda: self._blocks(what, shape[0]), bias, lambda: stored(planes * packed_cols(shape[1])),
                      planes, group_slices, (lambda: self.tensor(f"{what}.multipliers")) if group_slices else None)

    def _planes(self, what: str) -> int:
        """Planes of a matrix, from its tensor's shape; 1 where the tensor has no shape of planes."""
        found = self._file.get_slice(what).get_shape() if what in self._names else []
        if self._version < PLANES_VERSION or len(found) != 3:
            return 1
        with self._named():
            check_planes(what, found[1])
        return int(found[1])

    def _group_slices(self, what: str) -> int:
        """Slices of a matrix's column groups; 0 where it has none.  Anything but a number of slices is a ModelError."""
        if self._version < GROUPS_VERSION or not {f"{what}.multipliers", f"{what}.group_slices"} & self._names:
            return 0
        found = self.tensor(f"{what}.group_slices")
        least, most = TILE_HEADER_GROUP_SLICES
        if found.shape != (1,) or found.dtype != np.int32 or not least <= int(found[0]) <= most:
            raise ModelError(f"{self.path}: {what}.group_slices is {found.dtype} {found.tolist()}; an int32 of {least} to {most} "
                             "is wanted")
        return int(found[0])

    def _slice(self, name: str, shape: tuple[int, ...], dtype: str) -> Any:
        """What gives rows of a tensor of the file, or None where the tensor has another shape or type; a tensor that is not there
        is a ModelError."""
        if name not in self._names:
            self.tensor(name)
        part = self._file.get_slice(name)
        return part if (tuple(part.get_shape()), str(part.get_dtype())) == (shape, dtype) else None

    def _blocks(self, what: str, rows: int) -> tuple[Block, ...]:
        scales = self.tensor(f"{what}.scale")
        counts = self.tensor(f"{what}.scale_rows") if f"{what}.scale_rows" in self._names else np.array([rows])
        if scales.size != 2 * counts.size or scales.dtype != np.int16:
            raise ModelError(f"{self.path}: {what}.scale misses values: {scales.dtype} of shape {scales.shape} for "
                             f"{counts.size} blocks of rows")
        blocks = []
        for (sig, exp), count in zip(scales.reshape(-1, 2).tolist(), counts.reshape(-1).tolist(), strict=True):
            if not (1024 <= sig <= 2047 and -128 <= exp <= 127):
                raise ModelError(f"{self.path}: {what}.scale is no scale: {sig}, {exp}")
            blocks.append(Block(count, Scale(sig, exp)))
        return tuple(blocks)

    def gain(self, layer: int, name: str) -> NDArray[np.float16] | None:
        what = f"layers.{layer}.{name}"
        return self.tensor(what) if what in self._names else None

    def final_norm(self) -> NDArray[np.float16] | None:
        return self.tensor("final_norm") if "final_norm" in self._names else None

    def table(self, name: str) -> Iterator[TableRows]:
        if name == "head" and name not in self._names:
            raise ModelError(f"{self.path}: the model is untied but has no head")
        rows, scales = self._table(name)
        for first, end in row_chunks(self.config.vocab, self.config.dim):
            yield TableRows(rows[first:end], scales[first:end])

    def rows(self, name: str, ids: NDArray[np.intp]) -> TableRows:
        rows, scales = self._table(name)
        return TableRows(np.concatenate([rows[i:i + 1] for i in ids.tolist()]), scales[ids])

    def _table(self, name: str) -> tuple[Any, NDArray[np.uint16]]:
        """What gives rows of a table, and the scales of them all."""
        shape = self.config.vocab, self.config.dim
        rows, scales = self._slice(name, shape, "I8"), self.tensor(f"{name}.scale")
        with self._named():
            check_rows(name, self.tensor(name) if rows is None else np.broadcast_to(np.int8(0), shape), scales, shape)
        return rows, scales

    def check(self) -> None:
        if self._checked:
            return
        try:
            check_parts(self)
            self._checked = True
        except ModelError as error:
            if str(self.path) in str(error):
                raise
            raise ModelError(f"{self.path}: {error}") from error

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors inside get the file's name."""
        try:
            yield
        except ModelError as error:
            raise ModelError(f"{self.path}: {error}") from error


def check_metadata(path: Path, metadata: dict[str, str]) -> None:
    """Format and version."""
    if metadata.get("format") != FORMAT:
        raise ModelError(f"{path} is a safetensors file, but not a tellme model: convert the file", hint="convert")
    version = metadata.get("format_version", "?")
    if version not in [str(v) for v in range(1, FORMAT_VERSION + 1)]:
        raise ModelError(f"{path} has format_version {version}; this tellme-host reads up to {FORMAT_VERSION}: "
                         "install a newer one, or convert the model again")
