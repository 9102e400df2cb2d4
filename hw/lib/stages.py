# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Registers of a pipeline: with one clock enable, or with none."""

from collections.abc import Callable

from amaranth.hdl import Const, Module, Signal, Value

__all__ = ["Pipeline", "registers"]


class Pipeline:
    """Registers that move together when ``ce`` is high.

    They have no reset, which would have to reach each of them in a cycle: a reset lasts until what they hold has left
    (hw.core.processor.RESET_CYCLES).  ``resets`` is for a flag on which ``ce`` depends.
    """

    def __init__(self, m: Module, ce: Value):
        self.m = m
        self.ce = ce

    def reg(self, value, *, stages: int = 1, name: str = "stage", resets: bool = False) -> Signal:
        """``value``, ``stages`` registers later."""
        value = Value.cast(value)
        for i in range(stages):
            register = Signal(value.shape(), name=f"{name}{i}" if stages > 1 else name, reset_less=not resets)
            with self.m.If(self.ce):
                self.m.d.sync += register.eq(value)
            value = register
        return value


def registers(m: Module) -> tuple[Callable[..., Signal], Callable[..., Signal]]:
    """``register(value, name)``, the value a cycle later, and ``later(value, cycles, name)``; without reset, see Pipeline."""
    pipe = Pipeline(m, Const(1))
    return (lambda value, name: pipe.reg(value, name=name),
            lambda value, cycles, name: pipe.reg(value, stages=cycles, name=name))
