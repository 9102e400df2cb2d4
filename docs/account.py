# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m docs.account``: the plots and tables of docs/performance.md, and README's rows of several tokens a pass, from
docs/reports/sequences.json and drafts.json.

The reports are those of ``python -m sim.bench --sequences`` and ``--drafts``.  A report that is not there leaves its plot and its
table as they are.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["DRAFTS", "PAGE", "README", "SEQUENCES", "comparison", "drafts_table", "main", "sequences_table", "updated"]

ROOT = Path(__file__).resolve().parents[1]
PAGE, README = ROOT / "docs" / "performance.md", ROOT / "README.md"
SEQUENCES, DRAFTS = (ROOT / "docs" / "reports" / f"{name}.json" for name in ("sequences", "drafts"))
IMAGES = ROOT / "docs" / "images"
#: What stands before and after a table of the page.
BEGIN, END = "<!-- python -m docs.account writes {} from here -->\n", "<!-- {} to here -->\n"

Reports = dict[str, dict[str, Any]]


def sequences_table(reports: Reports) -> str:
    """A row per model, position and number of sequences."""
    lines = ["| model | position | sequences | cycles | tokens/s | each | x alone | model |", "|" + " --- |" * 8]
    for report in reports.values():
        for found in sorted(report["passes"], key=lambda p: (p["position"], p["sequences"])):
            off = found["model_cycles"] / found["cycles"] - 1
            ratio = "" if found["x_alone"] is None else f"{found['x_alone']:.2f}"
            lines.append(f"| {report['model']} | {found['position']} | {found['sequences']} | {found['cycles']:,} | "
                         f"{found['tokens_per_second']:,.1f} | {found['tokens_per_second_each']:.1f} | {ratio} | {off:+.1%} |")
    lines += ["", "| model | sequences | picks each | tokens/s, prompts included | while all decode | passes of these |",
              "|" + " --- |" * 6]
    for report in reports.values():
        for run in report["runs"]:
            rate = run["tokens_per_second_of_these"]
            lines.append(f"| {report['model']} | {run['sequences']} | {run['tokens_each']} | {run['tokens_per_second']:,.1f} | "
                         f"{'' if rate is None else f'{rate:,.1f}'} | {run['passes_of_all']} |")
    return "\n".join(lines) + "\n\n" + sources(reports)


def drafts_table(reports: Reports) -> str:
    """A row per model and temperature."""
    lines = ["| model | temperature | stories | tokens | tokens a pass | drafted | accepted | tokens/s | plain | x plain "
             "| model |", "|" + " --- |" * 11]
    for report in reports.values():
        plain = (f"{report['plain_tokens_per_second']:,.1f} | {report['x_plain']:.3f}" if "x_plain" in report else " | ")
        name = report["model"] + ", computed" * report["computed"]
        lines.append(f"| {name} | {report['temperature']:g} | {report['stories']} | {report['tokens']:,} | "
                     f"{report['tokens_a_pass']:.3f} | {report['drafted']:,} | {report['acceptance']:.1%} | "
                     f"{report['tokens_per_second']:,.1f} | {plain} | {report['model_cycles'] / report['cycles'] - 1:+.1%} |")
    return "\n".join(lines) + "\n\n" + sources(reports)


def comparison(sequences: Reports, drafts: Reports) -> str:
    """README's table: aggregate tokens a second over one sequence's, and tokens a pass, beside another design's."""
    lines = ["| design, model | 2 sequences | 4 | 8 | 16 | drafted tokens |", "|" + " --- |" * 6,
             "| [bitnet-kv260](https://github.com/MerlijnW70/bitnet-kv260/blob/128c580cd49c51642625eb5f6fe6746eaff57c83/docs/"
             "measurements.md), BitNet b1.58 2B-4T, measured | 1.28 x | 1.40 x | not reported | not reported | a study that says "
             "no: 0.04 to 0.18 accepted in the mean |"]
    for name, report in sequences.items():
        passes = {found["sequences"]: found["x_alone"] for found in report["passes"] if found["position"] == 0}
        found = [entry for key, entry in drafts.items() if key.startswith(f"{name}, ") and "x_plain" in entry]
        told = "; ".join(f"{entry['tokens_a_pass']:.2f} tokens a pass, {entry['x_plain']:.2f} x at temperature "
                         f"{entry['temperature']:g} ({entry['stories']} stories{', computed' * entry['computed']})"
                         for entry in found)
        cells = [f"{passes[count]:.2f} x" if passes.get(count) else "" for count in (2, 4, 8, 16)]
        lines.append(f"| tellme, `{report['preset']}`, {report['model']}, position 0, simulated | {' | '.join(cells)} | {told} |")
    return "\n".join(lines) + "\n"


def sources(reports: Reports) -> str:
    """How each report was obtained."""
    return "\n".join(f"- {name}: core {report['core_sha256'][:12]}, commit {report['commit']}, `{report['how']}`"
                     for name, report in reports.items()) + "\n"


def updated(page: str, name: str, table: str) -> str:
    """The page with a table between the marks of its name."""
    begin, end = BEGIN.format(name), END.format(name)
    before, rest = page.split(begin)
    return f"{before}{begin}\n{table}\n{end}{rest.split(end)[1]}"


def _figure(path: Path, width: int, draw: Callable[[Any], None]) -> None:
    """An SVG with two plots side by side."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "tellme"
    figure, axes = pyplot.subplots(1, width, figsize=(5 * width, 4), squeeze=False)
    try:
        draw(axes[0])
        figure.tight_layout()
        figure.savefig(path, format="svg", metadata={"Date": None})
    finally:
        pyplot.close(figure)


def plot_sequences(reports: Reports, path: Path) -> None:
    """Of each model aggregate tokens a second over the number of sequences, at each position; dashed: the analytic model."""
    def draw(axes: Any) -> None:
        for plot, report in zip(axes, reports.values(), strict=True):
            for position in sorted({found["position"] for found in report["passes"]}):
                row = sorted((p for p in report["passes"] if p["position"] == position), key=lambda p: p["sequences"])
                counts = [p["sequences"] for p in row]
                (line,) = plot.plot(counts, [p["tokens_per_second"] for p in row], marker="o", label=f"position {position}")
                plot.plot(counts, [p["tokens_per_second"] * p["cycles"] / p["model_cycles"] for p in row], linestyle="--",
                          linewidth=1, color=line.get_color())
            plot.set_title(f"{report['model']} on {report['preset']}")
            plot.set_xlabel("sequences side by side")
            plot.set_ylabel("tokens/s of all; dashed: the analytic model")
            plot.set_ylim(bottom=0)
            plot.legend()

    _figure(path, len(reports), draw)


def plot_drafts(reports: Reports, path: Path) -> None:
    """Of each report tokens a second without and with drafts, and the share of each number of tokens a pass."""
    def draw(axes: Any) -> None:
        names = [f"{report['model']}{', computed' * report['computed']}\ntemperature {report['temperature']:g}"
                 for report in reports.values()]
        for shift, label, key in ((-0.2, "plain decode", "plain_tokens_per_second"), (0.2, "with drafts", "tokens_per_second")):
            values = [report.get(key, 0.0) for report in reports.values()]
            bars = axes[0].bar([at + shift for at in range(len(names))], values, 0.38, label=label)
            axes[0].bar_label(bars, [f"{value:.0f}" for value in values], fontsize=8)
        axes[0].set_xticks(range(len(names)), names)
        axes[0].set_ylabel("tokens/s")
        axes[0].legend()
        for report, name in zip(reports.values(), names, strict=True):
            axes[1].scatter([story["tokens"] / story["passes"] for story in report["stories_measured"]],
                            [story["tokens"] for story in report["stories_measured"]], label=name.replace("\n", ", "), s=14)
        axes[1].set_xlabel("tokens a pass, a story each")
        axes[1].set_ylabel("tokens of the story")
        axes[1].legend()

    _figure(path, 2, draw)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m docs.account", description="Plots and tables of docs/performance.md.")
    parser.parse_args(argv)
    page, held = PAGE.read_text(), dict[Path, Reports]()
    for source, table, plot in ((SEQUENCES, sequences_table, plot_sequences), (DRAFTS, drafts_table, plot_drafts)):
        if not source.exists():
            print(f"{source.name} is not there: measure with python -m sim.bench", file=sys.stderr)
            continue
        held[source] = reports = json.loads(source.read_text())
        page = updated(page, source.stem, table(reports))
        plot(reports, IMAGES / f"{source.stem}.svg")
    PAGE.write_text(page)
    if SEQUENCES in held:
        README.write_text(updated(README.read_text(), "comparison", comparison(held[SEQUENCES], held.get(DRAFTS, {}))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
