# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``tellme-host inspect``."""

import argparse
from dataclasses import asdict

from tellme.boards import boards_of_presets
from tellme.cli.errors import ExitCode
from tellme.cli.output import print_line, write
from tellme.cli.progress import bar
from tellme.compiler.inspect import inspect_model
from tellme.models.shipped import open_model

__all__ = ["inspect"]

#: Fields of a configuration that are shown together, with the tokens' texts.
CONVENTIONS = ("bos", "eos", "add_bos", "more_ends")


def inspect(args: argparse.Namespace) -> int:
    """The command."""
    model = open_model(args.model)
    with bar("reading", "layer", model.config.layers) as shown:
        found = inspect_model(model, shown.update)
    boards = boards_of_presets()
    if args.json:
        fields = found.as_json() | {"chat_template": model.chat_template or None}
        for fit in fields["fits"]:
            fit["boards"] = boards.get(fit["preset"], [])
        print_line(fields)
        return ExitCode.DONE

    def line(key: str, value: object) -> None:
        write(f"{key:16} {value}\n")

    line("name", found.name)
    line("ternary weights", found.config.ternary_weights)
    for key, value in asdict(found.config).items():
        if key not in CONVENTIONS:
            line(key, value)
    line("text begins with", found.begin)
    line("text ends at", found.end)
    line("gains", ", ".join(found.gains) or "none")
    line("tokenizer", found.tokenizer)
    line("chat template", f"{len(model.chat_template)} characters" if model.chat_template else "none: a base model")
    line("license", found.license or "not given")
    total = sum(found.bytes_by_part.values())
    for key, size in found.bytes_by_part.items():
        line(key, f"{size} bytes, {100 * size / total:.1f} %")
    line("zeros", f"{100 * found.zeros:.1f} % of the ternary weights; by layer "
         + " ".join(f"{100 * z:.1f}" for z in found.zeros_by_layer))
    for feature, who in found.features.items():
        line(feature, f"runs on: {who}")
    for fit in found.fits:
        on = f"{', '.join(boards.get(fit.preset, ['simulated only']))}: "
        where = " with embedding and head on the host" if fit.head == "host" else ""
        rates = ", ".join(f"{rate:.1f} at position {position}" for position, rate in fit.tokens_per_second.items())
        line(fit.preset, on + (f"does not fit: {fit.reason}" if fit.reason else
                               f"fits{where}; tokens/s that its memory's peak allows: {rates}"))
    return ExitCode.DONE
