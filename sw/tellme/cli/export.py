# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``tellme-host export``."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from tellme.cli.errors import ExitCode
from tellme.cli.files import unicode_name
from tellme.cli.output import say
from tellme.models.exporting import FORMATS
from tellme.models.exporting import export as write
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
    with tqdm(total=model.config.layers, desc="exporting", unit="layer", file=sys.stderr, leave=False, delay=0.5) as bar:
        write(model, target, args.format, bar.update, say)
    files = [target] if target.is_file() else sorted(target.iterdir())
    say(f"{target}: {args.format}, {sum(f.stat().st_size for f in files) / 1e6:.2f} MB"
        + ("" if model.tokenizer else "; no tokenizer"))
    return ExitCode.DONE
