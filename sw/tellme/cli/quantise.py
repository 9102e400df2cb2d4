# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``tellme-host quantise``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tellme.cli.errors import ExitCode, UserError
from tellme.cli.files import read_text, unicode_name
from tellme.cli.inspect import summary
from tellme.cli.output import print_line, say, write
from tellme.cli.progress import bar
from tellme.compiler.inspect import model_fits
from tellme.models.config import LINEARS
from tellme.models.container import Container
from tellme.models.importers.checkpoints import open_floats
from tellme.models.writing import check_target
from tellme.quantise.plan import Plan
from tellme.quantise.rotate import Choice
from tellme.quantise.run import Run, Settings
from tellme.quantise.tokens import own_text
from tellme.spec.packing import MAX_LINEAR_PLANES, SLICE

__all__ = ["quantise"]


def read_planes(values: Sequence[str]) -> tuple[int | None, dict[str, int]]:
    """What ``--planes`` says: a number for all matrices or None for ``auto``, and numbers for matrices by name.

    Each value is a number, ``auto``, or NAME=N, or several of these with commas between; a later one wins.
    """
    base: int | None = None
    named: dict[str, int] = {}
    for part in (part.strip() for value in values for part in value.split(",")):
        name, equals, number = part.rpartition("=")
        if part == "auto":
            base = None
        elif number not in map(str, range(1, MAX_LINEAR_PLANES + 1)) or (equals and name not in LINEARS):
            raise UserError(f"--planes {part!r}: a number from 1 to {MAX_LINEAR_PLANES}, auto, or NAME=N is wanted, and the "
                            f"names are {', '.join(LINEARS)}")
        elif equals:
            named[name] = int(number)
        else:
            base = int(number)
    return base, named


def quantise(args: argparse.Namespace) -> int:
    """The command."""
    target: Path = args.output
    check_target(target)
    planes, named = read_planes(args.planes)
    if planes is not None and (args.bits is not None or args.memory is not None):
        raise UserError(f"--planes {planes} says how many planes each matrix has; a budget is for --planes auto")
    if args.group is not None and args.group % SLICE:
        raise UserError(f"--group {args.group} is no multiple of {SLICE}")
    settings = Settings(planes, named, args.head_planes, args.bits, args.memory, args.group or 0, args.tokens,
                        args.rotate)
    calibration = None
    if not args.own_samples:
        calibration = own_text("calibration") if args.calibrate is None else read_text(args.calibrate, "the calibration text")
    evaluation = own_text("evaluation") if args.evaluate is None else read_text(args.evaluate, "the text to measure on")
    model = open_floats(args.source, say, tokenizer=args.tokenizer, context=args.context)
    model.name = unicode_name(target.stem)
    run = Run(model, target, settings, calibration, evaluation, say=say,
              bars=lambda what, unit, total: bar(what, unit, total, scaled=True))
    if args.dry_run:
        choice, plan = run.plan()
        if args.json:
            print_line(plan.as_json() | choice.as_json() | {"calibration_tokens": run.tokens})
        else:
            write_plan(choice, plan)
        return ExitCode.DONE
    report = run.quantise()
    if args.json:
        print_line(report.as_json() | {"bytes": target.stat().st_size})
        return ExitCode.DONE
    write_plan(report.choice, report.plan)
    write(f"{'':18}{'nats a token':>14}{'bits a byte':>14}{'KL':>10}{'same first choice':>20}\n")
    for name, loss in report.losses.items():
        write(f"{name:18}{loss.nats_per_token:14.4f}{loss.bits_per_byte:14.4f}{loss.kl:10.4f}{100 * loss.same:18.1f} %\n")
    say(f"calibrated on {report.calibration_tokens} tokens; measured on {report.losses['float'].tokens} others, KL in nats a "
        "token against the float model")
    say(f"{target}: {target.stat().st_size / 1e6:.2f} MB, in {report.seconds:.0f} s")
    say(f"{target}: {summary(model_fits(Container(target)))}; tellme-host inspect {target} says how fast, or why not")
    return ExitCode.DONE


def write_plan(choice: Choice, plan: Plan) -> None:
    """Whether the model is turned, the planes of each matrix, and what they take."""
    why = ""
    if choice.measured is not None:
        why = ": rounded plainly, the model has a KL of {:.4f} as it is, and of {:.4f} turned".format(*choice.measured)
    write(f"residual stream   {'turned' if choice.turned else 'as it is'}{why}\n")
    for name, shares in plan.shares().items():
        write(f"{name:18}" + ", ".join(f"{planes} planes in {layers} layers" if len(shares) > 1 else f"{planes} planes"
                                       for planes, layers in shares.items()) + "\n")
    groups = f" with multipliers of groups of {plan.group} columns" if plan.group else ""
    write(f"bits a weight     {plan.bits_a_weight:.2f}{groups}\n")
    write(f"board's memory    {plan.memory / 1e6:.1f} MB with a context of {plan.config.context}\n")
