# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m boards.flow.synth``: what one unit costs, placed and routed by itself: LUT, FF, EBR, DSP, fmax.

A unit is placed out of context: its ports are not connected, so that paths through the ports do not count.  The numbers are for
the parts of :data:`PARTS`, with the parameters of a preset.  Inside a whole design a unit may take more or less, because tools
optimise across its borders.  ``--unit all`` of the default preset writes docs/reports/units.json and the table in docs/units.md.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from amaranth.lib import wiring

from boards.flow.build import RESOURCES, ROOT, BuildError, run, say, script, tool, write_techmaps
from boards.flow.carries import trim
from hw.core.address_map import AddressSpace, windows
from hw.core.counters import Counters
from hw.core.drafts import DraftReader
from hw.core.fetch import RowFetch
from hw.lib.layouts import Layouts
from hw.link.link import HostLink
from hw.link.uart import Uart
from hw.memory.weights import WeightBuffer
from hw.sampling.sampler import Sampler
from hw.top import (
    Core,
    attention_unit,
    command_processor,
    float_pipeline,
    heads_merge,
    lm_head_unit,
    memory_controller,
    memory_hub,
    tlmm_engine,
)
from hw.verilog import to_verilog
from tellme.spec.config import CoreConfig, preset

__all__ = ["PARTS", "REPORT", "TABLE", "main", "markdown", "measure"]

REPORT = ROOT / "docs" / "reports" / "units.json"
#: The page, and what stands before and after its table.
TABLE = ROOT / "docs" / "units.md"
BEGIN, END = "<!-- make synth UNIT=all writes from here -->\n", "<!-- to here -->\n"

PRESET = "ulx3s-85f-l2"
#: From a configuration and its layouts; None where a core has no such part.
Maker = Callable[[CoreConfig, Layouts], wiring.Component | None]
#: Unit -> its parts; their resources add up, the slowest gives fmax.
PARTS: dict[str, dict[str, Maker]] = {
    "tlmm": {"engine": tlmm_engine},
    "weights": {"buffer": lambda c, w: WeightBuffer(w, blocks=c.weight_buffer_bytes // 4096)},
    "sdram": {"hub": lambda c, w: memory_hub(w), "controller": lambda c, w: memory_controller(c, w, ports=memory_hub(w).ports)},
    "fused": {"pipeline": float_pipeline},
    "attention": {"attention": attention_unit},
    "lm_head": {"lm_head": lm_head_unit},
    "sampling": {"sampler": lambda c, w: Sampler(w)},
    "core": {"processor": command_processor,
             "merge": heads_merge,
             "space": lambda c, w: AddressSpace(w, sampler=c.sampler),
             "counters": lambda c, _: Counters(accounts=c.accounts), "fetch": lambda c, w: RowFetch(w),
             "drafts": lambda c, w: DraftReader(w) if c.drafts else None},
    "link": {"link": lambda c, _: HostLink(name=c.name, windows=windows(
        sdram_bytes=c.sdram_bytes, steps=c.program_steps, tokens=c.slots * c.widths.token_window, sampler=c.sampler,
        head_tokens=c.head_tokens, drafts=c.drafts), slots=c.slots),
             "uart": lambda c, _: Uart(clock_hz=round(c.fabric_mhz * 1e6), baud=c.uart_baud)},
    "top": {"core": lambda c, _: Core(c)},
}


def measure(component: wiring.Component, folder: Path, kind: str, config: CoreConfig, name: str, *, route: bool = True,
            timeout_s: float | None = None) -> dict[str, float]:
    """Resources and fmax of one component, placed and, with ``route``, routed out of context (nextpnr's seed 1).

    Without, fmax is nextpnr's estimate of the wires.  Raises TimeoutError where a tool takes longer than ``timeout_s``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "unit.v").write_text(to_verilog(component, "unit"))
    (folder / "unit.ys").write_text(script(config, "unit", "unit.v"))
    write_techmaps(folder)
    run(f"{name}: synthesis", [tool(kind, "yosys"), "-q", "unit.ys"], folder, folder / "yosys.log",
        timeout_s)
    trim(folder / "unit.json")
    log = run(f"{name}: place{' and route' if route else ''}", [
        tool(kind, "nextpnr"), "--85k", "--package", "CABGA381", "--speed", "6", "--json", "unit.json", "--seed", "1",
        "--freq", f"{config.fabric_mhz:.2f}", "--out-of-context", "--lpf-allow-unconstrained", "--report", "report.json",
        "--timing-allow-fail", *([] if route else ["--no-route"])], folder, folder / "nextpnr.log", timeout_s)
    report = json.loads((folder / "report.json").read_text())
    used = {key: report["utilization"].get(cell, {"used": 0})["used"] for key, cell in RESOURCES.items()}
    # The report has no rates for a design that is only placed; the log has them.
    rates = ([entry["achieved"] for entry in report["fmax"].values()] if route else
             [float(rate) for rate in re.findall(r"Max frequency for clock .*?: ([0-9.]+) MHz", log)])
    return {**used, "fmax_mhz": round(min(rates), 1) if rates else 0.0}


def unit_table(names: list[str], config: CoreConfig, kind: str) -> dict[str, dict[str, float]]:
    """Each unit's sum over its parts."""
    rows = {}
    for name in names:
        layouts = Layouts(config.widths)
        parts = [measure(made, ROOT / "build" / "units" / f"{config.name}-{name}-{part}", kind, config, f"{name}/{part}")
                 for part, make in PARTS[name].items() if (made := make(config, layouts)) is not None]
        # All float pipelines take the same resources.
        copies = config.float_lanes if name == "fused" else 1
        rows[name] = {key: copies * sum(p[key] for p in parts) for key in RESOURCES}
        rows[name]["fmax_mhz"] = min((p["fmax_mhz"] for p in parts if p["fmax_mhz"]), default=0.0)
    return rows


def markdown(report: dict) -> str:
    """The table of docs/units.md."""
    lines = [f"Preset `{report['preset']}`, each unit placed and routed by itself, out of context, nextpnr's seed 1; LUT are",
             "nextpnr's TRELLIS_COMB.", "",
             "| unit | LUT | FF | EBR | DSP | fmax, MHz |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [f"| {unit} | " + " | ".join(f"{row[key]:,}" for key in ("comb", "ff", "ebr", "dsp", "fmax_mhz")) + " |"
              for unit, row in report["units"].items()]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m boards.flow.synth", description=__doc__.splitlines()[0])
    parser.add_argument("--unit", required=True, help=f"all, or one of {', '.join(PARTS)}")
    parser.add_argument("--preset", default=PRESET)
    parser.add_argument("--tools", default="yowasp", choices=("yowasp", "native"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON")
    args = parser.parse_args(argv)
    try:
        if args.unit not in ("all", *PARTS):
            raise BuildError(f"no unit is called {args.unit!r}; there are: all, {', '.join(PARTS)}")
        try:
            config = preset(args.preset)
        except ValueError as error:
            raise BuildError(str(error)) from error
        names = list(PARTS) if args.unit == "all" else [args.unit]
        rows = unit_table(names, config, args.tools)
    except BuildError as error:
        say(str(error))
        return 2
    columns = [*RESOURCES, "fmax_mhz"]
    print(f"preset {config.name}, each unit placed and routed by itself (seed 1)")
    print(f"{'unit':<10}" + "".join(f"{c:>10}" for c in columns))
    for name, row in rows.items():
        print(f"{name:<10}" + "".join(f"{row[c]:>10}" for c in columns))
    report = {"preset": config.name, "units": rows}
    text = json.dumps(report, indent=2) + "\n"
    if args.json is not None:
        args.json.write_text(text)
    if args.unit == "all" and config.name == PRESET:
        REPORT.write_text(text)
        page = TABLE.read_text()
        before, behind = page[:page.index(BEGIN) + len(BEGIN)], page[page.index(END):]
        TABLE.write_text(before + markdown(report) + behind)
    return 0


if __name__ == "__main__":
    sys.exit(main())
