# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m sim.bench``: what a token costs on the simulated board at given positions, and where its cycles go.

What is measured, and how, says :mod:`tellme.runtime.bench`, which ``tellme-host bench`` uses too.  This program also takes
models by their shape alone.

``--preload`` puts the model, and the KV cache up to the last position, into the memory before power-up.  Loading a large model
through the link takes a cycle for each byte.  The cycles of a token are the same.

``--layers N`` takes N layers of a shape.  Nothing is extrapolated: cycles and needed bytes are those of N layers.

``--planes P`` gives each matrix of a shape's layers P planes, and ``--row-words`` a scale a row, with a bias where a row can have
one.  A needed byte is then five trits, as it is with one plane.

``--prompt-tokens`` adds the cost of a prompt from START to the first token, or to the last chunk's end for a model without its
LM head.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from tellme.compiler.image import compile_model
from tellme.compiler.image_file import image_pieces, save_pieces
from tellme.compiler.part import Part
from tellme.errors import InputError, TellmeError
from tellme.models import ModelConfig
from tellme.models.random import random_model
from tellme.models.shipped import checked_model
from tellme.models.source import StoredSource
from tellme.runtime.bench import Decode, Prefill, cache_pieces, measure_decode, measure_prefill
from tellme.runtime.simulated import SimDevice
from tellme.spec.config import CoreConfig, preset
from tellme.spec.memory import ACCOUNT, SDRAM_BASE
from tellme.spec.packing import MAX_LINEAR_PLANES

__all__ = ["SHAPES", "main"]

#: Models by shape alone, with random weights.  trilm-99m, bitnet-2b-body (BitNet b1.58 2B-4T) and smollm2-135m-body (SmolLM2-135M
#: with an RMSNorm ahead of each linear) run without their LM heads, which stay on the host.  bitnet-large is bitnet_b1_58-large.
SHAPES = {
    "trilm-99m": ModelConfig(dim=512, ffn=1280, layers=16, heads=8, kv_heads=8, head_dim=64, vocab=256, context=512,
                             tied=False),
    "bitllama2c-3m": ModelConfig(dim=256, ffn=256, layers=8, heads=8, kv_heads=4, head_dim=32, vocab=512, context=512,
                                 o_norm=True, down_norm=True, eps=1e-8),
    "bitnet-large": ModelConfig(dim=1536, ffn=4096, layers=24, heads=16, kv_heads=16, head_dim=96, vocab=32002, context=2048,
                                o_norm=True, down_norm=True),
    "bitnet-2b-body": ModelConfig(dim=2560, ffn=6912, layers=30, heads=20, kv_heads=5, head_dim=128, vocab=256, context=2048,
                                  act="relu2", act_exp=8, theta=500000.0, o_norm=True, down_norm=True),
    "smollm2-135m-body": ModelConfig(dim=576, ffn=1536, layers=30, heads=9, kv_heads=3, head_dim=64, vocab=256, context=512,
                                     theta=100000.0, o_norm=True, down_norm=True),
}
BODY_ONLY = ("trilm-99m", "bitnet-2b-body", "smollm2-135m-body")
#: Shapes whose checkpoints have a gain before the LM head alone: the norms of a bitllama2.c file's layers have none.
NO_LAYER_GAINS = ("bitllama2c-3m",)
#: The matrices whose rows can have a bias (:class:`tellme.spec.program.Descriptor`).
BIASED = ("wq", "wk", "wv", "w1", "w3")


def prefill_table(results: list[Prefill], config: CoreConfig) -> str:
    """A line per prompt.  "x decode" is tokens per cycle, relative to decode at the memory's peak."""
    lines = [f"{'prompt':>8} {'cycles':>9} {'ttft, ms':>9} {'x floor':>8} {'x decode':>8}  "
             + " ".join(f"{n:>9}" for n in ACCOUNT)]
    for r in results:
        assert r.cycles and r.account, "a board counts cycles"
        lines.append(f"{r.tokens:>8} {r.cycles:>9} {r.cycles / config.fabric_mhz / 1e3:>9.2f} {r.cycles / r.floor(config):>8.3f} "
                     f"{r.tokens * r.decode_floor(config) / r.cycles:>8.2f}  "
                     + " ".join(f"{r.account[n] / r.cycles:>8.1%} " for n in ACCOUNT))
    return "\n".join(lines)


def table(results: list[Decode], config: CoreConfig) -> str:
    """A line per position."""
    lines = [f"{'position':>8} {'cycles':>9} {'tokens/s':>9} {'x floor':>8}  " + " ".join(f"{n:>9}" for n in ACCOUNT)]
    for r in results:
        assert r.cycles and r.account, "a board counts cycles"
        lines.append(f"{r.position:>8} {r.cycles:>9} {config.fabric_mhz * 1e6 / r.cycles:>9.1f} "
                     f"{r.cycles / r.floor(config):>8.3f}  " + " ".join(f"{r.account[n] / r.cycles:>8.1%} " for n in ACCOUNT)
                     + (f" {r.rows_read:.1%} of the LM head's rows" if r.rows_read is not None else ""))
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


def load(name: str, positions: list[int], layers: int | None = None, planes: int | None = None, *,
         row_words: bool = False) -> StoredSource:
    """A file, a shipped model, or a shape with random weights and as many layers, with room for the positions.

    ``planes``, ``row_words``: of each matrix of a shape's layers; a file has its own.
    """
    for option, given in (("layers", layers is not None), ("planes", planes is not None), ("row-words", row_words)):
        if given and name not in SHAPES:
            raise InputError(f"--{option} is for shapes, and {name} is none: {', '.join(SHAPES)} are")
    if layers is not None and not 1 <= layers <= SHAPES[name].layers:
        raise InputError(f"--layers is {layers}; 1 to {SHAPES[name].layers} can be")
    if planes is not None and not 1 <= planes <= MAX_LINEAR_PLANES:
        raise InputError(f"--planes is {planes}; 1 to {MAX_LINEAR_PLANES} can be")
    model: StoredSource
    if name in SHAPES:
        model = random_model(name, replace(SHAPES[name], layers=layers or SHAPES[name].layers), planes=planes or 1,
                             row_scales=row_words, biases=BIASED if row_words else (),
                             layer_gains=name not in NO_LAYER_GAINS)
    else:
        model = checked_model(name)
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
    parser.add_argument("--layers", type=int, metavar="N", help="take N layers of a shape")
    parser.add_argument("--planes", type=int, metavar="P", help="give each matrix of a shape's layers P planes")
    parser.add_argument("--row-words", action="store_true", help="give each row of a shape's layers a scale, and a bias where a "
                        "row can have one")
    parser.add_argument("--preload", action="store_true", help="put model and KV cache into the memory before power-up, not "
                        "through the link")
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
        model = load(args.model, [*positions, *prompts], args.layers, args.planes, row_words=args.row_words)
        image = compile_model(model, config)
        filled = max(positions) if args.preload else 0
        with TemporaryDirectory() as folder:
            if args.preload:
                path = Path(folder) / "image"
                cache = [(SDRAM_BASE + at, Part.of(content)) for at, content in cache_pieces(image, model.config, 0, filled)
                         if content]
                save_pieces(path, [*image_pieces(image), *cache], config)
            device = SimDevice("sim", config, preload=path if args.preload else None, trusted=args.preload)
            # The board has read the file when it answers.
            device.connect()
        with tqdm(total=sum(len(s) for _, s in image.sections), desc="loading", unit="B", unit_scale=True, leave=False,
                  mininterval=0.5) as bar:
            device.load(image, lambda done, total: bar.update(done - bar.n))
        assert device.core_sha256 is not None, "the board is connected"
        body_only = args.model in BODY_ONLY
        prefills = measure_prefill(device, model.config, image, prompts, config, body_only=body_only)
        results = measure_decode(device, model.config, image, positions, config, body_only=body_only, filled=filled)
        layers = f" ({args.layers} of {SHAPES[args.model].layers} layers)" if args.layers is not None else ""
        layers += f", {args.planes or 1} {'planes' if (args.planes or 1) > 1 else 'plane'}" if args.model in SHAPES else ""
        layers += ", row words" if args.row_words else ""
        print(f"{args.model}{' (body only)' if body_only else ''}{layers}, preset {config.name}, "
              f"{config.fabric_mhz:.2f} MHz, core {device.core_sha256[:12]} (simulated cycles)")
        print(table(results, config))
        if prefills:
            print(prefill_table(prefills, config))
        fastest = max(r.simulated or 0.0 for r in results)
        print(f"simulated: {fastest:.0f} cycles a second of this computer's clock, at most")
        if args.json is not None:
            report = {"model": args.model, "layers": model.config.layers,
                      **({"planes": args.planes or 1, "row_words": args.row_words} if args.model in SHAPES else {}),
                      "preset": config.name,
                      "fabric_mhz": round(config.fabric_mhz, 3), "core_sha256": device.core_sha256,
                      "simulated_cycles_per_second": round(fastest), "results": [r.as_json(config) for r in results],
                      **({"prefill": [r.as_json(config) for r in prefills]} if prefills else {})}
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
