# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m sim.bench``: what a token costs on the simulated board at given positions, and where its cycles go.

A token's cost is the difference of two runs: one run ends with the token, the other ends before it.  So the weight buffer is as
full as in the middle of a text.  At position 0 the cost is that of a run with one token.  The tokens are fed one by one, even
if a chunk could take both.  The KV cache before a position is filled through the host's port.  Needed bytes count each byte
once, even if the board reads a byte more often.

``--prompt-tokens`` adds the cost of a prompt from START to the first token, or to the last chunk's end for a model without its
LM head.
"""

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tellme.compiler.image import Image, compile_model, needed_bytes
from tellme.errors import InputError, TellmeError
from tellme.models import LINEARS, Layer, Model, ModelConfig, int8_rows
from tellme.models.model import NORMS
from tellme.models.shipped import checked_model
from tellme.models.source import Block, StoredSource
from tellme.runtime.simulated import SimDevice
from tellme.spec.config import CoreConfig, preset
from tellme.spec.memory import ACCOUNT, COUNTERS, EventType, StartArgs, cache_bases
from tellme.spec.scale import Scale, pack16, scale_from_fraction

__all__ = ["SHAPES", "Result", "bench", "main", "random_model"]

#: Models by shape alone, with random weights.  trilm-99m runs without its LM head, which is 2.7 times as large as the layers and
#: stays on the host.
SHAPES = {
    "trilm-99m": ModelConfig(dim=512, ffn=1280, layers=16, heads=8, kv_heads=8, head_dim=64, vocab=256, context=512,
                             tied=False),
    "bitllama2c-3m": ModelConfig(dim=256, ffn=256, layers=8, heads=8, kv_heads=4, head_dim=32, vocab=512, context=512,
                                 o_norm=True, down_norm=True, eps=1e-8),
}
BODY_ONLY = ("trilm-99m",)


@dataclass(frozen=True)
class Result:
    """Cycles of the token at a position, in all and by activity.

    Behind position 0 they are the difference of two runs, of which one is a token longer.  Refreshes come at other cycles in each
    run, so that a few idle cycles may be hidden in the longer run alone: ``account["idle"]`` may be a few cycles below zero.
    """

    position: int
    cycles: int
    needed: float
    account: dict[str, int]

    def entry(self, config: CoreConfig) -> dict[str, object]:
        """As the report has it; the peak is two SDRAM beats of two bytes a fabric cycle."""
        return {
            "position": self.position, "cycles_per_token": self.cycles,
            "tokens_per_second": round(config.fabric_mhz * 1e6 / self.cycles, 2),
            "peak_share": round(self.needed / (self.cycles * config.peak_bytes_per_cycle), 4),
            "decode_account": self.account,
        }


@dataclass(frozen=True)
class Prefill:
    """Cycles of a prompt.  ``floor``: needed bytes over the memory's peak, in cycles.  ``decode_floor``: the same for one token
    after the prompt."""

    tokens: int
    cycles: int
    floor: float
    decode_floor: float
    account: dict[str, int]

    def entry(self, config: CoreConfig) -> dict[str, object]:
        """As the report has it."""
        return {"prompt_tokens": self.tokens, "cycles": self.cycles, "ttft_ms": round(self.cycles / config.fabric_mhz / 1e3, 3),
                "prefill_account": self.account}


def prefill_bytes(c: ModelConfig, tokens: int, chunk: int) -> float:
    """Bytes that a prompt needs.  Each chunk reads all ternary weights once, reads K, V and scales of all positions up to its own
    once, and writes K, V and scales of its own positions."""
    rows = c.layers * c.kv_heads * (2 * c.head_dim + 4)
    ternary = needed_bytes(c, 0) - c.vocab * c.dim - c.dim - 2 * c.layers * c.kv_dim
    ends = [min(first + chunk, tokens) for first in range(0, tokens, chunk)]
    return len(ends) * ternary + rows * (sum(ends) + tokens)


def random_model(name: str, config: ModelConfig) -> Model:
    """A model of a shape; its weights are drawn, the same ones each time."""
    rng = np.random.default_rng(list(name.encode()))
    layers = []
    for _ in range(config.layers):
        weights = {n: rng.integers(-1, 2, config.shape(n), dtype=np.int8) for n in LINEARS}
        scales: dict[str, Scale | tuple[Block, ...]] = {n: scale_from_fraction(1 / config.shape(n)[1] ** 0.5) for n in LINEARS}
        norms = [n for n in NORMS if n in ("attn_norm", "ffn_norm") or getattr(config, n)]
        layers.append(Layer(weights, scales, {n: np.ones(config.norm_width(n), np.float16) for n in norms}))
    table = int8_rows(rng.normal(size=(config.vocab, config.dim)))
    codes, head_scales = (None, None) if config.tied else int8_rows(rng.normal(size=(config.vocab, config.dim)))
    return Model(config, layers, *table, np.ones(config.dim, np.float16), codes, head_scales, name=name)


def fill_cache(device: SimDevice, image: Image, config: ModelConfig, first: int, end: int) -> None:
    """Random keys, values and scales at positions first to end - 1 of every layer and head."""
    rng = np.random.default_rng(1)
    row = config.head_dim
    scale = pack16(Scale(1024, -16))
    bases = [cache_bases(image.registers, layer) for layer in range(config.layers)]
    with tqdm(total=len(bases) * config.kv_heads, desc=f"KV cache to {end}", unit="head", leave=False) as bar:
        for k, v, s in bases:
            for head in range(config.kv_heads):
                for base in (k, v):
                    at = 4 * (base + head * config.context * row // 4) + first * row
                    device.write(at, rng.integers(-20, 21, (end - first) * row, dtype=np.int8).tobytes())
                device.write(4 * (s + head * config.context + first), np.full(end - first, scale << 16 | scale, "<u4").tobytes())
                bar.update()


def run(device: SimDevice, args: StartArgs) -> dict[str, int]:
    """Counters of one run."""
    events = list(device.start(args))
    if events[-1][0] != EventType.DONE or events[-1][1].logit != 0:
        raise InputError(f"the run at position {args.position} ended with {events[-1]}")
    return device.counters()


def bench(device: SimDevice, model: StoredSource, image: Image, positions: list[int], *, body_only: bool) -> list[Result]:
    """The cost of a token at each position."""
    c = model.config
    results = []
    filled = 0
    for position in positions:
        before = max(0, position - 1)
        if before > filled:
            fill_cache(device, image, c, filled, before)
            filled = before
        device.place(before, [c.bos or 0] * (position - before + 1))
        counts = [] if position else [dict.fromkeys(COUNTERS, 0)]
        for tokens in range(1, position - before + 2):
            feed, generate = (tokens, 0) if body_only else (1, tokens)
            counts.append(run(device, StartArgs(before, feed, generate, chunk=1)))
        filled = max(filled, position + 1)
        spent = {name: counts[-1][name] - counts[-2][name] for name in COUNTERS}
        account = {name: spent[f"{name}_cycles"] for name in ACCOUNT}
        if sum(account.values()) != spent["cycles"]:
            raise AssertionError(f"the account's sum is {sum(account.values())} of {spent['cycles']} cycles")
        needed = needed_bytes(c, position) - (c.vocab * c.dim if body_only else 0)
        results.append(Result(position, spent["cycles"], needed, account))
    return results


def bench_prefill(device: SimDevice, model: StoredSource, prompts: list[int], config: CoreConfig, *,
                  body_only: bool) -> list[Prefill]:
    """The cost of prompts of some lengths."""
    c = model.config
    rng = np.random.default_rng(2)
    results = []
    for n in prompts:
        device.place(0, [int(t) for t in rng.integers(0, c.vocab, n)])
        spent = run(device, StartArgs(0, n, 0 if body_only else 1))
        account = {name: spent[f"{name}_cycles"] for name in ACCOUNT}
        if sum(account.values()) != spent["cycles"]:
            raise AssertionError(f"the account's sum is {sum(account.values())} of {spent['cycles']} cycles")
        peak = config.peak_bytes_per_cycle
        head = c.vocab * c.dim if body_only else 0
        results.append(Prefill(n, spent["cycles"], prefill_bytes(c, n, config.chunk) / peak,
                               (needed_bytes(c, n) - head) / peak, account))
    return results


def prefill_table(results: list[Prefill], config: CoreConfig) -> str:
    """A line per prompt.  "x decode" is tokens per cycle, relative to decode at the memory's peak."""
    lines = [f"{'prompt':>8} {'cycles':>9} {'ttft, ms':>9} {'x floor':>8} {'x decode':>8}  "
             + " ".join(f"{n:>9}" for n in ACCOUNT)]
    for r in results:
        lines.append(f"{r.tokens:>8} {r.cycles:>9} {r.cycles / config.fabric_mhz / 1e3:>9.2f} {r.cycles / r.floor:>8.3f} "
                     f"{r.tokens * r.decode_floor / r.cycles:>8.2f}  "
                     + " ".join(f"{r.account[n] / r.cycles:>8.1%} " for n in ACCOUNT))
    return "\n".join(lines)


def table(results: list[Result], config: CoreConfig) -> str:
    """A line per position."""
    lines = [f"{'position':>8} {'cycles':>9} {'tokens/s':>9} {'x floor':>8}  " + " ".join(f"{n:>9}" for n in ACCOUNT)]
    for r in results:
        floor = r.needed / config.peak_bytes_per_cycle
        lines.append(f"{r.position:>8} {r.cycles:>9} {config.fabric_mhz * 1e6 / r.cycles:>9.1f} {r.cycles / floor:>8.3f}  "
                     + " ".join(f"{r.account[n] / r.cycles:>8.1%} " for n in ACCOUNT))
    return "\n".join(lines)


def numbers_of(option: str, text: str, least: int) -> list[int]:
    """Ascending numbers of an argument such as 0,64,448."""
    try:
        values = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise InputError(f"--{option} is {text!r}; numbers with commas are wanted, such as 16,128,448") from None
    if values[0] < least:
        raise InputError(f"--{option} holds {values[0]}; {option} start at {least}")
    return values


def load(name: str, positions: list[int], board: CoreConfig) -> StoredSource:
    """A file, a shipped model, or a shape with random weights, with room for the positions."""
    model: StoredSource = random_model(name, SHAPES[name]) if name in SHAPES else checked_model(name)
    needed = max(positions) + 2
    if name in SHAPES and needed > model.config.context:
        model.config = replace(model.config, context=-(-needed // 64) * 64)
    if needed > model.config.context:
        raise InputError(f"position {max(positions)} wants a context of {needed}, and {name} has {model.config.context}")
    return model


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sim.bench", description="Cost of a token on the simulated board.")
    parser.add_argument("--model", default="stories-1m", help=f"a file, a shipped model, or a shape: {', '.join(SHAPES)}")
    parser.add_argument("--positions", default="0,64,128", help="ascending or not, with commas")
    parser.add_argument("--prompt-tokens", default="", metavar="16,64,128", help="lengths of prompts, with commas")
    parser.add_argument("--preset", default="ulx3s-85f")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers as JSON")
    args = parser.parse_args(argv)
    device = None
    try:
        if args.json is not None and not args.json.resolve().parent.is_dir():
            raise InputError(f"there is no folder {args.json.resolve().parent} to write {args.json.name} to")
        config = preset(args.preset)
        if not config.accounts:
            raise InputError(f"a core of preset {config.name} has no counters of what its cycles are spent on")
        positions = numbers_of("positions", args.positions, 0)
        prompts = numbers_of("prompt-tokens", args.prompt_tokens, 1) if args.prompt_tokens else []
        model = load(args.model, [*positions, *prompts], config)
        image = compile_model(model, config)
        device = SimDevice("sim", config)
        device.connect()
        with tqdm(total=sum(len(s) for _, s in image.sections), desc="loading", unit="B", unit_scale=True, leave=False,
                  mininterval=0.5) as bar:
            device.load(image, lambda done, total: bar.update(done - bar.n))
        assert device.core_sha256 is not None, "the board is connected"
        prefills = bench_prefill(device, model, prompts, config, body_only=args.model in BODY_ONLY)
        results = bench(device, model, image, positions, body_only=args.model in BODY_ONLY)
        print(f"{args.model}{' (body only)' if args.model in BODY_ONLY else ''}, preset {config.name}, "
              f"{config.fabric_mhz:.2f} MHz, core {device.core_sha256[:12]} (simulated cycles)")
        print(table(results, config))
        if prefills:
            print(prefill_table(prefills, config))
        if args.json is not None:
            report = {"model": args.model, "preset": config.name, "fabric_mhz": round(config.fabric_mhz, 3),
                      "core_sha256": device.core_sha256, "results": [r.entry(config) for r in results],
                      **({"prefill": [r.entry(config) for r in prefills]} if prefills else {})}
            args.json.write_text(json.dumps(report, indent=2) + "\n")
        return 0
    except (TellmeError, ValueError, OSError) as error:
        print(f"sim.bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        if device is not None:
            device.close()


if __name__ == "__main__":
    sys.exit(main())
