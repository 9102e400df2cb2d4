# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What a proof is made of: a unit, inputs that the solver chooses, assumptions about neighbours, properties, and covers."""

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from os import sep
from types import FrameType
from typing import Any, Literal

from amaranth.back import rtlil
from amaranth.hdl import Assert, Assume, ClockDomain, Const, Cover, Elaboratable, Fragment, Module, Mux, Signal, Value
from amaranth.hdl._ast import AnyConst
from amaranth.hdl._mem import MemoryInstance

from tests.mutants import Mutant

__all__ = ["Harness", "Inside", "Proof", "planted"]

#: The stubs of Amaranth want a message of a property.
NO_MESSAGE: Any = None


@dataclass(frozen=True)
class Proof:
    """A unit with its properties.

    ``build`` makes the harness.  ``mode``: ``induction`` holds for all times, by k-induction with ``depth`` steps; ``bounded``
    holds for the first ``depth`` cycles after reset.  Each cover of the harness must be reached within ``cover`` cycles.
    ``mutants`` are faults that the first ``depth`` cycles, or ``find`` cycles, must refute.  ``parameters`` says with which
    parameters the unit is built, and why they suffice.
    """

    name: str
    unit: str
    properties: str
    parameters: str
    build: Callable[[], "Harness"]
    mode: Literal["induction", "bounded"]
    depth: int
    cover: int
    mutants: tuple[Mutant, ...]
    find: int = 0


def planted(proof: str, file: str, fault: str, old: str, new: str) -> Mutant:
    """A fault that a proof has to find; the text ``old`` of ``file`` occurs once."""
    return Mutant("formal", fault, file, old, new, (proof,))


class Inside:
    """The signals and memories within an elaborated unit, by name, for invariants.

    ``inside["level"]`` is the one signal of that name that the unit, or a part of it, drives; ``inside["queue.level"]`` is that
    of the part ``queue``.  KeyError for a name that none or several have.
    """

    def __init__(self, fragment: Fragment, names: dict[int, str]):
        self._names = names
        self.signals: dict[str, list[Signal]] = {}
        self.memories: dict[str, Any] = {}
        self._walk(fragment, ())

    def _walk(self, fragment: Any, path: tuple[str, ...]) -> None:
        if isinstance(fragment, MemoryInstance):
            self.memories[".".join(path)] = fragment
        for statements in fragment.statements.values():
            for signal in statements._lhs_signals():
                # A signal that is made in a list of several has no name of its own: then it is that of the unit's variable.
                name = self._names.get(id(signal), signal.name) if signal.name.startswith("$") else signal.name
                for start in range(len(path) + 1):
                    known = self.signals.setdefault(".".join((*path[start:], name)), [])
                    if not any(signal is other for other in known):
                        known.append(signal)
        for part, own, *_ in fragment.subfragments:
            self._walk(part, (*path, own or "?"))

    def __getitem__(self, name: str) -> Signal:
        found = self.signals.get(name, [])
        if len(found) != 1:
            raise KeyError(f"{len(found)} signals are named {name}")
        return found[0]

    def states(self, fsm: str) -> Callable[[str], Value]:
        """Whether the FSM whose register has that name is in a state."""
        signal = self[fsm]
        encoding = {}
        for number in range(1 << len(signal)):
            with suppress(KeyError):
                encoding[str(signal.decoder(number)).split("/")[0]] = number
        return lambda state: signal == encoding[state]

    def _memory(self, name: str) -> Any:
        [instance] = [m for path, m in self.memories.items() if path == name or path.endswith("." + name)]
        return instance

    def addresses(self, memory: str) -> tuple[Value, Value]:
        """Where a memory is read and where it is written, by its first ports."""
        instance = self._memory(memory)
        return instance._read_ports[0]._addr, instance._write_ports[0]._addr

    def read(self, memory: str) -> Value:
        """What a memory's first read port gives."""
        return self._memory(memory)._read_ports[0]._data

    def spy(self, memory: str, addr: Value) -> Signal:
        """What a memory holds at ``addr``, by a read port that the unit has not."""
        instance = self._memory(memory)
        data = Signal(len(Value.cast(instance._read_ports[0]._data)), name="spied")
        place = Signal(len(instance._read_ports[0]._addr), name="spied_addr")
        instance.read_port(domain="comb", addr=place, data=data, en=Const(1), transparent_for=())
        self._spied = getattr(self, "_spied", [])
        self._spied.append((place, addr))
        return data

    def wires(self) -> list[Any]:
        """Statements that the spies need."""
        return [place.eq(addr) for place, addr in getattr(self, "_spied", [])]


class _Elaborated(Elaboratable):
    """A fragment, as a module's part."""

    def __init__(self, fragment: Fragment):
        self._fragment = fragment

    def elaborate(self, platform: object) -> Fragment:
        return self._fragment


class Harness:
    """A module around a unit.  All registers start with their initial values; in an induction's step, with any values."""

    def __init__(self) -> None:
        self.m = m = Module()
        self._clock: Any = ClockDomain("sync", reset_less=True)
        m.domains += self._clock
        self._inputs: list[Signal] = []
        self._insides: list[Inside] = []
        self.asserts = self.assumes = self.covers = 0

    # ------------------------------------------------------------------ the unit
    def unit(self, unit: Any, name: str = "dut") -> Inside:
        """Add the unit, and look inside."""
        names: dict[int, str] = {}

        def look(frame: FrameType, event: str, argument: object) -> None:
            if event == "return" and f"{sep}hw{sep}" in frame.f_code.co_filename:
                names.update((id(value), name) for name, value in frame.f_locals.items() if isinstance(value, Signal))

        sys.setprofile(look)
        try:
            fragment = Fragment.get(unit, "formal")
        finally:
            sys.setprofile(None)
        setattr(self.m.submodules, name, _Elaborated(fragment))
        inside = Inside(fragment, names)
        self._insides.append(inside)
        return inside

    def free(self, shape: Any, name: str) -> Any:
        """An input that the solver chooses in each cycle."""
        signal = Signal(shape, name=name)
        self._inputs.append(signal if isinstance(signal, Signal) else signal.as_value())
        return signal

    def drive(self, target: Any, name: str) -> Any:
        """The solver chooses the unit's input ``target``."""
        value = Value.cast(target)
        self.m.d.comb += value.eq(self.free(len(value), name))
        return target

    @staticmethod
    def constant(shape: Any) -> Value:
        """A number that the solver chooses once."""
        return AnyConst(shape)

    # ------------------------------------------------------------------ time
    def before(self, value: Any, name: str, *, init: int = 0) -> Signal:
        """``value`` of the cycle before."""
        value = Value.cast(value)
        register = Signal(value.shape(), name=f"before_{name}", init=init)
        self.m.d.sync += register.eq(value)
        return register

    def cycles(self, condition: Value, limit: int, name: str, *, stands: Value | int = 0) -> Signal:
        """For how many cycles before this one ``condition`` was true without a break, up to ``limit``; cycles in which the count
        ``stands`` are left out."""
        count = Signal(range(limit + 1), name=f"cycles_{name}")
        self.m.d.sync += count.eq(Mux(condition, Mux((count == limit) | stands, count, count + 1), 0))
        # In an induction's step a register may start with a number that it never has.
        if limit & limit + 1:
            self.holds(count <= limit)
        return count

    # ------------------------------------------------------------------ properties
    def holds(self, condition: Any, when: Any = None) -> None:
        """The condition is true in each cycle, or in each one with ``when``."""
        self.asserts += 1
        self.m.d.comb += Assert(self._if(condition, when), NO_MESSAGE, src_loc_at=1)

    def assume(self, condition: Any, when: Any = None) -> None:
        """The neighbours keep to the condition."""
        self.assumes += 1
        self.m.d.comb += Assume(self._if(condition, when), NO_MESSAGE, src_loc_at=1)

    def cover(self, condition: Any) -> None:
        """It can be reached."""
        self.covers += 1
        self.m.d.comb += Cover(condition, NO_MESSAGE, src_loc_at=1)

    @staticmethod
    def _if(condition: Any, when: Any) -> Value:
        condition = Value.cast(condition)
        # bool() of a value: whether any bit is set.
        condition = condition if len(condition) == 1 else condition.bool()
        return condition if when is None else condition | ~Value.cast(when).bool()

    def rtlil(self) -> str:
        for inside in self._insides:
            self.m.d.comb += inside.wires()
        return rtlil.convert(self.m, name="top", platform="formal", ports=[self._clock.clk, *self._inputs])
