# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The command ``tellme-host``."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from tellme import __version__
from tellme.cli import interrupts, output
from tellme.cli.errors import ExitCode, OutputError, UserError
from tellme.cli.numbers import fraction, id_list, whole
from tellme.runtime.sampling import MAX_PENALTY
from tellme.spec.config import SIMULATED
from tellme.spec.memory import START_RANGES, TOP_ENTRIES
from tellme.spec.program import ACT_EXP_RANGE
from tellme.spec.ranges import Range

__all__ = ["main"]

INTERRUPTED = "tellme-host: interrupted"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message.removeprefix('argument ')} ({self.prog} --help lists the options)")


def file_name(text: str) -> Path:
    """The name of a file to write; "-" is refused, because the content is binary and does not go to standard output."""
    if text == "-":
        raise UserError("cannot write to standard output: what is written is no text; give the name of a file")
    return Path(text)


def add_head(command: argparse.ArgumentParser) -> None:
    """Where embedding and head are."""
    command.add_argument("--head", choices=("board", "host"), help="where embedding and head are; the logits are the same bits "
                         "(default: on the board if they fit its memory)")


def build_parser() -> argparse.ArgumentParser:
    """All commands and options."""
    parser = Parser(prog="tellme-host", description="A ternary language model on a small FPGA.")
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
    prompt.add_argument("--prompt-file", metavar="FILE", help="the same from a UTF-8 file, or from standard input with -; its "
                        "text is taken as it is: line ends, the last one too, and a byte order mark are part of the prompt")
    prompt.add_argument("--prompt-ids", type=id_list("--prompt-ids"), metavar="1,2,3", help="token ids; no BOS is added")
    limits = START_RANGES["generate"]
    run.add_argument("--max-tokens", type=whole("--max-tokens", limits), default=128, metavar="N",
                     help=f"{limits.least} to {limits.most} (default: 128)")
    run.add_argument("--stop", action="append", default=[], metavar="TEXT",
                     help="end the text ahead of this text; may be given several times")
    run.add_argument("--interactive", action="store_true", help="after the text, go on with each line that is typed behind it")
    add_sampling(run)
    run.add_argument("--prefill-chunk", type=whole("--prefill-chunk", START_RANGES["chunk"]), default=0, metavar="N",
                     help="prompt tokens that share each weight; 1: token by token (default: as many as the board has lanes for)")
    add_head(run)
    run.add_argument("--ignore-eos", action="store_true", help="go on behind the end of a text")
    run.add_argument("--logits", type=file_name, metavar="FILE.npy", help="write the logits of each position fed (int32, 16 "
                     "fraction bits) to a file, a FIFO or a character device")
    run.add_argument("--json", action="store_true", help="print JSON lines: start, tokens, stats")
    add_preset(run)

    chat_commands(commands)
    model_commands(commands)
    return parser


def add_preset(command: argparse.ArgumentParser) -> None:
    """The simulated board's core."""
    command.add_argument("--preset", default=SIMULATED, metavar="NAME", help="configuration of the simulated board (default: "
                         f"{SIMULATED}; ulx3s-85f works on sixteen tokens of a prompt at once, and takes twice as long to "
                         "simulate)")


def add_sampling(run: argparse.ArgumentParser) -> None:
    """How tokens are drawn."""
    run.add_argument("--temperature", type=fraction("--temperature", 0, 1000000), default=0.0, metavar="X",
                     help="0 (default): greedy")
    run.add_argument("--min-p", type=fraction("--min-p", 0, 1), default=0.0, metavar="P",
                     help="sample only among tokens that are at least P times as probable as the likeliest (default: 0, among "
                     "the best 64)")
    run.add_argument("--top-k", type=whole("--top-k", Range(0, TOP_ENTRIES)), default=0, metavar="N",
                     help=f"sample only among the likeliest N tokens, up to {TOP_ENTRIES} (default: 0, all {TOP_ENTRIES})")
    run.add_argument("--top-p", type=fraction("--top-p", 0, 1), default=1.0, metavar="P",
                     help="sample only among the likeliest tokens that have a share of P together (default: 1, all)")
    run.add_argument("--repeat-penalty", type=fraction("--repeat-penalty", 1 / MAX_PENALTY, MAX_PENALTY), default=1.0,
                     metavar="X", help="divide the logits of tokens that the text has already by X, or multiply logits below 0 "
                     "(default: 1, none)")
    run.add_argument("--seed", type=whole("--seed"), default=0, metavar="N", help="of the sampling (default: 0)")


def chat_commands(commands: Any) -> None:
    """Commands that talk, to a person or to programs."""
    chat = commands.add_parser("chat", help="talk with a model that was trained on chats",
                               description="A chat on the terminal.  The model's own template makes the turns a text.  /edit "
                               "TEXT says the last turn otherwise, /retry asks for another answer, /new begins anew, /bye ends.")
    chat.add_argument("--model", required=True, metavar="FILE|NAME")
    chat.add_argument("--device", default="auto", metavar="auto|sim|golden|PORT", help="as in generate (default: auto)")
    chat.add_argument("--system", default="", metavar="TEXT", help="what the model is told ahead of the chat")
    limits = START_RANGES["generate"]
    chat.add_argument("--max-tokens", type=whole("--max-tokens", Range(1, limits.most)), default=512, metavar="N",
                      help=f"of an answer; 1 to {limits.most} (default: 512)")
    chat.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end answers ahead of this text")
    add_sampling(chat)
    add_head(chat)
    add_preset(chat)

    serve = commands.add_parser("serve", help="serve OpenAI's API and a page over HTTP",
                                description="Serve /v1/completions, /v1/chat/completions, /v1/models, /health, /metrics, and a "
                                "page at /.  Ctrl-C ends the server.")
    serve.add_argument("--model", default="stories-1m", metavar="FILE|NAME", help="default: stories-1m")
    serve.add_argument("--device", action="append", metavar="auto|sim|golden|PORT",
                       help="may be given several times: requests go to the boards as these are free (default: auto)")
    serve.add_argument("--host", default="127.0.0.1", metavar="ADDRESS",
                       help="address to listen at; 0.0.0.0 for all (default: 127.0.0.1, this computer alone)")
    serve.add_argument("--port", type=whole("--port", Range(0, 65535)), default=8080, metavar="N",
                       help="0: one that is free (default: 8080)")
    serve.add_argument("--api-key", metavar="KEY", help="what clients have to send (default: the environment's "
                       "TELLME_API_KEY, or nothing)")
    serve.add_argument("--max-body", type=whole("--max-body", least=1), default=1 << 20, metavar="BYTES",
                       help="of a request (default: 1048576)")
    serve.add_argument("--max-tokens", type=whole("--max-tokens", Range(1, limits.most)), metavar="N",
                       help="that a request may ask for (default: the model's context)")
    serve.add_argument("--max-queue", type=whole("--max-queue", least=0), default=64, metavar="N",
                       help="requests that wait (default: 64)")
    serve.add_argument("--timeout", type=fraction("--timeout", 0.001, 1e6), default=600.0, metavar="SECONDS",
                       help="from a request to its end, the time in the queue included (default: 600)")
    add_head(serve)
    add_preset(serve)

    simulate = commands.add_parser("simulate", help="serve the simulated board as a serial port",
                                   description="Build the simulated board and serve it as a pseudo terminal, which hosts open "
                                   "like a board's serial port, one after another; the board keeps its memory.  The terminal's "
                                   "path is printed on standard output.  Ctrl-C ends the board.")
    simulate.add_argument("--pty", action="store_true", help="as a pseudo terminal (default; there is no other way yet)")
    simulate.add_argument("--link", type=Path, metavar="PATH", help="make a symbolic link to the terminal, which has the same "
                          "name each time; the link is removed at the end")
    add_preset(simulate)


def model_commands(commands: Any) -> None:
    """Commands on model files."""
    convert = commands.add_parser("convert", help="convert a checkpoint to a .tellme file",
                                  description="Read a Hugging Face folder (BitNet, Falcon 1.58bit, TriLM...), a GGUF file with "
                                  "ternary weights, a bitllama2.c .bin file, or a safetensors file of the project's training "
                                  "runs, and write a .tellme file.")
    convert.add_argument("source", type=Path, metavar="SRC")
    convert.add_argument("-o", "--output", type=file_name, required=True, metavar="OUT")
    tokenizer = convert.add_mutually_exclusive_group()
    tokenizer.add_argument("--tokenizer", type=Path, metavar="FILE", help="a SentencePiece .model or a tokenizer.json to put in")
    tokenizer.add_argument("--no-tokenizer", action="store_true", help="put none in: prompts and output are token ids")
    convert.add_argument("--context", type=whole("--context", least=1), metavar="N",
                         help="positions to keep (default: all that the model has)")
    convert.add_argument("--act-exp", type=whole("--act-exp", ACT_EXP_RANGE), metavar="N",
                         help="divide activations by 2**N, which changes nothing but their range (default: 8 with ReLU squared, "
                         "else 0)")
    convert.add_argument("--weight-scale", choices=("multiply", "divide"), help="what weight_scale does, against the "
                         "checkpoint's configuration")

    export = commands.add_parser("export", help="write a model for llama.cpp or transformers",
                                 description="Write a model as a GGUF file or a Hugging Face folder.  The ternary values stay "
                                 "what they are; the tq formats want widths that are multiples of 256.")
    export.add_argument("model", metavar="FILE|NAME")
    export.add_argument("-o", "--output", type=file_name, required=True, metavar="OUT")
    export.add_argument("--format", required=True, choices=("gguf-tq1", "gguf-tq2", "gguf-f16", "hf"))

    measure = commands.add_parser("perplexity", help="loss of a model on a text",
                                  description="Mean loss of a model on a text.  A text longer than the model's context is cut "
                                  "into windows that do not overlap, each computed from an empty cache; texts may be separated "
                                  "by <|endoftext|>.")
    measure.add_argument("--model", default="stories-1m", metavar="FILE|NAME", help="default: stories-1m")
    measure.add_argument("--text", required=True, metavar="FILE", help="UTF-8 text, or standard input with -")
    measure.add_argument("--tokens", type=whole("--tokens", least=0), metavar="N",
                         help="predict no more than N tokens (default: all)")
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
    if args.command == "chat":
        from tellme.cli.chat import chat

        return chat(args)
    if args.command == "serve":
        from tellme.cli.serve import serve

        return serve(args)
    if args.command == "simulate":
        from tellme.cli.simulate import simulate

        return simulate(args)
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


def fail(message: str, *, as_json: bool) -> int:
    """Say what went wrong: a line on standard error, and with --json a line of JSON on standard output if that still works."""
    if as_json:
        with suppress(OutputError):
            output.print_line({"type": "error", "message": message})
    output.say(f"tellme-host: {message}")
    return ExitCode.BAD


def dispatch(args: argparse.Namespace) -> int:
    """Run a command; an error of the input or the output becomes a message and exit code 2."""
    from tellme.cli.hints import message
    from tellme.errors import TellmeError

    try:
        if args.command in ("generate", "chat", "perplexity", "inspect", "simulate"):
            output.check()
        return run_command(args)
    except TellmeError as error:
        text = message(error)
    except OSError as error:
        text = ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)
    return fail(text, as_json=getattr(args, "json", False))


def parse_and_run(arguments: list[str]) -> int:
    """Read the command line and do what it says; returns the exit code."""
    with output.streams():
        try:
            try:
                args = build_parser().parse_args(arguments)
            except SystemExit:
                # --help and --version
                output.check()
                output.flush()
                raise
            return dispatch(args)
        except UserError as error:
            return fail(str(error), as_json="--json" in arguments)
        except KeyboardInterrupt:
            output.say(INTERRUPTED)
            return ExitCode.INTERRUPTED


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code.  A program that calls this with arguments goes on with its own signal handlers."""
    try:
        interrupts.arm()
        code = parse_and_run(list(sys.argv[1:] if argv is None else argv))
        interrupts.disarm()
        return code
    except KeyboardInterrupt:
        # Before the streams are set up, or after them.  A terminal that was closed takes no line.
        if sys.stderr is not None:
            with suppress(OSError):
                print(INTERRUPTED, file=sys.stderr, flush=True)
        return ExitCode.INTERRUPTED
    finally:
        if argv is None:
            interrupts.ignore()
        else:
            interrupts.restore()
