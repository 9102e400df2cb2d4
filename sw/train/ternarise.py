# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A float LLaMA checkpoint to a ternary one, by fine-tuning with a gradual schedule.

After "An Extra RMSNorm is All You Need for Fine Tuning to 1.58 Bits": RMSNorm ahead of every linear (those ahead of
the output and down projections are new; the gains of the others go into the matrices behind them), then quantisation
comes in layer by layer: layer i of n is mixed in linearly from ``i / n`` to ``(i + 1) / n`` of the ``--ramp`` share
of the steps, the rest trains with all layers ternary.  The float file is the teacher's layout of sample.py; tokens
are those of its own tokenizer.  OUT/final.pt is a checkpoint for export.py.
"""

import argparse
import json
from pathlib import Path

import sentencepiece
import torch
from model import LINEARS, Shape, Student, absmean
from safetensors import safe_open
from torch import Tensor

from train import Data, Muon

__all__ = ["from_llama", "parts"]

#: The norm of a LLaMA layer whose gain a matrix takes in.
GAINS = {"wq": "attention_norm", "wk": "attention_norm", "wv": "attention_norm", "w1": "ffn_norm", "w3": "ffn_norm"}


@torch.no_grad()
def from_llama(path: Path, context: int) -> Student:
    """A student with the float model's weights."""
    with safe_open(path, framework="pt") as file:
        meta = file.metadata() or {}
        missing = {"dim", "hidden", "layers", "heads", "kv_heads", "vocab", "tied"} - meta.keys()
        if missing or meta["tied"] != "true":
            raise SystemExit(f"{path}: a tied LLaMA is wanted; its metadata lacks {sorted(missing) or 'tied=true'}")
        model = Student(Shape(*(int(meta[k]) for k in ("dim", "hidden", "layers", "heads", "kv_heads", "vocab")), context))
        model.emb.copy_(file.get_tensor("tok_embeddings").float())
        model.norm.copy_(file.get_tensor("norm").float())
        for name in LINEARS:
            for i in range(model.shape.layers):
                w = file.get_tensor(f"layers.{i}.{name}").float()
                if name in GAINS:
                    w = w * file.get_tensor(f"layers.{i}.{GAINS[name]}").float()
                getattr(model, name)[i].copy_(w)
    return model


def parts(progress: float, layers: int, ramp: float) -> Tensor:
    """Share of the quantisation in each layer, at a share ``progress`` of the training."""
    return (progress / ramp * layers - torch.arange(layers)).clamp(0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--float", type=Path, required=True, dest="source", help="safetensors of the float LLaMA")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="token files of tokenizer.py encode")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--ramp", type=float, default=0.5, help="share of the steps in which quantisation comes in")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    bos = sentencepiece.SentencePieceProcessor(model_file=str(args.tokenizer)).bos_id()
    torch.manual_seed(args.seed)
    model = from_llama(args.source, args.context).to(args.device)
    generator = torch.Generator(args.device).manual_seed(args.seed)
    data = Data(args.data, bos, args.device)
    rest = [p for name, p in model.named_parameters() if name not in LINEARS]
    optimizers = [Muon([getattr(model, name) for name in LINEARS], args.lr),
                  torch.optim.AdamW(rest, lr=args.lr, betas=(0.9, 0.95), weight_decay=0.0)]
    loss_of = torch.compile(model.loss, dynamic=False) if args.device.startswith("cuda") else model.loss
    total = 0.0
    for step in range(args.steps):
        progress = step / args.steps
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = args.lr * min((step + 1) / 100, 1) * (1 - progress)
        part = parts(progress, model.shape.layers, args.ramp).to(args.device)
        rows = data.rows(args.batch, args.context + 1, generator)
        loss = loss_of(rows[:, :-1], rows[:, 1:], part)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        total += float(loss.detach())
        if (step + 1) % args.every == 0:
            line = {"step": step + 1, "nats": round(total / args.every, 4), "ternary_layers": round(float(part.sum()), 2),
                    "mean_weight": round(float(absmean(model.wq.detach()).mean()), 5)}
            total = 0.0
            with (args.out / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)
    torch.save({"shape": model.shape.asdict(), "model": model.state_dict()}, args.out / "final.pt")


if __name__ == "__main__":
    main()
