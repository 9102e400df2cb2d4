# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Commands that run a model: generate, chat, serve, perplexity."""

import argparse

from tellme.cli.command import Command, Example
from tellme.cli.numbers import fraction, id_list, whole
from tellme.cli.options.shared import (
    add_adapter,
    add_check,
    add_device,
    add_drafts,
    add_head,
    add_json,
    add_model,
    add_own_text,
    add_preset,
    add_sampling,
    file_name,
)
from tellme.spec.memory import START_RANGES
from tellme.spec.ranges import Range

__all__ = ["COMMANDS"]

LIMITS = START_RANGES["generate"]


def generate_options(run: argparse.ArgumentParser) -> None:
    add_model(run, default="stories-1m")
    add_adapter(run)
    add_device(run)
    prompt = run.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", metavar="TEXT", help="text to go on from (default: BOS alone)")
    prompt.add_argument("--prompt-file", metavar="FILE", help="the same from a UTF-8 file, or from standard input with -; its "
                        "text is taken as it is: line ends, the last one too, and a byte order mark are part of the prompt")
    prompt.add_argument("--prompt-ids", type=id_list("--prompt-ids"), metavar="1,2,3", help="token ids; no BOS is added")
    run.add_argument("--max-tokens", type=whole("--max-tokens", LIMITS), default=128, metavar="N",
                     help=f"{LIMITS.least} to {LIMITS.most} (default: 128)")
    run.add_argument("--stop", action="append", default=[], metavar="TEXT",
                     help="end the text ahead of this text; may be given several times")
    run.add_argument("--interactive", action="store_true", help="after the text, go on with each line that is typed behind it")
    add_sampling(run)
    run.add_argument("--prefill-chunk", type=whole("--prefill-chunk", START_RANGES["chunk"]), default=0, metavar="N",
                     help="prompt tokens that share each weight; 1: token by token (default: as many as the board has lanes for)")
    add_head(run)
    add_drafts(run)
    add_own_text(run)
    add_check(run, "behind the text")
    run.add_argument("--ignore-eos", action="store_true", help="go on behind the end of a text")
    run.add_argument("--logits", type=file_name, metavar="FILE.npy", help="write the logits of each position fed (int32, 16 "
                     "fraction bits) to a file, a FIFO or a character device")
    run.add_argument("--json", action="store_true", help="print JSON lines: start, tokens, stats")
    add_preset(run)


def chat_options(chat: argparse.ArgumentParser) -> None:
    add_model(chat)
    add_adapter(chat)
    add_device(chat)
    chat.add_argument("--system", default="", metavar="TEXT", help="what the model is told ahead of the chat")
    chat.add_argument("--max-tokens", type=whole("--max-tokens", Range(1, LIMITS.most)), default=512, metavar="N",
                      help=f"of an answer; 1 to {LIMITS.most} (default: 512)")
    chat.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end answers ahead of this text")
    add_sampling(chat)
    add_head(chat)
    add_drafts(chat)
    add_own_text(chat)
    add_check(chat, "after each answer")
    add_preset(chat)


def serve_options(serve: argparse.ArgumentParser) -> None:
    add_model(serve, default="stories-1m")
    add_device(serve, several=True)
    serve.add_argument("--host", default="127.0.0.1", metavar="ADDRESS",
                       help="address to listen at; 0.0.0.0 for all (default: 127.0.0.1, this computer alone)")
    serve.add_argument("--port", type=whole("--port", Range(0, 65535)), default=8080, metavar="N",
                       help="0: one that is free (default: 8080)")
    serve.add_argument("--api-key", metavar="KEY", help="what clients have to send (default: the environment's "
                       "TELLME_API_KEY, or nothing)")
    serve.add_argument("--max-body", type=whole("--max-body", least=1), default=1 << 20, metavar="BYTES",
                       help="of a request (default: 1048576)")
    serve.add_argument("--max-tokens", type=whole("--max-tokens", Range(1, LIMITS.most)), metavar="N",
                       help="that a request may ask for (default: the model's context)")
    serve.add_argument("--max-queue", type=whole("--max-queue", least=0), default=64, metavar="N",
                       help="requests that wait (default: 64)")
    serve.add_argument("--timeout", type=fraction("--timeout", 0.001, 1e6), default=600.0, metavar="SECONDS",
                       help="from a request to its end, the time in the queue included (default: 600)")
    add_check(serve, "after each request, 4 MiB in turn")
    add_head(serve)
    add_drafts(serve)
    add_preset(serve)


def perplexity_options(measure: argparse.ArgumentParser) -> None:
    add_model(measure, default="stories-1m")
    add_adapter(measure)
    measure.add_argument("--text", required=True, metavar="FILE", help="UTF-8 text, or standard input with -")
    measure.add_argument("--tokens", type=whole("--tokens", least=0), metavar="N",
                         help="predict no more than N tokens (default: all)")
    add_device(measure, "golden")
    add_preset(measure)
    add_head(measure)
    measure.add_argument("--reference", action="store_true", help="compare with an independent float32 model")
    add_json(measure)


#: In the order of the help.
COMMANDS = (
    Command("generate", "generate text", "Generate text; it alone is printed on standard output, and everything else on "
            "standard error.", generate_options, "tellme.cli.generate:generate", (
                Example("generate", "a story, on the board if one is plugged in, else on the simulated board"),
                Example("generate --device golden --prompt 'The dog' --temperature 0.8 --seed 3", "a prompt, and a sampled text"),
                Example("generate --device /dev/ttyUSB0 --prompt-file prompt.txt --max-tokens 300",
                        "a prompt from a file, on the board at a port"),
                Example("generate --device golden --max-tokens 20 --json", "for programs: a line of JSON a token"),
            )),
    Command("chat", "talk with a model that was trained on chats", "A chat on the terminal.  The model's own template makes the "
            "turns a text.  /edit TEXT says the last turn otherwise, /retry asks for another answer, /new begins anew, /bye "
            "ends.", chat_options, "tellme.cli.chat:chat", (
                Example("chat --model chat.tellme", "a chat"),
                Example("chat --model chat.tellme --system 'Answer in one sentence.' --temperature 0.7",
                        "with words ahead of the chat, and sampled answers"),
            )),
    Command("serve", "serve OpenAI's API and a page over HTTP", "Serve /v1/completions, /v1/chat/completions, /v1/models, "
            "/health, /metrics, and a page at /.  Ctrl-C ends the server.", serve_options, "tellme.cli.serve:serve", (
                Example("serve --device golden", "for this computer alone, at http://127.0.0.1:8080"),
                Example("serve --device /dev/ttyUSB0 --device /dev/ttyUSB1 --host 0.0.0.0 --api-key secret",
                        "two boards, for the network"),
                Example("serve --check 8 --check-weights", "with tokens alone that the golden model gives, too"),
            ), prints=False),
    Command("perplexity", "loss of a model on a text", "Mean loss of a model on a text.  A text longer than the model's context "
            "is cut into windows that do not overlap, each computed from an empty cache; texts may be separated by "
            "<|endoftext|>.", perplexity_options, "tellme.cli.perplexity:perplexity", (
                Example("perplexity --text stories.txt", "the loss on a text, on the golden model"),
                Example("perplexity --text stories.txt --tokens 200 --device auto --json", "on a board, for programs"),
            )),
)
