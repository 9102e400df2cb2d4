# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A whole board in NumPy: it takes the same image and runs the same program, descriptor by descriptor.

The weights stay packed in the board's memory; :mod:`tellme.golden.weights` unpacks them when they are used.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellme.compiler.head import head_rows
from tellme.compiler.image import Image
from tellme.drafts.table import drafted_tokens
from tellme.golden.attention import attend
from tellme.golden.elementwise import F16, absmax, activation, add, dequantise, mul, nonfinite, norm_codes, quantise, rope, sumsq
from tellme.golden.head import Table, TwoSteps, best
from tellme.golden.scales import Scales, from_bits, pack16, recip127, scale_mul, scales, times_c127, unpack16
from tellme.golden.weights import KEPT_BYTES, Budget, TernaryMatrix, Tile, unpacked_rows
from tellme.spec.drafts import SETTINGS_FIELDS, Drafting
from tellme.spec.ending import ending
from tellme.spec.memory import (
    DRAFT_REGISTERS,
    HEAD_COUNTERS,
    SAMPLING_REGISTERS,
    DoneReason,
    Event,
    EventType,
    StartArgs,
    StartFlags,
    cache_bases,
)
from tellme.spec.packing import (
    HEAD_BLOCK_ROWS,
    NO_BIAS,
    ROW_WORD_BYTES,
    SLICE_BYTES,
    TRITS,
    RowWord,
    TileHeader,
    head_block_words,
    head_row_words,
    multiplier_words,
    slices,
)
from tellme.spec.program import Descriptor, Epilogue, FormatError, Op, QkvPart, Segment, check_segments
from tellme.spec.quantise import NORM_FRAC
from tellme.spec.ranges import I32, Range
from tellme.spec.sampling import DrawSettings, draw, unpack_settings
from tellme.spec.scale import Scale, absmax_floor, inv_rms
from tellme.spec.scale import unpack16 as unpack_scale16
from tellme.spec.two_steps import LOW_PAGE, low_row_words, serves
from tellme.spec.words import unpack_word

__all__ = ["GoldenBoard", "NonfiniteError", "PassRun"]

#: The tokens of a pass whose logits :meth:`GoldenBoard.feed` is asked for.
_HEADS = {"all": slice(None), "last": slice(-1, None), "none": None}
#: Tokens of a prompt that are computed at once; the results do not depend on this number.
CHUNK = 64


class NonfiniteError(Exception):
    """A step's result is infinite or NaN; ``step`` is its descriptor's number."""

    def __init__(self, step: int):
        super().__init__(f"step {step} of the layer program gave an infinity or NaN")
        self.step = step


@dataclass
class _Step:
    """A descriptor with what it takes from the weight stream."""

    descriptor: Descriptor
    #: Gains of the norm that follows.
    gains_next: F16 | None = None
    #: Gains of q's heads and of k's: (2, head_dim).
    head_gains: F16 | None = None
    weights: TernaryMatrix | None = None
    #: Distinct scales of the rows, and the number of each row's scale.
    scales: Scales | None = None
    scale_of_row: NDArray[np.intp] | None = None
    #: Biases, added to the rows with a rounding of their own: from row words, or of a residual step, which no gateware adds.
    bias: F16 | None = None


@dataclass
class _Cache:
    """K and V of a layer: (kv_heads, context, head_dim), stored scales (kv_heads, context)."""

    keys: NDArray[np.int8]
    values: NDArray[np.int8]
    key_scales: NDArray[np.uint16]
    value_scales: NDArray[np.uint16]


@dataclass
class _Record:
    """What the board keeps of a slot that runs: what its START said, and how far its run is."""

    args: StartArgs
    #: Of the START's moment; None: the likeliest token is taken.
    settings: DrawSettings | None
    #: Of the next token to feed.
    position: int
    #: Tokens of START that are not fed; 0: the slot decodes.
    feed: int
    #: Tokens that count for ``generate``, the last pick, and the token that it was picked behind.
    picked: int = 0
    pick: int = 0
    before: int = 0
    drafting: Drafting = field(default_factory=Drafting)


@dataclass(frozen=True)
class PassRun:
    """Tokens of a pass: those at consecutive positions of a slot."""

    slot: int
    position: int
    tokens: list[int]


def joined(memory: NDArray[np.uint8], segments: Sequence[Segment]) -> NDArray[np.uint8]:
    """The bytes of segments, one after another; they are copied only where they do not lie so in memory."""
    runs: list[list[int]] = []
    for segment in segments:
        if runs and runs[-1][1] == segment.address:
            runs[-1][1] = segment.end
        else:
            runs.append([segment.address, segment.end])
    parts = [memory[4 * first:4 * end] for first, end in runs]
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.uint8), *parts])


def joined_heads(parts: Sequence[tuple[NDArray[np.int8], Scales]]) -> tuple[NDArray[np.int8], Scales]:
    """Codes (tokens, heads, head_dim) and scales (tokens, heads) of parts of q, k and v, one behind another."""
    return (np.concatenate([codes for codes, _ in parts], axis=1),
            Scales(*(np.concatenate(values, axis=1) for values in zip(*(scale for _, scale in parts), strict=True))))


class GoldenBoard:
    """Runs an :class:`~tellme.compiler.image.Image` as the gateware does, several prompt tokens at a time.

    :meth:`feed` computes tokens at consecutive positions.  :meth:`start` does what a START packet does while no other run goes
    on, and yields the same events (counters are zero).

    Several sequences run side by side, up to ``slots``, each in a slot with a KV cache and a window of token memory of its own:
    :meth:`begin` does what a START packet does, :meth:`stop` what a STOP packet does, and :meth:`make_pass` makes a pass of the
    tokens of all slots that run.  ``windows`` has the token memory of each slot: the token of position p is its word p modulo
    ``token_window`` (:attr:`tellme.spec.widths.Widths.token_window` of a core, None: the context).  ``tokens`` is slot 0's.

    ``crcs`` has the CRC-32 of each step's output stream in its last run, like the board's step CRC
    memory; ``logits`` has the logits of the last token of the last LM head pass (Q15.16), ``pass_logits`` (tokens, vocab) those
    of all tokens of the board's last pass: one token, or with the flag ALL a chunk.  With several slots the LM head works for the
    only wanted token of a pass; of several wanted ones for all tokens of the pass if one is a prompt's, and else for the tokens
    of the slots that decode.

    ``lanes`` matters only for overflow: a board works on this number of prompt tokens at a time, and stops at the first step in
    which one of these tokens gives an infinity or NaN.  ``kept_bytes``: this many bytes of the matrices' floats are kept from one
    use to the next; the rest is unpacked each time.  ``sampler``: the board has a sampler.  ``head_tokens``: tokens of a chunk
    after which the board's LM head gives a pick, 1 or ``lanes``.  ``registers`` has the model's registers and, with a sampler,
    the sampling registers, which a host sets.  ``slots``: 1, or up to ``head_tokens``.

    In a run with the flag TWO_STEPS the LM head's steps go as :mod:`tellme.spec.two_steps` says, from the head's second form in
    the image.  ``read_rows`` has the rows that the last one read whole, in their order; None: the last LM head pass was of whole
    rows.  A step's CRC is over the logits of these rows, and ``pass_logits`` has the least number for all others.
    ``head_counters`` has what a board counts (:data:`tellme.spec.memory.HEAD_COUNTERS`).

    ``drafts``: the board drafts tokens.  The draft registers then say how many and where in the memory the table lies, which
    :meth:`write` writes.  ``drafts_told`` counts passes of slots that decode, drafted tokens, and those that were accepted.
    """

    def __init__(self, image: Image, lanes: int = 1, kept_bytes: int = KEPT_BYTES, *, sampler: bool = True, head_tokens: int = 1,
                 slots: int = 1, token_window: int | None = None, drafts: bool = False):
        if head_tokens not in (1, lanes):
            raise ValueError(f"head_tokens is {head_tokens}; 1 or {lanes} can be")
        Range(1, head_tokens).check("slots", slots)
        self._lanes = lanes
        self._head_tokens = head_tokens
        self.slots = slots
        self._budget = Budget(kept_bytes)
        self._sampler = sampler
        self.registers = r = (dict(image.registers) | dict.fromkeys(SAMPLING_REGISTERS if sampler else (), 0)
                              | dict.fromkeys(DRAFT_REGISTERS if drafts else (), 0))
        self.drafts_told = [0, 0, 0]
        self._memory = memory = np.zeros(image.end, np.uint8)
        for base, part in image.sections:
            part.read_into(memory[base:base + len(part)])
        check_segments(image.segments)
        self._stream, table, upper = (joined(memory, [s for s in image.segments if (s.lm_head, s.two_steps) == kind])
                                      for kind in ((False, False), (True, False), (True, True)))
        self.steps = [self._unpack(d) for d in image.program]
        for number, bias in image.residual_biases.items():
            self.steps[number].bias = bias
        if len(self._stream):
            raise ValueError(f"the program leaves {len(self._stream)} bytes of the weight stream")
        self._head = self._table(table)
        self._two_steps = self._in_two_steps(upper) if image.two_steps else None
        #: The gap of a run in two steps.
        self._gap: int | None = None
        self.read_rows: list[int] | None = None
        self.head_counters = dict.fromkeys(HEAD_COUNTERS, 0)
        half = r["head_dim"] // 2
        table = memory[4 * r["rope_base"]:][:4 * r["context"] * half].view("<f2").reshape(r["context"], half, 2)
        self._cos, self._sin = (np.ascontiguousarray(table[..., i]).astype(np.float16) for i in (0, 1))
        shape = (r["kv_heads"], r["context"])
        #: A cache for each slot of each layer.
        self._caches = {s.descriptor.layer: [_Cache(
            np.zeros((*shape, r["head_dim"]), np.int8), np.zeros((*shape, r["head_dim"]), np.int8),
            np.zeros(shape, np.uint16), np.zeros(shape, np.uint16)) for _ in range(slots)]
            for s in self.steps if s.descriptor.epilogue == Epilogue.QKV}
        self.crcs = [0] * len(self.steps)
        self.windows = [[0] * (token_window or r["context"]) for _ in range(slots)]
        #: Slots that run, those whose START came first ahead of the others.
        self._records: dict[int, _Record] = {}
        self.pass_logits = np.zeros((1, r["vocab"]), np.int32)

    # Unpacking

    def _take(self, size: int) -> NDArray[np.uint8]:
        part, self._stream = self._stream[:size], self._stream[size:]
        if len(part) < size:
            raise ValueError(f"the program takes {size - len(part)} bytes more than the weight stream has")
        return part

    def _unpack(self, d: Descriptor) -> _Step:
        step = _Step(d)
        if d.head_gains:
            n = 2 * self.registers["head_dim"]
            step.head_gains = self._take(8 * -(-n // 4)).view("<f2")[:n].astype(np.float16).reshape(2, -1)
        if d.gain_next:
            n = {Op.EMBED: self.registers["dim"],
                 Op.ATTENTION: self.registers["heads"] * self.registers["head_dim"],
                 }.get(d.op, d.rows // 2 if d.epilogue == Epilogue.ACT else d.rows)
            step.gains_next = self._take(8 * -(-n // 4)).view("<f2")[:n].astype(np.float16)
        if d.op == Op.LINEAR:
            tiles, found, biases = self._tiles(d.rows, d.cols, biases=d.bias)
            step.weights = TernaryMatrix(tiles, d.cols, self._budget)
            distinct = {scale: i for i, scale in enumerate(dict.fromkeys(found))}
            step.scales = scales(*distinct)
            step.scale_of_row = np.array([distinct[s] for s in found])
            if d.bias:
                step.bias = biases.view(np.float16)
        return step

    def _tiles(self, rows: int, cols: int, *, biases: bool = False) -> tuple[list[Tile], list[Scale], NDArray[np.uint16]]:
        """The tiles of a matrix, and a scale and a bias of each row."""
        tiles: list[Tile] = []
        found: list[Scale] = []
        added: list[NDArray[np.uint16]] = []
        while (first := len(found)) < rows:
            header = TileHeader.unpack(int(self._take(8).view("<u8")[0]))
            if not 0 < header.rows <= rows - first or header.rows % 2:
                raise ValueError(f"a tile of {header.rows} rows at row {first} of {rows}")
            if header.row_words:
                words = [RowWord.unpack(int(word)) for word in self._take(ROW_WORD_BYTES * header.rows).view("<u4")]
                found += [unpack_scale16(word.scale) for word in words]
                added.append(np.array([word.bias for word in words], np.uint16))
                if not biases and (added[-1] != NO_BIAS).any():
                    raise FormatError(f"a tile at row {first} of {rows} has biases, and its step adds none")
            else:
                found += [header.scale, header.odd_scale] * (header.rows // 2)
                added.append(np.full(header.rows, NO_BIAS, np.uint16))
            tiles.append(self._planes(header, slices(cols)))
        return tiles, found, np.concatenate(added)

    def _planes(self, header: TileHeader, width: int) -> Tile:
        """The planes of a tile, ``width`` slices each, and their multipliers."""
        if not header.group_slices:
            return Tile([self._trits(width, header.rows) for _ in range(header.planes)], header.free)
        planes, multipliers = [], []
        for _ in range(header.planes):
            parts = []
            for first in range(0, width, header.group_slices):
                numbers = self._take(8 * multiplier_words(header.rows)).view(np.int8)
                if numbers[header.rows:].any():
                    raise FormatError(f"the padding behind {header.rows} multipliers is not zero: the weights are damaged")
                multipliers.append(numbers[:header.rows])
                parts.append(self._trits(min(header.group_slices, width - first), header.rows))
            planes.append(np.concatenate(parts))
        return Tile(planes, header.free, header.group_slices, np.stack(multipliers).reshape(header.planes, -1, header.rows))

    def _trits(self, width: int, rows: int) -> NDArray[np.uint32]:
        """Slices of a plane."""
        packed = self._take(width * rows * SLICE_BYTES)
        if packed.max() >= 3**TRITS:
            raise ValueError(f"byte {packed.max()} in the weight stream is no base-3 code")
        return packed.view(f"<u{SLICE_BYTES}").reshape(width, rows)

    def _table(self, content: NDArray[np.uint8]) -> Table:
        """The LM head's table, from its tiles."""
        r, self._stream = self.registers, content
        tiles, found, _ = self._tiles(head_rows(r["vocab"]), r["dim"])
        if len(self._stream):
            raise ValueError(f"the LM head leaves {len(self._stream)} bytes of the weight stream")
        return Table.of_tiles(tiles, (r["vocab"], r["dim"]), scales(*found[:r["vocab"]]), self._budget)

    def _in_two_steps(self, content: NDArray[np.uint8]) -> TwoSteps:
        """The LM head's second form: tiles of the upper planes, and rows of the lowest one."""
        vocab, dim = self.registers["vocab"], self.registers["dim"]
        (head,) = (step.descriptor for step in self.steps if step.descriptor.op == Op.HEAD)
        size, first = SLICE_BYTES * low_row_words(dim), 4 * LOW_PAGE * head.rows
        rows = self._memory[first:first + size * vocab].reshape(vocab, size)
        return TwoSteps(self._table(content), unpacked_rows(rows, dim))

    def _embedding(self, tokens: NDArray[np.intp]) -> F16:
        """Rows of the embedding table as they lie in memory now."""
        r = self.registers
        blocks = 4 * r["embed_base"] + 8 * head_block_words(r["dim"]) * (tokens // HEAD_BLOCK_ROWS)
        row = tokens % HEAD_BLOCK_ROWS
        stored = self._memory[(blocks + 2 * row)[:, None] + np.arange(2)].view("<u2")
        first = blocks + 8 + 8 * head_row_words(r["dim"]) * row
        codes = self._memory[first[:, None] + np.arange(r["dim"])].view(np.int8)
        return dequantise(codes.astype(np.int64), unpack16(stored))

    def write(self, address: int, content: bytes) -> None:
        """Write into the memory behind the program's weights: rows of the embedding table."""
        self._memory[address:address + len(content)] = np.frombuffer(content, np.uint8)

    def cache_pieces(self, slot: int, end: int) -> Iterator[tuple[int, bytes]]:
        """(address in the memory, content) of a slot's keys, values and scales of positions 0 to end - 1, as on a board."""
        r = self.registers
        first = slot * r["context"]
        for layer, caches in self._caches.items():
            cache, (k, v, s) = caches[slot], cache_bases(r, layer)
            for head in range(r["kv_heads"]):
                for base, rows in ((k, cache.keys), (v, cache.values)):
                    yield 4 * (base + head * r["kv_stride"]) + first * r["head_dim"], rows[head, :end].tobytes()
                scales = cache.key_scales[head, :end].astype("<u4") | cache.value_scales[head, :end].astype("<u4") << 16
                yield 4 * (s + head * r["s_stride"] + first), scales.astype("<u4").tobytes()

    # Running

    @property
    def tokens(self) -> list[int]:
        """Token memory of slot 0."""
        return self.windows[0]

    def feed(self, tokens: Sequence[int], position: int, *, heads: str = "last", chunk: int = 1,
             slot: int = 0) -> NDArray[np.int32]:
        """Feed tokens of a slot from ``position`` on; logits (Q15.16) of "all" of them, the "last", or "none".

        A result that is infinite or NaN raises :class:`NonfiniteError`, with the step at which a board that takes ``chunk``
        tokens at a time would have stopped.
        """
        if position + len(tokens) > self.registers["context"]:
            raise ValueError(f"{len(tokens)} tokens from position {position} pass the context of "
                             f"{self.registers['context']}")
        out = []
        for first in range(0, len(tokens), CHUNK):
            part = tokens[first:first + CHUNK]
            last = first + CHUNK >= len(tokens)
            wanted = heads if heads != "last" or last else "none"
            try:
                logits = self._compute([PassRun(slot, position + first, list(part))], _HEADS[wanted])
            except NonfiniteError:
                # Compute again in the board's chunks, to find the board's step; it may be another step, but there is one.
                for at in range(0, len(part), chunk):
                    self._compute([PassRun(slot, position + first + at, list(part[at:at + chunk]))], _HEADS[wanted])
                raise
            out.append(logits)
        result = np.concatenate(out)
        if len(result):
            self.pass_logits = result[-1:]
        return result

    def _compute(self, runs: Sequence[PassRun], wanted: slice | None) -> NDArray[np.int32]:
        """One pass of the program; the logits of the tokens ``wanted`` of the pass.  Without any there is no LM head."""
        r = self.registers
        tokens = np.array([token for run in runs for token in run.tokens])
        positions = np.array([run.position + i for run in runs for i in range(len(run.tokens))])
        n = len(tokens)
        x = a = np.zeros((n, 0), np.float16)
        gains: F16 | None = None
        heads_of: dict[QkvPart, tuple[NDArray[np.int8], Scales]] = {}
        caches: list[_Cache] = []
        logits = np.zeros((0, r["vocab"]), np.int32)
        for number, step in enumerate(self.steps):
            d = step.descriptor
            if d.op == Op.END:
                break
            if d.op == Op.HEAD and wanted is None:
                continue
            stream: Any
            if d.op == Op.EMBED:
                stream = x = self._embedding(tokens)
            elif d.op == Op.ATTENTION:
                assert caches, "an ATTENTION without a QKV linear ahead of it"
                codes, head_scales = joined_heads([heads_of[part] for part in sorted(heads_of)])
                stream = a = self._attention(caches, runs, codes, head_scales).reshape(n, -1)
            else:
                source = x if d.op == Op.HEAD or not d.src_a else a
                if d.op == Op.HEAD and wanted is not None:
                    source = source[wanted]
                q, scale_d = self._quantise(number, d, source, gains)
                of_token = Scales(scale_d.sig[:, None], scale_d.exp[:, None])
                if d.op == Op.HEAD and self._gap is not None:
                    assert self._two_steps is not None and len(q) == 1
                    self.read_rows, stream = self._two_steps.logits(q, scale_d, self._gap)
                    logits = np.full((1, r["vocab"]), I32.least, np.int32)
                    logits[:, self.read_rows] = stream
                    self.head_counters["head_rows"] += r["vocab"]
                    self.head_counters["head_rows_read"] += len(self.read_rows)
                elif d.op == Op.HEAD:
                    self.read_rows = None
                    stream = logits = self._head.logits(q, scale_d)
                else:
                    if d.op == Op.NORM:
                        # The codes are the accumulators.
                        y = dequantise(q, scale_mul(of_token, scales(Scale(1024, -10 - NORM_FRAC))))
                    else:
                        assert step.weights is not None and step.scales is not None
                        acc = step.weights.product(q)
                        row = scale_mul(of_token, step.scales)
                        y = dequantise(acc, (row.sig[:, step.scale_of_row], row.exp[:, step.scale_of_row]))
                    if step.bias is not None:
                        y = add(y, step.bias)
                    if nonfinite(y):
                        raise NonfiniteError(number)
                    if d.epilogue == Epilogue.QKV:
                        caches = self._caches[d.layer]
                        if d.part in (QkvPart.WHOLE, QkvPart.Q):
                            heads_of = {}
                        heads_of[d.part] = part = self._heads(number, y, positions, step.head_gains, d.part)
                        stream = part[0].astype(np.int16)
                    elif d.epilogue == Epilogue.ACT:
                        stream = a = activation(y[:, 0::2], y[:, 1::2], relu2=d.relu2, act_exp=d.act_exp)
                    elif d.epilogue == Epilogue.RESIDUAL:
                        stream = x = add(x, y)
                    else:
                        stream = a = y
            if stream.dtype == np.float16 and nonfinite(stream):
                raise NonfiniteError(number)
            self.crcs[number] = zlib.crc32(stream[-1].astype(stream.dtype.newbyteorder("<")).tobytes())
            # The product with the gains is taken with the statistics, in the pass that writes the vector.
            gains = step.gains_next
            if gains is not None and nonfinite(mul(stream, gains)):
                raise NonfiniteError(number)
        return logits

    def _quantise(self, number: int, d: Descriptor, x: F16, gains: F16 | None) -> tuple[NDArray[Any], Scales]:
        """Codes of vectors, of a NORM with NORM_FRAC more bits, and the scale d of each."""
        if d.gain != (gains is not None):
            raise ValueError(f"step {number} wants {'' if d.gain else 'no '}gains, the step before loads the opposite")
        y = x if gains is None else mul(x, gains)
        a = from_bits(np.maximum(absmax(y), np.uint16(absmax_floor(d.norm))))
        s, scale = recip127(a), times_c127(a)
        if d.norm:
            scale = scale_mul(scale, scales(*(inv_rms(sumsq(row), d.n_eps, d.sqrt_n) for row in x)))
        return (norm_codes if d.op == Op.NORM else quantise)(y, (s.sig[:, None], s.exp[:, None])), scale

    def _heads(self, number: int, y: F16, positions: NDArray[np.intp], gains: F16 | None = None,
               part: QkvPart = QkvPart.WHOLE) -> tuple[NDArray[np.int8], Scales]:
        """Rows of q, k and v, or of a part of them: RoPE on q and k, int8 with a scale per head.

        With ``gains``, q and k go through a norm on each head: the gains multiply the elements, and 1 / rms of the elements
        before the gains multiplies the head's scale.
        """
        r = self.registers
        y = y.reshape(len(y), -1, r["head_dim"])
        turned = {QkvPart.WHOLE: r["heads"] + r["kv_heads"], QkvPart.V: 0}.get(part, y.shape[1])
        qk = measured = y[:, :turned]
        if gains is not None:
            qk = mul(qk, np.repeat(gains, (r["heads"], r["kv_heads"]), axis=0))
        qk = rope(qk, self._cos[positions, None], self._sin[positions, None])
        if nonfinite(qk):
            raise NonfiniteError(number)
        y = np.concatenate([qk, y[:, turned:]], axis=1)
        a = from_bits(np.maximum(absmax(y), np.uint16(absmax_floor(True))))
        s, scale = recip127(a), times_c127(a)
        if gains is not None:
            n_eps, sqrt_n = r["head_n_eps"], Scale.unpack(r["head_sqrt_n"])
            factors = scales(*(inv_rms(sumsq(head), n_eps, sqrt_n) for token in measured for head in token))
            normed = scale_mul(Scales(*(part[:, :turned] for part in scale)), Scales(*(f.reshape(-1, turned) for f in factors)))
            scale = Scales(*(np.concatenate([n, part[:, turned:]], axis=1) for n, part in zip(normed, scale, strict=True)))
        return quantise(y, (s.sig[..., None], s.exp[..., None])), scale

    def _attention(self, caches: Sequence[_Cache], runs: Sequence[PassRun], codes: NDArray[np.int8], scale: Scales) -> F16:
        """Write K and V of the tokens, then attend, run by run."""
        r = self.registers
        heads, kv_heads = r["heads"], r["kv_heads"]
        q_scale = scale_mul(Scales(scale.sig[:, :heads], scale.exp[:, :heads]), scales(Scale.unpack(r["c_att"])))
        stored = pack16(scale)
        out, first = [], 0
        for run in runs:
            cache, end = caches[run.slot], run.position + len(run.tokens)
            own = slice(first, first + len(run.tokens))
            for content, where, head in ((cache.keys, codes, heads), (cache.values, codes, heads + kv_heads),
                                         (cache.key_scales, stored, heads), (cache.value_scales, stored, heads + kv_heads)):
                content[:, run.position:end] = where[own, head:head + kv_heads].swapaxes(0, 1)
            out.append(attend(codes[own, :heads], Scales(q_scale.sig[own], q_scale.exp[own]), cache.keys[:, :end],
                              cache.values[:, :end], cache.key_scales[:, :end], cache.value_scales[:, :end], run.position))
            first = own.stop
        return np.concatenate(out)

    @property
    def logits(self) -> NDArray[np.int32]:
        """The logits of the last LM head pass's last token."""
        return self.pass_logits[-1]

    def top(self, number: int = -1) -> list[tuple[int, int]]:
        """The 64 best (id, logit) of a token of the last LM head pass, by its number in the pass (-1: the last one); best first,
        ties to the lower id; of a pass in two steps those of the rows that were read, which may be fewer."""
        found, read = best(self.pass_logits[number]), self.read_rows
        return found if read is None else [entry for entry in found if entry[0] in set(read)]

    def start(self, args: StartArgs) -> Iterator[tuple[EventType, Event]]:
        """Run like a board: an event for each pick, then DONE.  No other run goes on meanwhile.

        With the flag SAMPLE tokens are drawn as the sampling registers say.  With the flag ALL there is a pick after each fed
        token.  What :meth:`begin` refuses is refused, and a start beside other runs is a ValueError.  A caller who leaves the
        iterator early ends the run.
        """
        if self.slots == 1:
            yield from self._alone(args)
            return
        if self._records:
            raise ValueError(f"slots {', '.join(map(str, sorted(self._records)))} run: begin a run beside them, and make passes")
        self.begin(args)
        try:
            while args.slot in self._records:
                yield from self.make_pass()
        finally:
            self._records.pop(args.slot, None)

    def _settings(self, args: StartArgs) -> DrawSettings | None:
        """How a START draws, as the sampling registers say now; what the board cannot do is refused."""
        args.check_context(self.registers["context"])
        Range(0, self.slots - 1).check("slot", args.slot)
        Range(1, len(self.windows[args.slot])).check("feed, within a slot's token window", args.feed)
        if args.flags & StartFlags.ALL and self._head_tokens == 1:
            raise ValueError("START has the flag ALL, and the board's LM head takes one token")
        if args.flags & StartFlags.SAMPLE and not self._sampler:
            raise ValueError("START has the flag SAMPLE, and the board has no sampler")
        settings = unpack_settings(self.registers) if args.flags & StartFlags.SAMPLE else None
        if args.flags & StartFlags.TWO_STEPS and (self._two_steps is None or self.slots > 1 or args.flags & (
                StartFlags.ALL | StartFlags.DUMP) or settings is not None and not serves(settings)):
            raise ValueError("START has the flag TWO_STEPS, and image, flags or settings do not let the LM head run so")
        return settings

    @property
    def running(self) -> tuple[int, ...]:
        """The slots that run, in their order."""
        return tuple(sorted(self._records))

    def begin(self, args: StartArgs) -> None:
        """Begin a run of the slot that START names; it takes part in the passes from the next one on.

        The arguments and the sampling registers count as they are now.  Positions outside the context, a slot that the board
        does not have, more tokens than a window of token memory holds, and settings outside their ranges are a RangeError.  A
        slot that runs, the flag SAMPLE on a board without a sampler, and ALL on a board whose LM head takes one token are a
        ValueError; and so is TWO_STEPS with an image without the head's second form, with ALL or DUMP, or with settings that it
        does not serve.
        """
        settings = self._settings(args)
        if args.slot in self._records:
            raise ValueError(f"slot {args.slot} runs already")
        self._records[args.slot] = _Record(args, settings, args.position, args.feed)

    def stop(self, slots: Iterable[int] | None = None) -> list[tuple[EventType, Event]]:
        """End the runs of some slots, or of all, between two passes: the DONE of each, in the order of slots.

        A slot that does not run has none.  DONE has the position of the last token that was fed, or that of the START if none
        was.
        """
        wanted = self._records if slots is None else set(slots) & set(self._records)
        return [self._done(slot, max(self._records[slot].position - 1, self._records[slot].args.position), DoneReason.STOPPED)
                for slot in sorted(wanted)]

    def _done(self, slot: int, position: int, reason: DoneReason, step: int | None = None) -> tuple[EventType, Event]:
        """The end of a slot's run."""
        record = self._records.pop(slot)
        return EventType.DONE, Event(position, record.pick if step is None else step, reason, 0, 0, 0, 0, 0, slot)

    def _runs(self) -> list[PassRun]:
        """The tokens of the next pass: a token of each slot that decodes, in the order of slots, and behind it drafted tokens,
        while lanes are free and no prompt waits; then tokens of prompts, in the order of their STARTs, while lanes are free."""
        decoding = [(slot, record) for slot, record in sorted(self._records.items()) if not record.feed]
        free, runs = self._lanes - len(decoding), []
        for slot, record in decoding:
            drafted = self._draft(record, free) if len(decoding) == len(self._records) else []
            runs.append(PassRun(slot, record.position, [record.pick, *drafted]))
            free -= len(drafted)
        for slot, record in self._records.items():
            n = min(record.feed, record.args.chunk or free, free)
            if n:
                window = self.windows[slot]
                runs.append(PassRun(slot, record.position, [window[(record.position + i) % len(window)] for i in range(n)]))
                free -= n
        return runs

    def _draft(self, record: _Record, free: int) -> list[int]:
        """Tokens that may follow a slot's last pick, by the table in the board's memory, as a DraftTable says them."""
        settings = unpack_word(SETTINGS_FIELDS, self.registers.get("draft_settings", 0))
        most = min(settings["most"], free, self.registers["context"] - 1 - record.position)
        if most <= 0 or record.drafting.rest or record.args.flags & StartFlags.DUMP:
            return []
        words = self._memory[4 * self.registers["draft_base"]:]
        return drafted_tokens(words[:len(words) // 4 * 4].view("<u4"), record.before, record.pick, most)

    def make_pass(self) -> list[tuple[EventType, Event]]:
        """Make the next pass of all slots that run, and give its events; none if no slot runs.

        The events come in the order of the pass's tokens: a TOKEN for each wanted one, and DONE behind the last token of a slot
        whose run ends.  A result that is infinite or NaN ends the slot at fault: a pass of several slots, or with drafted tokens,
        is made anew then, a slot a pass and without drafted tokens, and the events are those of these passes.  So a drafted token
        ends no slot.
        """
        runs = self._runs()
        anew = [run if self._records[run.slot].feed else replace(run, tokens=run.tokens[:1]) for run in runs]
        try:
            return self._events(runs)
        except NonfiniteError as error:
            if len(runs) == 1 and runs == anew:
                return [self._done(runs[0].slot, runs[0].position, DoneReason.NONFINITE, error.step)]
        out = []
        for run in anew:
            try:
                out += self._events([run])
            except NonfiniteError as error:
                out.append(self._done(run.slot, run.position, DoneReason.NONFINITE, error.step))
        return out

    def _wanted(self, run: PassRun) -> range:
        """The tokens of a run after which a pick is wanted, by their number in the run; of drafted tokens not all count."""
        record, n = self._records[run.slot], len(run.tokens)
        if not record.feed:
            return range(n)
        if record.args.generate and n == record.feed:
            return range(n) if record.args.flags & StartFlags.ALL else range(n - 1, n)
        return range(n if record.args.flags & StartFlags.ALL else 0)

    def _lone(self, runs: Sequence[PassRun]) -> int | None:
        """The number of the only wanted token of a pass; None: there are more, or none."""
        wanted, first = list[int](), 0
        for run in runs:
            wanted += [first + number for number in self._wanted(run)]
            first += len(run.tokens)
        return wanted[0] if len(wanted) == 1 else None

    def _head_rows(self, runs: Sequence[PassRun]) -> slice | None:
        """For which tokens of a pass the LM head works."""
        wanted = [run for run in runs if self._wanted(run)]
        if not wanted:
            return None
        lone = self._lone(runs)
        if lone is not None:
            return slice(lone, lone + 1)
        prompts = [run for run in wanted if self._records[run.slot].feed]
        return slice(0, sum(len(run.tokens) for run in (runs if prompts else wanted)))

    def _events(self, runs: Sequence[PassRun]) -> list[tuple[EventType, Event]]:
        """Make a pass; its events."""
        if not runs:
            return []
        rows = self._head_rows(runs)
        logits = self._compute(runs, rows)
        if rows is not None:
            self.pass_logits = logits
        out, first = [], 0
        for run in runs:
            # Rows of logits are numbered from the first token on for which the LM head works.
            out += self._run_events(run, first - (0 if rows is None else rows.start))
            first += len(run.tokens)
        return out

    def _run_events(self, run: PassRun, first: int) -> list[tuple[EventType, Event]]:
        """The events of a run of a pass that was made, whose first token has row ``first`` of the pass's logits."""
        record, window, out = self._records[run.slot], self.windows[run.slot], []
        args, decodes, wanted, n = record.args, not record.feed, self._wanted(run), len(run.tokens)
        record.feed, record.position = max(record.feed - n, 0), run.position + n
        reason: DoneReason | None = None if record.feed or args.generate else DoneReason.LENGTH
        for number in wanted:
            position = run.position + number
            record.before = run.tokens[number]
            record.pick, logit = self._picked(first + number, record.settings, position + 1)
            counts = decodes or (args.generate > 0 and not record.feed and number == n - 1)
            if counts:
                record.picked, record.position = record.picked + 1, position + 1
                if position + 1 < self.registers["context"]:
                    window[(position + 1) % len(window)] = record.pick
                reason = ending(record.pick, record.picked, ends=args.ends, limit=args.generate, next_position=position + 1,
                                context=self.registers["context"])
            out.append((EventType.TOKEN, Event(position, record.pick, logit, 0, 0, 0, 0, 0, run.slot)))
            if decodes and (reason is not None or number + 1 < n and run.tokens[number + 1] != record.pick):
                break
        if decodes:
            accepted = record.position - run.position - 1
            cost = unpack_word(SETTINGS_FIELDS, self.registers.get("draft_settings", 0))["cost"]
            record.drafting.done(n - 1, accepted, cost)
            self.drafts_told = [told + more for told, more in zip(self.drafts_told, (1, n - 1, accepted), strict=True)]
        if reason is not None:
            out.append(self._done(run.slot, record.position - 1, reason))
        return out

    def _picked(self, number: int, settings: DrawSettings | None, position: int) -> tuple[int, int]:
        """The pick for ``position``, after a token of the last LM head pass, and its logit."""
        logits = self.pass_logits[number]
        token = int(logits.argmax()) if settings is None else draw(self.top(number), settings, position)
        return token, int(logits[token])

    def _alone(self, args: StartArgs) -> Iterator[tuple[EventType, Event]]:
        """A run on a board with one slot: as many of a prompt's tokens at once as :meth:`feed` takes."""
        settings = self._settings(args)
        every = bool(args.flags & StartFlags.ALL)
        self._gap = None
        if args.flags & StartFlags.TWO_STEPS:
            self._gap = 0 if settings is None else settings.max_gap
        if args.flags & StartFlags.CLEAR:
            self.head_counters = dict.fromkeys(HEAD_COUNTERS, 0)

        def event(kind: EventType, id_: int, logit: int) -> tuple[EventType, Event]:
            return kind, Event(position, id_, logit, 0, 0, 0, 0, 0)

        position, feed, picked = args.position, args.feed, 0
        pick, reason = 0, DoneReason.LENGTH
        chunk = min(args.chunk or self._lanes, self._lanes)
        try:
            while True:
                # With ALL the picks of a chunk are told before the next chunk runs; else all tokens to feed are one pass.
                n = min(feed, chunk) if every else feed
                heads = "all" if every else "last" if args.generate else "none"
                logits = self.feed(self.tokens[position:position + n], position, heads=heads, chunk=chunk)
                if every:
                    self.pass_logits = logits
                last, feed = position + n - 1, feed - n
                for number in range(len(logits)):
                    position = last + 1 - len(logits) + number
                    pick, logit = self._picked(number, settings, position + 1)
                    if args.generate and not feed and position == last:
                        picked += 1
                        if position + 1 < len(self.tokens):
                            self.tokens[position + 1] = pick
                    yield event(EventType.TOKEN, pick, logit)
                position = last
                if not feed:
                    if not args.generate:
                        break
                    ended = ending(pick, picked, ends=args.ends, limit=args.generate, next_position=position + 1,
                                   context=self.registers["context"])
                    if ended is not None:
                        reason = ended
                        break
                    feed = 1
                position += 1
        except NonfiniteError as error:
            pick, reason = error.step, DoneReason.NONFINITE
        self._gap = None
        yield event(EventType.DONE, pick, reason)
