# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The command ``tellme-host``."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tellme import __version__
from tellme.cli import interrupts
from tellme.cli.errors import ExitCode, UserError
from tellme.spec.config import SIMULATED

__all__ = ["main"]


def positive(text: str) -> int:
    """An argument that counts something."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is negative")
    return value


def temperature(text: str) -> float:
    """A finite temperature from 0 on."""
    value = float(text)
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is no temperature (0 or more)")
    return value


def share(text: str) -> float:
    """A share from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share (0 to 1)")
    return value


def id_list(text: str) -> list[int]:
    """Comma-separated token ids."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of token ids like 1,2,3") from None


def add_head(command: argparse.ArgumentParser) -> None:
    """Where embedding and head are."""
    command.add_argument("--head", choices=("board", "host"), help="where embedding and head are; the logits are the same bits "
                         "(default: on the board if they fit its memory)")


def build_parser() -> argparse.ArgumentParser:
    """All commands and options."""
    parser = argparse.ArgumentParser(prog="tellme-host", description="A ternary language model on a small FPGA.")
    parser.add_argument("--version", action="version", version=f"tellme-host {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("generate", help="generate text", description="Generate text; it alone is printed on "
                              "standard output, and everything else on standard error.")
    run.add_argument("--model", default="stories-1m", metavar="FILE|NAME",
                     help="a .tellme file, or the name of a shipped model (default: stories-1m)")
    run.add_argument("--device", default="auto", metavar="auto|sim|golden|PORT",
                     help="auto (default): the board on USB if there is one, else the simulated one")
    prompt = run.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", metavar="TEXT", help="text to go on from (default: BOS alone)")
    prompt.add_argument("--prompt-file", type=Path, metavar="FILE", help="the same from a UTF-8 file")
    prompt.add_argument("--prompt-ids", type=id_list, metavar="1,2,3", help="token ids; no BOS is added")
    run.add_argument("--max-tokens", type=positive, default=128, metavar="N", help="default: 128")
    run.add_argument("--temperature", type=temperature, default=0.0, metavar="X", help="0 (default): greedy")
    run.add_argument("--min-p", type=share, default=0.0, metavar="P", help="sample only among tokens that are at least P times "
                     "as probable as the likeliest (default: 0, among the best 64)")
    run.add_argument("--prefill-chunk", type=positive, default=0, metavar="N", help="prompt tokens that share each weight; 1: "
                     "token by token (default: as many as the board has lanes for)")
    add_head(run)
    run.add_argument("--seed", type=int, default=0, metavar="N", help="of the sampling (default: 0)")
    run.add_argument("--ignore-eos", action="store_true", help="go on behind the end of a text")
    run.add_argument("--logits", type=Path, metavar="FILE.npy",
                     help="write the logits of each position fed (int32, 16 fraction bits)")
    run.add_argument("--json", action="store_true", help="print JSON lines: start, tokens, stats")
    run.add_argument("--preset", default=SIMULATED, metavar="NAME", help="configuration of the simulated board (default: "
                     f"{SIMULATED}; ulx3s-85f works on sixteen tokens of a prompt at once, and takes twice as long to simulate)")

    model_commands(commands)
    return parser


def model_commands(commands: Any) -> None:
    """Commands on model files."""
    convert = commands.add_parser("convert", help="convert a checkpoint to a .tellme file",
                                  description="Read a Hugging Face folder (BitNet, Falcon 1.58bit, TriLM...), a GGUF file with "
                                  "ternary weights, a bitllama2.c .bin file, or a safetensors file of the project's training "
                                  "runs, and write a .tellme file.")
    convert.add_argument("source", type=Path, metavar="SRC")
    convert.add_argument("-o", "--output", type=Path, required=True, metavar="OUT")
    tokenizer = convert.add_mutually_exclusive_group()
    tokenizer.add_argument("--tokenizer", type=Path, metavar="FILE", help="a SentencePiece .model or a tokenizer.json to put in")
    tokenizer.add_argument("--no-tokenizer", action="store_true", help="put none in: prompts and output are token ids")
    convert.add_argument("--context", type=positive, metavar="N", help="positions to keep (default: all that the model has)")
    convert.add_argument("--act-exp", type=int, metavar="N", help="divide activations by 2**N, which changes nothing but their "
                         "range (default: 8 with ReLU squared, else 0)")
    convert.add_argument("--weight-scale", choices=("multiply", "divide"), help="what weight_scale does, against the "
                         "checkpoint's configuration")

    export = commands.add_parser("export", help="write a model for llama.cpp or transformers",
                                 description="Write a model as a GGUF file or a Hugging Face folder.  The ternary values stay "
                                 "what they are; the tq formats want widths that are multiples of 256.")
    export.add_argument("model", metavar="FILE|NAME")
    export.add_argument("-o", "--output", type=Path, required=True, metavar="OUT")
    export.add_argument("--format", required=True, choices=("gguf-tq1", "gguf-tq2", "gguf-f16", "hf"))

    measure = commands.add_parser("perplexity", help="loss of a model on a text",
                                  description="Mean loss of a model on a text.  A text longer than the model's context is cut "
                                  "into windows that do not overlap, each computed from an empty cache; texts may be separated "
                                  "by <|endoftext|>.")
    measure.add_argument("--model", default="stories-1m", metavar="FILE|NAME", help="default: stories-1m")
    measure.add_argument("--text", type=Path, required=True, metavar="FILE", help="UTF-8 text")
    measure.add_argument("--tokens", type=positive, metavar="N", help="predict no more than N tokens (default: all)")
    measure.add_argument("--device", default="golden", metavar="golden|sim|auto|PORT", help="default: golden")
    measure.add_argument("--preset", default=SIMULATED, metavar="NAME", help=f"of the simulated board (default: {SIMULATED})")
    add_head(measure)
    measure.add_argument("--reference", action="store_true", help="compare with an independent float32 model")
    measure.add_argument("--json", action="store_true", help="print one JSON object")

    inspect = commands.add_parser("inspect", help="say what a .tellme file holds, and what it runs on")
    inspect.add_argument("model", nargs="?", default="stories-1m", metavar="FILE|NAME")
    inspect.add_argument("--json", action="store_true", help="print one JSON object")


def run_command(args: argparse.Namespace) -> int:
    """Imports come late, so that --help is quick."""
    if args.command == "generate":
        from tellme.cli.generate import generate

        return generate(args)
    if args.command == "convert":
        from tellme.cli.convert import convert

        return convert(args)
    if args.command == "export":
        from tellme.cli.export import export

        return export(args)
    if args.command == "perplexity":
        from tellme.cli.perplexity import perplexity

        return perplexity(args)
    from tellme.cli.inspect import inspect

    return inspect(args)


def dispatch(args: argparse.Namespace) -> int:
    """Run a command; what goes wrong with the input is a message and exit code 2."""
    from tellme.compiler.image import CompileError
    from tellme.link.errors import LinkError
    from tellme.models.model import ModelError

    json = getattr(args, "json", False)
    try:
        return run_command(args)
    except (UserError, ModelError, CompileError, LinkError) as error:
        if json:
            from tellme.cli.generate import print_line

            print_line({"type": "error", "message": str(error)})
        print(f"tellme-host: {error}", file=sys.stderr)
        return ExitCode.BAD


def parse_and_run(argv: Sequence[str] | None) -> int:
    """Read the command line and do what it says; returns the exit code."""
    args = build_parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        code = dispatch(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read our output is gone; what is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print("tellme-host: standard output was closed; stopped", file=sys.stderr)
        return ExitCode.BAD


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code.  A program that calls this with arguments goes on with its own signal handlers."""
    try:
        interrupts.arm()
        code = parse_and_run(argv)
        interrupts.disarm()
        return code
    except KeyboardInterrupt:
        # A terminal that was closed takes no line.
        with suppress(OSError):
            print("tellme-host: interrupted", file=sys.stderr, flush=True)
        return ExitCode.INTERRUPTED
    finally:
        if argv is None:
            interrupts.ignore()
        else:
            interrupts.restore()
