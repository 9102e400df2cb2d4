# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Registers of a pipeline: with one clock enable, or with none."""

from typing import Any

from amaranth.hdl import Const, Module, Signal, Value

__all__ = ["Stages"]


class Stages:
    """Registers in ``m`` that move together when ``ce`` is high; in each cycle where none is given.

    They have no reset, which would have to reach each of them in a cycle: a reset lasts until what they hold has left
    (hw.core.processor.RESET_CYCLES).  ``resets`` is for a flag on which ``ce`` depends.
    """

    def __init__(self, m: Module, ce: Value | None = None):
        self.m = m
        self.ce = Const(1) if ce is None else ce

    def reg(self, value: Any, name: str, *, resets: bool = False) -> Value:
        """``value``, a register later."""
        return self.delay(value, 1, name, resets=resets)

    def delay(self, value: Any, registers: int, name: str, *, resets: bool = False) -> Value:
        """``value``, so many registers later; where there are several, their names are numbered."""
        value = Value.cast(value)
        for i in range(registers):
            register = Signal(value.shape(), name=f"{name}{i}" if registers > 1 else name, reset_less=not resets)
            with self.m.If(self.ce):
                self.m.d.sync += register.eq(value)
            value = register
        return value
