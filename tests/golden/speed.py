# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tests.golden.speed [SHAPE]``: seconds and memory of the golden model, with random weights of a shape.

Each line has wall time, CPU time, and the growth of RssAnon, whole and less the packed model.  The lowest CPU time of --repeat
runs is shown with its wall time.  Goal for bitnet-large: at most 3 s a token on two cores, and at most 500 MB above
the packed model.  With OPENBLAS_NUM_THREADS=1 the CPU time has no waiting threads in it.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from tellme.compiler.image import compile_model
from tellme.golden.board import GoldenBoard
from tellme.golden.perplexity import unlimited_config
from tellme.models.config import ModelConfig
from tellme.models.random import random_model
from tests.memory import memory_bytes

#: bitnet_b1_58-large with its LM head; BitNet b1.58 2B-4T's body, with a probe in its LM head's place.
SHAPES = {
    "bitnet-large": ModelConfig(dim=1536, ffn=4096, layers=24, heads=16, kv_heads=16, head_dim=96, vocab=32002, context=1024,
                                o_norm=True, down_norm=True),
    "2b-4t": ModelConfig(dim=2560, ffn=6912, layers=30, heads=20, kv_heads=5, head_dim=128, vocab=128256, context=1024,
                         act="relu2", o_norm=True, down_norm=True, theta=5e5),
    "bitllama2c-3m": ModelConfig(dim=256, ffn=256, layers=8, heads=8, kv_heads=4, head_dim=32, vocab=512, context=1024,
                                 o_norm=True, down_norm=True, eps=1e-8),
}


def anonymous_mb() -> float:
    """RssAnon of this process, MB."""
    return memory_bytes() / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden.speed", description=__doc__)
    parser.add_argument("shape", nargs="?", default="bitnet-large", choices=SHAPES)
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="runs of which the best counts (default: 3)")
    args = parser.parse_args()
    config = SHAPES[args.shape]
    model, started = random_model(args.shape, config), anonymous_mb()
    image = compile_model(model, unlimited_config(model), head="host" if args.shape == "2b-4t" else "board")
    packed = sum(len(part) for _, part in image.sections) / 1e6
    print(f"{args.shape}: {config.ternary_weights / 1e6:.0f} M ternary weights, packed model {packed:.0f} MB")
    board = GoldenBoard(image)
    rng = np.random.default_rng(0)
    # Token numbers name embedding rows; with the LM head on the host there is one a position.
    rows = min(config.vocab, config.context)
    ids = [int(i) for i in rng.integers(0, rows, 513)]

    def measure(what: str, run: Callable[[], object], repeat: int) -> None:
        times = []
        for _ in range(repeat):
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            times.append((time.process_time() - cpu, time.perf_counter() - wall))
        cpu, wall = min(times)
        print(f"{what:>28}: {wall:7.3f} s wall, {cpu:7.3f} s CPU, {anonymous_mb() - started:5.0f} MB anonymous, "
              f"{anonymous_mb() - started - packed:5.0f} above the packed model", flush=True)

    measure("first token", lambda: board.feed(ids[:1], 0), 1)
    measure("token at position 0", lambda: board.feed(ids[:1], 0), args.repeat)
    measure("16 tokens from position 0", lambda: board.feed(ids[:16], 0), args.repeat)
    measure("512 tokens from position 0", lambda: board.feed(ids[:512], 0, heads="none"), 1)
    measure("token at position 512", lambda: board.feed(ids[512:], 512), args.repeat)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
