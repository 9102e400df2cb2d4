# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tests.long [--model FILE]``: generated tokens, RTL against golden, all logits; and decode's cost."""

import argparse
import sys
from pathlib import Path

from tellme.compiler.image import compile_model, needed_bytes
from tellme.models.model import Model
from tellme.spec.memory import EventType, StartArgs, StartFlags
from tests.board.compare import compare, open_sim, shipped


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.long", description=__doc__)
    parser.add_argument("--model", type=Path, help="a .tellme file; default: the shipped model")
    parser.add_argument("--tokens", type=int, help="how many, over several texts if need be; default: 500, or 64 of FILE")
    args = parser.parse_args()
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
