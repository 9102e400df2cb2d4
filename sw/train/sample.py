# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Step 1: sample stories from a float LLaMA teacher, and keep those that end, as text or as tokens of the student.

The teacher is a safetensors file of float16 with the names of llama2.c (adjacent RoPE pairs, tied, no biases), its
tokenizer a SentencePiece model.  A batch runs in step, each row a story of its own that begins anew as the last one
ends.  A story that fills the teacher's context goes on from its second half, so that long ones are not lost; at LIMIT
tokens it is given up.  ``--temperature`` and ``--min-p`` (tokens less probable than that share of the likeliest are left
out) make sharper text.  Text: OUT/stories-SEED-NN.txt; with ``--encode`` OUT/tokens-SEED-NN.npy, as of tokenizer.py encode.
"""

import argparse
import math
import time
from collections.abc import Callable
from multiprocessing import Process, Queue
from pathlib import Path

import numpy as np
import sentencepiece
import torch
import torch.nn.functional as F
from safetensors import safe_open
from tokenizer import SEPARATOR
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

__all__ = ["Stories", "Teacher", "attend_plain"]

EPS = 1e-5
BOS, EOS = 1, 2
#: Tokens after which a story without an end is dropped.
LIMIT = 640
#: In a row's stream: a token that was fed once more, and the end of a story that was given up.
AGAIN, DROPPED = -1, -2


class Teacher:
    """Weights and key/value cache for ``batch`` stories at once."""

    def __init__(self, path: Path, batch: int, device: str) -> None:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata()
            dtype = torch.float16 if device.startswith("cuda") else torch.float32
            self.w = {name: file.get_tensor(name).to(device, dtype) for name in file.keys()}
        self.heads, self.layers = int(meta["heads"]), int(meta["layers"])
        self.dim, self.context = int(meta["dim"]), int(meta["context"])
        if meta["kv_heads"] != meta["heads"] or meta["tied"] != "true":
            raise SystemExit(f"{path}: only tied teachers with as many KV heads as heads are read")
        for i in range(self.layers):
            n = f"layers.{i}."
            self.w[n + "qkv"] = torch.cat([self.w[n + m] for m in ("wq", "wk", "wv")])
            self.w[n + "w13"] = torch.cat([self.w[n + m] for m in ("w1", "w3")])
        width = self.dim // self.heads
        rate = 10000.0 ** (-torch.arange(0, width, 2).float() / width)
        angle = (torch.arange(self.context).float()[:, None] * rate).to(device)
        self.cos, self.sin = angle.cos(), angle.sin()
        self.keys = torch.zeros(self.layers, batch, self.heads, self.context, width, device=device, dtype=dtype)
        self.values = torch.zeros_like(self.keys)


def norm(x: Tensor, gain: Tensor) -> Tensor:
    return (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * gain).to(gain.dtype)


def project(x: Tensor, gain: Tensor, w: Tensor, cos: Tensor, sin: Tensor, at: Tensor,
            heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value [batch, heads, width] of a token a story; ``at``: its place in the context."""
    q, k, v = F.linear(norm(x, gain), w).unflatten(-1, (3, heads, -1)).unbind(1)
    c, s = cos[at][:, None], sin[at][:, None]

    def turn(t: Tensor) -> Tensor:
        a, b = t.float().unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack((a * c - b * s, a * s + b * c), -1).flatten(-2).to(t.dtype)

    return turn(q).contiguous(), turn(k).contiguous(), v.contiguous()


def finish(x: Tensor, mixed: Tensor, wo: Tensor, gain: Tensor, w13: Tensor, w2: Tensor) -> Tensor:
    """Output projection and feed-forward part of a layer."""
    x = x + F.linear(mixed, wo).float()
    gate, up = F.linear(norm(x, gain), w13).float().chunk(2, -1)
    return x + F.linear((F.silu(gate) * up).to(w2.dtype), w2).float()


def choose(x: Tensor, gain: Tensor, table: Tensor, temperature: float, min_p: float) -> Tensor:
    """A token from the softmax, by Gumbel's trick."""
    logits = F.linear(norm(x, gain), table).float() / temperature
    if min_p:
        logits = torch.where(logits < logits.amax(-1, keepdim=True) + math.log(min_p), -math.inf, logits)
    return (logits - torch.log(-torch.log(torch.rand_like(logits)))).argmax(-1)


def attend_plain(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, at: Tensor) -> Tensor:
    """Store key and value at their places, and attend to all up to them."""
    rows = torch.arange(len(at), device=at.device)
    keys[rows, :, at] = k
    values[rows, :, at] = v
    seen = torch.arange(keys.shape[2], device=at.device) <= at[:, None, None, None]
    return F.scaled_dot_product_attention(q[:, :, None], keys, values, attn_mask=seen).flatten(1)


if triton is not None:
    @triton.jit
    def _attend(q, k, v, keys, values, places, out, HEADS: tl.constexpr, CONTEXT: tl.constexpr, WIDTH: tl.constexpr,
                PADDED: tl.constexpr, BLOCK: tl.constexpr, SCALE: tl.constexpr):  # type: ignore[no-untyped-def]
        """One head of one row: reads only what is there."""
        pid = tl.program_id(0)
        n = tl.load(places + pid // HEADS).to(tl.int32)
        w = tl.arange(0, PADDED)
        inside = w < WIDTH
        query = tl.load(q + pid * WIDTH + w, mask=inside, other=0.0).to(tl.float32) * SCALE
        key = tl.load(k + pid * WIDTH + w, mask=inside, other=0.0)
        value = tl.load(v + pid * WIDTH + w, mask=inside, other=0.0)
        base = pid.to(tl.int64) * (CONTEXT * WIDTH)
        tl.store(keys + base + n * WIDTH + w, key, mask=inside)
        tl.store(values + base + n * WIDTH + w, value, mask=inside)
        peak = tl.sum(query * key.to(tl.float32), 0)
        total = 1.0
        mixed = value.to(tl.float32)
        for first in range(0, n, BLOCK):
            t = first + tl.arange(0, BLOCK)
            where = base + t[:, None] * WIDTH + w[None, :]
            there = (t < n)[:, None] & inside[None, :]
            score = tl.sum(tl.load(keys + where, mask=there, other=0.0).to(tl.float32) * query[None, :], 1)
            score = tl.where(t < n, score, -float("inf"))
            higher = tl.maximum(peak, tl.max(score, 0))
            share, fall = tl.exp(score - higher), tl.exp(peak - higher)
            old = tl.load(values + where, mask=there, other=0.0).to(tl.float32)
            mixed = mixed * fall + tl.sum(share[:, None] * old, 0)
            total = total * fall + tl.sum(share, 0)
            peak = higher
        tl.store(out + pid * WIDTH + w, (mixed / total).to(out.dtype.element_ty), mask=inside)


def attend_triton(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, at: Tensor) -> Tensor:
    """The same as attend_plain."""
    batch, heads, context, width = keys.shape
    out = torch.empty_like(q)
    _attend[(batch * heads,)](q, k, v, keys, values, at, out, heads, context, width, triton.next_power_of_2(width), 32,
                              width ** -0.5, num_warps=1)
    return out.flatten(1)


class Stories:
    """The rows of a batch: what each feeds next, and where in its context it is."""

    def __init__(self, batch: int, context: int, device: str) -> None:
        self.context, self.half = context, context // 2
        zero = torch.zeros(batch, dtype=torch.int64, device=device)
        self.ids, self.at, self.count, self.again = zero + BOS, zero, zero.clone(), zero.clone()
        #: The last tokens of each story, a ring.
        self.recent = torch.zeros(batch, self.half, dtype=torch.int64, device=device)

    def step(self, token: Tensor) -> Tensor:
        """Take what the teacher chose; what goes into each row's stream."""
        state = (self.ids, self.at, self.count, self.again, self.recent)
        *new, out = self.advance(token, self.context, self.half, *state)
        self.ids, self.at, self.count, self.again, self.recent = new
        return out

    @staticmethod
    def advance(token: Tensor, context: int, half: int, ids: Tensor, at: Tensor, count: Tensor, again: Tensor,
                recent: Tensor) -> tuple[Tensor, ...]:
        fresh = again == 0
        slot = torch.arange(half, device=token.device)
        recent = torch.where((slot == (count % half)[:, None]) & fresh[:, None], token[:, None], recent)
        count = count + fresh
        ended = fresh & ((token == BOS) | (token == EOS))
        dropped = fresh & ~ended & (count >= LIMIT)
        full = fresh & ~ended & ~dropped & (at + 1 == context)
        out = torch.where(dropped, DROPPED, torch.where(fresh, token, AGAIN))
        # Behind a full context the last half is fed once more, from the oldest on.
        back = torch.where(full, half, again)
        old = recent.gather(1, ((count - back) % half)[:, None])[:, 0]
        ids = torch.where(full | ~fresh, old, token)
        at = torch.where(full, 0, at + 1)
        again = torch.where(full, half - 1, (again - 1).clamp(min=0))
        begin = ended | dropped
        return (torch.where(begin, BOS, ids), torch.where(begin, 0, at), torch.where(begin, 0, count),
                torch.where(begin, 0, again), recent, out)


def split(stream: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """(stories of a row's stream, what is left behind the last end)."""
    stream = stream[stream != AGAIN]
    ends = np.flatnonzero((stream == BOS) | (stream == EOS) | (stream == DROPPED))
    parts = np.split(stream, ends + 1)
    return [part[:-1] for part, end in zip(parts, ends, strict=False) if stream[end] != DROPPED], parts[-1]


def collect(queue: Queue, results: Queue, teacher: Path, out: Path, encode: Path | None) -> None:
    """Turn the streams of some rows into stories, until there are no more; (stories, tokens, bytes)."""
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(teacher))
    own = sentencepiece.SentencePieceProcessor(model_file=str(encode)) if encode else None
    left: list[np.ndarray] = []
    texts: list[str] = []
    tokens: list[np.ndarray] = []
    counts = np.zeros(3, np.int64)
    while (block := queue.get()) is not None:
        rows = [np.concatenate((old, row)) for old, row in zip(left, block, strict=True)] if left else list(block)
        done, left = [], []
        for row in rows:
            ended, rest = split(row)
            done += ended
            left.append(rest)
        new = [text for text in (t.strip() for t in pieces.decode([ids.tolist() for ids in done])) if text]
        counts += (len(new), sum(map(len, done)), sum(map(len, new)))
        if own is None:
            texts += new
        else:
            tokens.append(np.array([i for ids in own.encode(new, num_threads=1) for i in (own.bos_id(), *ids)], np.uint16))
    if own is None:
        out.with_suffix(".txt").write_text(f"\n{SEPARATOR}\n".join(texts), "utf-8")
    else:
        np.save(out.with_suffix(".npy"), np.concatenate(tokens))
        counts[1] = sum(map(len, tokens))
    results.put(counts)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", type=Path, required=True, help="safetensors")
    parser.add_argument("--tokenizer", type=Path, required=True, help="the teacher's SentencePiece .model")
    parser.add_argument("--out", type=Path, required=True, help="folder of the text")
    parser.add_argument("--encode", type=Path, help="write tokens of this SentencePiece .model, not text")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--min-p", type=float, default=0.0)
    parser.add_argument("--batch", type=int, default=16384, help="stories at once (default: 16384, 30 GB)")
    parser.add_argument("--seconds", type=float, default=150, help="of sampling (default: 150)")
    parser.add_argument("--block", type=int, default=512, help="steps between looks at the clock (default: 512)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=6, help="processes that turn tokens into text")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    results: Queue = Queue()
    queues: list[Queue] = [Queue() for _ in range(args.workers)]
    kind = "tokens" if args.encode else "stories"
    for i, queue in enumerate(queues):
        Process(target=collect, daemon=True, args=(queue, results, args.tokenizer, args.out / f"{kind}-{args.seed}-{i:02}",
                                                   args.encode)).start()
    start = time.time()
    torch.manual_seed(args.seed)
    t = Teacher(args.teacher, args.batch, args.device)
    w = t.w
    on_gpu = args.device.startswith("cuda")
    attend: Callable[..., Tensor] = attend_triton if on_gpu else attend_plain
    made = {f.__name__: torch.compile(f, dynamic=False) if on_gpu else f for f in (project, finish, choose)}
    rows = Stories(args.batch, t.context, args.device)
    if on_gpu:
        rows.advance = torch.compile(Stories.advance, dynamic=False)  # type: ignore[method-assign]
    out = torch.empty(args.block, args.batch, device=args.device, dtype=torch.int16)
    blocks = 0
    while not blocks or time.time() - start < args.seconds:
        for step in range(args.block):
            x = F.embedding(rows.ids, w["tok_embeddings"]).float()
            for i in range(t.layers):
                n = f"layers.{i}."
                q, k, v = made["project"](x, w[n + "attention_norm"], w[n + "qkv"], t.cos, t.sin, rows.at, t.heads)
                mixed = attend(q, k, v, t.keys[i], t.values[i], rows.at)
                x = made["finish"](x, mixed, w[n + "wo"], w[n + "ffn_norm"], w[n + "w13"], w[n + "w2"])
            out[step] = rows.step(made["choose"](x, w["norm"], w["tok_embeddings"], args.temperature, args.min_p))
        block = out.cpu().numpy()
        blocks += 1
        for queue, part in zip(queues, np.array_split(block.T, args.workers), strict=True):
            queue.put(np.ascontiguousarray(part))
        print(f"{blocks} blocks, {time.time() - start:.1f} s, {float((block >= 0).mean()):.3f} new, "
              f"{int((block == DROPPED).sum())} given up", flush=True)
    spent = time.time() - start
    for queue in queues:
        queue.put(None)
    stories, tokens, n_bytes = sum(results.get() for _ in queues)
    print(f"{args.out} {args.seed}: {stories} stories, {tokens / 1e6:.1f} M tokens, {n_bytes / 1e6:.0f} MB, {spent:.0f} s "
          f"and {time.time() - start - spent:.0f} s of text", flush=True)


if __name__ == "__main__":
    main()
