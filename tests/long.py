# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tests.long [--model FILE]``: generated tokens, RTL against golden, all logits; and decode's cost.

``--drawn N``: N generated tokens of drawn texts instead, of the shipped models and five random families, with the pick, its logit
and the CRC of each step compared for each token.  Text number i of a seed is the same in each run.  ``--report`` goes on with the
texts that docs/reports/long.json does not have.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from sim.checkout import commit
from tellme.compiler.image import Image, compile_model, needed_bytes
from tellme.golden.board import GoldenBoard
from tellme.models.model import Model
from tellme.models.shipped import find_model
from tellme.runtime.device import Device
from tellme.spec.config import SIMULATED
from tellme.spec.memory import DoneReason, EventType, StartArgs, StartFlags
from tests.board.compare import ROOT, compare, open_sim, shipped
from tests.models.random_model import random_model

REPORT = ROOT / "docs" / "reports" / "long.json"
GOAL = 10_000
FAMILIES = ("plain", "grouped", "wide-heads", "relu2", "untied")
#: Texts in turn of a model that is loaded once.
BLOCK = 8
#: Of so many blocks one is of this shipped model; the others are of the families in turn.
ONE_IN = {"stories-8m": 100, "stories-1m": 16}
#: Tokens of a shipped model's prompt and of its text at most, whose contexts are long.
PROMPT, TEXT = 12, 40


def model_name(number: int) -> str:
    """The model of a text."""
    block = number // BLOCK
    for name, every in ONE_IN.items():
        if block % every == every // 2:
            return name
    return FAMILIES[block % len(FAMILIES)]


@cache
def model_of(name: str) -> Model:
    """A shipped model, or one of a random family."""
    return find_model(name) if name in ONE_IN else random_model(name)


def drawn(seed: int, number: int) -> tuple[str, list[int], int]:
    """Text ``number`` of a seed: its model, its prompt, and the tokens to generate, which fit the context."""
    rng, name = random.Random(f"{seed} {number}"), model_name(number)
    config = model_of(name).config
    prompt = [rng.randrange(config.vocab) for _ in range(rng.randint(1, min(PROMPT, config.context // 2)))]
    return name, prompt, rng.randint(1, min(TEXT, config.context - len(prompt) + 1))


def text_equal(device: Device, image: Image, golden: GoldenBoard, prompt: list[int], tokens: int) -> int:
    """The prompt in a start, as the board takes it, then a token a start; the number of steps that were compared.

    A pick, a logit or a CRC that differs is an AssertionError that names position and step.
    """
    position, feed, steps = 0, list(prompt), 0
    for _ in range(tokens):
        device.place(position, feed)
        events = list(device.start(StartArgs(position, len(feed), 1, StartFlags.CLEAR)))
        wanted = golden.feed(feed, position)[-1]
        position += len(feed)
        assert [kind for kind, _ in events] == [EventType.TOKEN, EventType.DONE], f"position {position - 1}: {events}"
        assert events[-1][1].logit == DoneReason.LENGTH, f"position {position - 1}: {events}"
        for number, (got, right) in enumerate(zip(device.crcs(), golden.crcs[:-1], strict=True)):
            assert got == right, f"position {position - 1}: step {number} ({image.program[number].op.name})"
            steps += 1
        pick = int(wanted.argmax())
        found = events[0][1].id, events[0][1].logit
        assert found == (pick, int(wanted[pick])), f"position {position - 1}: pick and logit {found}"
        feed = [pick]
    return steps


def write(path: Path, head: dict[str, Any], texts: list[dict[str, Any]]) -> None:
    """The record, whole or not at all."""
    sums: Counter[str] = Counter()
    for text in texts:
        sums[text["model"]] += text["tokens"]
    body = json.dumps({**head, "goal": GOAL, "tokens": sum(sums.values()), "steps": sum(text["steps"] for text in texts),
                       "tokens_by_model": dict(sorted(sums.items()))}, indent=1)[:-2]
    entries = ",\n".join("  " + json.dumps(text) for text in texts)
    scratch = path.with_suffix(".tmp")
    scratch.write_text(f'{body},\n "texts": [\n{entries}\n ]\n}}\n')
    scratch.replace(path)


def drawn_texts(count: int, seed: int, report: Path | None, device: Device | None = None) -> int:
    """Compare drawn texts until ``count`` tokens were generated, those of the record counted in; the exit code."""
    began, head_commit = time.monotonic(), commit("hw", "sw", "sim")
    board = device or open_sim()
    try:
        head = {"seed": seed, "preset": board.preset or SIMULATED, "core_sha256": board.core_sha256}
        texts: list[dict[str, Any]] = []
        if report is not None and report.exists():
            known = json.loads(report.read_text())
            other = {name: (known[name], value) for name, value in head.items() if known[name] != value}
            if other:
                print(f"FAILED: {report} is of other texts (its value, this run's): {other}; remove it, or name another file")
                return 2
            texts = known["texts"]
        tokens, number, loaded = sum(text["tokens"] for text in texts), len(texts), ""
        while tokens < count:
            name, prompt, generate = drawn(seed, number)
            if name != loaded:
                model, loaded = model_of(name), name
                image = compile_model(model, board.config(model))
                board.load(image, lambda done, total: None)
            try:
                steps = text_equal(board, image, GoldenBoard(image), prompt, generate)
            except AssertionError as error:
                print(f"FAILED: text {number} of seed {seed}, {name}, prompt {prompt}: {error}", flush=True)
                return 1
            texts.append({"number": number, "model": name, "prompt": len(prompt), "tokens": generate, "steps": steps,
                          "commit": head_commit})
            tokens, number = tokens + generate, number + 1
            if report is not None:
                write(report, head, texts)
            print(f"text {number - 1}, {name}: {generate} tokens, {steps} steps equal; {tokens} tokens", flush=True)
        print(f"seed {seed}: {tokens} generated tokens of {number} texts, {sum(text['steps'] for text in texts)} steps equal; "
              f"{time.monotonic() - began:.0f} s")
        return 0
    finally:
        board.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.long", description=__doc__)
    parser.add_argument("--model", type=Path, help="a .tellme file; default: the shipped model")
    parser.add_argument("--tokens", type=int, help="how many, over several texts if need be; default: 500, or 64 of FILE")
    parser.add_argument("--drawn", type=int, metavar="N", help="N tokens of drawn texts, of shipped models and random "
                        "families")
    parser.add_argument("--seed", type=int, help="of the drawn texts; default: a new one, which is printed")
    parser.add_argument("--report", nargs="?", type=Path, const=REPORT, help="go on with this record of drawn texts (default: "
                        "docs/reports/long.json)")
    args = parser.parse_args()
    for name in ("tokens", "drawn"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name}: {getattr(args, name)} is below 1")
    if args.drawn is not None:
        seed = random.SystemRandom().randrange(1 << 32) if args.seed is None else args.seed
        print(f"seed {seed}", flush=True)
        return drawn_texts(args.drawn, seed, args.report)
    args.tokens = args.tokens or (64 if args.model else 500)
    model = Model.load(args.model) if args.model else shipped()
    device = open_sim()

    def say(position: int, token: int) -> None:
        print(f"position {position}: all logits equal, picked {token}", flush=True)

    try:
        done = logits = steps = 0
        try:
            # Each text begins with another token, so that the texts differ; then greedy picks.
            for text in range(args.tokens):
                prompt = [model.config.bos, *([text + 3] if text else [])]
                more = min(args.tokens - done, model.config.context - len(prompt) + 1)
                result = compare(device, model, prompt, more, say)
                if text == 0:
                    first = result
                done, logits, steps = done + more, logits + result.logits, steps + result.steps
                if done == args.tokens:
                    break
        except AssertionError as error:
            print(f"FAILED: {error}", flush=True)
            return 1
        print(f"{model.name}: {done} generated tokens, {logits} logits and {steps} steps equal")
        # Once more on its own, for the cost of decode over generated tokens 2 to the last.
        count = min(64, args.tokens, model.config.context)
        device.load(compile_model(model, device.config(model)), lambda done, total: None)
        device.place(0, [model.config.bos])
        events = [e for k, e in device.start(StartArgs(0, 1, count, StartFlags.CLEAR)) if k == EventType.TOKEN]
        if [e.id for e in events] != first.tokens[1:count + 1]:
            print("FAILED: the board on its own picks other tokens")
            return 1
        cycles = events[-1].cycles - events[0].cycles
        floor = sum(needed_bytes(model.config, e.position) for e in events[1:]) / 4
        print(f"decode, tokens 2 to {len(events)}: {cycles / (len(events) - 1):.0f} cycles a token, {cycles / floor:.3f} "
              "times needed bytes / peak (simulated)")
        return 0 if cycles <= 2 * floor else 1
    finally:
        device.close()


if __name__ == "__main__":
    sys.exit(main())
