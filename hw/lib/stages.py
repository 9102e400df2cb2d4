# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Registers of a pipeline: with one clock enable, or with none."""

from typing import Any

from amaranth.hdl import Const, Module, Signal, Value

__all__ = ["Stages"]


class Stages:
    """Registers in ``m`` that move together when ``ce`` is high, or in each cycle if no ``ce`` is given.

    The registers have no reset, because a reset would have to reach each of them within a cycle.  Instead a reset lasts until
    everything in the registers has left (hw.core.steps.RESET_CYCLES).  ``resets`` is for a flag on which ``ce`` depends.
    """

    def __init__(self, m: Module, ce: Value | None = None):
        self.m = m
        self.ce = Const(1) if ce is None else ce

    def reg(self, value: Any, name: str, *, resets: bool = False) -> Value:
        """``value``, one register later."""
        return self.delay(value, 1, name, resets=resets)

    def delay(self, value: Any, registers: int, name: str, *, resets: bool = False) -> Value:
        """``value``, ``registers`` registers later; the names of several registers are numbered."""
        value = Value.cast(value)
        for i in range(registers):
            register = Signal(value.shape(), name=f"{name}{i}" if registers > 1 else name, reset_less=not resets)
            with self.m.If(self.ce):
                self.m.d.sync += register.eq(value)
            value = register
        return value
