# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A model with column groups that are no whole slices of 20, with zeros put behind each group.

Groups of ``width`` columns (128, 64) become groups of whole slices (140, 80) of a wider model that computes the same:

- the residual stream and the feed-forward get the zeros behind each group: as columns of the matrices that read them, as rows
  of those that write them, as columns of the tables, and in the gains;
- RMSNorm divides by the square root of the new width, so that its results are larger by f = sqrt(new dim / dim).  Their codes of
  8 bits are the same; 1 / f goes into the scales of q, k, v, gate and up, and into the gain ahead of the LM head.  eps becomes
  eps * dim / new dim, which keeps dim * eps; norms on heads of q and k get this eps too;
- the output projection reads heads, which cannot be padded (RoPE turns them whole): its planes are split
  (:mod:`tellme.models.importers.grouped`).

The matrices keep one plane, where splitting all would give them two.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import LINEARS
from tellme.models.importers.grouped import Part, grouped
from tellme.models.importers.importing import Imported, Say
from tellme.models.source import Linear, Source, TableRows
from tellme.spec.packing import SLICE, slices

__all__ = ["Padded", "padded"]


def padded(source: Source, say: Say) -> Source:
    """The source, or if the groups of its first layer's matrices want it and its shape allows it, a wider one.

    ``say`` hears of the new width.
    """
    if not isinstance(source, Imported) or source.config.down_norm:
        return source
    c = source.config
    widths = {name: source.group_width(0, name) for name in LINEARS}
    width = min(width or 0 for width in widths.values())
    # The output projection's groups alone are no reason.
    wanted = any(widths[name] != c.shape(name)[1] for name in LINEARS if name != "wo")
    if not (width and width % SLICE and wanted) or any(size % width for size in (c.dim, c.q_dim, c.ffn)):
        return source
    out = Padded(source, width)
    say(f"groups of {width} columns: {SLICE * slices(width) - width} columns of zeros behind each make them whole slices of "
        f"{SLICE}; dim {c.dim} becomes {out.config.dim}, ffn {c.ffn} becomes {out.config.ffn}")
    return out


class Padded(Source):
    """The wider model of a checkpoint with groups of ``width`` columns, no part of a slice."""

    def __init__(self, source: Imported, width: int):
        self._source, self._width = source, width
        self._new_width = SLICE * slices(width)
        c = source.config
        dim = self._new(c.dim)
        self.config = replace(c, dim=dim, ffn=self._new(c.ffn), eps=c.eps * c.dim / dim)
        self._factor = (c.dim / dim) ** 0.5
        self.name, self.license = source.name, source.license
        self.tokenizer, self.chat_template = source.tokenizer, source.chat_template

    def _new(self, at: int) -> int:
        """Where an element is that was at ``at``, or a width that was ``at``."""
        return at // self._width * self._new_width + at % self._width

    def _spread(self, values: NDArray, axis: int) -> NDArray:
        """Elements with zeros behind each whole group."""
        count = values.shape[axis]
        out = np.zeros((*values.shape[:axis], self._new(count), *values.shape[axis + 1:]), values.dtype)
        at = np.arange(count)
        out[(slice(None),) * axis + (at // self._width * self._new_width + at % self._width,)] = values
        return out

    def linear(self, layer: int, name: str) -> Linear:
        source = self._source
        what = f"{source.base(layer, name)}.weight"
        writes, times = name in ("wo", "w1", "w3", "w2"), 1.0 if name in ("wo", "w2") else self._factor

        def parts() -> Iterator[Part]:
            first = 0
            for trits, worth in source.group_parts(layer, name, self._width):
                worth = worth * times
                if name != "wo":
                    trits = self._spread(trits, 2)
                if writes:
                    # Rows before ``first``, of other parts, and those of this one: of the zeros between, each part has those
                    # behind its own.
                    rows = np.arange(first, first + trits.shape[1])
                    start, end = self._new(first), self._new(first + trits.shape[1])
                    at = rows // self._width * self._new_width + rows % self._width - start
                    first = rows[-1] + 1
                    spread = np.zeros((trits.shape[0], end - start, trits.shape[2]), np.int8)
                    spread[:, at] = trits
                    worths = np.zeros((*worth.shape[:2], end - start))
                    worths[:, :, at] = worth
                    trits, worth = spread, worths
                yield Part(trits, worth)

        bias = source.bias(layer, name)
        if bias is not None and writes:
            bias = self._spread(bias, 0)
        return grouped(what, self.config.shape(name), 1, self._width if name == "wo" else self._new_width, parts, bias)

    def gain(self, layer: int, name: str) -> NDArray[np.float16] | None:
        gain = self._source.gain(layer, name)
        return self._spread(gain, 0) if gain is not None and name in ("attn_norm", "ffn_norm") else gain

    def final_norm(self) -> NDArray[np.float16] | None:
        gain = self._source.final_norm()
        values = np.ones(self._source.config.dim) if gain is None else gain.astype(np.float64)
        return self._spread((values * self._factor).astype(np.float16), 0)

    def table(self, name: str) -> Iterator[TableRows]:
        for part in self._source.table(name):
            yield TableRows(self._spread(part.codes, 1), part.scales)
