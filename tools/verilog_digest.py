# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tools.verilog_digest``: did a change of the sources change the gateware?

For every preset's core and every board's top it writes three digests as JSON:

- ``text``: of the design as Amaranth writes it, without places in sources.  The same text is the same Verilog.
- ``graph``: of registers, memories, instances and ports, each with all that it is computed from, without any name of a
  signal, an instance or a module, and without the hierarchy.  The same graph is the same circuit under other names.
- ``cells``: the number of register bits, memory bits and operators, by kind and width.

``--against FILE`` compares with digests that were written before.  Exit code 1 where a graph differs, or, with ``--text``, a
text.
"""

import argparse
import hashlib
import importlib
import json
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import amaranth.back.rtlil as rtlil
from amaranth.hdl import Fragment, Value
from amaranth.hdl._ir import Design, PortDirection, build_netlist
from amaranth.hdl._nir import (
    AssignmentList,
    AsyncReadPort,
    FlipFlop,
    Instance,
    IOBuffer,
    Matches,
    Memory,
    Net,
    Netlist,
    Operator,
    Part,
    PriorityMatch,
    SyncReadPort,
    SyncWritePort,
    Top,
)
from amaranth.lib import wiring

from boards.flow.build import BOARDS
from hw.top import Core
from hw.verilog import uncollected
from tellme.spec.config import PRESETS, preset

__all__ = ["compare", "digests", "graph", "main"]

#: How many registers back a register's digest looks.
ROUNDS = 6
#: A digest of a net, a number; the same in every process.
Colour = int


@cache
def number(*parts: object) -> Colour:
    """Digest of a few strings and numbers."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


class Colours:
    """Digests of all nets of a netlist: a state's digest comes from the round before, a wire's from its operands."""

    def __init__(self, netlist: Netlist):
        self.netlist = netlist
        self.states: dict[int, list[Colour]] = {}
        self.inputs = {bit: number("input", name, bit - start) for name, (start, width) in netlist.cells[0].ports_i.items()
                       for bit in range(start, start + width)}
        self.writes: dict[int, list[SyncWritePort]] = {}
        for index, cell in enumerate(netlist.cells):
            match cell:
                case FlipFlop():
                    self.states[index] = [number("ff", cell.init >> bit & 1) for bit in range(len(cell.data))]
                case Memory():
                    attributes = tuple(sorted((k, str(v)) for k, v in cell.attributes.items()))
                    self.states[index] = [number("memory", cell.width, cell.depth, cell.init, attributes)]
                case SyncReadPort():
                    self.states[index] = [number("read", bit) for bit in range(cell.width)]
                case Instance():
                    width = max([start + width for start, width in cell.ports_o.values()], default=0)
                    parameters = tuple(sorted((k, str(v)) for k, v in cell.parameters.items()))
                    self.states[index] = [number("instance", cell.type, parameters, bit) for bit in range(max(width, 1))]
                case IOBuffer():
                    self.states[index] = [number("io", cell.dir.value, len(cell.port), bit) for bit in range(len(cell.port))]
                case SyncWritePort():
                    self.writes.setdefault(cell.memory, []).append(cell)
        self.first = {index: colours[0] for index, colours in self.states.items()}
        self.wires: dict[int, Colour] = {}

    def word(self, value: Any) -> tuple[Colour, ...]:
        return tuple(self.net(net) for net in value)

    def net(self, net: Net) -> Colour:
        if net.is_const:
            return int(net)
        index, bit = net.cell, net.bit
        if index == 0:
            return self.inputs[bit]
        if index in self.states and not isinstance(self.netlist.cells[index], Memory):
            return self.states[index][bit]
        known = self.wires.get(int(net))
        if known is None:
            self.wires[int(net)] = known = self.wire(self.netlist.cells[index], bit)
        return known

    def wire(self, cell: Any, bit: int) -> Colour:
        match cell:
            case Operator(operator="~" | "&" | "|" | "^"):
                return hash((number(cell.operator), *(self.net(operand[bit]) for operand in cell.inputs)))
            case Operator(operator="m"):
                return hash((number("m"), *(self.net(cell.inputs[i][bit if i else 0]) for i in range(3))))
            case Operator():
                return hash((number(cell.operator, bit), *(self.word(operand) for operand in cell.inputs)))
            case Part():
                kind = number("part", cell.value_signed, cell.width, cell.stride, bit)
                return hash((kind, self.word(cell.value), self.word(cell.offset)))
            case Matches():
                return hash((number("matches", cell.patterns), self.word(cell.value)))
            case PriorityMatch():
                return hash((number("first of"), self.net(cell.en), self.word(cell.inputs[:bit + 1])))
            case AssignmentList():
                colour = self.net(cell.default[bit])
                for assign in cell.assignments:
                    if assign.start <= bit < assign.start + len(assign.value):
                        value = self.net(assign.value[bit - assign.start])
                        # What is assigned without a condition is that value.
                        colour = value if assign.cond == Net.from_const(1) else hash((colour, self.net(assign.cond), value))
                return colour
            case AsyncReadPort():
                return hash((number("async read", bit), self.states[cell.memory][0], self.word(cell.addr)))
        raise TypeError(f"no digest is known for a {type(cell).__name__}")

    def state(self, index: int, cell: Any) -> list[Colour]:
        """Next round's digests of a cell with states."""
        old = self.first[index]
        match cell:
            case FlipFlop():
                clock = hash((self.net(cell.clk), self.net(cell.arst), number(cell.clk_edge)))
                return [hash((number("ff", cell.init >> bit & 1), clock, self.net(net))) for bit, net in enumerate(cell.data)]
            case Memory():
                ports = sorted(hash((self.net(p.clk), self.word(p.data), self.word(p.addr), self.word(p.en)))
                               for p in self.writes.get(index, []))
                return [hash((old, *ports))]
            case SyncReadPort():
                port = hash((self.states[cell.memory][0], self.net(cell.clk), self.word(cell.addr), self.net(cell.en),
                             len(cell.transparent_for)))
                return [hash((port, bit)) for bit in range(cell.width)]
            case Instance():
                inputs = hash(tuple((number(name), self.word(value)) for name, value in sorted(cell.ports_i.items())))
                return [hash((old, inputs, bit)) for bit in range(len(self.states[index]))]
            case IOBuffer():
                pads = () if cell.o is None else (*self.word(cell.o), self.net(cell.oe))
                return [hash((old, pads, bit)) for bit in range(len(cell.port))]
        raise TypeError(f"no digest is known for a {type(cell).__name__}")

    def turn(self) -> None:
        """One register further back."""
        following = {index: self.state(index, self.netlist.cells[index]) for index in self.states}
        self.states = following
        self.wires.clear()


def graph(netlist: Netlist) -> str:
    """Digest of a netlist without names: of all states, and of the outputs of the top."""
    colours = Colours(netlist)
    for _ in range(ROUNDS):
        colours.turn()
    top = netlist.cells[0]
    assert isinstance(top, Top)
    states = sorted(Counter(colour for bits in colours.states.values() for colour in bits).items())
    outputs = sorted((name, colours.word(value)) for name, value in top.ports_o.items())
    return hashlib.sha256(repr((states, outputs)).encode()).hexdigest()


def cells(netlist: Netlist) -> dict[str, int]:
    """Register bits, memory bits and the bits of operators by kind."""
    counts: Counter[str] = Counter()
    for cell in netlist.cells:
        match cell:
            case FlipFlop():
                counts["register bits"] += len(cell.data)
            case Memory():
                counts["memory bits"] += cell.width * cell.depth
            case Operator():
                counts[f"{cell.operator} bits"] += cell.width
            case Instance():
                counts[cell.type] += 1
    return dict(sorted(counts.items()))


def digest_of(design: Design) -> dict:
    """All digests of a design that is ready to be written."""
    text, _ = rtlil.convert_fragment(design, emit_src=False)
    text = re.sub(r"^ *attribute \\\\src .*\n", "", text, flags=re.M)
    netlist = build_netlist(design)
    return {"text": hashlib.sha256(text.encode()).hexdigest(), "graph": graph(netlist), "cells": cells(netlist)}


def component_digest(component: wiring.Component) -> dict:
    """Of a component with its ports."""
    ports = {}
    for path, member, value in component.signature.flatten(component):
        direction = PortDirection.Input if member.flow == wiring.In else PortDirection.Output
        ports["__".join(str(part) for part in path)] = (Value.cast(value), direction)
    return digest_of(Fragment.get(component, None).prepare(ports=ports, hierarchy=("core",)))


def preset_digest(name: str) -> dict:
    """Of a preset's core."""
    return component_digest(Core(preset(name)))


def board_digest(board: str, device: str) -> dict:
    """Of a board's top for one of its devices, with a core whose hash is zero."""
    module = importlib.import_module(f"boards.{board}")
    config, platform = module.DEVICES[device]
    platform = platform()
    type(platform).required_tools = []
    platform.prepare(module.Top(preset(config), "00" * 32), name="top", do_program=False)
    return digest_of(platform._design)


def digests(names: list[str]) -> dict[str, dict]:
    """Of the presets and boards (BOARD-DEVICE) that are named, or of all."""
    makers: dict[str, Callable[[], dict]] = {}
    for name in PRESETS:
        makers[name] = partial(preset_digest, name)
    for board in BOARDS:
        for device in importlib.import_module(f"boards.{board}").DEVICES:
            makers[f"board {board}-{device}"] = partial(board_digest, board, device)
    unknown = [name for name in names if name not in makers]
    if unknown:
        raise ValueError(f"nothing is called {unknown[0]!r}; there are: {', '.join(makers)}")
    found = {}
    for name in names or makers:
        with uncollected():
            found[name] = makers[name]()
        print(f"{name}: text {found[name]['text'][:12]} graph {found[name]['graph'][:12]}", file=sys.stderr, flush=True)
    return found


def compare(before: dict[str, dict], after: dict[str, dict]) -> list[tuple[str, str]]:
    """(name, what is the same) of each design: ``text``, ``graph``, ``cells`` or ``nothing``."""
    return [(name, next((kind for kind in ("text", "graph", "cells") if before[name][kind] == now[kind]), "nothing"))
            for name, now in after.items() if name in before]


def changes(before: dict[str, int], after: dict[str, int]) -> str:
    """Counts that differ, as a line."""
    return ", ".join(f"{kind} {before.get(kind, 0)} -> {after.get(kind, 0)}" for kind in sorted({*before, *after})
                     if before.get(kind, 0) != after.get(kind, 0))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.verilog_digest", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="presets, or 'board BOARD-DEVICE'; all where none is given")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the digests as JSON")
    parser.add_argument("--against", type=Path, metavar="FILE", help="compare with digests written before")
    parser.add_argument("--text", action="store_true", help="names have to be the same too")
    args = parser.parse_args(argv)
    try:
        found = digests(args.names)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if args.output:
        args.output.write_text(json.dumps(found, indent=1) + "\n")
    worst = 0
    if args.against:
        before = json.loads(args.against.read_text())
        for name, same in compare(before, found):
            print(f"{name}: same {same}")
            if same in ("cells", "nothing"):
                print(f"  {changes(before[name]['cells'], found[name]['cells'])}")
            worst |= same not in (("text",) if args.text else ("text", "graph"))
    return int(worst)


if __name__ == "__main__":
    # A netlist is as deep as its longest path through wires.
    sys.setrecursionlimit(1_000_000)
    threading.stack_size(512 << 20)
    status: list[int] = []
    thread = threading.Thread(target=lambda: status.append(main()))
    thread.start()
    thread.join()
    sys.exit(status[0] if status else 1)
