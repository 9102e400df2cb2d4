# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``tellme-host convert``."""

import argparse
from pathlib import Path

from tellme.cli.errors import ExitCode
from tellme.cli.files import unicode_name
from tellme.cli.inspect import summary
from tellme.cli.output import say
from tellme.cli.progress import bar
from tellme.compiler.inspect import model_fits
from tellme.models.container import Container, write, written_elements
from tellme.models.importers.checkpoints import open_checkpoint
from tellme.models.importers.importing import Options
from tellme.models.writing import check_target

__all__ = ["convert"]


def convert(args: argparse.Namespace) -> int:
    """The command."""
    target: Path = args.output
    check_target(target)
    source = open_checkpoint(args.source, Options(args.tokenizer, args.no_tokenizer, args.context, args.act_exp,
                                                  args.weight_scale, args.method), say)
    source.name = unicode_name(target.stem)
    with bar("converting", "weight", written_elements(source.config), scaled=True) as shown:
        write(source, target, shown.update)
    say(f"{target}: {source.config.ternary_weights / 1e6:.2f} M ternary weights, {target.stat().st_size / 1e6:.2f} MB"
        + ("" if source.tokenizer else "; no tokenizer: prompts and output are token ids"))
    say(f"{target}: {summary(model_fits(Container(target)))}; tellme-host inspect {target} says how fast, or why not")
    return ExitCode.DONE
