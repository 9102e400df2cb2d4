# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Commands on model files, and how a model is found."""

import argparse
import sys
from dataclasses import asdict
from importlib import resources
from pathlib import Path

from tellme.cli.errors import ExitCode
from tellme.models.checkpoints import convert as read_checkpoint
from tellme.models.model import Model, ModelError

__all__ = ["convert", "find_model", "inspect"]

SUFFIX = ".tellme"


def shipped() -> dict[str, Path]:
    """Names and files of the models in the package."""
    folder = Path(str(resources.files("tellme"))) / "data"
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def find_model(name: str) -> Model:
    """A shipped model by its name, or a file."""
    models = shipped()
    if name in models:
        return Model.load(models[name])
    path = Path(name)
    if not path.exists() and path.suffix != SUFFIX and path.name == name:
        raise ModelError(f"no model is called {name!r} and there is no such file; shipped models: {', '.join(models)}")
    return Model.load(path)


def convert(args: argparse.Namespace) -> int:
    """``tellme-host convert``."""
    target: Path = args.output
    if target.is_dir():
        raise ModelError(f"{target} is a folder; give the name of the file to write")
    if not target.parent.is_dir():
        raise ModelError(f"there is no folder {target.parent} to write {target.name} to")
    model = read_checkpoint(args.source, args.tokenizer, lambda text: print(text, file=sys.stderr))
    model.name = target.stem
    model.save(target)
    print(f"{target}: {model.ternary_weights / 1e6:.2f} M ternary weights, {target.stat().st_size / 1e6:.2f} MB"
          + ("" if model.tokenizer else "; no tokenizer: prompts and output are token ids"), file=sys.stderr)
    return ExitCode.DONE


def inspect(args: argparse.Namespace) -> int:
    """``tellme-host inspect``."""
    model = find_model(args.model)
    print(f"name             {model.name}")
    print(f"ternary weights  {model.ternary_weights}")
    for key, value in asdict(model.config).items():
        print(f"{key:16} {value}")
    gains = sorted({name for layer in model.layers for name in layer.gains})
    if model.final_gain is not None:
        gains.append("final_norm")
    print(f"gains            {', '.join(gains) or 'none'}")
    print(f"tokenizer        {f'{len(model.tokenizer)} bytes' if model.tokenizer else 'none'}")
    print(f"license          {model.license or 'not given'}")
    return ExitCode.DONE
