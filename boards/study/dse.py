# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m boards.study.dse``: what a whole lane costs in each of its kinds, synthesised and placed.

A point is one kind of lane with a number of lanes, rows, builders and a method.  A point has everything that turns weight bytes
and codes into accumulators: byte ROMs, code memories, builders, tables or activations, adders, multipliers of rows where the
method has them, accumulators (int32, 128 rows), and registers at its borders.  Tile control, quantiser and drain are the same
for all kinds, and are left out.
"""

import argparse
import hashlib
import inspect
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from boards.flow import carries
from boards.flow.build import ROOT, BuildError, say, script
from boards.flow.synth import measure
from hw.tlmm.accumulator import PRODUCT_BITS, TOTAL_BITS
from hw.tlmm.carry import AddOf, add_table, extend, mask
from hw.tlmm.multipliers import RowMultipliers
from hw.tlmm.study.kinds import KINDS
from hw.verilog import to_verilog
from tellme.spec.config import preset
from tellme.spec.packing import SLICE, TILE_ROWS, multiplier_words

__all__ = ["COLUMNS", "METHODS", "POINTS", "LanePoint", "Point", "main", "result", "table"]

COLS = 1280
MHZ = 66.67
#: What a weight is: a trit; a sum of tied planes; a sum of planes, each with a multiplier for a row and column group.
METHODS = ("one plane", "planes", "multipliers")
#: Planes of which the table has the cycles, where a lane takes several.
PLANES = 3
#: How a point is synthesised, and for which clock: a core of one sequence.
CONFIG = replace(preset("ulx3s-85f"), head_tokens=1, slots=1, drafts=False, fabric_mhz=MHZ)


@dataclass(frozen=True)
class Point:
    """``lanes`` tokens, with ``rows`` dots per token that look up the same tables.  ``builders`` says what builds the tables:
    "each" (a builder per lane), "lockstep" (one sequencer, adders per lane) or "turn" (one builder for lane after lane);
    ``method``, one of METHODS, what a weight is."""

    kind: str
    lanes: int
    rows: int = 1
    builders: str = "each"
    method: str = METHODS[0]

    @property
    def name(self) -> str:
        method = "" if self.method == METHODS[0] else f"-{self.method}"
        return f"{self.kind}-{self.builders}-{self.rows}-{self.lanes}{method}"

    @property
    def cycles(self) -> int:
        """Cycles in which 128 rows of a slice are taken, its builds left out: all PLANES planes, and with multipliers their
        words of eight, a cycle each, for a column group of one slice."""
        planes = 1 if self.method == METHODS[0] else PLANES
        words = multiplier_words(TILE_ROWS) if self.method == "multipliers" else 0
        return planes * (TILE_ROWS // self.rows + words)

    @property
    def duty(self) -> float:
        """Share of the cycles in which rows can be taken: a slice of 128 rows waits for the build of the next."""
        cycles = KINDS[self.kind].builder.CYCLES * (self.lanes if self.builders == "turn" else 1)
        return min(1.0, TILE_ROWS / self.rows / cycles)


class Accumulators(wiring.Component):
    """acc[t][row] = total[t] + (0 if first else acc[t][row]), for ``tokens`` totals at once; with ``planes`` the sum that is
    written is multiplied by three if ``triple`` is set.

    ``step``, ``row``, ``first`` and ``triple`` come a cycle before their ``total``, in every cycle if wanted; the sum is written
    LATENCY cycles after them.  Two steps on one row must be HAZARD cycles apart.  While no step is under way, ``value`` is the
    sum of ``read_row`` of the cycle before.  (There is no enable: yosys would make an enable from 32 LUTs and registers per
    token.)

    int32, exact to 838,000 columns of 20 totals each.  One EBR (of up to 512 rows) and 34 LUTs a token, 68 with planes.
    """

    LATENCY = 3
    HAZARD = 3

    def __init__(self, *, rows: int, tokens: int = 1, planes: bool = False, total_bits: int = TOTAL_BITS):
        self._rows, self._tokens, self._planes = rows, tokens, planes
        super().__init__({
            "step": In(1), "row": In(range(rows)), "first": In(1), "total": In(data.ArrayLayout(signed(total_bits), tokens)),
            "read_row": In(range(rows)), "value": Out(data.ArrayLayout(signed(32), tokens)),
            **({"triple": In(1)} if planes else {}),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        steps, rows, goes_on = [self.step], [self.row], Signal()
        for i in range(2):
            step, row = Signal(name=f"step{i}"), Signal.like(self.row, name=f"row{i}")
            m.d.sync += [step.eq(steps[-1]), row.eq(rows[-1])]
            steps.append(step)
            rows.append(row)
        m.d.sync += goes_on.eq(~self.first)
        triple = Signal()
        if self._planes:
            early = Signal()
            m.d.sync += [early.eq(self.triple), triple.eq(early)]
        address = Mux(self.step, self.row, self.read_row)
        # total + (acc and goes_on)
        table = add_table(lambda a, b: a, lambda a, b, c, d: c & d)
        for t in range(self._tokens):
            bank = memory.Memory(shape=signed(32), depth=self._rows, init=[], attrs={"ram_style": "block", "no_rw_check": True})
            m.submodules[f"sums{t}"] = bank
            read, write = bank.read_port(), bank.write_port()
            m.submodules[f"add{t}"] = add = AddOf(width=32, table=table)
            summed = Signal(signed(32), name=f"summed{t}")
            m.d.comb += [
                read.addr.eq(address), self.value[t].eq(read.data),
                add.a.eq(extend(self.total[t], 32)), add.c.eq(read.data), add.d.eq(mask(goes_on, 32)), add.i.eq(Const(0)),
                write.addr.eq(rows[2]), write.en.eq(steps[2]),
            ]
            if not self._planes:
                m.d.comb += write.data.eq(summed)
            else:
                # sum + (2 sum and triple)
                m.submodules[f"times{t}"] = times = AddOf(width=32, table=table)
                m.d.comb += [times.a.eq(summed), times.c.eq(Cat(Const(0, 1), summed)), times.d.eq(mask(triple, 32)),
                             times.i.eq(Const(0)), write.data.eq(times.s)]
            m.d.sync += summed.eq(add.s)
        return m


def only(mine: Value, build: data.View, taken: data.View) -> list:
    """Assignments with which a builder in turn writes only into the lane that has its turn."""
    return [taken[name].eq(Mux(mine, build[name], 0)) for name in ("write", "low") if name in build.shape().members]


class LanePoint(wiring.Component):
    """The gateware of a point: words (a byte string a row) and control in, accumulators out."""

    def __init__(self, point: Point):
        self.point = point
        # The number of codes that a builder reads at a time.  Codes are written one by one.
        kind = KINDS[point.kind]
        self.parts = parts = len(kind.columns(0))
        super().__init__({
            "word": In(kind.units * kind.code_bits * point.rows), "step": In(1), "row": In(range(TILE_ROWS)), "first": In(1),
            "buffer": In(1), "fill": In(range(max(point.lanes, 2))), "fill_en": In(parts), "fill_addr": In(range(COLS // parts)),
            "fill_code": In(signed(8)), "start": In(1), "first_col": In(range(COLS)), "cols": In(range(COLS + 1)),
            "build_buffer": In(1), "done": Out(1), "read_row": In(range(TILE_ROWS)),
            "value": Out(data.ArrayLayout(data.ArrayLayout(signed(32), point.lanes), point.rows)),
            **({"triple": In(1)} if point.method != METHODS[0] else {}),
            **({"multipliers": In(64), "multipliers_en": In(1), "multipliers_at": In(range(multiplier_words(TILE_ROWS))),
                "half": In(1), "grouped": In(1)} if point.method == "multipliers" else {}),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        point, kind, parts = self.point, KINDS[self.point.kind], self.parts
        planes, multiplied = point.method != METHODS[0], point.method == "multipliers"
        rom = kind.rom()
        width = max(max(rom).bit_length(), 1)
        taken = {}
        for name in ("word", "step", "row", "first", "buffer", "fill", "fill_en", "fill_addr", "fill_code", "start",
                     "first_col", "cols", "build_buffer", "read_row", *(("triple",) if planes else ()),
                     *(("multipliers", "multipliers_en", "multipliers_at", "half", "grouped") if multiplied else ())):
            port = getattr(self, name)
            taken[name] = Signal.like(port, name=f"{name}_taken")
            m.d.sync += taken[name].eq(port)
        # Control passes as many registers as the data: one for the ROM and LATENCY for the dot, less one, because the
        # accumulators want their control a cycle before the total.  With multipliers the product takes a cycle more.
        control: Value = Cat(taken["step"], taken["row"], taken["first"], *([taken["triple"]] if planes else []),
                             *([taken["half"], taken["grouped"]] if multiplied else []))
        passed = [control]
        for i in range(kind.dot.LATENCY + multiplied):
            later = Signal(len(control), name=f"control{i}")
            m.d.sync += later.eq(passed[-1])
            passed.append(later)
        control = passed[-1]
        row_bits = len(taken["row"])
        if multiplied:
            # A total comes two cycles after this control, and its multiplier with it.
            early = passed[-1 - RowMultipliers.LATENCY]
            m.submodules.multipliers = factors = RowMultipliers(tile_rows=TILE_ROWS, rows=point.rows)
            m.d.comb += [
                factors.row.eq(early[1:1 + row_bits]), factors.half.eq(early[-2]), factors.grouped.eq(early[-1]),
                factors.two_rows.eq(point.rows == 2), factors.word.eq(taken["multipliers"]),
                factors.write.eq(taken["multipliers_en"]), factors.write_at.eq(taken["multipliers_at"]),
                factors.write_half.eq(~taken["half"]),
            ]
        buffer = Signal()
        m.d.sync += buffer.eq(taken["buffer"])
        builders = []
        groups = {"each": [1] * point.lanes, "lockstep": [point.lanes], "turn": [1]}[point.builders]
        turn, codes = Signal(range(max(point.lanes, 2))), []
        m.d.sync += turn.eq(taken["fill"])
        lane = 0
        for n, tokens in enumerate(groups):
            m.submodules[f"builder{n}"] = builder = kind.builder(cols=COLS + SLICE, tokens=tokens)
            m.d.comb += [builder.start.eq(taken["start"]), builder.first_col.eq(taken["first_col"]),
                         builder.cols.eq(taken["cols"]), builder.buffer.eq(taken["build_buffer"])]
            served = point.lanes if point.builders == "turn" else tokens
            for _ in range(served):
                m.submodules[f"codes{lane}"] = bank = memory.Memory(shape=8 * parts, depth=COLS // parts, init=[],
                                                                    attrs={"no_rw_check": True})
                write, read = bank.write_port(granularity=8), bank.read_port()
                m.d.comb += [write.addr.eq(taken["fill_addr"]), write.data.eq(taken["fill_code"].replicate(parts)),
                             write.en.eq(Mux(taken["fill"] == lane, taken["fill_en"], 0)),
                             read.addr.eq(builder.code_addr)]
                codes.append(read.data)
                lane += 1
            coming = Array(codes)[turn] if point.builders == "turn" else Cat(codes[lane - served:])
            m.d.comb += Value.cast(builder.code).eq(coming)
            builders.append((builder, tokens))
        m.d.sync += self.done.eq(builders[0][0].done)
        for r in range(point.rows):
            selects = []
            for b in range(0, kind.units, 2):
                m.submodules[f"bytes{r}_{b}"] = table = memory.Memory(shape=width, depth=len(rom), init=rom,
                                                                      attrs={"ram_style": "block"})
                for at in range(min(2, kind.units - b)):
                    read = table.read_port()
                    m.d.comb += read.addr.eq(taken["word"].word_select(kind.units * r + b + at, kind.code_bits))
                    selects.append(read.data)
            m.submodules[f"accumulators{r}"] = sums = Accumulators(
                rows=TILE_ROWS, tokens=point.lanes, planes=planes, total_bits=PRODUCT_BITS if multiplied else TOTAL_BITS)
            lane = 0
            for n in range(point.lanes if point.builders == "turn" else len(builders)):
                builder, tokens = builders[0 if point.builders == "turn" else n]
                m.submodules[f"dot{r}_{n}"] = dot = kind.dot(tokens=tokens)
                m.d.comb += [dot.build.eq(builder.build), dot.buffer.eq(buffer)]
                if point.builders == "turn":
                    m.d.comb += only(turn == n, builder.build, dot.build)
                m.d.comb += [dot.select[b].eq(selects[b]) for b in range(kind.units)]
                for t in range(tokens):
                    total: Value = dot.total[t]
                    if multiplied:
                        product = Signal(signed(PRODUCT_BITS), name=f"product{r}_{lane + t}", reset_less=True)
                        m.d.sync += product.eq(total * factors.multipliers[r])
                        total = product
                    m.d.comb += sums.total[lane + t].eq(total)
                lane += tokens
            m.d.comb += [sums.step.eq(control[0]), sums.row.eq(control[1:1 + row_bits]), sums.first.eq(control[1 + row_bits]),
                         sums.read_row.eq(taken["read_row"])]
            if planes:
                m.d.comb += sums.triple.eq(control[2 + row_bits])
            m.d.sync += self.value[r].eq(sums.value)
        return m


#: Kinds, ways to build, rows and lanes that make sense together; at one lane all ways are the same.
POINTS = [
    *(Point(kind, 1) for kind in KINDS),
    *(Point(kind, 1, 2) for kind in ("select-xor", "select-tree", "g2", "g3", "g5-ebr")),
    *(Point(kind, 1, 4) for kind in ("select-xor", "select-tree", "g2", "g5-ebr")),
    *(Point(kind, 8, 1, "lockstep") for kind in ("select-tree", "g2", "g5-ebr")),
    *(Point(kind, 8) for kind in ("select-xor", "g2", "g5-ebr")),
    *(Point(kind, 8, 1, "lockstep") for kind in ("g3", "g3g2")),
    *(Point(kind, 8, 1, "turn") for kind in ("g2", "g3g2-plain", "g5-ebr")),
    Point("g2", 8, 2, "lockstep"),
    Point("select-xor", 16),
    *(Point(kind, 16, 1, "lockstep") for kind in ("select-tree", "g2", "g5-ebr")),
    Point("g2", 16, 1, "turn"),
    # What planes and multipliers cost the lane that the engine has.
    *(Point("g2", lanes, rows, builders, method)
      for lanes, rows, builders in ((1, 1, "each"), (1, 2, "each"), (8, 1, "lockstep"), (16, 1, "lockstep"))
      for method in METHODS[1:]),
]


def sources_key(point: Point) -> str:
    """A hash of everything that may change a result: the point's Verilog, the flow, the versions of the tools."""
    tools = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("yowasp-")]
    parts = (to_verilog(LanePoint(point), "unit"), script(CONFIG, "unit", "unit.v"), inspect.getsource(carries), *tools)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def result(point: Point, kind: str, *, route: bool, timeout_s: float) -> dict[str, object]:
    """The point's row, from the cache if nothing changed; "left_out" with a reason if a tool takes too long."""
    folder = ROOT / "build" / "dse" / f"{point.name}{'-routed' if route else ''}"
    cached = folder / "result.json"
    key = sources_key(point)
    if cached.exists():
        row = json.loads(cached.read_text())
        if row.pop("sources") == key:
            return row
    row = asdict(point)
    try:
        used = measure(LanePoint(point), folder, kind, CONFIG, point.name, route=route, timeout_s=timeout_s)
    except TimeoutError as error:
        row["left_out"] = str(error)
    else:
        weights = SLICE * point.lanes * point.rows
        row |= {**used, "duty": round(point.duty, 3), "build_cycles": KINDS[point.kind].builder.CYCLES,
                "routed": route, "cycles": point.cycles, "comb_per_weight": round(used["comb"] / weights / point.duty, 2),
                "ebr_per_lane": round(used["ebr"] / point.lanes, 2)}
    cached.write_text(json.dumps({"sources": key, **row}))
    return row


MARKS = ("<!-- table of make dse -->", "<!-- end of the table -->")
COLUMNS = ("kind", "method", "builders", "rows", "lanes", "comb", "ramw", "ff", "ebr", "dsp", "fmax_mhz", "cycles", "duty",
           "comb_per_weight")


def table(rows: list[dict]) -> str:
    """The rows as Markdown, as in docs/dse.md."""
    lines = ["| " + " | ".join(name.replace("_", " ") for name in COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    for row in sorted(rows, key=lambda r: (r["lanes"], r["rows"], r.get("comb_per_weight", 1e9))):
        cells = [str(row.get(name, "")) for name in COLUMNS]
        if "left_out" in row:
            cells[5:] = ["left out: takes too long", *[""] * (len(COLUMNS) - 6)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def update(path: Path, rows: list[dict]) -> None:
    """Put the table between the marks of a page."""
    before, rest = path.read_text().split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    path.write_text(f"{before}{MARKS[0]}\n{table(rows)}{MARKS[1]}{after}")


def plot(rows: list[dict], path: Path) -> None:
    """LUT sites per weight a cycle against EBR a lane, one row a cycle, one plane."""
    import matplotlib
    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "tellme"
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    rows = [row for row in rows if row["rows"] == 1 and row["method"] == METHODS[0] and "left_out" not in row]
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    lanes = sorted({row["lanes"] for row in rows})
    best = {(kind, n): min((r["comb_per_weight"] for r in rows if r["kind"] == kind and r["lanes"] == n), default=0)
            for kind in kinds for n in lanes}
    for i, n in enumerate(lanes):
        at = [k + (i - (len(lanes) - 1) / 2) * 0.27 for k in range(len(kinds))]
        bars = axes.bar(at, [best[kind, n] for kind in kinds], width=0.25, label=f"{n} lane{'s' if n > 1 else ''}")
        axes.bar_label(bars, [f"{best[kind, n]:.0f}" if best[kind, n] else "" for kind in kinds], fontsize=7)
    axes.axhline(25.8, color="black", linewidth=0.8, linestyle="--", label="and/xor lane of the study: 25.8")
    axes.set_xticks(range(len(kinds)), kinds, rotation=20, ha="right")
    axes.set_ylabel("TRELLIS_COMB per weight a cycle")
    axes.legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m boards.study.dse", description=__doc__.splitlines()[0])
    parser.add_argument("--lanes", type=numbers, metavar="N,N", help="only points of these lanes; default: all")
    parser.add_argument("--kinds", metavar="KIND,KIND", help=f"only these of {', '.join(KINDS)}")
    parser.add_argument("--rows", type=numbers, metavar="N,N", help="only these rows a cycle")
    parser.add_argument("--methods", metavar="METHOD,METHOD", help=f"only these of {', '.join(METHODS)}")
    parser.add_argument("--jobs", type=int, default=1, help="points at a time")
    parser.add_argument("--route", action="store_true", help="route too; else fmax is nextpnr's estimate after placing")
    parser.add_argument("--timeout", type=float, default=1200, metavar="S", help="a tool that takes longer leaves the point out")
    parser.add_argument("--tools", default="yowasp", choices=("yowasp", "native"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a bar chart as SVG (wants matplotlib)")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="put the table into this page")
    args = parser.parse_args(argv)
    kinds = args.kinds.split(",") if args.kinds else list(KINDS)
    try:
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise BuildError(f"no kind is called {unknown[0]!r}; there are: {', '.join(KINDS)}")
        methods = args.methods.split(",") if args.methods else list(METHODS)
        if unknown := [method for method in methods if method not in METHODS]:
            raise BuildError(f"no method is called {unknown[0]!r}; there are: {', '.join(METHODS)}")
        points = [p for p in POINTS if p.kind in kinds and p.lanes in (args.lanes or [p.lanes])
                  and p.rows in (args.rows or [p.rows]) and p.method in methods]
        if not points:
            raise BuildError("no point has these lanes, rows, kinds and methods together")
        with ThreadPoolExecutor(args.jobs) as pool:
            rows = list(pool.map(lambda p: result(p, args.tools, route=args.route, timeout_s=args.timeout), points))
    except BuildError as error:
        say(str(error))
        return 2
    print(table(rows), end="")
    if args.json is not None:
        args.json.write_text(json.dumps({"mhz": MHZ, "routed": args.route, "points": rows}, indent=1) + "\n")
    if args.plot is not None:
        plot(rows, args.plot)
    if args.docs is not None:
        update(args.docs, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
