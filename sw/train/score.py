# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Bits per byte of .tellme files on whole stories, with the golden model: the numbers of the cards.

Each story stands alone, BOS ahead of it; its end is predicted and counted as BOS.  A story that is longer than the context has
windows of its own, each from an empty cache.  ``--take`` picks stories as a Python slice does: ``:48``, ``::16``, ``5:3000:300``.
Needs the tellme package, no torch.  A line of JSON for each file and slice: stories, bytes, tokens (predictions), nats per
token, bits per byte.
"""

import argparse
import json
import math
import os
from multiprocessing import get_context
from pathlib import Path

from tokenizer import stories

from tellme.golden.board import GoldenBoard
from tellme.golden.perplexity import golden_board, window_losses
from tellme.models.model import Model
from tellme.models.tokenizers.tokenizer import Tokenizer

__all__ = ["loss"]

_BOARD: tuple[GoldenBoard, Tokenizer, int, int] | None = None


def _open(path: Path) -> None:
    global _BOARD
    model = Model.load(path)
    assert model.config.bos is not None
    _BOARD = golden_board(model), Tokenizer(model.tokenizer), model.config.bos, model.config.context


def loss(story: str) -> tuple[float, int]:
    """(nats, predictions) of a story."""
    assert _BOARD is not None
    board, tokenizer, bos, context = _BOARD
    ids = [bos, *tokenizer.encode(story), bos]
    found = [x for at in range(0, len(ids) - 1, context) for part in window_losses(board, ids[at:at + context + 1])
             for x in part]
    return math.fsum(found), len(found)


def picked(text: str, count: int) -> range:
    """The places that a slice takes of so many."""
    parts = [int(part) if part else None for part in text.split(":")]
    return range(count)[slice(*parts)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="+", help=".tellme files")
    parser.add_argument("--text", type=Path, required=True, help="stories with <|endoftext|> between")
    parser.add_argument("--take", nargs="+", default=[":48", "5:3000:300", "::64", "::16"], metavar="SLICE")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    args = parser.parse_args()
    # A process a story, threads in the matrix products would only wait for one another: NumPy reads this as it is loaded.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    text = stories(args.text)
    slices = {take: picked(take, len(text)) for take in args.take}
    # The longest first, so that no process ends long after the others.
    wanted = sorted({i for take in slices.values() for i in take}, key=lambda i: -len(text[i]))
    for path in args.models:
        with get_context("spawn").Pool(args.workers, _open, (path,)) as pool:
            found = dict(zip(wanted, pool.imap(loss, [text[i] for i in wanted]), strict=True))
        for take, places in slices.items():
            nats = math.fsum(found[i][0] for i in places)
            tokens, n_bytes = sum(found[i][1] for i in places), sum(len(text[i].encode()) for i in places)
            bits = nats / math.log(2) / n_bytes
            print(json.dumps({"model": path.stem, "take": take, "stories": len(places), "bytes": n_bytes, "tokens": tokens,
                              "nats_per_token": round(nats / tokens, 5), "bits_per_byte": round(bits, 5)}), flush=True)


if __name__ == "__main__":
    main()
