# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Commands on model files: convert, export, inspect."""

import argparse
from pathlib import Path

from tellme.cli.command import Command, Example
from tellme.cli.numbers import whole
from tellme.cli.options.shared import add_json, add_model, file_name
from tellme.spec.program import ACT_EXP_RANGE

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


def export_options(export: argparse.ArgumentParser) -> None:
    add_model(export, "model")
    export.add_argument("-o", "--output", type=file_name, required=True, metavar="OUT")
    export.add_argument("--format", required=True, choices=("gguf-tq1", "gguf-tq2", "gguf-f16", "hf"))


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
    Command("export", "write a model for llama.cpp or transformers", "Write a model as a GGUF file or a Hugging Face folder.  "
            "The ternary values stay what they are; the tq formats want widths that are multiples of 256.", export_options,
            "tellme.cli.export:export", (
                Example("export stories-1m -o stories.gguf --format gguf-f16", "a GGUF file for llama.cpp"),
                Example("export stories-1m -o stories-hf --format hf", "a folder for transformers"),
            ), prints=False),
    Command("inspect", "say what a .tellme file holds, and what it runs on", "Say what a .tellme file holds, and which boards it "
            "fits.", inspect_options, "tellme.cli.inspect:inspect", (
                Example("inspect", "the shipped model"),
                Example("inspect model.tellme --json", "a file, for programs"),
            )),
)
