# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``tellme-host export``."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from tellme.cli.errors import ExitCode
from tellme.cli.files import check_target
from tellme.models.exporting import FORMATS
from tellme.models.exporting import export as write
from tellme.models.shipped import open_model

__all__ = ["export"]


def export(args: argparse.Namespace) -> int:
    """The command."""
    target: Path = args.output
    model = open_model(args.model)
    if FORMATS[args.format] is not None or not target.exists():
        check_target(target, "file")
    with tqdm(total=model.config.layers, desc="exporting", unit="layer", file=sys.stderr, leave=False, delay=0.5) as bar:
        write(model, target, args.format, bar.update)
    files = [target] if target.is_file() else sorted(target.iterdir())
    print(f"{target}: {args.format}, {sum(f.stat().st_size for f in files) / 1e6:.2f} MB"
          + ("" if model.tokenizer else "; no tokenizer"), file=sys.stderr)
    return ExitCode.DONE
