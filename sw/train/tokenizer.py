# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Step 2: train a SentencePiece tokenizer on sampled text, and turn the text into token files.

``tokenizer.py train --text DIR... --vocab 4096 --out tok.model`` and ``tokenizer.py encode --model tok.model
--text DIR... --out tokens.npy``.  A token file is one uint16 array: BOS ahead of each story.
"""

import argparse
import time
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import sentencepiece

__all__ = ["SEPARATOR", "encode_stories", "stories"]

SEPARATOR = "<|endoftext|>"


def stories(path: Path) -> list[str]:
    """The stories of a text file."""
    return [story.strip() for story in path.read_text("utf-8").split(SEPARATOR) if story.strip()]


def files(sources: list[Path]) -> list[Path]:
    """Text files, and those of folders, in the order of their names."""
    found = [f for source in sources for f in (sorted(source.glob("*.txt")) if source.is_dir() else [source])]
    if not found:
        raise SystemExit(f"no text in {', '.join(map(str, sources))}")
    return found


def train(args: argparse.Namespace) -> None:
    """BPE with byte fallback; stories go in whole, so that line breaks and what follows them are seen."""
    def text() -> Iterator[str]:
        left = args.megabytes * 1e6
        for path in files(args.text):
            for story in stories(path):
                left -= len(story)
                if left < 0:
                    return
                yield story

    prefix = args.out.with_suffix("")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=text(), model_prefix=str(prefix), vocab_size=args.vocab, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        character_coverage=0.99995, max_sentence_length=1 << 20, input_sentence_size=0, num_threads=args.workers,
        minloglevel=1)


_PIECES: sentencepiece.SentencePieceProcessor | None = None


def _open(model: str) -> None:
    global _PIECES
    _PIECES = sentencepiece.SentencePieceProcessor(model_file=model)


def encode_stories(path: Path) -> np.ndarray:
    """Tokens of a text file, BOS ahead of each story."""
    assert _PIECES is not None
    bos = _PIECES.bos_id()
    tokens = [token for ids in _PIECES.encode(stories(path), num_threads=1) for token in (bos, *ids)]
    return np.array(tokens, np.uint16)


def encode(args: argparse.Namespace) -> None:
    start = time.time()
    paths = files(args.text)
    with Pool(args.workers, _open, (str(args.model),)) as pool:
        tokens = np.concatenate(pool.map(encode_stories, paths, chunksize=1))
    np.save(args.out, tokens)
    n_bytes = sum(path.stat().st_size for path in paths)
    print(f"{args.out}: {len(tokens)} tokens of {n_bytes / 1e6:.0f} MB, {time.time() - start:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(required=True)
    for name, call in (("train", train), ("encode", encode)):
        verb = verbs.add_parser(name)
        verb.set_defaults(call=call)
        verb.add_argument("--text", type=Path, nargs="+", required=True, metavar="FILE|DIR")
        verb.add_argument("--out", type=Path, required=True)
        verb.add_argument("--workers", type=int, default=16)
        if name == "train":
            verb.add_argument("--vocab", type=int, default=4096)
            verb.add_argument("--megabytes", type=float, default=30.0, help="of text to learn from (default: 30)")
        else:
            verb.add_argument("--model", type=Path, required=True, help="a SentencePiece .model")
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
