# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A float model to a ternary one, by distillation on its own samples.

The float model (a Hugging Face folder or a GGUF file) draws text (own_text.py).  A student begins as the model, with an extra
RMSNorm ahead of each output and down projection (but for OLMo 2: network.py says why), and learns the model's logits at each
place of that text: the loss is the mean KL divergence, in nats.  Quantisation of weights and activations comes in linearly during
the first ``--ramp`` share of the time; from then on the student computes what the board does (network.py).  Matrices are trained
with Muon, gains, biases and scales of rows with AdamW; the embedding stays.  ``torchrun --nproc-per-node N`` spreads the rows of
a step over N GPUs, each of which draws rows of its own.

OUT/log.jsonl gets a line every ``--every`` steps, and one with ``held_kl`` and ``held_same`` every ``--look`` seconds: KL and
the share of places with the same first choice on held-out rows, drawn with a seed of their own, in exact sums.
OUT/weights-K-of-N.safetensors is the student for ternary_model.py, and the start of another run with ``--init``.
"""

import argparse
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from network import METHODS, STEP, Student, Teacher, compare, distil
from own_text import OwnText, Rows
from states import pack, unpack
from torch import Tensor

from tellme.models.chat import ChatTemplate, chat_tokens
from tellme.models.config import LINEARS, ModelError
from tellme.models.importers.checkpoints import open_floats
from tellme.models.importers.importing import Imported
from tellme.models.tokenizers.tokenizer import Tokenizer
from train import Muon, rate

__all__ = ["begins_of", "held_out", "main"]

#: Added to a rank's seed for its held-out rows.
HELD_SEED = 1_000_003
#: Rows that are compared at a time.
LOOK_ROWS = 16
#: More nats than bfloat16's rounding makes of a model's states.
DRAWN_APART = 0.05


def begins_of(model: Imported, texts: list[str]) -> list[list[int]]:
    """The tokens that rows begin with: of ``texts``, in which control tokens are spelled out.  Without any: two chats, up to
    where the user's turn begins, and a text of any kind, which begins with BOS or behind the last of the model's end tokens."""
    tokenizer = Tokenizer(model.tokenizer)
    if texts:
        return [chat_tokens(tokenizer, text) for text in texts]
    c = model.config
    if not c.add_bos and not c.ends:
        raise ModelError(f"{model.name} has neither BOS nor an end token: say with --begin what rows begin with")
    any_text = [c.bos] if c.add_bos and c.bos is not None else [c.ends[-1]]
    if not model.chat_template:
        return [any_text]
    mark = "TURN"
    chat = ChatTemplate(model, tokenizer).render([{"role": "user", "content": mark}], add_generation_prompt=False)
    begin = chat_tokens(tokenizer, chat[:chat.index(mark)])
    return [begin, begin, any_text]


def batches(rounds: list[Rows], rows: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(ids, states, weights) of rows of one round at a time, for ever: each row once before any comes again."""
    while True:
        parts = [(drawn, part) for drawn in rounds
                 for part in torch.randperm(len(drawn.ids), generator=generator).split(rows) if len(part) == rows]
        for at in torch.randperm(len(parts), generator=generator).tolist():
            drawn, part = parts[at]
            part = part.to(drawn.ids.device)
            yield drawn.ids[part].long(), drawn.states[part], drawn.weights[part]


def graphed(learn: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    """``learn`` as one CUDA graph for inputs of these shapes: Python is slower than the GPU at a step's thousands of launches.
    Gradients keep their places, and each call overwrites them."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            learn(*inputs)
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.empty_cache()
    graph = torch.cuda.CUDAGraph()
    # Other threads (NCCL's) may ask for events meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        out = learn(*inputs)

    def replay(*new: Tensor) -> Tensor:
        for place, values in zip(inputs, new, strict=True):
            place.copy_(values)
        graph.replay()
        return out

    return replay


@torch.no_grad()
def drawn_apart(drawn: Rows, teacher: Teacher, exact: Teacher) -> float:
    """KL in nats of what was computed as rows were drawn, against exact sums, over a few rows."""
    ids, size = drawn.ids[:4].long(), torch.ones((), device=drawn.ids.device)
    logits = F.linear(drawn.states[:4].flatten(0, 1), teacher.head)
    kl, _, _ = compare(logits, F.linear(exact.states(ids).flatten(0, 1), exact.head), size, size, size.expand(ids.numel()))
    return float(kl.mean())


@torch.no_grad()
def held_out(student: Student, teacher: Teacher, held: Rows) -> Tensor:
    """Sums over the places of held-out rows that predict what is drawn: KL in nats, same first choice, places."""
    student.run, run, student.exact, student.hardest = student.layer, student.run, True, 0.0
    codes, scale = student.head()
    table = codes.float()
    sums = torch.zeros(3, dtype=torch.float64, device=scale.device)
    for at in range(0, len(held.ids), LOOK_ROWS):
        ids, weights = held.ids[at:at + LOOK_ROWS].long(), held.weights[at:at + LOOK_ROWS].flatten()
        states = teacher.states(ids).flatten(0, 1)
        q, size = (x.flatten(0, 1) for x in student(ids))
        for first in range(0, len(q), 1024):
            rows = slice(first, first + 1024)
            wanted = F.linear(states[rows], teacher.head)
            kl, same, _ = compare(F.linear(q[rows], table), wanted, size[rows], scale, weights[rows])
            sums += torch.stack(((kl * weights[rows]).sum(), (same * weights[rows]).sum(), weights[rows].sum()))
    student.run, student.exact = run, False
    return sums


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the float model: a Hugging Face folder or a GGUF file")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--method", choices=METHODS, default="absmean", help="what a row of codes is worth (default: absmean)")
    parser.add_argument("--planes", type=int, choices=list(STEP), default=1, help="ternary planes of a weight (default: 1)")
    parser.add_argument("--biases", action="store_true", help="learn a bias a row of q, k, v, gate and up")
    parser.add_argument("--begin", nargs="+", default=[], metavar="TEXT", help="what rows begin with, control tokens spelled "
                        "out, in turn (default: two chats at the user's turn, and a text of any kind)")
    parser.add_argument("--context", type=int, default=512, help="tokens of a row (default: 512)")
    parser.add_argument("--temperature", type=float, default=0.9, help="of the samples (default: 0.9)")
    parser.add_argument("--min-p", type=float, default=0.02, help="tokens less probable than this share of the likeliest are not "
                        "drawn (default: 0.02)")
    parser.add_argument("--draw-batch", type=int, default=4096, help="rows that are drawn at once on a GPU (default: 4096)")
    parser.add_argument("--draw-seconds", type=float, default=120, help="of drawing (default: 120)")
    parser.add_argument("--held", type=int, default=128, help="held-out rows of each GPU (default: 128)")
    parser.add_argument("--batch", type=int, default=128, help="rows a step, over all GPUs (default: 128)")
    parser.add_argument("--seconds", type=float, default=1200, help="of training, drawing not counted (default: 1200)")
    parser.add_argument("--steps", type=int, default=0, help="or the length of the training in steps")
    parser.add_argument("--ramp", type=float, default=0.2, help="share of the training in which quantisation comes in "
                        "(default: 0.2)")
    parser.add_argument("--lr", type=float, default=1e-2, help="of the matrices (default: 0.01)")
    parser.add_argument("--rest-lr", type=float, default=2e-3, help="of gains, biases and scales (default: 0.002)")
    parser.add_argument("--warmup", type=int, default=50, help="steps (default: 50)")
    parser.add_argument("--power", type=float, default=1.0, help="of the falling rate (default: 1)")
    parser.add_argument("--margin", type=float, default=0.1, help="steps by which a weight has to pass a threshold to change its "
                        "code (default: 0.1)")
    parser.add_argument("--init", type=Path, nargs="+", help="weights-K-of-N.safetensors of another run, all N, to begin with")
    parser.add_argument("--every", type=int, default=100, help="steps between lines of the log (default: 100)")
    parser.add_argument("--look", type=float, default=100, help="seconds between looks at held-out rows, and saved files "
                        "(default: 100)")
    parser.add_argument("--parts", type=int, default=1, help="files of the result (default: 1)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if args.method == "ttq" and args.planes != 1:
        parser.error("TTQ's pairs are one plane's")
    try:
        run(args)
    except ModelError as error:
        raise SystemExit(f"ternarise.py: {error}") from error


def run(args: argparse.Namespace) -> None:
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    device = args.device
    fast = device.startswith("cuda")
    if world > 1:
        if fast:
            device = f"cuda:{os.environ['LOCAL_RANK']}"
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if fast else "gloo")
    args.out.mkdir(parents=True, exist_ok=True)
    began = time.time()

    def log(**line: float | str | list[str]) -> None:
        if rank == 0:
            with (args.out / "log.jsonl").open("a") as file:
                file.write(json.dumps(line | {"at": round(time.time() - began, 1)}) + "\n")
            print(line, flush=True)

    def say(text: str) -> None:
        if rank == 0:
            print(text, flush=True)

    model = open_floats(args.source, say)
    kind = torch.bfloat16 if fast else torch.float32
    teacher = Teacher(model, device, kind)
    exact = Teacher(model, device, torch.float32)
    begins = begins_of(model, args.begin)
    log(loaded=model.name, begins=len(begins), world=world, device=torch.cuda.get_device_name() if fast else "cpu")

    # The text.
    drawing = time.time()
    text = OwnText(teacher, begins, args.draw_batch, args.context, temperature=args.temperature, min_p=args.min_p,
                   seed=args.seed * 1000 + rank)
    luck = torch.Generator(device).manual_seed(args.seed * 1000 + rank + HELD_SEED)
    rounds = [text.rows(luck, args.held)]
    first, cut = rounds[0], args.draw_batch - args.held
    held = Rows(*(part[cut:].clone() for part in (first.ids, first.states, first.given)))
    rounds = [Rows(*(part[:cut] for part in (first.ids, first.states, first.given)))]
    log(round=1, seconds=round(time.time() - drawing, 1))
    while time.time() - drawing < args.draw_seconds:
        rounds.append(text.rows())
        if fast:
            torch.cuda.synchronize()
    drawn = torch.tensor(float(sum(r.weights.sum() for r in rounds)), device=device)
    if world > 1:
        dist.all_reduce(drawn)
    log(rounds=len(rounds), drawn_tokens=float(drawn), draw_seconds=round(time.time() - drawing, 1))
    off = drawn_apart(held, teacher, exact)
    if off > DRAWN_APART:
        raise SystemExit(f"the states of drawn rows are {off:.3f} nats from the model's: drawing is broken")
    shown = Tokenizer(model.tokenizer)
    log(drawn_apart=round(off, 5), drawn=[shown.decode(row.tolist())[:200] for row in held.ids[:6]])
    if rank == 0:
        torch.save({"ids": held.ids.cpu(), "given": held.given.cpu()}, args.out / "held.pt")
    del text
    if fast:
        torch.cuda.empty_cache()

    # The student.
    sizes: list[Tensor] = []
    teacher.states(rounds[0].ids[:64].long(), sizes)
    if world > 1:
        for size in sizes:
            dist.all_reduce(size, op=dist.ReduceOp.SUM)
            size /= world
    student = Student(model, teacher, args.context, method=args.method, planes=args.planes, biases=args.biases)
    student.calibrate(sizes)
    if args.init:
        unpack(student, args.init)
    student.to(device)
    distance = compare
    settle = student.settle_one
    if fast:
        student.compiled()
        distance, settle = torch.compile(compare, dynamic=False), torch.compile(student.settle_one, dynamic=False)
    matrices = [getattr(student, name) for name in LINEARS]
    rest = [p for name, p in student.named_parameters() if name not in LINEARS]
    optimizers: list[torch.optim.Optimizer] = [Muon(matrices, args.lr),
                                               torch.optim.AdamW(rest, lr=args.rest_lr, betas=(0.9, 0.95), weight_decay=0.0)]
    trained = [*matrices, *rest]
    table, scale = student.head()
    table = table.to(kind)
    ready = batches(rounds, args.batch // world, torch.Generator().manual_seed(args.seed * 1000 + rank))

    part = torch.zeros((), device=device)

    def learn(ids: Tensor, states: Tensor, weight: Tensor) -> Tensor:
        """Gradients of a step; its mean KL and share of the same first choice."""
        for p in trained:
            p.grad = None
        q, size = student(ids, part)
        q, size, states = (x.flatten(0, 1) for x in (q, size, states))
        loss, same = distil(q, size, weight, table, scale, states, teacher.head, distance)
        loss.backward()
        return torch.stack((loss.detach(), same))

    if fast:
        ids, states, weights = next(ready)
        learn = graphed(learn, (ids, states, weights.flatten() / weights.sum()))

    def look(step: int, seconds: float, **more: float | str) -> None:
        sums = held_out(student, exact, held)
        hardest = torch.tensor(student.hardest, device=device)
        if world > 1:
            dist.all_reduce(sums)
            dist.all_reduce(hardest, op=dist.ReduceOp.MAX)
            for tensor in student.state_dict().values():
                dist.broadcast(tensor, 0)
        log(step=step, seconds=round(seconds, 1), held_kl=round(float(sums[0] / sums[2]), 5),
            held_same=round(float(sums[1] / sums[2]), 5), held_places=float(sums[2]),
            hardest_score=round(float(hardest), 1), **more)

    def save(step: int, seconds: float) -> None:
        if rank == 0:
            pack(student, args.out, args.parts, {"source": model.name, "license": model.license, "step": step,
                                                 "seconds": round(seconds, 1), "context": args.context})

    totals = torch.zeros(2, device=device)
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    step, spent, counted, noted = 0, 0.0, 0, 0.0
    started = looked = time.time()
    while True:
        progress = step / args.steps if args.steps else spent / args.seconds
        if progress >= 1 or stop:
            break
        part.fill_(min(progress / args.ramp, 1.0) if args.ramp else 1.0)
        share = rate(progress, step, args.warmup, args.power)
        for optimizer, peak in zip(optimizers, (args.lr, args.rest_lr), strict=True):
            optimizer.param_groups[0]["lr"] = peak * share
        ids, states, weights = next(ready)
        found = learn(ids, states, weights.flatten() / weights.sum())
        if world > 1:
            flat = torch.cat([p.grad.flatten().to(kind) for p in trained])
            dist.all_reduce(flat, op=dist.ReduceOp.SUM)
            for p, mean in zip(trained, flat.split([p.numel() for p in trained]), strict=True):
                p.grad.copy_(mean.view_as(p))
                p.grad.div_(world)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        with torch.no_grad():
            for name in LINEARS:
                settle(getattr(student, name), getattr(student, "codes_" + name), args.margin)
        totals += found
        step += 1
        if step % 10 == 0 or not fast:
            # Time is what every process agrees on; reading it waits for the GPU, so not at each step.
            now = time.time()
            clock = torch.tensor([now - started, float(len(stop)), now - looked], dtype=torch.float64, device=device)
            if world > 1:
                dist.broadcast(clock, 0)
            spent, stopped, waited = clock.tolist()
            stop = [1] if stopped else []
            if step % args.every == 0:
                kl, alike = (totals / (step - counted)).tolist()
                log(step=step, seconds=round(spent, 1), kl=round(kl, 5), same=round(alike, 5), part=round(float(part), 3),
                    tokens_per_s=round((step - counted) * args.batch * args.context / max(spent - noted, 1e-9)),
                    lr=round(args.lr * share, 6))
                totals.zero_()
                counted, noted = step, spent
            if waited > args.look:
                if math.isnan(float(found[0])):
                    raise SystemExit("the loss is not a number")
                look(step, spent)
                save(step, spent)
                looked = time.time()
    save(step, spent)
    look(step, spent, tokens=step * args.batch * args.context, done="yes")
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
