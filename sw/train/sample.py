# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Step 1: sample stories from a float LLaMA teacher at temperature 1, and keep the text of those that end.

The teacher is a safetensors file of float16 with the names of llama2.c (adjacent RoPE pairs, tied, no biases), its
tokenizer a SentencePiece model.  Stories of a batch run in step.  Those that fill the teacher's context go on from
its second half, so that long stories are not lost; at LIMIT tokens they are given up.  Text: OUT/stories-SEED-NNNN.txt.
"""

import argparse
import time
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import sentencepiece
import torch
import torch.nn.functional as F
from safetensors import safe_open
from tokenizer import SEPARATOR
from torch import Tensor

__all__ = ["Teacher", "sample_batch"]

EPS = 1e-5
BOS, EOS = 1, 2
#: Tokens after which a story without an end is dropped.
LIMIT = 640


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
        width = self.dim // self.heads
        rate = 10000.0 ** (-torch.arange(0, width, 2).float() / width)
        angle = (torch.arange(self.context).float()[:, None] * rate).to(device)
        self.cos, self.sin = angle.cos(), angle.sin()
        self.keys = torch.zeros(self.layers, batch, self.heads, self.context, width, device=device, dtype=dtype)
        self.values = torch.zeros_like(self.keys)


def norm(x: Tensor, gain: Tensor) -> Tensor:
    return (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * gain).to(gain.dtype)


def project(x: Tensor, gain: Tensor, w: Tensor, cos: Tensor, sin: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value [batch, heads, width] of a token a story."""
    q, k, v = F.linear(norm(x, gain), w).unflatten(-1, (3, heads, -1)).unbind(1)

    def turn(t: Tensor) -> Tensor:
        a, b = t.float().unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(t.dtype)

    return turn(q), turn(k), v


def finish(x: Tensor, mixed: Tensor, wo: Tensor, gain: Tensor, w13: Tensor, w2: Tensor) -> Tensor:
    """Output projection and feed-forward part of a layer."""
    x = x + F.linear(mixed, wo).float()
    gate, up = F.linear(norm(x, gain), w13).float().chunk(2, -1)
    return x + F.linear((F.silu(gate) * up).to(w2.dtype), w2).float()


def choose(x: Tensor, gain: Tensor, table: Tensor) -> Tensor:
    """A token from the softmax at temperature 1, by Gumbel's trick."""
    logits = F.linear(norm(x, gain), table).float()
    return (logits - torch.log(-torch.log(torch.rand_like(logits)))).argmax(-1)


def sample_batch(t: Teacher, step: dict, given: Tensor) -> Tensor:
    """Tokens that follow ``given`` [batch, n], to the end of the context."""
    w = t.w
    batch, n_given = given.shape
    given = given.long()
    ids = given[:, 0]
    out = torch.empty(batch, t.context - n_given + 1, device=ids.device, dtype=torch.int16)
    for at in range(t.context):
        x = F.embedding(ids, w["tok_embeddings"]).float()
        cos, sin = t.cos[at].clone(), t.sin[at].clone()
        for i in range(t.layers):
            n = f"layers.{i}."
            q, k, v = step["project"](x, w[n + "attention_norm"], w[n + "qkv"], cos, sin, t.heads)
            t.keys[i, :, :, at] = k
            t.values[i, :, :, at] = v
            mixed = F.scaled_dot_product_attention(q[:, :, None], t.keys[i, :, :, :at + 1], t.values[i, :, :, :at + 1])
            x = step["finish"](x, mixed.flatten(1), w[n + "wo"], w[n + "ffn_norm"], w[n + "w13"], w[n + "w2"])
        if at + 1 < n_given:
            ids = given[:, at + 1]
        else:
            ids = step["choose"](x, w["norm"], w["tok_embeddings"])
            out[:, at + 1 - n_given] = ids
    return out


def split(rows: np.ndarray, fresh: int) -> tuple[list[np.ndarray], np.ndarray]:
    """(finished stories, rows that go on); only the last ``fresh`` tokens of a row are new."""
    ends = (rows[:, -fresh:] == BOS) | (rows[:, -fresh:] == EOS)
    first = rows.shape[1] - fresh + ends.argmax(1)
    ended = ends.any(1)
    return [row[:n] for row, n in zip(rows[ended], first[ended], strict=True)], rows[~ended]


_PIECES: sentencepiece.SentencePieceProcessor | None = None


def _open(model: str) -> None:
    global _PIECES
    _PIECES = sentencepiece.SentencePieceProcessor(model_file=model)


def write(job: tuple[Path, list[np.ndarray]]) -> tuple[int, int, int]:
    """Write stories; (stories, tokens, bytes)."""
    path, rows = job
    assert _PIECES is not None
    texts = [text for text in (t.strip() for t in _PIECES.decode([row.tolist() for row in rows])) if text]
    text = f"\n{SEPARATOR}\n".join(texts)
    path.write_text(text, "utf-8")
    return len(texts), sum(map(len, rows)), len(text)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", type=Path, required=True, help="safetensors")
    parser.add_argument("--tokenizer", type=Path, required=True, help="the teacher's SentencePiece .model")
    parser.add_argument("--out", type=Path, required=True, help="folder of the text")
    parser.add_argument("--batch", type=int, default=16384, help="stories at once (default: 16384, 30 GB)")
    parser.add_argument("--seconds", type=float, default=150, help="start no batch after that time (default: 150)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=6, help="processes that turn tokens into text")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    pool = Pool(args.workers, _open, (str(args.tokenizer),))
    start = time.time()
    torch.manual_seed(args.seed)
    t = Teacher(args.teacher, args.batch, args.device)
    for i in range(t.layers):
        n = f"layers.{i}."
        t.w[n + "qkv"] = torch.cat([t.w[n + m] for m in ("wq", "wk", "wv")])
        t.w[n + "w13"] = torch.cat([t.w[n + m] for m in ("w1", "w3")])
    step = {f.__name__: torch.compile(f, dynamic=False) if args.device.startswith("cuda") else f
            for f in (project, finish, choose)}
    results, batches = [], 0
    begin = torch.full((args.batch, 1), BOS, device=args.device)
    half = t.context // 2
    #: Unfinished stories by their length.
    waiting: dict[int, np.ndarray] = {}
    while not results or time.time() - start < args.seconds:
        length = next((n for n, rows in waiting.items() if len(rows) >= args.batch), 0)
        if length:
            old, waiting[length] = np.split(waiting[length], [args.batch])
            given = torch.from_numpy(old[:, -half:].copy()).to(args.device)
            new = sample_batch(t, step, given)[:, :half].cpu().numpy()
            rows = np.concatenate([old, new], 1)
        else:
            new = rows = sample_batch(t, step, begin).cpu().numpy()
        done, rest = split(rows, new.shape[1])
        size = rows.shape[1]
        if size < LIMIT:
            waiting[size] = np.concatenate([waiting[size], rest]) if size in waiting else rest
        path = args.out / f"stories-{args.seed}-{batches:04d}.txt"
        results.append(pool.apply_async(write, ((path, done),)))
        batches += 1
        if batches < 8 or batches % 10 == 0:
            print(f"{batches} batches of {args.batch}, {time.time() - start:.1f} s; at {size} tokens {len(done)} end",
                  flush=True)
    counts = np.array([r.get() for r in results]).sum(0)
    pool.close()
    pool.join()
    print(f"{args.out}: {counts[0]} stories, {counts[1] / 1e6:.1f} M teacher tokens, {counts[2] / 1e6:.0f} MB in "
          f"{time.time() - start:.0f} s; {sum(map(len, waiting.values()))} unfinished", flush=True)


if __name__ == "__main__":
    main()
