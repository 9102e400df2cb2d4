# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``tellme-host perplexity``."""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from tellme import reference
from tellme.cli.devices import Device, GoldenDevice
from tellme.cli.errors import ExitCode, UserError
from tellme.cli.files import find_model, model_path, read_text
from tellme.cli.generate import load
from tellme.cli.generation import Generation
from tellme.cli.head_on_host import place
from tellme.cli.opening import open_device
from tellme.cli.output import print_line, say, write
from tellme.compiler.image import Image
from tellme.golden.perplexity import losses, window_losses, windows
from tellme.models.model import Model
from tellme.models.tokenizer import Tokenizer

__all__ = ["perplexity"]

#: Reports tokens as they are done.
Count = Callable[[int], object]


def nats_on_device(device: Device, image: Image, model: Model, parts: list[list[int]], count: Count) -> float:
    """Sum over all windows of what each prediction costs; a board gives its logits position by position."""
    found: list[float] = []

    def take(losses: list[float]) -> None:
        found.extend(losses)
        count(len(losses))

    for ids in parts:
        if isinstance(device, GoldenDevice):
            for part in window_losses(device.board, ids):
                take(part)
            continue
        targets = iter(ids[1:])
        run = Generation(device=device, image=image, config=model.config, prompt=ids[:-1], max_tokens=0, want_logits=True,
                         on_logits=lambda row, targets=targets: take(losses(row[None], [next(targets)])))  # type: ignore[misc]
        for _ in run.tokens():
            pass
    return math.fsum(found)


def nats_of_reference(path: Path, parts: list[list[int]], count: Count) -> float:
    """The same sum on the float32 model of the file."""
    model, total = reference.read_container(path), 0.0
    for ids in parts:
        total += reference.nats(model, ids)[0]
        count(len(ids) - 1)
    return total


def perplexity(args: argparse.Namespace) -> int:
    """The command."""
    model = find_model(args.model)
    if not model.tokenizer:
        raise UserError(f"the model {model.name} holds no tokenizer: convert it again with --tokenizer FILE")
    if model.config.context < 2:
        raise UserError(f"the model {model.name} has one position: there is nothing to predict")
    text = read_text(args.text, "the text")
    parts, text_bytes = cut = windows(model, Tokenizer(model.tokenizer, f"the tokenizer in {args.model}"), text, args.tokens)
    if not parts:
        raise UserError(f"there is nothing to predict in {'standard input' if args.text == '-' else args.text}")
    device = open_device(args.device, args.preset, say)
    try:
        device, image = place(device, model, args.head, say)
        device.connect()
        load(device, image)
        with tqdm(total=cut.tokens * (2 if args.reference else 1), unit="token", file=sys.stderr, leave=False) as bar:
            total = nats_on_device(device, image, model, parts, bar.update)
            other = nats_of_reference(model_path(args.model), parts, bar.update) if args.reference else None
    except KeyboardInterrupt:
        device.stop()
        raise
    finally:
        device.close()
    fields: dict[str, object] = {
        "model": model.name, "device": device.name, "nats_per_token": total / cut.tokens,
        "bits_per_byte": total / math.log(2) / text_bytes, "tokens": cut.tokens, "bytes": text_bytes, "windows": len(parts),
        "window_positions": model.config.context}
    if other is not None:
        fields |= {"reference_nats_per_token": other / cut.tokens, "apart": abs(total - other) / other}
    if args.json:
        print_line(fields)
        return ExitCode.DONE
    write(f"{model.name} on {device.name}: {total / cut.tokens:.5f} nats per token, {fields['bits_per_byte']:.4f} bits per byte "
          f"over {cut.tokens} tokens\n")
    if other is not None:
        write(f"float32 reference: {other / cut.tokens:.5f} nats per token, {100 * abs(total - other) / other:.3f} % apart\n")
    say(f"{len(parts)} windows of up to {model.config.context} positions that do not overlap, each from an empty cache; "
        "BOS ahead of each and between texts")
    return ExitCode.DONE
