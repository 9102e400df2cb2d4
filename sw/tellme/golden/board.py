# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The golden board: runs a compiled layer program as the gateware does, every number the same bits.

It takes the program from the compiler, step for step, and the model's matrices as arrays (that the packed stream holds
the same is the packing tests' business).
"""

import zlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tellme.compiler.image import Image, compile_model, matrices, rope_table
from tellme.golden.attention import attend, fixed, scale_mul_array, unpack16_array
from tellme.golden.elementwise import F16, absmax, activation, add, dequantise, mul, nonfinite, quantise, rope, sumsq
from tellme.models.model import Model
from tellme.spec.attention import LOGIT_FRAC, c_att
from tellme.spec.config import BoardConfig
from tellme.spec.memory import TOP_ENTRIES
from tellme.spec.program import Descriptor, Epilogue, Op
from tellme.spec.scale import C127, Scale, absmax_floor, from_float, pack16, quantise_scales, recip127, scale_mul

__all__ = ["GoldenBoard", "NonfiniteError", "StepResult", "top_entries"]


class NonfiniteError(Exception):
    """A step's result was infinite or NaN; ``step`` is its descriptor's number."""

    def __init__(self, step: int):
        super().__init__(f"step {step} of the layer program gave an infinite or NaN result")
        self.step = step


@dataclass(frozen=True)
class StepResult:
    """The output stream of a step: its CRC-32 as the board computes it."""

    step: int
    op: Op
    crc: int


@dataclass
class _Linear:
    """A matrix for exact products in float32: |sum| stays below 2**24 for up to 131,000 columns."""

    weights: NDArray[np.float32]
    sig: NDArray[np.int64]
    exp: NDArray[np.int64]


@dataclass
class _Vector:
    """What the statistics registers hold of the last pass."""

    sumsq: int = 0
    absmax: int = 0


@dataclass
class GoldenBoard:
    """A board with a model loaded.  ``feed`` runs one token; the KV cache grows with it."""

    model: Model
    config: BoardConfig
    image: Image = field(init=False)
    #: Results of the last token's steps.
    steps: list[StepResult] = field(default_factory=list)

    def __post_init__(self) -> None:
        model = self.model
        c = model.config
        self.image = compile_model(model, self.config)
        self._layers = []
        for layer in model.layers:
            prepared = {}
            for name, matrix in matrices(c, layer).items():
                sig = np.empty(len(matrix.codes), np.int64)
                exp = np.empty(len(matrix.codes), np.int64)
                for run in matrix.runs:
                    for parity, scale in ((0, run.even), (1, run.odd)):
                        sig[run.first + parity:run.end:2] = scale.sig
                        exp[run.first + parity:run.end:2] = scale.exp
                prepared[name] = _Linear(matrix.codes.astype(np.float32), sig, exp)
            self._layers.append(prepared)
        head, scales = (model.embedding, model.embedding_scales) if c.tied else (model.head, model.head_scales)
        assert head is not None and scales is not None  # Model.check
        self._head = head.astype(np.float32)
        self._head_scales = unpack16_array(scales)
        rope = np.frombuffer(rope_table(c), "<f2").astype(np.float16).reshape(c.context, -1, 2)
        self._rope = rope
        self._c_att = c_att(c.head_dim)
        shape = (c.layers, c.kv_heads, c.context)
        self.keys = np.zeros((*shape, c.head_dim), np.int8)
        self.values = np.zeros((*shape, c.head_dim), np.int8)
        self.k_scales = np.zeros(shape, np.uint16)
        self.v_scales = np.zeros(shape, np.uint16)

    def feed(self, token: int, position: int, *, head: bool = True) -> NDArray[np.int32] | None:
        """Run one token at a position; its logits as Q15.16 integers, if the head is asked for.

        Raises NonfiniteError after the step that gave an infinity or NaN.
        """
        c = self.model.config
        if not 0 <= position < c.context:
            raise ValueError(f"position {position} is outside the context of {c.context}")
        if not 0 <= token < c.vocab:
            raise ValueError(f"token {token} is outside the vocabulary of {c.vocab}")
        self.steps = []
        x = a = np.zeros(0, np.float16)
        stats = _Vector()
        q: tuple[NDArray[np.int8], list[Scale]] = (np.zeros((0, 0), np.int8), [])
        gain: F16 | None = None
        layer = -1
        logits = None
        for number, step in enumerate(self.image.program):
            if step.op == Op.END or (step.op == Op.HEAD and not head):
                break
            codes, d = np.zeros(0, np.int8), C127
            if step.op in (Op.LINEAR, Op.HEAD):
                codes, d = self._quantise(step, a if step.src_a else x, gain if step.gain else None, stats)
            if step.op == Op.LINEAR and step.epilogue == Epilogue.QKV:
                layer += 1
            if step.gain_next:
                gain = self._next_gain(number, layer)
            bad = False
            if step.op == Op.EMBED:
                sig, exp = unpack16_array(self.model.embedding_scales[token:token + 1])
                x = dequantise(self.model.embedding[token].astype(np.int64), (sig[0], exp[0]))
                stream: np.ndarray = x
            elif step.op == Op.ATTENTION:
                at = slice(0, position + 1)
                a = attend(q[0], q[1], self.keys[layer, :, at], self.values[layer, :, at],
                           self.k_scales[layer, :, at], self.v_scales[layer, :, at]).reshape(-1)
                stream = a
            elif step.op == Op.HEAD:
                logits = self._logits(codes, d)
                stream = logits
            else:
                name = self._linear_name(step)
                linear = self._layers[layer][name]
                acc = (linear.weights @ codes.astype(np.float32)).astype(np.int64)
                y = dequantise(acc, scale_mul_array(d, linear.sig, linear.exp))
                bad = nonfinite(y)
                if step.epilogue == Epilogue.QKV:
                    q, stream, more = self._qkv(layer, position, y)
                    bad |= more
                elif step.epilogue == Epilogue.RESIDUAL:
                    x = stream = add(x, y)
                else:
                    a = stream = activation(y[0::2], y[1::2], relu2=step.relu2, act_exp=step.act_exp)
            if step.op != Op.HEAD and not (step.op == Op.LINEAR and step.epilogue == Epilogue.QKV):
                bad |= nonfinite(stream)
                scaled = mul(stream, gain) if step.gain_next and gain is not None else stream
                bad |= nonfinite(scaled)
                stats = _Vector(sumsq(stream), absmax(scaled))
            self.steps.append(StepResult(number, step.op, zlib.crc32(_stream_bytes(stream))))
            if bad:
                raise NonfiniteError(number)
        return logits

    def _linear_name(self, step: Descriptor) -> str:
        if step.epilogue == Epilogue.QKV:
            return "qkv"
        if step.epilogue == Epilogue.ACT:
            return "gate_up"
        c = self.model.config
        # o and down differ in their place in the layer: o follows attention.
        return "o" if self.steps[-1].op == Op.ATTENTION else "down"

    def _next_gain(self, number: int, layer: int) -> F16:
        """The gains that the stream holds for the norm behind a step."""
        m, step = self.model, self.image.program[number]
        if step.op == Op.EMBED:
            gain = m.layers[0].gains["attn_norm"]
        elif step.op == Op.ATTENTION:
            gain = m.layers[layer].gains["o_norm"]
        elif step.epilogue == Epilogue.ACT:
            gain = m.layers[layer].gains["down_norm"]
        elif self.steps[-1].op == Op.ATTENTION:
            gain = m.layers[layer].gains["ffn_norm"]
        elif layer + 1 < len(m.layers):
            gain = m.layers[layer + 1].gains["attn_norm"]
        else:
            assert m.final_gain is not None
            gain = m.final_gain
        return gain

    def _quantise(self, step: Descriptor, source: F16, gain: F16 | None,
                  stats: _Vector) -> tuple[NDArray[np.int8], Scale]:
        s, d = quantise_scales(stats.absmax, norm=step.norm, sumsq=stats.sumsq, n_eps=step.n_eps, sqrt_n=step.sqrt_n)
        return quantise(source if gain is None else mul(source, gain), s), d

    def _qkv(self, layer: int, position: int, y: F16) -> tuple[tuple[NDArray[np.int8], list[Scale]], np.ndarray, bool]:
        """RoPE on q and k, int8 codes a head, K and V rows into the cache."""
        c = self.model.config
        rotated = c.q_dim + c.kv_dim
        cos, sin = self._rope[position, :, 0], self._rope[position, :, 1]
        heads = y.reshape(-1, c.head_dim).copy()
        heads[:rotated // c.head_dim] = rope(heads[:rotated // c.head_dim], cos, sin)
        bad = nonfinite(heads)
        codes = np.empty(heads.shape, np.int8)
        scales = []
        for i, head in enumerate(heads):
            peak = from_float(max(absmax(head) if not bad else 0, absmax_floor(True)))
            codes[i] = quantise(head, recip127(peak))
            scales.append(scale_mul(peak, C127))
        k, v = c.heads, c.heads + c.kv_heads
        self.keys[layer, :, position] = codes[k:v]
        self.values[layer, :, position] = codes[v:]
        self.k_scales[layer, :, position] = [pack16(s) for s in scales[k:v]]
        self.v_scales[layer, :, position] = [pack16(s) for s in scales[v:]]
        q_scales = [scale_mul(s, self._c_att) for s in scales[:k]]
        return (codes[:k], q_scales), codes.astype(np.int16), bad

    def _logits(self, codes: NDArray[np.int8], d: Scale) -> NDArray[np.int32]:
        dots = (self._head @ codes.astype(np.float32)).astype(np.int64)
        return fixed(dots, *scale_mul_array(d, *self._head_scales), LOGIT_FRAC, 32).astype(np.int32)


def _stream_bytes(stream: np.ndarray) -> bytes:
    return stream.astype(stream.dtype.newbyteorder("<")).tobytes()


def top_entries(logits: NDArray[np.int32]) -> list[tuple[int, int]]:
    """The best (id, logit), best first, ties to the lower id: what the board's top memory holds."""
    order = np.argsort(-logits.astype(np.int64), kind="stable")[:TOP_ENTRIES]
    return [(int(i), int(logits[i])) for i in order]
