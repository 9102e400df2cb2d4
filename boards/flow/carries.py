# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Frees the ends of carry chains in yosys' netlist: nextpnr spends a cell of two LUTs on each end that is connected.

abc9 connects all ports of every CCU2C: also a carry output that nothing reads, and a constant carry input where there was none.
Both are disconnected where they do not matter ("x" in JSON), which changes no function.
"""

import json
from collections import Counter
from pathlib import Path

__all__ = ["free_ends", "trim"]


def ignores_carry_in(cell: dict) -> bool:
    """Whether the lower bit of a CCU2C gives zero for all values of its four inputs, so that the bit makes its own carry; S0 must
    be unused."""
    init = int(cell["parameters"]["INIT0"], 2)
    pins = [cell["connections"].get(pin, ["x"])[0] for pin in ("A0", "B0", "C0", "D0")]
    reached = [i for i in range(16) if all(pin not in ("0", "1") or i >> at & 1 == int(pin) for at, pin in enumerate(pins))]
    return not any(init >> i & 1 for i in reached)


def free_ends(netlist: dict) -> tuple[int, int]:
    """Disconnect unread carry outputs and unneeded constant carry inputs of the CCU2C of every module; returns the two counts."""
    outputs = inputs = 0
    for module in netlist["modules"].values():
        cells = [cell for cell in module["cells"].values() if cell["type"] == "CCU2C"]
        if not cells:
            continue
        used = Counter(bit for cell in module["cells"].values() for bits in cell["connections"].values() for bit in bits)
        used.update(bit for port in module["ports"].values() for bit in port["bits"])
        for cell in cells:
            pins = cell["connections"]
            if "COUT" in pins and used[pins["COUT"][0]] == 1:
                pins["COUT"] = ["x"]
                outputs += 1
            if pins.get("CIN", [None])[0] in ("0", "1", "x") and ignores_carry_in(cell) and used[pins["S0"][0]] <= 1:
                pins["CIN"] = ["x"]
                inputs += 1
    return outputs, inputs


def trim(path: Path) -> tuple[int, int]:
    """:func:`free_ends` for a JSON file, in place."""
    netlist = json.loads(path.read_text())
    counts = free_ends(netlist)
    path.write_text(json.dumps(netlist))
    return counts
