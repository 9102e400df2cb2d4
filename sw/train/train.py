# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Step 3: quantisation-aware training of a student on token files.

One GPU by default; ``torchrun --nproc-per-node N train.py ...`` spreads the batch over N.  Matrices are trained with
Muon (or AdamW), embedding, gains and scores with AdamW; the learning rate warms up and falls to 0 (``--power``), weight
decay is on at first.  With ``--margin`` a code changes only when its weight is so far behind the threshold.  With
``--head-planes`` the table is trained as integers of so many ternary planes, a learned scale a row.  The length is given
in steps, or in seconds of training.  OUT/log.jsonl gets a line every ``--every`` steps, OUT/last.pt a checkpoint
every ``--save`` seconds; a run that finds one goes on from it.
"""

import argparse
import json
import math
import os
import signal
import time
from pathlib import Path

import numpy as np
import sentencepiece
import torch
import torch.distributed as dist
from model import GAINS, LINEARS, Shape, Student, bits_per_byte
from tokenizer import stories
from torch import Tensor

__all__ = ["Data", "Muon", "orthogonal"]


class Data:
    """Token files on the device; a row begins at a story and runs on into those that follow it."""

    def __init__(self, paths: list[Path], bos: int, device: str) -> None:
        tokens = np.concatenate([np.load(path) for path in paths])
        self.tokens = torch.from_numpy(tokens.view(np.int16)).to(device)
        self.starts = (self.tokens == bos).nonzero().flatten()

    def rows(self, n: int, length: int, generator: torch.Generator) -> Tensor:
        """[n, length] ids from stories at random."""
        pick = torch.randint(len(self.starts), (n,), generator=generator, device=self.tokens.device)
        at = self.starts[pick][:, None] + torch.arange(length, device=self.tokens.device)
        return self.tokens[at % len(self.tokens)].long()


def orthogonal(g: Tensor) -> Tensor:
    """The orthogonal factor of each matrix of a stack, roughly, by five Newton-Schulz steps (Muon)."""
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Muon on stacks of matrices, steps scaled to AdamW's size (0.2 sqrt(longer side))."""

    def __init__(self, params: list[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            #: Stacks of one shape, a tall one on its side, go through together: their steps are small beside a launch.
            alike: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                g = p.grad.lerp(state["momentum"], group["momentum"])
                rows, columns = p.shape[-2:]
                alike.setdefault((min(rows, columns), max(rows, columns)), []).append((p, g.mT if rows > columns else g))
            for (_, longer), pairs in alike.items():
                updates = orthogonal(torch.cat([g for _, g in pairs])).split([len(p) for p, _ in pairs])
                for (p, _), update in zip(pairs, updates, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(update.mT if p.shape[-2] > p.shape[-1] else update, alpha=-group["lr"] * 0.2 * math.sqrt(longer))


def rate(progress: float, step: int, warmup: int, power: float) -> float:
    """Share of the peak learning rate: up to 1 in ``warmup`` steps, times (1 - progress) ** power."""
    return min((step + 1) / warmup, 1.0) * max(1.0 - progress, 0.0) ** power


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="token files of tokenizer.py encode")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shape", default="256,1024,8,8,4", help="dim,ffn,layers,heads,kv_heads")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--batch", type=int, default=256, help="rows a step, over all GPUs (default: 256)")
    parser.add_argument("--steps", type=int, default=0, help="length of the training in steps")
    parser.add_argument("--seconds", type=float, default=0, help="or in seconds of training")
    parser.add_argument("--optimizer", choices=("muon", "adamw"), default="muon")
    parser.add_argument("--lr", type=float, default=4e-3, help="of the matrices (default: 4e-3)")
    parser.add_argument("--emb-lr", type=float, default=4e-3, help="of embedding, gains and scores (default: 4e-3)")
    parser.add_argument("--decay", type=float, default=0.05, help="weight decay of the first half (default: 0.05)")
    parser.add_argument("--decay-until", type=float, default=0.5, help="share of the training with weight decay")
    parser.add_argument("--warmup", type=int, default=500, help="steps (default: 500)")
    parser.add_argument("--power", type=float, default=1.0, help="of the falling rate: 2 stays longer at small rates than 1")
    parser.add_argument("--init", type=Path, help="a checkpoint whose weights to begin with")
    parser.add_argument("--scores", help="factors of the attention scores to begin with, one a layer, with commas between")
    parser.add_argument("--margin", type=float, default=0.0, help="share of the scale by which a weight has to pass a threshold "
                        "before its code changes (default: 0)")
    parser.add_argument("--head-planes", type=int, default=0, choices=range(6), metavar="N",
                        help="ternary planes of embedding and LM head, 1 to 5 (default: a float table)")
    parser.add_argument("--frozen", action="store_true", help="the ternary codes stay; all else is trained")
    parser.add_argument("--no-gains", action="store_true", help="no gains ahead of the linears")
    parser.add_argument("--text", type=Path, help="held-out text for the log")
    parser.add_argument("--text-stories", type=int, default=256)
    parser.add_argument("--every", type=int, default=500, help="steps between lines of the log")
    parser.add_argument("--save", type=float, default=60, help="seconds between checkpoints")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if (args.steps > 0) == (args.seconds > 0):
        parser.error("give --steps or --seconds")
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    device = args.device
    if world > 1:
        device = f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" else device
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    if ":" in device:
        torch.cuda.set_device(device)
    torch.backends.cuda.matmul.allow_tf32 = True
    args.out.mkdir(parents=True, exist_ok=True)

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(args.tokenizer))
    bos = pieces.bos_id()
    shape = Shape.parse(args.shape, pieces.get_piece_size(), args.context, args.head_planes)
    torch.manual_seed(args.seed)
    model = Student(shape).to(device)
    if args.init:
        model.restore(torch.load(args.init, map_location=device, weights_only=True)["model"])
    if args.scores:
        model.score.data = torch.tensor([float(part) for part in args.scores.split(",")], device=device).log()
    if args.margin and model.held("wq") is None:
        model.hold()
    for name in (*(LINEARS if args.frozen else ()), *(GAINS if args.no_gains else ())):
        getattr(model, name).requires_grad_(False)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    matrices = [p for name, p in trained.items() if name in LINEARS]
    rest = [p for name, p in trained.items() if name not in (*LINEARS, "emb_scale")]
    fused = device.startswith("cuda")
    adamw = {"betas": (0.9, 0.95), "weight_decay": 0.0, "fused": fused}
    groups = [{"params": rest, "decays": True}]
    if args.head_planes:
        # Logarithms: decay would draw the scales to 1.
        groups.append({"params": [model.emb_scale], "decays": False})
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=args.emb_lr, **adamw)]
    if matrices:
        optimizers.append(Muon(matrices, args.lr) if args.optimizer == "muon"
                          else torch.optim.AdamW(matrices, lr=args.lr, **adamw))
    generator = torch.Generator(device).manual_seed(args.seed * 1000 + rank)
    data = Data(args.data, bos, device)
    held_out = stories(args.text)[:args.text_stories] if args.text else []
    held_ids = pieces.encode(held_out)
    held_bytes = sum(len(s.encode()) for s in held_out)

    step, spent = 0, 0.0
    last = args.out / "last.pt"
    if last.exists():
        state = torch.load(last, map_location=device, weights_only=True)
        model.restore(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step, spent = state["step"], state["spent"]
        # Not the same rows again: a generator for each resumed part.
        generator.manual_seed((args.seed * 1000 + rank) * 1000003 + step)

    def log(**line: float | str) -> None:
        if rank == 0:
            with (args.out / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(args.out.name, line, flush=True)

    def save(name: str) -> None:
        if rank == 0:
            scratch = args.out / "partial"
            torch.save({"shape": shape.asdict(), "model": model.state_dict(), "step": step, "spent": spent,
                        "optimizers": [o.state_dict() for o in optimizers]}, scratch)
            scratch.replace(args.out / name)

    loss_of = torch.compile(model.loss, dynamic=False) if fused else model.loss
    sums = torch.zeros((), device=device)
    flat_size = sum(p.numel() for p in model.parameters())
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    log(step=step, shape=args.shape, ternary_weights=shape.ternary_weights, tokens=len(data.tokens),
        stories=len(data.starts), optimizer=args.optimizer, lr=args.lr, head_planes=args.head_planes,
        **({"bits_per_byte": round(bits_per_byte(model, held_ids, held_bytes, bos), 5)} if held_out and args.init else {}))
    saved_at = time.time()
    started = saved_at - spent
    noted, counted = spent, step
    while True:
        progress = step / args.steps if args.steps else spent / args.seconds
        if progress >= 1 or stop:
            break
        share = rate(progress, step, args.warmup, args.power)
        for optimizer, peak in zip(optimizers, (args.emb_lr, args.lr), strict=False):
            for group in optimizer.param_groups:
                group["lr"] = peak * share
                group["weight_decay"] = args.decay if progress < args.decay_until and group.get("decays", True) else 0.0
        rows = data.rows(args.batch // world, shape.context + 1, generator)
        loss = loss_of(rows[:, :-1], rows[:, 1:])
        loss.backward()
        if world > 1:
            flat = torch.cat([p.grad.flatten() for p in trained.values()])
            dist.all_reduce(flat, op=dist.ReduceOp.AVG if fused else dist.ReduceOp.SUM)
            for p, part in zip(trained.values(), flat.split([p.numel() for p in trained.values()]), strict=True):
                p.grad.copy_((part if fused else part / world).view_as(p))
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if args.margin and matrices:
            model.settle(args.margin)
        sums += loss.detach()
        step += 1
        if step % 20 == 0 or not fused:
            # Time is what every process agrees on; reading it waits for the GPU, so not at each step.
            if fused:
                torch.cuda.synchronize()
            clock = torch.tensor([time.time() - started, float(len(stop))], dtype=torch.float64, device=device)
            if world > 1:
                dist.broadcast(clock, 0)
            spent = float(clock[0])
            stop = [1] if clock[1] else []
        if step % args.every == 0:
            if world > 1:
                for tensor in model.state_dict().values():
                    dist.broadcast(tensor, 0)
            line = {"step": step, "seconds": round(spent, 1), "nats": round(float(sums) / (step - counted), 5),
                    "tokens_per_s": round((step - counted) * args.batch * shape.context / max(spent - noted, 1e-9))}
            noted, counted = spent, step
            sums.zero_()
            if held_out:
                line["bits_per_byte"] = round(bits_per_byte(model, held_ids, held_bytes, bos), 5)
            log(**line)
        if time.time() - saved_at > args.save and step % 20 == 0:
            save("last.pt")
            saved_at = time.time()
    save("last.pt")
    if not stop:
        save("final.pt")
        text = {"bits_per_byte": round(bits_per_byte(model, held_ids, held_bytes, bos), 5)} if held_out else {}
        log(step=step, seconds=round(spent, 1), parameters=flat_size, done="yes", **text)
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
