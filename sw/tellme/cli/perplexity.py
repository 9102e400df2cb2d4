# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``tellme-host perplexity``."""

import argparse
from collections.abc import Callable
from pathlib import Path

from tellme import reference
from tellme.cli.boards import open_board
from tellme.cli.errors import ExitCode, UserError
from tellme.cli.files import read_text
from tellme.cli.generate import adapted, load
from tellme.cli.output import print_line, say, write
from tellme.cli.progress import bar
from tellme.models.shipped import checked_model, model_path
from tellme.runtime.session import NothingToPredictError, text_windows, tokenizer_of

__all__ = ["perplexity"]

#: Reports tokens as they are done.
Count = Callable[[int], object]


def nats_of_reference(path: Path, parts: list[list[int]], count: Count) -> float:
    """The same sum on the float32 model of the file."""
    model, total = reference.read_container(path), 0.0
    for ids in parts:
        total += reference.nats(model, ids)[0]
        count(len(ids) - 1)
    return total


def perplexity(args: argparse.Namespace) -> int:
    """The command."""
    if args.adapter is not None and args.reference:
        raise UserError("--reference reads the model's file, which has no adapter: leave --adapter or --reference out")
    model = adapted(checked_model(args.model), args)
    try:
        cut = text_windows(model, tokenizer_of(model), read_text(args.text, "the text"), args.tokens)
    except NothingToPredictError as error:
        raise UserError(f"there is nothing to predict in {'standard input' if args.text == '-' else args.text}") from error
    with open_board(args) as board:
        session = load(board, model, args.head, None)
        with bar("predicting", "token", cut.tokens * (2 if args.reference else 1)) as shown:
            loss = session.loss(cut, progress=shown.update)
            other = nats_of_reference(model_path(args.model), cut.parts, shown.update) if args.reference else None
        name = session.device.name
    fields: dict[str, object] = {
        "model": model.name, "device": name, "nats_per_token": loss.nats_per_token, "bits_per_byte": loss.bits_per_byte,
        "tokens": loss.tokens, "bytes": loss.text_bytes, "windows": loss.windows, "window_positions": model.config.context}
    if other is not None:
        fields |= {"reference_nats_per_token": other / cut.tokens, "apart": abs(loss.nats - other) / other}
    if args.json:
        print_line(fields)
        return ExitCode.DONE
    write(f"{model.name} on {name}: {loss.nats_per_token:.5f} nats per token, {loss.bits_per_byte:.4f} bits per byte over "
          f"{loss.tokens} tokens\n")
    if other is not None:
        write(f"float32 reference: {other / cut.tokens:.5f} nats per token, {100 * abs(loss.nats - other) / other:.3f} % apart\n")
    begins = "BOS ahead of each and between texts" if model.config.add_bos else (
        "each after the first begins with the last token of the window before")
    say(f"{loss.windows} windows of up to {model.config.context} positions, each from an empty cache; {begins}")
    return ExitCode.DONE
