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

``--sequences 1,2,4,8,16`` measures as many sequences side by side (:mod:`sim.sequences`): a pass of all of them at each position,
and a run of ``--tokens`` picks each.  Their caches lie in the memory when power comes.

``--drafts FILE`` measures drafted tokens (:mod:`sim.drafted`) over whole stories of ``--text``.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tqdm import tqdm

from hw.verilog import core_sha256 as sha256_of_core
from hw.verilog import core_verilog
from sim.drafted import Drafter, as_json, measure_stories, settings_word, summary
from sim.reports import keep, kept
from sim.sequences import Beside, SequenceRun, SideBySide
from tellme.compiler.cycles import PassModel, measured_list
from tellme.compiler.image import Image, compile_model, with_drafts
from tellme.compiler.image_file import image_pieces, save_pieces
from tellme.compiler.part import Part
from tellme.drafts.table import open_table
from tellme.drafts.texts import whole_texts
from tellme.errors import InputError, TellmeError
from tellme.golden.board import GoldenBoard
from tellme.link.client import BoardClient
from tellme.models import ModelConfig
from tellme.models.random import random_model
from tellme.models.shipped import checked_model
from tellme.models.source import StoredSource
from tellme.runtime.bench import Decode, Prefill, cache_pieces, measure_decode, measure_prefill
from tellme.runtime.sampling import Sampling
from tellme.runtime.session import tokenizer_of
from tellme.runtime.simulated import SimDevice
from tellme.spec.config import CoreConfig, preset
from tellme.spec.drafts import SETTINGS_FIELDS
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
#: Texts of the sequences.  The logits of so many tokens of the first one, beyond the last position, tell the analytic model how
#: long the lists of the best 64 take.
STORIES, STATES = Path(__file__).resolve().parents[1] / "tests" / "data" / "stories.txt", 24
#: Drafted tokens that the board's register has room for.
MOST_DRAFTED = (1 << SETTINGS_FIELDS["most"]) - 1
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


def how(argv: Sequence[str]) -> str:
    """The command for a report: files by their names, and without the report's own."""
    words, left = ["python -m sim.bench"], list(argv)
    while left:
        word = left.pop(0)
        if word == "--json":
            left.pop(0)
            continue
        words.append(word)
        if word in ("--drafts", "--text"):
            words.append(Path(left.pop(0)).name)
    return " ".join(words)


def board(config: CoreConfig, image: Image, cache: Iterable[tuple[int, bytes]] | None) -> SimDevice:
    """A simulated board that has the image: through the link, or with ``cache``, (address, content), in its memory at once."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        if cache is not None:
            pieces = [(SDRAM_BASE + at, Part.of(content)) for at, content in cache if content]
            save_pieces(path, [*image_pieces(image), *pieces], config)
        device = SimDevice("sim", config, preload=path if cache is not None else None, trusted=cache is not None)
        try:
            # The board has read the file when it answers.
            device.connect()
        except BaseException:
            device.close()
            raise
    try:
        with tqdm(total=sum(len(s) for _, s in image.sections), desc="loading", unit="B", unit_scale=True, leave=False,
                  mininterval=0.5) as bar:
            device.load(image, lambda done, total: bar.update(done - bar.n))
    except BaseException:
        device.close()
        raise
    return device


def texts_for(model: StoredSource, path: Path, count: int, length: int) -> list[list[int]]:
    """Ids of the first ``length`` tokens of as many different texts; of a model without a tokenizer ids at random."""
    tokenizer = tokenizer_of(model)
    if tokenizer is None:
        return np.random.default_rng(3).integers(0, model.config.vocab, (count, length)).tolist()
    try:
        content = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the texts cannot be read: {error}") from None
    found = list(dict.fromkeys(tuple(text[:length]) for text in whole_texts(model.config, tokenizer, content)
                               if len(text) >= length))
    if len(found) < count:
        raise InputError(f"{path} holds {len(found)} texts of {length} tokens or more; {count} are wanted")
    return [list(text) for text in found[:count]]


def sequences_table(passes: Sequence[Beside], runs: Sequence[SequenceRun], config: CoreConfig) -> str:
    """A line per pass, and a line per run."""
    alone = {p.position: p.cycles for p in passes if p.sequences == 1}
    lines = [f"{'position':>8} {'sequences':>9} {'cycles':>9} {'tokens/s':>9} {'each':>8} {'x alone':>8} {'model':>9} {'off':>7}"]
    for p in passes:
        r = p.as_json(config, alone.get(p.position))
        lines.append(f"{p.position:>8} {p.sequences:>9} {p.cycles:>9} {r['tokens_per_second']:>9} "
                     f"{r['tokens_per_second_each']:>8} {r['x_alone'] or '':>8} {p.model:>9.0f} {p.model / p.cycles - 1:>7.1%}")
    for run in runs:
        r = run.as_json(config)
        many = f"{run.sequences} sequence{'s' * (run.sequences > 1)}"
        together = (f"{r['tokens_per_second_of_these']} while all decode ({run.passes} passes)" if run.passes else
                    "never do all decode")
        lines.append(f"{many} from prompts of {min(run.prompts)} to {max(run.prompts)} tokens, {run.tokens} picks each: "
                     f"{run.cycles} cycles, {r['tokens_per_second']} tokens/s with prompts, {together}")
    return "\n".join(lines)


def bench_sequences(args: argparse.Namespace, config: CoreConfig) -> int:
    """``--sequences``: measure, print, and keep the report."""
    counts = numbers_of("sequences", args.sequences, 1)
    positions = numbers_of("positions", args.positions, 0)
    if args.prompt_tokens:
        raise InputError("--prompt-tokens is of one sequence; leave it out beside --sequences")
    tokens = 12 if args.tokens is None else args.tokens
    if tokens < 0:
        raise InputError(f"--tokens is {args.tokens}; 0 or more picks can be")
    if max(counts) > config.slots:
        have = "one sequence at a time" if config.slots == 1 else f"{config.slots} sequences side by side"
        raise InputError(f"--sequences holds {max(counts)}, and a core of preset {config.name} runs {have}")
    if args.model in BODY_ONLY:
        raise InputError(f"{args.model} has its LM head on the host, so that no board picks; take a model with its LM head")
    model = load(args.model, positions, args.layers, args.planes, row_words=args.row_words)
    image = compile_model(model, config)
    if max(counts) > image.slots:
        raise InputError(f"--sequences holds {max(counts)}, and the memory has room for the caches of {image.slots}")
    texts = texts_for(model, args.text, max(counts), max(positions) + STATES)
    golden = GoldenBoard(image)
    states = golden.feed(texts[0], 0, heads="all")
    side_by_side = SideBySide(image, config, PassModel(model.config, image, config, measured_list(states)), texts, max(positions))
    device = board(config, image, side_by_side.pieces())
    try:
        assert device.core_sha256 is not None, "the board is connected"
        client = device.client
        assert isinstance(client, BoardClient)
        print(f"{args.model}, preset {config.name}, {config.fabric_mhz:.2f} MHz, core {device.core_sha256[:12]} "
              "(simulated cycles)")
        passes: list[Beside] = []
        runs: list[SequenceRun] = []
        made = {"model": args.model, "preset": config.name, "fabric_mhz": round(config.fabric_mhz, 3),
                "core_sha256": device.core_sha256}

        def kept_so_far() -> None:
            alone = {p.position: p.cycles for p in passes if p.sequences == 1}
            if args.json is not None:
                keep(args.json, f"{args.model}, {config.name}", {
                    **made, "passes": [p.as_json(config, alone.get(p.position)) for p in passes],
                    "runs": [run.as_json(config) for run in runs]}, args.how)

        for count in counts:
            for position in positions:
                passes.append(side_by_side.measure(client, count, position))
                print(sequences_table(passes[-1:], [], config).splitlines()[-1], file=sys.stderr)
                kept_so_far()
        for count in counts if tokens else ():
            runs.append(side_by_side.run(client, count, tokens))
            kept_so_far()
    finally:
        device.close()
    print(sequences_table(passes, runs, config))
    return 0


def check_drafts(args: argparse.Namespace, config: CoreConfig) -> int:
    """Refuse what ``--drafts`` cannot be measured with, before anything is read; the prompts' tokens."""
    if args.sequences:
        raise InputError("--drafts and --sequences are measured apart: leave one of them out")
    if not config.drafts:
        raise InputError(f"the core of preset {config.name} drafts no tokens")
    if args.model in SHAPES:
        raise InputError(f"--drafts wants a model with a tokenizer, and {args.model} is a shape")
    lengths = numbers_of("prompt-tokens", args.prompt_tokens or "24", 1)
    if len(lengths) > 1 or lengths[0] > config.widths.token_window:
        raise InputError(f"--prompt-tokens is {args.prompt_tokens}; one number up to {config.widths.token_window} is wanted "
                         "beside --drafts")
    limits = (("stories", args.stories, 1, None), ("jobs", args.jobs, 1, None), ("plain", args.plain, 0, None),
              ("tokens", args.tokens, 2, None), ("most", args.most, 1, min(config.chunk - 1, MOST_DRAFTED)))
    for option, value, least, most in limits:
        if value < least or most is not None and value > most:
            raise InputError(f"--{option} is {value}; {least} {f'to {most}' if most else 'or more'} can be")
    return lengths[0]


def bench_drafts(args: argparse.Namespace, config: CoreConfig) -> int:
    """``--drafts``: measure story by story, and keep the report after each; stories that the report has are not done again."""
    args.tokens = 100 if args.tokens is None else args.tokens
    length = check_drafts(args, config)
    sampling = Sampling(temperature=args.temperature)
    model = load(args.model, [length + args.tokens - 1])
    c = model.config
    tokenizer = tokenizer_of(model)
    assert tokenizer is not None
    table = open_table(args.drafts, c.vocab, model.tokenizer)
    prompts = texts_for(model, args.text, args.stories, length)
    image = with_drafts(compile_model(model, config), table, config)
    states = GoldenBoard(image).feed(prompts[0], 0, heads="all")
    analytic = PassModel(c, image, config, measured_list(states))
    settings = settings_word(analytic, args.most, length + args.tokens // 2)
    drafter = Drafter(image, config, analytic, c.ends, settings, sampling)
    core_sha256 = sha256_of_core(core_verilog(config.name))
    made = {"model": args.model, "preset": config.name, "fabric_mhz": round(config.fabric_mhz, 3), "core_sha256": core_sha256,
            "computed": args.computed, "temperature": args.temperature, "prompt_tokens": length, "tokens_at_most": args.tokens,
            "drafted_at_most": args.most,
            "draft_settings": settings, "table_sha256": sha256(table.words.tobytes()).hexdigest(), "table_entries": table.entries,
            "prompts_sha256": sha256(json.dumps(prompts).encode()).hexdigest()}
    name = f"{args.model}, {config.name}, temperature {args.temperature:g}" + ", computed" * args.computed
    stories: list[dict[str, Any]] = []
    if args.json is not None:
        held = kept(args.json).get(name, {})
        if all(held.get(key) == value for key, value in made.items()):
            stories = [story for story in held["stories_measured"] if story["number"] < args.stories]
    print(f"{name}: core {core_sha256[:12]}, a table of {table.entries} pairs, up to {args.most} drafted tokens "
          f"({'computed' if args.computed else 'simulated'} cycles)")
    print(f"{'story':>5} {'tokens':>6} {'passes':>6} {'drafted':>7} {'accepted':>8} {'cycles':>10} {'model':>10} {'off':>6}")

    def line(story: dict[str, Any]) -> str:
        return (f"{story['number']:>5} {story['tokens']:>6} {story['passes']:>6} {story['drafted']:>7} {story['accepted']:>8} "
                f"{story['cycles']:>10} {story['model']:>10} {story['model'] / story['cycles'] - 1:>6.1%}")

    for story in stories:
        print(line(story))
    done = {story["number"] for story in stories}
    left = [number for number in range(args.stories) if number not in done]
    for found in measure_stories(None if args.computed else lambda: board(config, image, ()), drafter, prompts, left,
                                 args.tokens, args.plain, min(args.jobs, max(len(left), 1))):
        stories = sorted([*stories, as_json(found)], key=lambda story: story["number"])
        print(line(as_json(found)), flush=True)
        if args.json is not None:
            keep(args.json, name, {**made, **summary(stories, config), "stories_measured": stories}, args.how)
    total = summary(stories, config)
    off = total["model_cycles"] / total["cycles"] - 1
    print(f"{total['stories']} stories: {total['tokens_a_pass']:.3f} tokens a pass, {total['accepted']} of {total['drafted']} "
          f"drafted tokens accepted, {total['tokens_per_second']} tokens/s; model {off:+.1%}")
    if "x_plain" in total:
        print(f"plain decode: {total['plain_cycles_at_0']} cycles and {total['plain_cycles_a_position']} a position "
              f"({total['plain_tokens_measured']} tokens measured, {total['plain_off_at_most']:.2%} off at most), "
              f"{total['plain_tokens_per_second']} tokens/s; with drafts {total['x_plain']:.3f} x")
    return 0


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
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers as JSON; with --sequences beside those of "
                        "other models in the file")
    parser.add_argument("--sequences", default="", metavar="1,2,4,8,16", help="measure as many sequences side by side")
    parser.add_argument("--drafts", type=Path, metavar="FILE", help="measure drafted tokens of this table over whole stories")
    parser.add_argument("--tokens", type=int, metavar="N", help="with --sequences: picks of each sequence in a run that begins "
                        "with prompts, 0: no such run (default: 12); with --drafts: tokens of a story at most (default: 100)")
    parser.add_argument("--text", type=Path, default=STORIES, metavar="FILE", help="texts of the sequences, or whose first "
                        "tokens are the stories' prompts (default: the project's stories)")
    parser.add_argument("--stories", type=int, default=20, metavar="N", help="with --drafts: stories (default: 20)")
    parser.add_argument("--temperature", type=float, default=0.0, help="with --drafts: of the draws (default: 0, the "
                        "likeliest token)")
    parser.add_argument("--most", type=int, default=3, metavar="K", help="with --drafts: drafted tokens of a pass at most "
                        "(default: 3)")
    parser.add_argument("--plain", type=int, default=3, metavar="N", help="with --drafts: tokens of each story that are decoded "
                        "without drafts too (default: 3)")
    parser.add_argument("--computed", action="store_true", help="with --drafts: no simulation, the golden model's tokens and the "
                        "analytic model's cycles")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="with --drafts: boards at a time (default: 1)")
    args = parser.parse_args(argv)
    args.how = how(sys.argv[1:] if argv is None else argv)
    device = None
    try:
        if args.json is not None and not args.json.resolve().parent.is_dir():
            raise InputError(f"there is no folder {args.json.resolve().parent} to write {args.json.name} to")
        config = preset(args.preset)
        if not config.accounts:
            raise InputError(f"a core of preset {config.name} has no counters of what its cycles are spent on")
        if args.drafts is not None:
            return bench_drafts(args, config)
        if args.sequences:
            return bench_sequences(args, config)
        positions = numbers_of("positions", args.positions, 0)
        prompts = numbers_of("prompt-tokens", args.prompt_tokens, 1) if args.prompt_tokens else []
        model = load(args.model, [*positions, *prompts], args.layers, args.planes, row_words=args.row_words)
        image = compile_model(model, config)
        filled = max(positions) if args.preload else 0
        device = board(config, image, cache_pieces(image, model.config, 0, filled) if args.preload else None)
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
