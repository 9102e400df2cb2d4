# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Commands on model files: convert, quantise, export, draft, inspect."""

import argparse
from pathlib import Path

from tellme.cli.command import Command, Example
from tellme.cli.numbers import fraction, whole
from tellme.cli.options.shared import add_json, add_model, file_name
from tellme.spec.drafts import LIST_ENTRIES
from tellme.spec.packing import SLICE, TILE_HEADER_PLANES
from tellme.spec.program import ACT_EXP_RANGE
from tellme.spec.ranges import Range

__all__ = ["COMMANDS"]


def convert_options(convert: argparse.ArgumentParser) -> None:
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
    convert.add_argument("--method", choices=("complex_phase_v1", "complex_phase_v2"), help="how the "
                         "model makes its weights of the folder's floats, where no file says so: complex_phase_v2 for Fairy2i-W2")


def quantise_options(quantise: argparse.ArgumentParser) -> None:
    quantise.add_argument("source", type=Path, metavar="SRC")
    quantise.add_argument("-o", "--output", type=file_name, required=True, metavar="OUT")
    quantise.add_argument("--planes", action="append", default=[], metavar="1|2|3|auto|NAME=N,...",
                          help="planes of all matrices, 1 to 5; auto (default): as a budget allows; NAME=N: those of a matrix, "
                          "such as w2=3,wo=3; may be given several times")
    quantise.add_argument("--bits", type=fraction("--bits", 1, 100), metavar="B",
                          help="budget of auto: bits a weight (default: those of two planes, and three in wo, w2 and wv)")
    quantise.add_argument("--memory", type=whole("--memory", least=1), metavar="BYTES",
                          help="budget of auto: bytes in a board's memory, embedding, LM head and KV cache included")
    quantise.add_argument("--group", type=whole("--group", least=SLICE), metavar="N",
                          help=f"multipliers a row and N columns, a multiple of {SLICE}, which only builds with multipliers take "
                          "(default: a scale a row)")
    quantise.add_argument("--rotate", action=argparse.BooleanOptionalAction,
                          help="turn the residual stream, so that no column stands out, or leave it; embedding and LM head are "
                          "two tables in a turned model (default: turned where this pays)")
    quantise.add_argument("--head-planes", type=whole("--head-planes", TILE_HEADER_PLANES), metavar="N",
                          help="planes of the LM head, and of the embedding that is the head (default: 5)")
    calibrate = quantise.add_mutually_exclusive_group()
    calibrate.add_argument("--own-samples", action="store_true", help="calibrate on texts that the model itself writes; all "
                           "of its weights are in memory meanwhile")
    calibrate.add_argument("--calibrate", metavar="TEXT", help="UTF-8 text to calibrate on, with <|endoftext|> between texts, or "
                          "standard input with - (default: the package's own)")
    quantise.add_argument("--tokens", type=whole("--tokens", least=64), default=12288, metavar="N",
                          help="calibrate on the first N tokens (default: 12288)")
    quantise.add_argument("--evaluate", metavar="TEXT", help="text to measure on (default: the package's own)")
    quantise.add_argument("--dry-run", action="store_true", help="say how many planes each matrix would get, and write nothing")
    quantise.add_argument("--context", type=whole("--context", least=1), metavar="N",
                          help="positions to keep (default: all that the model has)")
    quantise.add_argument("--tokenizer", type=Path, metavar="FILE",
                          help="a SentencePiece .model or a tokenizer.json to put in")
    add_json(quantise)


def export_options(export: argparse.ArgumentParser) -> None:
    add_model(export, "model")
    export.add_argument("-o", "--output", type=file_name, required=True, metavar="OUT")
    export.add_argument("--format", required=True, choices=("gguf-tq1", "gguf-tq2", "gguf-f16", "hf"))


def draft_options(draft: argparse.ArgumentParser) -> None:
    add_model(draft, "model", what="a .tellme file, or the name of a shipped model, whose tokens the table has")
    draft.add_argument("texts", nargs="+", metavar="TEXT", help="UTF-8 texts of the kind that is to be written, with "
                       "<|endoftext|> between texts of a file; standard input with -")
    draft.add_argument("-o", "--output", type=file_name, required=True, metavar="OUT")
    draft.add_argument("--entries", type=whole("--entries", Range(1, LIST_ENTRIES)), default=LIST_ENTRIES, metavar="N",
                       help=f"pairs that end with the same token at most, the most frequent ones (default: {LIST_ENTRIES})")
    add_json(draft)


def inspect_options(inspect: argparse.ArgumentParser) -> None:
    add_model(inspect, "model", default="stories-1m")
    add_json(inspect)


#: In the order of the help.
COMMANDS = (
    Command("convert", "convert a checkpoint to a .tellme file", "Read a Hugging Face folder (BitNet, Falcon 1.58bit, TriLM...), "
            "a GGUF file with ternary weights, a bitllama2.c .bin file, or a safetensors file of the project's training runs, "
            "and write a .tellme file.", convert_options, "tellme.cli.convert:convert", (
                Example("convert bitnet-2b4t/ -o bitnet.tellme", "a Hugging Face folder"),
                Example("convert model.gguf -o model.tellme --context 512", "a GGUF file, with fewer positions"),
                Example("convert stories.bin -o stories.tellme --tokenizer tokenizer.model",
                        "a file that has no tokenizer of its own"),
            ), prints=False),
    Command("quantise", "make a float checkpoint a model of several planes", "Read a float or k-quantised checkpoint (a Hugging "
            "Face folder or a GGUF file: LLaMA, Mistral without a sliding window, Qwen2, Qwen3, OLMo 2), calibrate on a text, "
            "and write a .tellme file whose matrices are integers of one to five ternary planes.  A run that was broken off goes "
            "on where it stopped.", quantise_options, "tellme.cli.quantise:quantise", (
                Example("quantise model.gguf -o model.tellme", "as many planes as help most"),
                Example("quantise llama/ -o model.tellme --planes 2 --planes w2=3,wo=3,wv=3", "planes by name"),
                Example("quantise model.gguf -o model.tellme --bits 3.6 --dry-run", "what a budget gives"),
            )),
    Command("export", "write a model for llama.cpp or transformers", "Write a model as a GGUF file or a Hugging Face folder.  "
            "The ternary values stay what they are; the tq formats want widths that are multiples of 256.", export_options,
            "tellme.cli.export:export", (
                Example("export stories-1m -o stories.gguf --format gguf-f16", "a GGUF file for llama.cpp"),
                Example("export stories-1m -o stories-hf --format hf", "a folder for transformers"),
            ), prints=False),
    Command("draft", "make a table of drafted tokens from texts", "Count in texts which token mostly follows two others, and "
            "write a table from which a board drafts tokens.  The text that a model writes does not depend on drafts, its speed "
            "does.",
            draft_options, "tellme.cli.draft:draft", (
                Example("draft stories-8m stories.txt -o stories.drafts", "a table for stories"),
                Example("draft model.tellme a.txt b.txt -o small.drafts --entries 64", "a smaller table"),
            )),
    Command("inspect", "say what a .tellme file holds, and what it runs on", "Say what a .tellme file holds, and which boards it "
            "fits.", inspect_options, "tellme.cli.inspect:inspect", (
                Example("inspect", "the shipped model"),
                Example("inspect model.tellme --json", "a file, for programs"),
            )),
)
