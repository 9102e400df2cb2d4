# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``tellme-host inspect``."""

import argparse
from dataclasses import asdict

from tellme.boards import boards_of_presets
from tellme.cli.errors import ExitCode
from tellme.cli.output import print_line, write
from tellme.cli.progress import bar
from tellme.compiler.inspect import Fit, Placement, Rate, inspect_model
from tellme.models.shipped import open_model
from tellme.spec.packing import SLICE

__all__ = ["inspect", "summary"]

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
    if max(found.planes) > 1 or found.groups:
        shares = ", ".join(f"{planes} of {100 * weights / found.config.ternary_weights:.1f} %"
                           for planes, weights in found.planes.items())
        line("planes", f"{shares} of the weights: {found.bits_a_weight:.2f} bits a weight")
    if found.groups:
        shares = ", ".join(f"{SLICE * slices} columns of {100 * weights / found.config.ternary_weights:.1f} %"
                           for slices, weights in found.groups.items())
        line("column groups", f"{shares} of the weights: {found.multipliers} multipliers")
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
        places = list(fit.placements.values())
        if fit.head == "board":
            line(fit.preset, on + _said(fit.placements["board"]))
        elif not any(place.context for place in places) and len({place.reason for place in places}) == 1:
            line(fit.preset, f"{on}does not fit: {fit.reason}")
        else:
            line(fit.preset, on + ("fits with embedding and head on the host" if fit.head is not None else "does not fit"))
            for place in places:
                write(f"  --head {place.head:7} {_said(place)}\n")
    return ExitCode.DONE


def summary(fits: list[Fit]) -> str:
    """The builds that a model fits, in a line."""
    where = {"": [fit.preset for fit in fits if fit.head == "board"],
             " with embedding and head on the host": [fit.preset for fit in fits if fit.head == "host"],
             " with a shorter context": [fit.preset for fit in fits
                                         if fit.head is None and any(place.context for place in fit.placements.values())]}
    return "; ".join(f"fits {', '.join(presets)}{how}" for how, presets in where.items() if presets) or "fits no build"


def _said(place: Placement) -> str:
    """Whether the model fits with its head in one place, and how fast it is there."""
    if place.reason and not place.context:
        return f"does not fit: {place.reason}"
    fits, then = "fits", ""
    if place.slots > 1:
        fits = f"fits, up to {place.slots} sequences side by side"
    if place.reason:
        fits = f"does not fit with its whole context: {place.reason}"
        then = f" with a context of {place.context} (convert --context {place.context})"
    peaks = ", ".join(f"{_digits(rate.peak)} at position {rate.position}" for rate in place.rates)
    return f"{fits}; tokens/s that its memory's peak allows{then}: {peaks}; {_expected(place.rates)}{_together(place)}"


def _together(place: Placement) -> str:
    """What as many sequences as run side by side give together."""
    found = place.side_by_side
    if found is None:
        return ""
    rates = ", ".join(f"{_digits(rate)} at position {at}" for at, rate in found.rates.items())
    return f"; {found.sequences} sequences side by side: {rates} (computed)"


def _expected(rates: tuple[Rate, ...]) -> str:
    """What the nearest measurements let expect, and which they are."""
    known = [(rate.expected, rate.measurement) for rate in rates if rate.expected is not None and rate.measurement is not None]
    if not known:
        return "no token was measured on this build"
    factors = dict.fromkeys(f"{measured.factor} x at {measured.at} of {measured.shape}" for _, measured in known)
    return f"expected: {', '.join(_digits(expected) for expected, _ in known)} (measured: {', '.join(factors)})"


def _digits(rate: float) -> str:
    """A rate with one decimal, or two if it is small."""
    return f"{rate:.1f}" if rate >= 10 else f"{rate:.2f}"
