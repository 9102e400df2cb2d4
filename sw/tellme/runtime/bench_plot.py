# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The plots of a bench: tokens/s over position, and the roofline of the memory."""

import importlib.util
from pathlib import Path

from tellme.errors import InputError
from tellme.models.writing import whole_file
from tellme.runtime.bench import BenchReport

__all__ = ["check_plot", "plot_bench"]


def check_plot() -> None:
    """An InputError where the package that draws is missing; before what is drawn is measured."""
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError("plots are drawn by the package matplotlib, which this Python does not have", hint="plot")


def plot_bench(report: BenchReport, path: Path) -> None:
    """Write an SVG with two plots.

    Left: tokens/s over position, as measured and as the memory's peak allows.  Right: the roofline.  A token's needed bytes are
    the abscissa, in tokens per MB, so that the memory's peak is a straight line; a prompt's tokens share weights and lie further
    right.
    """
    check_plot()
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "tellme"
    core, peak = report.core, report.peak_bytes_per_second
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.2))
    try:
        positions = [r.position for r in report.decode]
        left.plot(positions, [r.tokens_per_second for r in report.decode], marker="o", label="measured")
        if peak is not None:
            left.plot(positions, [peak / r.needed for r in report.decode], linestyle="--", color="black", linewidth=0.8,
                      label=f"the memory's peak, {peak / 1e6:.0f} MB/s")
        left.set_ylim(bottom=0)
        left.set_xlabel("position")
        left.set_ylabel("tokens/s")
        left.legend()
        groups = (("decode", "o", [(1e6 / r.needed, r.tokens_per_second) for r in report.decode]),
                  ("prompts", "s", [(1e6 * r.tokens / r.needed, r.tokens_per_second) for r in report.prefill]))
        for name, marker, points in groups:
            if points:
                right.plot(*zip(*points, strict=True), linestyle="", marker=marker, label=name)
        if peak is not None:
            ends = [x for _, _, points in groups for x, _ in points]
            line = [0.7 * min(ends), 1.4 * max(ends)]
            right.plot(line, [x * peak / 1e6 for x in line], linestyle="--", color="black", linewidth=0.8,
                       label="the memory's peak")
        right.set_xscale("log")
        right.set_yscale("log")
        right.set_xlabel("tokens per needed MB")
        right.set_ylabel("tokens/s")
        right.legend()
        where = report.device if core is None else f"{core.name}, {core.fabric_mhz:.2f} MHz"
        figure.suptitle(f"{report.model} on {where}" + (" (simulated cycles)" if report.device == "sim" else ""))
        figure.tight_layout()
        with whole_file(path) as scratch:
            figure.savefig(scratch, format="svg", metadata={"Date": None})
    finally:
        pyplot.close(figure)
