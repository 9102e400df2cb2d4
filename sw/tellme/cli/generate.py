# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``tellme-host generate``."""

import argparse
import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from tellme.cli import interrupts
from tellme.cli.boards import drafts_of, open_board
from tellme.cli.errors import ExitCode, OutputError, UserError
from tellme.cli.files import checked_text, read_text
from tellme.cli.output import print_line, say, write
from tellme.cli.progress import bytes_bar
from tellme.cli.terminal import next_line, shown_text
from tellme.compiler.image import Head
from tellme.drafts.drafter import Drafter, OwnText
from tellme.drafts.placing import Drafts
from tellme.models.shipped import checked_model
from tellme.models.source import StoredSource
from tellme.models.writing import check_target, kind, whole_file
from tellme.runtime.board import Board
from tellme.runtime.generation import Generation, check_guesses
from tellme.runtime.sampling import Sampling
from tellme.runtime.session import Session, Token, prompt_ids, tokenizer_of

__all__ = ["adapted", "drafter_of", "generate"]


def prompt_of(args: argparse.Namespace) -> str | list[int]:
    """The prompt that the options give: a text, or token ids."""
    if args.prompt_ids is not None:
        return list(args.prompt_ids)
    text: str = args.prompt or ""
    if args.prompt_file is not None:
        text = read_text(args.prompt_file, "the prompt")
    return checked_text(text, "the prompt")


def is_stream(path: Path) -> bool:
    """Whether a path is a FIFO or a character device; logits are written into these as raw bytes."""
    try:
        return kind(path) in ("a FIFO", "a character device")
    except OSError:
        return False


def check_logits(path: Path) -> None:
    """Refuse a path for the logits that cannot be written, before the generation starts."""
    if not is_stream(path):
        check_target(path)


def write_logits(path: Path, rows: list[np.ndarray], vocab: int) -> None:
    """The array of all rows: a file, whole or not at all, or bytes into a FIFO or a character device."""
    content = io.BytesIO()
    np.save(content, np.array(rows, np.int32).reshape(len(rows), vocab))
    if not is_stream(path):
        with whole_file(path) as scratch:
            scratch.write_bytes(content.getvalue())
        return
    try:
        path.write_bytes(content.getvalue())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def load(board: Board, model: StoredSource, head: Head | None, drafts: Drafts, check: int | None = None, *,
         guesses: bool = False) -> Session:
    """Write the model into the board, with a progress bar.  ``guesses``: whether the board is to verify the host's guesses."""
    if guesses:
        check_guesses(board.device)
    with bytes_bar("loading") as progress:
        return board.load(model, head=head, drafts=drafts, check=check, progress=progress)


class Output:
    """Text on standard output as it comes, or JSON lines.

    A JSON token whose text is not whole waits for the one that completes it, so that every line is valid text.
    """

    def __init__(self, *, as_json: bool, as_ids: bool):
        self._json, self._ids = as_json, as_ids
        self._held: list[Token] = []

    def token(self, token: Token) -> None:
        """Print a token."""
        if self._json:
            self._held.append(token)
            if not token.pending:
                self._release()
        elif text := f"{token.id} " if self._ids else token.text:
            write(text)

    def finish(self, rest: str) -> None:
        """Print the text that still waits, with a mark for an incomplete character; on a terminal, end the last line."""
        if self._json:
            if self._held:
                self._held[-1] = replace(self._held[-1], text=self._held[-1].text + rest)
            self._release()
        else:
            write(rest + ("\n" if sys.stdout.isatty() else ""))

    def _release(self) -> None:
        for token in self._held:
            print_line({"type": "token", "id": token.id, "text": token.text})
        self._held.clear()


def report(run: Generation, stats: dict[str, object]) -> None:
    """The statistics, as text for a person."""
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
    if run.checker is not None:
        say(f"check: {run.checked} tokens, and step CRCs every {run.checker.every}, are the golden model's")
    if stats["tokens_per_pass"] is not None:
        say(f"drafts: {stats['tokens_per_pass']:.2f} tokens a pass, {stats['accepted_tokens']} drafted tokens were right in "
            f"{stats['passes']} passes")
    if stats["sim_khz"] is not None:
        say(f"simulated at {stats['sim_khz']} kHz")


def sampling_of(args: argparse.Namespace) -> Sampling:
    """The sampling that the options say."""
    return Sampling(args.temperature, args.min_p, args.seed, args.top_k, args.top_p, args.repeat_penalty)


def drafter_of(args: argparse.Namespace) -> Drafter | None:
    """What guesses tokens on the host, if the options say so."""
    return OwnText() if args.draft_own_text else None


def interactive(args: argparse.Namespace, model: StoredSource) -> int:
    """Text that the model and the person write in turns.

    Each part's prompt is the whole text so far; the session feeds only what the KV cache does not have.
    """
    text = str(prompt_of(args))
    with open_board(args) as board:
        session = load(board, model, args.head, drafts_of(args), args.check, guesses=args.draft_own_text)
        while True:
            run = session.generate(text, max_tokens=args.max_tokens, sampling=sampling_of(args), ignore_end=args.ignore_eos,
                                   prefill_chunk=args.prefill_chunk, stop=args.stop, drafter=drafter_of(args))
            text += shown_text(run)
            if args.check_weights:
                session.check_weights()
            line = next_line("+ ")
            if line is None:
                return ExitCode.DONE
            text += line


def adapted(model: StoredSource, args: argparse.Namespace) -> StoredSource:
    """The model with the adapter of the options, if there is one."""
    if args.adapter is None:
        return model
    # Late: few runs have one.
    from tellme.models.importers.adapter import with_adapter

    merged = with_adapter(model, args.adapter)
    planes = sorted(set(merged.planes.values()))
    say(f"adapter: {len(merged.planes)} matrices of {model.name} are merged and coded anew, in "
        f"{', '.join(map(str, planes))} plane{'s' * (planes != [1])}")
    return merged


def generate(args: argparse.Namespace) -> int:
    """The command."""
    model = adapted(checked_model(args.model), args)
    tokenizer = tokenizer_of(model)
    if args.interactive and tokenizer is None:
        raise UserError("--interactive: the model holds no tokenizer, so that no text can be typed")
    if args.interactive and (args.json or args.logits is not None or args.prompt_ids is not None or args.prompt_file == "-"):
        raise UserError("--interactive goes without --json, --logits, --prompt-ids and --prompt-file -")
    prompt = prompt_ids(model, tokenizer, prompt_of(args))
    if args.stop and tokenizer is None:
        raise UserError("--stop: the model holds no tokenizer, so that there is no text to stop at")
    if args.logits is not None:
        check_logits(args.logits)
    if args.interactive:
        return interactive(args, model)
    rows: list[np.ndarray] = []
    with open_board(args) as board:
        session = load(board, model, args.head, drafts_of(args), args.check, guesses=args.draft_own_text)
        device = session.device
        if args.json:
            print_line({"type": "start", "device": device.name, "preset": device.preset, "model": model.name,
                        "core_sha256": device.core_sha256, "prompt_token_ids": prompt})
        run = session.generate(prompt, max_tokens=args.max_tokens,
                               sampling=sampling_of(args), ignore_end=args.ignore_eos, stop=args.stop,
                               prefill_chunk=args.prefill_chunk, on_logits=rows.append if args.logits is not None else None,
                               drafter=drafter_of(args))
        output = Output(as_json=args.json, as_ids=tokenizer is None)
        code = ExitCode.DONE
        shown = 0
        try:
            for token in run:
                with interrupts.held():
                    output.token(token)
                    shown += 1
        except KeyboardInterrupt:
            # A board that does not answer STOP can be left by a second interruption.
            interrupts.arm()
            run.interrupt()
            code = ExitCode.INTERRUPTED
        except OutputError:
            run.interrupt()
            raise
        for token in run.since(shown):
            output.token(token)
        output.finish(run.finish())
        stats = run.stats
        if args.json:
            print_line({"type": "stats", **stats})
        report(run.generation, stats)
        if args.logits is not None:
            write_logits(args.logits, rows, model.config.vocab)
        if args.check_weights and code == ExitCode.DONE:
            say(f"memory: {session.check_weights()} bytes are what was loaded")
        return code
