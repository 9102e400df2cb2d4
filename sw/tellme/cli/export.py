# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``tellme-host export``."""

import argparse
from pathlib import Path

from tellme.cli.errors import ExitCode
from tellme.cli.files import unicode_name
from tellme.cli.output import say
from tellme.cli.progress import bar
from tellme.models.exporters.exporting import FORMATS
from tellme.models.exporters.exporting import export as write
from tellme.models.shipped import open_model
from tellme.models.writing import check_folder_target, check_target

__all__ = ["export"]


def export(args: argparse.Namespace) -> int:
    """The command."""
    target: Path = args.output
    model = open_model(args.model)
    model.name = unicode_name(model.name)
    if FORMATS[args.format] is None:
        check_folder_target(target)
    else:
        check_target(target)
    with bar("exporting", "layer", model.config.layers) as shown:
        write(model, target, args.format, shown.update, say)
    files = [target] if target.is_file() else sorted(target.iterdir())
    say(f"{target}: {args.format}, {sum(f.stat().st_size for f in files) / 1e6:.2f} MB"
        + ("" if model.tokenizer else "; no tokenizer"))
    return ExitCode.DONE
