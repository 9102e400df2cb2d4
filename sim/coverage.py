# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Verilog of a unit with cover statements, and what each of them says about the Python sources.

The generated Verilog has a process a signal, in which the arms of several Python statements are folded.  So the arms are counted
where they come from: :func:`covered_verilog` walks the elaborated unit, and adds to each part of the unit a vector of *points*, a
bit an arm, and a cover statement a bit.  Verilator counts the cover statements.  A cover statement samples its bit at the rising
edge of the part's clock while its reset is low, so that what only happens between two edges does not count.

A bit stands for one or several points:

- ``branch``: an arm of ``m.If``, ``m.Elif``, ``m.Else``, ``m.Case``, ``m.Default`` or ``m.State`` was taken; ``m.If`` or
  ``m.Switch`` was passed with no arm taken, if it can be; a ``Mux`` whose statement was active chose either side.
- ``line``: the arm around a statement was taken.  Statements under no condition are kept apart: no test can miss them.
- ``state`` and ``edge``: a state of an FSM, and a step from a state to another one that ``m.next`` in the state's arm names.  An
  edge is the state before and the state behind a rising edge without reset.
- ``stall``: a stream of a component's interface was valid and not ready.  A stream whose ready is the constant 1 has no stall.

Conditions that are constants of the build are no branches.  Points are those of the sources: a point of several instances, of a
loop or of several benches is one point.
"""

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from itertools import product
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeAlias

from amaranth.hdl import Cover, Fragment, Mux, ResetSignal, Signal, Value
from amaranth.lib import stream, wiring

from hw.verilog import uncollected

__all__ = ["RULES", "Control", "Covered", "Point", "covered_verilog", "declared_controls"]

ROOT = Path(__file__).resolve().parent.parent
#: Counted up when points mean something else, so that no counts of before are read.
RULES = "2"
#: Insides of Amaranth, of which the stubs know little.
_ast: Any = import_module("amaranth.hdl._ast")
_dsl: Any = import_module("amaranth.hdl._dsl")
_ir: Any = import_module("amaranth.hdl._ir")
_mem: Any = import_module("amaranth.hdl._mem")
_tracer: Any = import_module("amaranth.tracer")
#: Between the line of a view's ``eq`` and that of the value's.
_VIEW_EQ = {getattr(import_module(f"amaranth.lib.{module}"), view).eq.__code__ for module, view in (
    ("data", "View"), ("enum", "EnumView"))}
#: The stubs of Amaranth want a message of a property.
NO_MESSAGE: Any = None
#: What Verilator takes for its own, escaped too.
NO_NAMES = ("this", "super")
#: Up to this width of a test it is looked at whether the cases are all there are.
ENUMERATED_BITS = 12


@dataclass(frozen=True, order=True)
class Point:
    """A point of the sources: ``what`` of ``kind`` at a line of a file of hw."""

    kind: str
    file: str
    line: int
    what: str


@dataclass(frozen=True, order=True)
class Control:
    """A control signal: a one-bit signal with a name of its own, by the line of its declaration or of its part's module."""

    file: str
    line: int
    name: str


@dataclass
class Covered:
    """The Verilog of a unit, its points by the line of their cover statement, its control signals by (line, name), and the
    lines of statements under no condition."""

    verilog: str
    points: dict[int, list[Point]] = field(default_factory=dict)
    controls: dict[tuple[int, str], Control] = field(default_factory=dict)
    always: set[tuple[str, int]] = field(default_factory=set)

    def json(self) -> str:
        """What :mod:`tools.coverage_rtl` reads beside a coverage.dat."""
        return json.dumps({
            "points": {line: [[p.kind, p.file, p.line, p.what] for p in points] for line, points in self.points.items()},
            "controls": [[line, name, c.file, c.line, c.name] for (line, name), c in self.controls.items()],
            "always": sorted(self.always)})


class _Line(int):
    """A line of a source, with the column in it: two Muxes on one line are two."""

    column = 0


@cache
def _positions(code: CodeType) -> list[tuple[int | None, int | None, int | None, int | None]]:
    return list(code.co_positions())


def _location(src_loc_at: int = 0) -> tuple[str, int]:
    """In the place of amaranth.tracer.get_src_loc: the same line, with its column; of a view's ``eq`` that of the call."""
    frame: FrameType = sys._getframe(2 + src_loc_at)
    while frame.f_code in _VIEW_EQ and frame.f_back is not None:
        frame = frame.f_back
    line = _Line(frame.f_lineno)
    line.column = _positions(frame.f_code)[frame.f_lasti // 2][2] or 0
    return frame.f_code.co_filename, line


@cache
def _file(name: str) -> str | None:
    """The path in the checkout of a file of hw; None for all others."""
    try:
        path = Path(name).resolve().relative_to(ROOT).as_posix()
    except ValueError:
        return None
    return path if path.startswith("hw/") else None


def _place(src_loc: tuple[str, int] | None) -> tuple[str, int] | None:
    """(file, line) of a place in hw."""
    if src_loc is None or (file := _file(src_loc[0])) is None:
        return None
    return file, int(src_loc[1])


#: A node of a vector's tree: a bit to set, or a test with (patterns, nodes) of each case.
_Node: TypeAlias = "int | tuple[Any, list[tuple[Any, list[_Node]]]]"


def _is_mux(value: Any) -> bool:
    return len(value.cases) == 2 and value.cases[0][0] == ("0" * len(value.test),) and value.cases[1][0] is None


def _patterns(patterns: tuple[str, ...] | None, width: int) -> tuple[str, ...]:
    return ("-" * width,) if patterns is None else patterns


def _may_match(pattern: str, known: str) -> bool:
    return all("-" in (p, k) or p == k for p, k in zip(pattern, known, strict=True))


def _must_match(pattern: str, known: str) -> bool:
    return all(p == "-" or p == k for p, k in zip(pattern, known, strict=True))


class _Drivers:
    """Which signals are constants of the build: those whose only driver is a constant, under no condition."""

    def __init__(self, fragment: Any) -> None:
        self._drivers: dict[int, list[tuple[bool, Any]]] = {}
        self._known: dict[int, str] = {}
        self._read(fragment)

    def _read(self, fragment: Any) -> None:
        for domain, statements in fragment.statements.items():
            self._read_all(statements, domain == "comb")
        for part, *_ in fragment.subfragments:
            self._read(part)

    def _read_all(self, statements: Any, plain: bool) -> None:
        for statement in statements:
            if isinstance(statement, _ast.Assign):
                for signal in statement.lhs._lhs_signals():
                    self._drivers.setdefault(id(signal), []).append((plain and statement.lhs is signal, statement))
            elif isinstance(statement, _ast.Switch):
                for _, inner, _ in statement.cases:
                    self._read_all(inner, False)

    def known(self, value: Any) -> str:
        """The bits of a value, highest first: 0, 1, or - where the build does not say."""
        width = len(value)
        if isinstance(value, _ast.Const):
            return format(value.value & ((1 << width) - 1), f"0{width}b") if width else ""
        if isinstance(value, Signal):
            return self._of_signal(value)
        if isinstance(value, _ast.Slice):
            inner = self.known(value.value)
            return inner[len(inner) - value.stop:len(inner) - value.start]
        if isinstance(value, _ast.Concat):
            return "".join(reversed([self.known(part) for part in value.parts]))
        if isinstance(value, _ast.Operator) and width == 1:
            inputs = [self.known(operand) for operand in value.operands]
            if value.operator in ("b", "r|"):
                return "1" if "1" in inputs[0] else "-" if "-" in inputs[0] else "0"
            if value.operator == "~":
                return {"0": "1", "1": "0"}.get(inputs[0], "-")
            if value.operator in ("&", "|") and all(len(bit) == 1 for bit in inputs):
                strong, weak = ("0", "1") if value.operator == "&" else ("1", "0")
                return strong if strong in inputs else weak if inputs == [weak, weak] else "-"
        return "-" * width

    def _of_signal(self, signal: Signal) -> str:
        unknown = "-" * len(signal)
        if id(signal) not in self._known:
            self._known[id(signal)] = unknown  # of a loop
            drivers = self._drivers.get(id(signal), [])
            if len(drivers) == 1 and drivers[0][0]:
                rhs = drivers[0][1].rhs
                bits = self.known(rhs)
                if len(bits) < len(signal):
                    bits = bits.rjust(len(signal), (bits[:1] or "0") if rhs.shape().signed else "0")
                self._known[id(signal)] = bits[len(bits) - len(signal):]
        return self._known[id(signal)]


class _Vector:
    """The bits of a part's points that are sampled by one clock."""

    def __init__(self) -> None:
        self.bits: list[list[Point]] = []
        self.nodes: list[_Node] = []
        self.conditions: dict[int, Value] = {}

    def bit(self, *points: Point) -> int:
        self.bits.append(list(dict.fromkeys(points)))
        return len(self.bits) - 1

    def when(self, condition: Value, point: Point) -> None:
        self.conditions[self.bit(point)] = condition


class _Part:
    """Adds vectors and cover statements to one fragment."""

    def __init__(self, fragment: Any, domain: str | None, number: int, fsms: dict[int, Any], drivers: _Drivers,
                 covered: Covered):
        self._fragment, self._drivers, self._covered, self._number = fragment, drivers, covered, number
        self._origin = next((origin for origin in fragment.origins or () if _file(_source(type(origin)))), None)
        self._name = type(self._origin).__name__
        own = {d: len(statements) for d, statements in fragment.statements.items() if d != "comb"}
        #: The clock that samples what has none of its own.
        self.domain = "sync" if "sync" in own else max(own, key=lambda d: own[d]) if own else domain
        self._vectors: dict[str, _Vector] = {}
        self._fsms = fsms
        self._fsm_domains: dict[int, str] = {}
        self._state_lines: dict[tuple[int, int], tuple[str, int]] = {}
        self._steps: dict[tuple[int, int, int], None] = {}

    # ------------------------------------------------------------------ arms and statements
    def _vector(self, domain: str) -> _Vector:
        return self._vectors.setdefault(domain, _Vector())

    def _statements(self, vector: _Vector, statements: Any, here: list[Point] | None, states: dict[int, int],
                    domain: str) -> list[_Node]:
        nodes: list[_Node] = []
        for statement in statements:
            if isinstance(statement, _ast.Assign):
                if (place := _place(statement.src_loc)) is not None:
                    if here is None:
                        self._covered.always.add(place)
                    else:
                        here.append(Point("line", *place, "statement"))
                nodes += self._muxes(vector, statement.rhs, set()) + self._muxes(vector, statement.lhs, set())
                if id(statement.lhs) in self._fsms:
                    self._fsm_domains[id(statement.lhs)] = domain
                    if id(statement.lhs) in states and isinstance(statement.rhs, _ast.Const):
                        self._steps[id(statement.lhs), states[id(statement.lhs)], statement.rhs.value] = None
            elif isinstance(statement, _ast.Switch):
                nodes += self._switch(vector, statement, here, states, domain)
        return nodes

    def _switch(self, vector: _Vector, switch: Any, here: list[Point] | None, states: dict[int, int],
                domain: str) -> list[_Node]:
        nodes = self._muxes(vector, switch.test, set())
        width, known = len(switch.test), self._drivers.known(switch.test)
        fsm = id(switch.test) in self._fsms
        cases: list[tuple[Any, list[_Node]]] = []
        closed = fsm
        for case_patterns, statements, src_loc in switch.cases:
            patterns = [p for p in _patterns(case_patterns, width) if _may_match(p, known)]
            if not patterns:
                continue
            always = any(_must_match(p, known) for p in patterns)
            if always and not cases:
                return nodes + self._statements(vector, statements, here, states, domain)
            inner_states = states
            if fsm and case_patterns is not None:
                inner_states = {**states, id(switch.test): int(case_patterns[0], 2)}
                if (place := _place(src_loc)) is not None:
                    self._state_lines[id(switch.test), int(case_patterns[0], 2)] = place
            place = _place(src_loc)
            points: list[Point] = [] if place is None else [Point("branch", *place, "taken")]
            inner = self._statements(vector, statements, points, inner_states, domain)
            if points:
                inner.append(vector.bit(*points))
            cases.append((case_patterns, inner))
            closed = closed or always
            if always:
                break
        if not closed and width <= ENUMERATED_BITS:
            closed = all(any(_may_match(p, "".join(bits)) and _must_match(p, "".join(bits))
                             for patterns, _ in cases for p in _patterns(patterns, width))
                         for bits in product(*("01" if k == "-" else k for k in known)))
        if not closed and (place := _place(switch.src_loc)) is not None:
            cases.append((None, [vector.bit(Point("branch", *place, "none taken"))]))
        return [*nodes, (switch.test, cases)] if any(inner for _, inner in cases) else nodes

    def _muxes(self, vector: _Vector, value: Any, seen: set[int]) -> list[_Node]:
        if id(value) in seen or isinstance(value, (_ast.Const, Signal)):
            return []
        seen.add(id(value))
        if isinstance(value, _ast.SwitchValue):
            nodes = self._muxes(vector, value.test, seen)
            known = self._drivers.known(value.test)
            place = _place(value.src_loc) if _is_mux(value) else None
            cases: list[tuple[Any, list[_Node]]] = []
            for side, (case_patterns, inner) in enumerate(value.cases):
                patterns = [p for p in _patterns(case_patterns, len(value.test)) if _may_match(p, known)]
                if not patterns:
                    continue
                if any(_must_match(p, known) for p in patterns) and not cases:
                    return nodes + self._muxes(vector, inner, seen)
                mine: list[_Node] = []
                if place is not None:
                    column = getattr(value.src_loc[1], "column", 0)
                    mine.append(vector.bit(Point("branch", *place, f"Mux at column {column + 1}, {bool(side)}".lower())))
                cases.append((case_patterns, mine + self._muxes(vector, inner, seen)))
            return [*nodes, (value.test, cases)] if any(inner for _, inner in cases) else nodes
        operands: list[Value] = []
        if isinstance(value, _ast.Operator):
            operands = list(value.operands)
        elif isinstance(value, _ast.Slice):
            operands = [value.value]
        elif isinstance(value, _ast.Part):
            operands = [value.value, value.offset]
        elif isinstance(value, _ast.Concat):
            operands = list(value.parts)
        return [node for operand in operands for node in self._muxes(vector, operand, seen)]

    # ------------------------------------------------------------------ FSMs and streams
    def _states(self) -> None:
        file = self._owner()
        for key, domain in self._fsm_domains.items():
            if file is None:
                continue
            fsm = self._fsms[key]
            name, vector, state = fsm._data["name"], self._vector(domain), fsm.state
            before, ran = Signal(len(state), name=f"cover_before_{name}"), Signal(name=f"cover_ran_{name}")
            self._fragment.add_statements(domain, before.eq(state),
                                          ran.eq(~ResetSignal(domain, allow_reset_less=True)))
            line = {value: self._state_lines.get((key, value), (file, 0)) for value in fsm.decoding}
            title = f"{self._name} {name}"
            for value, state_name in fsm.decoding.items():
                vector.when(state == value, Point("state", *line[value], f"{title}: {state_name}"))
            for fsm_key, start, end in self._steps:
                if fsm_key == key and start != end:
                    vector.when((before == start) & (state == end) & ran,
                                Point("edge", *line[start], f"{title}: {fsm.decoding[start]} to {fsm.decoding[end]}"))

    def _owner(self) -> str | None:
        """The file of the unit that the fragment is of."""
        if self._origin is not None:
            return _file(_source(type(self._origin)))
        place = _place(self._fragment.src_loc)
        return None if place is None else place[0]

    def _streams(self) -> None:
        origin, file = self._origin, self._owner()
        if file is None or self.domain is None or not isinstance(origin, wiring.Component):
            return
        for name, port in _stream_ports(origin.signature, origin, ""):
            valid, ready = Value.cast(port.valid), Value.cast(port.ready)
            if self._drivers.known(ready) != "1" and self._drivers.known(valid) != "0":
                self._vector(self.domain).when(valid & ~ready, Point("stall", file, _class_line(type(origin)),
                                                                     f"{self._name} {name}"))

    # ------------------------------------------------------------------ into the fragment
    def add(self) -> dict[str, list[list[Point]]]:
        """Add everything; the points of each vector's bits, by the vector's name."""
        for domain, statements in list(self._fragment.statements.items()):
            where = self.domain if domain == "comb" else domain
            if where is not None:
                vector = self._vector(where)
                vector.nodes += self._statements(vector, statements, None, {}, domain)
        self._states()
        self._streams()
        told = {}
        for domain, vector in self._vectors.items():
            if not vector.bits:
                continue
            name = f"covered_{self._number}_{domain}"
            # Two bits at least, so that each cover statement names its bit.
            width = max(2, len(vector.bits))
            reached, sampled = Signal(width, name=f"cover_{self._number}_{domain}"), Signal(width, name=name)
            self._fragment.add_statements("comb", *_realise(vector.nodes, reached),
                                          *(reached[bit].eq(condition) for bit, condition in vector.conditions.items()),
                                          sampled.eq(Mux(ResetSignal(domain, allow_reset_less=True), 0, reached)))
            self._fragment.add_statements(domain, *(Cover(sampled[bit], NO_MESSAGE) for bit in range(len(vector.bits))))
            told[name] = vector.bits
        return told


def _realise(nodes: list[_Node], reached: Signal) -> list[Any]:
    return [reached[node].eq(1) if isinstance(node, int) else
            _ast.Switch(node[0], [(patterns, _realise(inner, reached), None) for patterns, inner in node[1]]) for node in nodes]


def _source(of: type) -> str:
    """The file of a class."""
    return getattr(sys.modules.get(of.__module__), "__file__", None) or ""


def _class_line(of: type) -> int:
    return inspect.getsourcelines(of)[1]


def _stream_ports(signature: Any, interface: Any, name: str) -> Iterator[tuple[str, Any]]:
    """(name, interface) of each stream in an interface; of an array of streams each, by the name of all."""
    for member_name, member in signature.members.items():
        if not member.is_signature:
            continue
        full = f"{name}.{member_name}".lstrip(".") + "[*]" * len(member.dimensions)
        found = [getattr(interface, member_name)]
        for _ in member.dimensions:
            found = [inner for outer in found for inner in outer]
        for inner in found:
            if isinstance(member.signature, stream.Signature):
                yield full, inner
            else:
                yield from _stream_ports(member.signature, inner, full)


@contextmanager
def _watched() -> Iterator[list[Any]]:
    """While a unit is made and elaborated: places in sources have columns, all FSMs are listed, and a signal that is made in a
    list of several, which Amaranth gives no name, gets that of its variable."""
    fsms: list[Any] = []
    before, plain = _tracer.get_src_loc, _dsl.FSM

    def recorded(data: Any) -> Any:
        fsms.append(plain(data))
        return fsms[-1]

    def look(frame: FrameType, event: str, argument: object) -> None:
        if event == "return" and _file(frame.f_code.co_filename):
            for name, value in frame.f_locals.items():
                if isinstance(value, Signal) and value.name.startswith("$"):
                    value.name = f"{name}_" if name in NO_NAMES else name

    _tracer.get_src_loc, _dsl.FSM = _location, recorded
    sys.setprofile(look)
    try:
        yield fsms
    finally:
        sys.setprofile(None)
        _tracer.get_src_loc, _dsl.FSM = before, plain


def _add(fragment: Any, domain: str | None, fsms: dict[int, Any], drivers: _Drivers, covered: Covered,
         told: dict[str, list[list[Point]]]) -> None:
    if isinstance(fragment, (_ir.Instance, _ir.IOBufferInstance, _mem.MemoryInstance)):
        return
    part = _Part(fragment, domain, len(told), fsms, drivers, covered)
    told.update(part.add())
    for inner, *_ in fragment.subfragments:
        _add(inner, part.domain, fsms, drivers, covered, told)


def _ports(component: Any) -> dict[str, Any]:
    """As amaranth.back.verilog.convert names them."""
    ports = {}
    for path, member, value in component.signature.flatten(component):
        ports["__".join(map(str, path))] = (Value.cast(value), _ir.PortDirection.Input if member.flow == wiring.In
                                            else _ir.PortDirection.Output)
    return ports


@uncollected()
def covered_verilog(build: Callable[[], Any], name: str) -> Covered:
    """The Verilog of the component that ``build`` makes, with a cover statement for each point.  Its ports are those of the plain
    Verilog, and it does the same."""
    from amaranth.back import verilog

    from hw.tlmm.carry import ADD_MODULE, ADD_VERILOG

    covered = Covered("")
    told: dict[str, list[list[Point]]] = {}
    with _watched() as fsms:
        component = build()
        fragment = Fragment.get(component, None)
    states = {id(fsm.state): fsm for fsm in fsms if hasattr(fsm, "state")}
    _add(fragment, None, states, _Drivers(fragment), covered, told)
    text, _ = verilog.convert_fragment(fragment, _ports(component), name, emit_src=True, strip_internal_attrs=False)
    covered.verilog = (text + ADD_VERILOG if ADD_MODULE in text else text).replace(f'src = "{ROOT}/', 'src = "')
    for number, line in enumerate(covered.verilog.splitlines(), 1):
        if (match := _COVER.match(line)) is not None:
            covered.points[number] = told[match[1]][int(match[2])]
    put = sum(map(len, told.values()))
    if len(covered.points) != put:
        raise RuntimeError(f"{put} cover statements were put into {name}, and {len(covered.points)} are in its Verilog")
    covered.controls = declared_controls(covered.verilog)
    # Verilator counts no toggles of other signals of one bit; lines stay where they are.
    wanted = {number for number, _ in covered.controls}
    covered.verilog = "".join(
        line if number in wanted or _ONE_BIT.match(line) is None else
        f"/*verilator coverage_off*/{line.rstrip()}/*verilator coverage_on*/\n"
        for number, line in enumerate(covered.verilog.splitlines(keepends=True), 1))
    return covered


_COVER = re.compile(r"\s*cover \(\\?(covered_\d+_\w+) *\[(\d+)\]\)")
_SRC = re.compile(r'\s*\(\* src = "(.*?):(\d+)')
_ONE_BIT = re.compile(r"  (?:wire|reg) (?:signed )?[^\s\[]+ *(?:;|=)")
_TIED = re.compile(r"  assign \\?([A-Za-z_]\S*) *= 1'h[01];")
_DECLARED = re.compile(r"  (?:input|output|wire|reg) (?:signed )?\\?([A-Za-z_][^\s;\[]*) *(?:;|=)")


def declared_controls(verilog: str) -> dict[tuple[int, str], Control]:
    """The control signals of a Verilog text by line and name: each one-bit signal with a name of its own, but clocks, resets and
    what :func:`covered_verilog` added.  What only leads an expression from one module to another has no name of its own.

    A signal has the place of its own src attribute; one that Amaranth's library declares, as a stream's valid and ready, has
    that of the module's.  Both must lie in hw.  A signal that the build ties to a constant is none.
    """
    found: dict[tuple[int, str], Control] = {}
    tied: dict[str, list[tuple[int, str]]] = {}
    own: tuple[str, int] | None = None
    module: tuple[str, int] | None = None
    for number, line in enumerate(verilog.splitlines(), 1):
        if (match := _SRC.match(line)) is not None:
            own = match[1], int(match[2])
            continue
        if line.startswith("module "):
            module, tied = own, {}
        elif (match := _TIED.match(line)) is not None:
            for key in tied.get(match[1], ()):
                found.pop(key, None)
        elif (match := _DECLARED.match(line)) is not None:
            name = match[1]
            place = next((p for p in (own, module) if p is not None and p[0].startswith("hw/")), None)
            if place is not None and not re.match(r"(cover|covered)_|port\$\d|(clk|rst)$|\w+_(clk|rst)$", name):
                found[number, name] = Control(*place, re.sub(r"\$\d+(?=\.|$)", "", name))
                tied.setdefault(name, []).append((number, name))
            # The two lines of a port have one attribute.
            continue
        elif not line.lstrip().startswith("(*"):
            own = None
    return found
