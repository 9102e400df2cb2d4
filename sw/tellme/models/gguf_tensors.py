# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The tensors and metadata of GGUF files."""

from pathlib import Path
from typing import Any

import numpy as np

from tellme.models.config import ModelError
from tellme.models.tensors import Tensors, as_numbers

__all__ = ["GgufTensors"]


class GgufTensors(Tensors):
    """The tensors of a GGUF file; its index is read with the ``gguf`` package, rows where they lie."""

    def __init__(self, path: Path):
        # Late: nothing else needs the package.
        import gguf

        self.label = str(path)
        self._gguf = gguf
        try:
            reader = gguf.GGUFReader(path)
            self.fields = reader.fields
            self._entries = {t.name: (t.tensor_type, tuple(int(n) for n in reversed(t.shape.tolist())), int(t.data_offset))
                             for t in reader.tensors}
            self._file = path.open("rb")
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, OSError) as error:
            raise ModelError(f"{path} is no GGUF file that the gguf package reads, or is cut short or damaged "
                             f"({error})") from error

    def field(self, key: str, default: Any = None) -> Any:
        """A metadata value."""
        return self.fields[key].contents() if key in self.fields else default

    def names(self) -> set[str]:
        return set(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._entries[name][1]

    def kind(self, name: str) -> str:
        return str(self._entries[name][0].name)

    def rows(self, name: str, first: int, end: int) -> np.ndarray:
        kind, shape, at = self._entries[name]
        block, size = self._gguf.GGML_QUANT_SIZES[kind]
        row = int(np.prod(shape[1:])) * size // block
        self._file.seek(at + first * row)
        raw = np.frombuffer(self._file.read((end - first) * row), np.uint8)
        plain = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}.get(kind.name)
        if plain is not None:
            return as_numbers(raw.view(plain).reshape(end - first, *shape[1:]), kind.name)
        try:
            return np.asarray(self._gguf.quants.dequantize(raw.reshape(end - first, row), kind))
        except NotImplementedError as error:
            raise ModelError(f"{self.label}: {name} is {kind.name}, which the gguf package does not decode") from error
