# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``tellme-host bench``."""

import argparse

from tellme.cli.boards import drafts_of, open_board
from tellme.cli.errors import ExitCode
from tellme.cli.generate import load
from tellme.cli.output import print_line, say, write
from tellme.cli.progress import bar
from tellme.models.shipped import checked_model
from tellme.models.writing import check_target
from tellme.runtime.bench import BenchReport, Decode, Prefill, check_positions
from tellme.runtime.bench import bench as measure
from tellme.runtime.bench_plot import check_plot, plot_bench
from tellme.runtime.device import BoardDevice

__all__ = ["bench"]


def row(*cells: object) -> str:
    return " ".join(f"{cell:>13}" for cell in cells).rstrip() + "\n"


def shares(result: Decode | Prefill) -> str:
    """What the cycles were spent on, the most first."""
    if not result.account or not result.cycles:
        return ""
    parts = sorted(result.account.items(), key=lambda part: -part[1])
    return "  " + ", ".join(f"{name} {100 * cycles / result.cycles:.0f} %" for name, cycles in parts[:3] if cycles)


def show(report: BenchReport) -> None:
    """The tables for a person."""
    core = report.core
    board = f"preset {core.name}, {core.fabric_mhz:.2f} MHz" if core is not None else "no cycles, the host's clock"
    write(f"{report.model} on {report.device}: {board}" + (" (simulated cycles)" if report.device == "sim" else "") + "\n")
    write(row("prompt", "tokens/s", "to first, ms", "cycles", "of the peak"))
    for p in report.prefill:
        share = f"{100 * p.floor(core) / p.cycles:.1f} %" if core is not None and p.cycles else "-"
        write(row(p.tokens, f"{p.tokens_per_second:.1f}", f"{1e3 * p.seconds:.2f}", p.cycles or "-", share).rstrip("\n")
              + shares(p) + "\n")
    write(row("position", "tokens/s", "a token, ms", "cycles", "of the peak"))
    for d in report.decode:
        share = f"{100 * d.floor(core) / d.cycles:.1f} %" if core is not None and d.cycles else "-"
        write(row(d.position, f"{d.tokens_per_second:.1f}", f"{1e3 * d.seconds:.2f}", d.cycles or "-", share).rstrip("\n")
              + shares(d) + (f"; {100 * d.rows_read:.1f} % of the LM head's rows" if d.rows_read is not None else "") + "\n")
    if report.drafts is not None:
        text = report.drafts
        write(f"drafts: {text.tokens_per_pass:.2f} tokens a pass, {text.tokens_per_second:.1f} tokens/s, on a greedy text of "
              f"{text.tokens + 1} tokens: {text.tokens - text.passes} drafted tokens were right in {text.passes} passes\n")
    if report.peak_bytes_per_second is not None:
        write(f"of the peak: the bytes that are needed, at the memory's {report.peak_bytes_per_second / 1e6:.1f} MB/s, against "
              "the time that it took\n")


def bench(args: argparse.Namespace) -> int:
    """The command."""
    model = checked_model(args.model)
    check_positions(model.name, model.config.context, args.positions or [], args.prompt_tokens or [])
    if args.plot is not None:
        check_plot()
        check_target(args.plot)
    with open_board(args) as board:
        session = load(board, model, None, drafts_of(args))
        core = board.device.core if isinstance(board.device, BoardDevice) else None
        with bar("measuring", "step") as shown:
            def progress(what: str, done: int, total: int) -> None:
                shown.set_description(f"measuring {what}", refresh=False)
                shown.total = total
                shown.update(done - shown.n)

            report = measure(session, core, positions=args.positions, prompts=args.prompt_tokens, progress=progress)
    if args.plot is not None:
        plot_bench(report, args.plot)
    if args.json:
        print_line(report.as_json())
    else:
        show(report)
        if args.plot is not None:
            say(f"{args.plot}: tokens/s over position, and the roofline")
    return ExitCode.DONE
