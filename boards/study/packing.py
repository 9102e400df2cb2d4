# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m boards.study.packing``: cells that nextpnr packs; the analytic model is fitted to them and judged by them.

``parts`` are single units in several configurations, ``pairs`` single units in two configurations each.  ``cores`` are whole
cores (no PLL, PHY or UART), with their cells by unit.  :mod:`boards.study.fit` uses these three; none of them is a preset.
``judged`` are presets, which the fit never sees.
"""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from amaranth.lib import wiring

from boards.flow.build import RESOURCES, ROOT, UNITS, run, script, tool, write_techmaps
from boards.flow.carries import trim
from boards.flow.synth import PARTS
from hw.lib.layouts import Layouts
from hw.top import Core
from hw.verilog import to_verilog
from tellme.spec.config import CoreConfig, preset

__all__ = ["CORES", "JUDGED", "PAIRS_PACKED", "PARTS_PACKED", "REPORT", "config_of", "main"]

REPORT = ROOT / "docs" / "reports" / "packing.json"
#: Lengths and memories are those of the class, so that presets may grow.
BASE = CoreConfig(name="changed", sampler=True)
#: Unit -> changes of the base configuration with which it is packed by itself.
PARTS_PACKED: dict[str, list[dict[str, int | str]]] = {
    "tlmm": [{"lanes": 8, "planes": 1}],
    "lm_head": [{}, {"compact": 1}, {"lanes": 4, "chunk": 4, "float_lanes": 2, "head_tokens": 4},
                {"lanes": 12, "chunk": 12, "float_lanes": 2, "head_tokens": 12}],
    "attention": [{"compact": 1, "lanes": 1, "max_group": 3, "max_cols": 640, "max_head_dim": 32},
                  {"lanes": 4, "chunk": 4, "pes": 4}, {"lanes": 12, "chunk": 12, "pes": 8, "exp_units": 2},
                  {"lanes": 8, "chunk": 4, "pes": 4, "max_head_dim": 128, "max_context": 4096, "ddr3_chip": "MT41K64M16"}],
}
#: A core of eight tokens with picks of all positions.
EIGHT: dict[str, int | str] = {"lanes": 8, "chunk": 8, "float_lanes": 2, "pes": 8, "head_tokens": 8}
#: Unit -> pairs of changes.  The fit takes the difference of the two packings alone, because a unit by itself pays for what a
#: core has once.
PAIRS_PACKED: dict[str, list[tuple[dict[str, int | str], dict[str, int | str]]]] = {
    "tlmm": [({"lanes": 2, "planes": 1}, {"lanes": 2, "planes": 6}),
             ({"lanes": 8, "chunk": 8, "float_lanes": 2, "planes": 1}, {"lanes": 8, "chunk": 8, "float_lanes": 2, "planes": 6}),
             ({"lanes": 2, "planes": 6}, {"lanes": 2, "planes": 6, "multipliers": 1}),
             ({"lanes": 8, "chunk": 8, "float_lanes": 2, "planes": 6},
              {"lanes": 8, "chunk": 8, "float_lanes": 2, "planes": 6, "multipliers": 1})],
    "fused": [({"planes": 1}, {"planes": 6})],
    "core": [(EIGHT, EIGHT | {"slots": 8}), (EIGHT | {"slots": 2}, EIGHT | {"slots": 8}),
             (EIGHT | {"slots": 8}, EIGHT | {"slots": 8, "drafts": 1})],
}
#: Parts of a unit that a pair packs, where the others are the same.
PAIR_PARTS = {"core": ("processor", "drafts")}
#: Label -> changes of the base configuration.  These whole cores, parts and pairs are enough to determine all terms of all
#: units.
#: The cores are of one plane.
CORES: dict[str, dict[str, int | str]] = {
    "compact, groups of three": {"planes": 1, "compact": 1, "accounts": 0, "lanes": 1, "max_group": 3, "max_cols": 640,
                                 "max_head_dim": 32},
    "one lane, no groups": {"planes": 1, "lanes": 1, "max_group": 1, "max_dim": 256, "max_cols": 768, "max_context": 512,
                            "max_head_dim": 32, "weight_buffer_bytes": 8192, "accounts": 0},
    "four lanes, groups of three": {"planes": 1, "lanes": 4, "max_group": 3},
    "ten lanes, chunks of ten": {"planes": 1, "lanes": 10, "chunk": 10, "float_lanes": 2, "pes": 16},
}
#: Presets that no board builds; those that are built are judged by their builds' reports.
JUDGED = ("ulx3s-85f-1lane", "sim-tiny", "ulx3s-85f-l8")


def config_of(changes: Mapping[str, int | str]) -> CoreConfig:
    """The base configuration with changes."""
    return replace(BASE, **changes)  # type: ignore[arg-type]


def pack(component: wiring.Component, config: CoreConfig, folder: Path, name: str) -> tuple[dict[str, int], dict]:
    """Cells after packing, in all, and nextpnr's netlist."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "unit.v").write_text(to_verilog(component, "unit"))
    (folder / "unit.ys").write_text(script(config, "unit", "unit.v", whole=True))
    write_techmaps(folder)
    run(f"{name}: synthesis", [tool("yowasp", "yosys"), "-q", "unit.ys"], folder, folder / "yosys.log")
    trim(folder / "unit.json")
    run(f"{name}: packing", [tool("yowasp", "nextpnr"), "--85k", "--package", "CABGA381", "--speed", "6", "--json",
                             "unit.json", "--out-of-context", "--lpf-allow-unconstrained", "--pack-only", "--write",
                             "packed.json"], folder, folder / "nextpnr.log")
    (netlist,) = json.loads((folder / "packed.json").read_text())["modules"].values()
    counts = Counter(cell["type"] for cell in netlist["cells"].values())
    return {key: counts[cell] for key, cell in RESOURCES.items()}, netlist


def by_unit(netlist: dict) -> dict[str, dict[str, int]]:
    """Cells of each unit.  The ends of a carry chain, which nextpnr adds, belong to the chain's unit."""
    owner = {instance: unit for unit, instances in UNITS.items() for instance in instances}
    kinds = {cell: key for key, cell in RESOURCES.items()}

    def unit_of(name: str) -> str:
        return owner.get(re.split(r"[.$]", name.lstrip("\\"))[0], "top")

    chains: dict[int, str] = {}
    for name, cell in netlist["cells"].items():
        if not name.startswith("$nextpnr"):
            for port in ("FCI", "FCO", "F", "D"):
                for net in cell["connections"].get(port, []):
                    chains.setdefault(net, unit_of(name))
    # An end of a chain is two cells; one of the two is connected to the chain.
    ends: dict[str, str] = {}
    for name, cell in netlist["cells"].items():
        if name.startswith("$nextpnr"):
            nets = [net for port in ("FCI", "FCO", "F", "D") for net in cell["connections"].get(port, [])]
            for unit in (chains[net] for net in nets if net in chains):
                ends[name.split("$CCU2")[0]] = unit
    units = {unit: dict.fromkeys(RESOURCES, 0) for unit in UNITS}
    for name, cell in netlist["cells"].items():
        if cell["type"] not in kinds:
            continue
        unit = ends.get(name.split("$CCU2")[0], "top") if name.startswith("$nextpnr") else unit_of(name)
        units[unit][kinds[cell["type"]]] += 1
    return units


def whole(config: CoreConfig, label: str) -> dict:
    folder = ROOT / "build" / "packing" / re.sub(r"\W+", "-", label)
    total, netlist = pack(Core(config), config, folder, label)
    print(f"{label:<30}" + "".join(f"{key} {value:<8}" for key, value in total.items()), flush=True)
    return {**total, "units": by_unit(netlist)}


def part(unit: str, make: dict[str, Callable], changes: dict[str, int | str]) -> dict:
    config = config_of(changes)
    total: Counter[str] = Counter()
    for name, maker in make.items():
        label = "-".join((unit, name, *(f"{k}{v}" for k, v in changes.items())))
        made = maker(config, Layouts(config.widths))
        if made is not None:
            total.update(pack(made, config, ROOT / "build" / "packing" / label, label)[0])
    print(f"{unit:<10}{changes!s:<80}" + "".join(f"{key} {total[key]:<8}" for key in RESOURCES), flush=True)
    return {"changes": changes, **{key: total[key] for key in RESOURCES}}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m boards.study.packing", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", metavar="NAME", help="a unit, a core's label or a preset; the others stay")
    parser.add_argument("--resume", action="store_true", help="keep the parts that the report has")
    args = parser.parse_args(argv)
    names = {*PARTS_PACKED, *PAIRS_PACKED, *CORES, *JUDGED}
    if args.only and not names.issuperset(args.only):
        print(f"--only takes {', '.join(sorted(names))}", file=sys.stderr)
        return 2
    wanted = args.only or names
    rows = json.loads(REPORT.read_text()) if REPORT.exists() else {}
    for kind in ("parts", "pairs", "cores", "judged"):
        rows.setdefault(kind, {})

    def keep() -> None:
        REPORT.write_text(json.dumps(rows, indent=1) + "\n")

    #: What was packed in this run: pairs share configurations.
    made: dict[str, list[dict]] = {}

    def packed(unit: str, changes: dict[str, int | str], known: list[dict]) -> dict:
        own = made.setdefault(unit, list(known) if args.resume else [])
        found = next((found for found in own if found["changes"] == changes), None)
        if found is None:
            parts = {k: v for k, v in PARTS[unit].items() if k != "uart" and k in PAIR_PARTS.get(unit, PARTS[unit])}
            found = part(unit, parts, changes)
            own.append(found)
        return found

    for unit, variants in PARTS_PACKED.items():
        if unit in wanted:
            known, rows["parts"][unit] = rows["parts"].get(unit, []), []
            for changes in variants:
                rows["parts"][unit].append(packed(unit, changes, known))
                keep()
    for unit, pairs in PAIRS_PACKED.items():
        if unit in wanted:
            known, rows["pairs"][unit] = [one for pair in rows["pairs"].get(unit, []) for one in pair], []
            for pair in pairs:
                rows["pairs"][unit].append([packed(unit, changes, known) for changes in pair])
                keep()
    for label, changes in CORES.items():
        if label in wanted:
            rows["cores"][label] = {"changes": changes, **whole(config_of(changes), label)}
            keep()
    for name in JUDGED:
        if name in wanted:
            rows["judged"][name] = whole(preset(name), name)
            keep()
    return 0


if __name__ == "__main__":
    sys.exit(main())
