# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A model's own samples, with the states that its LM head saw: the text that a student of the model is trained on.

A row begins with given tokens (a chat up to where the user's turn begins, or the token that begins a text) and runs on to its
last place, across ends of texts, each token drawn from the model's own probabilities.  All rows go in step, so a batch costs
one pass of the weights for each place.  On a GPU a step is one CUDA graph.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from network import Teacher, angles, rms_norm
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

__all__ = ["OwnText", "Rows", "attend_plain", "choose"]

#: Tokens of a block of the vocabulary, in which a choice is made behind the choice of the block.
BLOCK = 256


@dataclass(frozen=True)
class Rows:
    """``ids`` [rows, time]; ``states`` [rows, time, dim] of the LM head; ``given`` [rows]: tokens that were not drawn."""

    ids: Tensor
    states: Tensor
    given: Tensor

    @property
    def weights(self) -> Tensor:
        """[rows, time]: 1 where a state predicts what is drawn, else 0."""
        place = torch.arange(self.ids.shape[1], device=self.ids.device)
        return (place >= self.given[:, None] - 1).float()


def attend_plain(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, place: Tensor) -> Tensor:
    """Store key and value at a place of the cache [batch, KV heads, time, width], and attend to all up to it."""
    keys.index_copy_(2, place, k[:, :, None])
    values.index_copy_(2, place, v[:, :, None])
    seen = torch.arange(keys.shape[2], device=q.device) <= place
    return F.scaled_dot_product_attention(q[:, :, None], keys, values, attn_mask=seen[None, None, None],
                                          enable_gqa=q.shape[1] != keys.shape[1]).flatten(1)


if triton is not None:
    @triton.jit
    def _attend(q, k, v, keys, values, place, out, KV: tl.constexpr, GROUP: tl.constexpr, TIME: tl.constexpr,
                WIDTH: tl.constexpr, BLOCK: tl.constexpr, SCALE: tl.constexpr):  # type: ignore[no-untyped-def]
        """All query heads of one KV head of one row: reads only what is there, once."""
        pid = tl.program_id(0)
        n = tl.load(place).to(tl.int32)
        w = tl.arange(0, WIDTH)
        g = tl.arange(0, 16)
        # Query heads of the row and KV head follow one another; 16 is the least that a matrix product takes.
        at = (pid * GROUP + g[:, None]) * WIDTH + w[None, :]
        there = g[:, None] < GROUP
        query = tl.load(q + at, mask=there, other=0.0)
        key = tl.load(k + pid * WIDTH + w)
        value = tl.load(v + pid * WIDTH + w)
        base = pid.to(tl.int64) * (TIME * WIDTH)
        tl.store(keys + base + n * WIDTH + w, key)
        tl.store(values + base + n * WIDTH + w, value)
        peak = tl.sum(query.to(tl.float32) * key.to(tl.float32)[None, :], 1) * SCALE
        total = tl.full((16,), 1.0, tl.float32)
        mixed = tl.zeros((16, WIDTH), tl.float32) + value.to(tl.float32)[None, :]
        for first in range(0, n, BLOCK):
            t = first + tl.arange(0, BLOCK)
            where = base + t[:, None] * WIDTH + w[None, :]
            old = tl.load(keys + where, mask=(t < n)[:, None], other=0.0)
            score = tl.dot(query, tl.trans(old)) * SCALE
            score = tl.where((t < n)[None, :], score, -float("inf"))
            higher = tl.maximum(peak, tl.max(score, 1))
            share, fall = tl.exp(score - higher[:, None]), tl.exp(peak - higher)
            old = tl.load(values + where, mask=(t < n)[:, None], other=0.0)
            mixed = mixed * fall[:, None] + tl.dot(share.to(old.dtype), old)
            total = total * fall + tl.sum(share, 1)
            peak = higher
        tl.store(out + at, (mixed / total[:, None]).to(out.dtype.element_ty), mask=there)


def attend_triton(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, place: Tensor) -> Tensor:
    """The same as attend_plain."""
    batch, kv, time, width = keys.shape
    out = torch.empty_like(q)
    _attend[(batch * kv,)](q, k, v, keys, values, place, out, kv, q.shape[1] // kv, time, width, 64, width ** -0.5, num_warps=4)
    return out.flatten(1)


def choose(logits: Tensor, luck: Tensor, temperature: float, min_p: float) -> Tensor:
    """A token of each row [batch] for numbers ``luck`` [batch] of 0 to 1: the first whose sum of probabilities is above.

    Tokens less probable than ``min_p`` times the likeliest are left out.
    """
    x = F.pad(logits.float() / temperature, (0, -logits.shape[-1] % BLOCK), value=-math.inf)
    x = x - x.amax(-1, keepdim=True)
    likely = torch.where(x < math.log(min_p) if min_p else x.isneginf(), 0.0, x.exp()).unflatten(-1, (-1, BLOCK))
    ends = likely.sum(-1).cumsum(-1)
    wanted = luck[:, None] * ends[:, -1:] * (1 - 1e-6)
    block = (ends <= wanted).sum(-1, keepdim=True)
    inside = likely.gather(1, block[..., None].expand(-1, 1, BLOCK))[:, 0].cumsum(-1)
    # Sums of a block and of the blocks before differ in their last bits: the block's last token with a probability is the limit.
    rest = (wanted - torch.where(block > 0, ends.gather(1, (block - 1).clamp(min=0)), 0.0)).minimum(inside[:, -1:] * (1 - 1e-6))
    return block[:, 0] * BLOCK + (inside <= rest).sum(-1)


class OwnText:
    """Draws rows; ``begins``: the tokens that rows begin with, taken in turn."""

    def __init__(self, teacher: Teacher, begins: list[list[int]], batch: int, time: int, *, temperature: float, min_p: float,
                 seed: int) -> None:
        c, device = teacher.config, teacher.device
        self.teacher, self.batch, self.time = teacher, batch, time
        self.gpu = device.startswith("cuda")
        self.generator = torch.Generator(device).manual_seed(seed)
        longest = max(len(begin) for begin in begins)
        self.begin = torch.zeros(longest, batch, dtype=torch.int64, device=device)
        self.given = torch.tensor([len(begins[row % len(begins)]) for row in range(batch)], device=device)
        for row in range(batch):
            begin = begins[row % len(begins)]
            self.begin[:len(begin), row] = torch.tensor(begin)
        self.cos, self.sin = angles(c, time, device)
        self.keys = torch.zeros(c.layers, batch, c.kv_heads, time, c.head_dim, device=device, dtype=teacher.dtype)
        self.values = torch.zeros_like(self.keys)
        self.ids = torch.zeros(batch, dtype=torch.int64, device=device)
        self.place = torch.zeros(1, dtype=torch.int64, device=device)
        self.luck = torch.zeros(batch, device=device)
        made: Callable[..., Callable[..., Tensor]] = torch.compile if self.gpu else lambda f, **_: f
        self.heads, self.finish = (made(f, dynamic=False) for f in (teacher.heads, teacher.finish))
        self.end = made(lambda x: rms_norm(x, teacher.norm, c.eps).to(teacher.dtype), dynamic=False)
        self.choose = made(lambda x, luck: choose(x, luck, temperature, min_p), dynamic=False)
        self.graph = None

    def step(self) -> tuple[Tensor, Tensor]:
        """(chosen token, state) of each row, from what the row has at its place."""
        t, c = self.teacher, self.teacher.config
        attend = attend_triton if self.gpu and c.head_dim in (16, 32, 64, 128) else attend_plain
        x = t.table[self.ids].float()
        cos, sin = self.cos[self.place], self.sin[self.place]
        for i, layer in enumerate(t.layers):
            q, k, v = self.heads(layer, x, cos[0], sin[0])
            mixed = attend(q.contiguous(), k.contiguous(), v.contiguous(), self.keys[i], self.values[i], self.place)
            x = self.finish(layer, x, mixed)
        state = self.end(x)
        return self.choose(F.linear(state, t.head), self.luck), state

    @torch.no_grad()
    def rows(self, held: torch.Generator | None = None, held_rows: int = 0) -> Rows:
        """A batch of rows.  The last ``held_rows`` take their luck from the generator ``held``."""
        ids = torch.empty(self.batch, self.time, dtype=torch.int32, device=self.luck.device)
        states = torch.empty(self.batch, self.time, self.teacher.config.dim, dtype=self.teacher.dtype, device=self.luck.device)
        self.ids.copy_(self.begin[0])
        for place in range(self.time):
            self.place.fill_(place)
            self.luck.uniform_(generator=self.generator)
            if held is not None:
                self.luck[-held_rows:].uniform_(generator=held)
            if self.gpu and self.graph is None:
                # Once as it is, so that everything is compiled, and once for the graph.
                self.step()
                torch.cuda.synchronize()
                self.graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                    self.out = self.step()
            if self.gpu:
                self.graph.replay()
            token, state = self.out if self.gpu else self.step()
            ids[:, place], states[:, place] = self.ids, state
            if place + 1 < len(self.begin):
                token = torch.where(place + 1 < self.given, self.begin[place + 1], token)
            self.ids.copy_(token)
        return Rows(ids, states, self.given.clone())
