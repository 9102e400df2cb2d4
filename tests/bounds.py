# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tests.bounds --model FILE --text FILE``: golden against an independent float32 forward pass.

Both compute the mean loss (nats per token) over the same windows of a text; more than 0.3 % apart is exit code 1.
The model is a .tellme file, or a checkpoint that tellme-host convert reads (then with --tokenizer), of which the float
pass takes the embedding as it was before it became int8.
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from tellme.golden.perplexity import nats_per_token, windows
from tellme.models.importers.checkpoints import convert
from tellme.models.model import Model, ModelError
from tellme.models.shipped import find_model
from tellme.models.tokenizers.tokenizer import Tokenizer
from tests import reference

LIMIT = 0.003
DATA = Path(__file__).resolve().parent.parent / "sw" / "tellme" / "data"


def reference_nats(model: reference.ReferenceModel, parts: list[list[int]], bar: tqdm) -> float:
    """Mean loss of the float pass."""
    total, count = 0.0, 0
    for ids in parts:
        nats, n = reference.nats(model, ids)
        total, count = total + nats, count + n
        bar.update(n)
    return total / count


def measure(model: Model, path: Path, text: str, tokens: int) -> tuple[float, float, int]:
    """(golden, reference) nats per token and the number of tokens."""
    parts = windows(model, Tokenizer(model.tokenizer), text, tokens).parts
    count = sum(len(p) - 1 for p in parts)
    with tqdm(total=2 * count, unit="token", file=sys.stderr) as bar:
        golden = nats_per_token(model, parts, bar.update)
        candidates = [reference.read(path)]
        if path.suffix == ".bin":
            # Bit order of these files: the order in which the loss on the first window is lower.
            candidates.append(reference.read(path, least_first=False))
            candidates.sort(key=lambda m: reference.nats(m, parts[0][:64])[0])
        return golden, reference_nats(candidates[0], parts, bar), count


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bounds", description=__doc__)
    parser.add_argument("--model", default="stories-1m", metavar="FILE|NAME")
    parser.add_argument("--text", type=Path, default=Path(__file__).parent / "data" / "stories.txt", metavar="FILE")
    parser.add_argument("--tokens", type=int, default=5000, metavar="N", help="tokens to predict (default: 5000)")
    parser.add_argument("--tokenizer", type=Path, metavar="FILE", help="of a checkpoint that is no .tellme file")
    args = parser.parse_args()
    try:
        path = Path(args.model)
        if path.suffix in (".bin", ".safetensors"):
            model = convert(path, args.tokenizer, print)
        else:
            model = find_model(args.model)
            path = path if path.exists() else DATA / f"{args.model}.tellme"
        if not model.tokenizer:
            raise ModelError(f"{path} has no tokenizer: give --tokenizer FILE")
        text = args.text.read_text("utf-8")
        golden, float32, count = measure(model, path, text, args.tokens)
    except (ModelError, OSError, UnicodeDecodeError) as error:
        print(f"bounds: {error}", file=sys.stderr)
        return 2
    if count < args.tokens:
        print(f"bounds: {args.text} has only {count} tokens", file=sys.stderr)
    apart = abs(golden - float32) / float32
    print(f"{model.name}: golden {golden:.5f}, float32 {float32:.5f} nats per token over {count} tokens: "
          f"{100 * apart:.3f} % apart, limit {100 * LIMIT:g} %")
    return 0 if apart <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
