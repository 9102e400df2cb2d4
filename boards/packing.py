# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m boards.packing``: what nextpnr packs for the core in several configurations, to fit the analytic model to.

Each configuration differs from the preset beside it in what is named.  The core alone is packed: no PLL, PHY or UART.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from boards.build import RESOURCES, ROOT, run, tool
from hw.top import Core
from hw.verilog import to_verilog
from tellme.spec.config import BoardConfig, preset

__all__ = ["CONFIGS", "config_of", "main"]

#: Label -> (preset, changes).
CONFIGS: dict[str, tuple[str, dict[str, int]]] = {
    "ulx3s-85f": ("ulx3s-85f", {}),
    "ulx3s-85f-1lane": ("ulx3s-85f-1lane", {}),
    "sim-tiny": ("sim-tiny", {}),
    "8 lanes": ("ulx3s-85f", {"lanes": 8}),
    "no groups": ("ulx3s-85f", {"max_group": 1}),
    "small": ("ulx3s-85f", {"lanes": 1, "max_group": 1, "max_dim": 256, "max_cols": 768, "max_context": 512,
                            "max_head_dim": 32, "weight_buffer_bytes": 8192}),
}


def config_of(label: str) -> BoardConfig:
    """The configuration behind a label."""
    name, changes = CONFIGS[label]
    return replace(preset(name), **changes)  # type: ignore[arg-type]


def pack(label: str) -> dict[str, int]:
    """Cells of the core after packing."""
    folder = ROOT / "build" / "packing" / label.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "core.v").write_text(to_verilog(Core(config_of(label)), "core"))
    (folder / "core.ys").write_text("read_verilog core.v\nsynth_ecp5 -abc9 -top core\nwrite_json core.json\n")
    run(f"{label}: synthesis", [tool("yowasp", "yosys"), "-q", "core.ys"], folder, folder / "yosys.log")
    run(f"{label}: packing", [tool("yowasp", "nextpnr"), "--85k", "--package", "CABGA381", "--speed", "6", "--json",
                              "core.json", "--out-of-context", "--lpf-allow-unconstrained", "--pack-only", "--report",
                              "report.json"], folder, folder / "nextpnr.log")
    used = {}
    text = (folder / "nextpnr.log").read_text()
    for key, cell in RESOURCES.items():
        line = next((line for line in text.splitlines() if f" {cell}:" in line), None)
        used[key] = int(line.split(":")[2].split("/")[0]) if line else 0
    return used


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m boards.packing", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=ROOT / "docs" / "reports" / "packing.json")
    args = parser.parse_args(argv)
    rows = {}
    for label in CONFIGS:
        rows[label] = pack(label)
        print(f"{label:<18}" + "".join(f"{key} {value:<8}" for key, value in rows[label].items()), flush=True)
    args.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
