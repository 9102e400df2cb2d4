# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``tellme-host generate``."""

import argparse
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tellme.cli import interrupts
from tellme.cli.devices import Device
from tellme.cli.errors import ExitCode, UserError
from tellme.cli.files import find_model
from tellme.cli.generation import Generation
from tellme.cli.head_on_host import place
from tellme.cli.opening import open_device
from tellme.compiler.image import Image
from tellme.models.model import Model
from tellme.models.tokenizer import TextStream, Tokenizer

__all__ = ["generate", "print_line"]


def say(text: str) -> None:
    """A line for the person, on standard error."""
    print(text, file=sys.stderr, flush=True)


def print_line(fields: dict[str, object]) -> None:
    """A JSON line on standard output."""
    print(json.dumps(fields, ensure_ascii=False), flush=True)


def prompt_ids(args: argparse.Namespace, model: Model, tokenizer: Tokenizer | None) -> list[int]:
    """Token ids of the prompt, BOS first unless ids are given."""
    if args.prompt_ids is not None:
        return list(args.prompt_ids)
    text = args.prompt
    if args.prompt_file is not None:
        try:
            text = args.prompt_file.read_text("utf-8")
        except OSError as error:
            raise UserError(f"cannot read the prompt file {args.prompt_file}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"the prompt file {args.prompt_file} is not UTF-8 text") from error
    if text is None:
        return [model.config.bos]
    if tokenizer is None:
        raise UserError(f"the model {model.name} holds no tokenizer: give --prompt-ids, or convert it again with "
                        "--tokenizer FILE")
    return [model.config.bos, *tokenizer.encode(text.encode("utf-8", "replace").decode("utf-8"))]


def check_target(path: Path) -> None:
    """Refuse a place for the logits that cannot be written, before the work is done."""
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise UserError(f"cannot write the logits to {path}: " + (
            "it is a folder" if path.is_dir() else f"{path.parent} is no folder that can be written to"))


def write_logits(path: Path, rows: list[np.ndarray], vocab: int) -> None:
    """The array of all rows, whole or not at all."""
    content = io.BytesIO()
    np.save(content, np.array(rows, np.int32).reshape(len(rows), vocab))
    scratch = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        scratch.write_bytes(content.getvalue())
        scratch.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    finally:
        scratch.unlink(missing_ok=True)


def load(device: Device, image: Image) -> None:
    """Write the image, with a progress bar."""
    with tqdm(desc="loading", unit="B", unit_scale=True, file=sys.stderr, leave=False, delay=0.5) as bar:
        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)
        device.load(image, progress)


class Output:
    """Text on standard output as it comes, or JSON lines.

    A JSON token whose text is not whole waits for the one that completes it, so that every line is valid text.
    """

    def __init__(self, tokenizer: Tokenizer | None, *, as_json: bool, at_start: bool):
        self._stream = None if tokenizer is None else TextStream(tokenizer, at_start=at_start)
        self._json = as_json
        self._held: list[tuple[int, str]] = []

    def token(self, token: int) -> None:
        """Print a token."""
        if self._stream is None:
            text, pending = f"{token} ", False
        else:
            text, pending = self._stream.push(token), self._stream.pending
        if self._json:
            self._held.append((token, text if self._stream is not None else ""))
            if not pending:
                self._release()
        elif text:
            print(text, end="", flush=True)

    def finish(self) -> None:
        """Print what still waits; on a terminal, end the text's last line."""
        rest = self._stream.finish() if self._stream is not None else ""
        if self._json:
            if self._held:
                token, text = self._held[-1]
                self._held[-1] = token, text + rest
            self._release()
        else:
            print(rest, end="\n" if sys.stdout.isatty() else "", flush=True)

    def _release(self) -> None:
        for token, text in self._held:
            print_line({"type": "token", "id": token, "text": text})
        self._held.clear()


def report(run: Generation, stats: dict[str, object]) -> None:
    """What it took, for the person."""
    n, wall = len(run.generated), run.wall_seconds
    rate = f", {n / wall:.1f} tokens/s" if n and wall > 0 else ""
    say(f"{len(run.prompt)} prompt tokens, {n} generated in {wall:.1f} s{rate}; stopped by: {run.stop_reason}")
    if stats["cycles_per_token"] is not None:
        needed, busy = stats["needed_bytes"], stats["sdram_busy_fraction"]
        what = "the board would make (simulated cycles)" if run.device.name == "sim" else "the board makes"
        if run.image.probe is not None:
            what += ", without the host's head and the link,"
        say(f"at {stats['fabric_mhz']:g} MHz {what} {stats['board_tokens_per_second']} tokens/s: "
            f"{stats['cycles_per_token']} cycles a token, SDRAM busy {100 * float(str(busy)):.1f} %, "
            f"{stats['sdram_bytes']} bytes moved for {needed} needed")
    if stats["sim_khz"] is not None:
        say(f"simulated at {stats['sim_khz']} kHz")


def generate(args: argparse.Namespace) -> int:
    """The command."""
    model = find_model(args.model)
    tokenizer = Tokenizer(model.tokenizer, f"the tokenizer in {args.model}") if model.tokenizer else None
    prompt = prompt_ids(args, model, tokenizer)
    if args.logits is not None:
        check_target(args.logits)
    device = open_device(args.device, args.preset, say)
    try:
        device, image = place(device, model, args.head, say)
        run = Generation(device=device, image=image, config=model.config, prompt=prompt, max_tokens=args.max_tokens,
                         temperature=args.temperature, min_p=args.min_p, seed=args.seed,
                         eos=None if args.ignore_eos else model.config.eos, want_logits=args.logits is not None,
                         prefill_chunk=args.prefill_chunk)
        device.connect()
        load(device, image)
        if args.json:
            print_line({"type": "start", "device": device.name, "preset": device.preset, "model": model.name,
                        "core_sha256": device.core_sha256, "prompt_token_ids": prompt})
        output = Output(tokenizer, as_json=args.json, at_start=all(t == model.config.bos for t in prompt))
        code = ExitCode.DONE
        shown = 0
        try:
            for token in run.tokens():
                with interrupts.held():
                    output.token(token)
                    shown += 1
        except KeyboardInterrupt:
            # A board that does not answer STOP can be left by a second interruption.
            interrupts.arm()
            run.interrupt()
            code = ExitCode.INTERRUPTED
        for token in run.generated[shown:]:
            output.token(token)
        output.finish()
        stats = run.stats()
        if args.json:
            print_line({"type": "stats", **stats})
        report(run, stats)
        if args.logits is not None:
            write_logits(args.logits, run.rows, model.config.vocab)
        return code
    finally:
        device.close()
