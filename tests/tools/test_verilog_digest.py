# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Digests of a circuit: what changes them, and what does not."""

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tools.verilog_digest import compare, component_digest, main


class Sums(wiring.Component):
    """A register that sums up where it is enabled, and a memory of these sums."""

    def __init__(self, *, name: str = "total", step: int = 1, inner: bool = False, fields: bool = False,
                 more: bool = False):
        self._name, self._step, self._inner, self._fields, self._more = name, step, inner, fields, more
        super().__init__({"value": In(8), "en": In(1), "at": In(2), "old": Out(8)})

    def elaborate(self, platform):
        m = Module()
        where = m
        if self._inner:
            m.submodules.inner = where = Module()
        if self._fields:
            both = Signal(data.StructLayout({"total": 8, "seen": 1}), name=self._name)
            total, seen = both.total, both.seen
        else:
            total, seen = Signal(8, name=self._name), Signal()
        with where.If(self.en):
            where.d.sync += [total.eq(total + self.value + self._step), seen.eq(1)]
        if self._more:
            more = Signal()
            m.d.sync += more.eq(seen)
        m.submodules.sums = sums = Memory(shape=8, depth=4, init=[])
        write, read = sums.write_port(), sums.read_port()
        m.d.comb += [write.addr.eq(self.at), write.data.eq(total), write.en.eq(seen), read.addr.eq(self.at),
                     self.old.eq(read.data)]
        return m


def same(**changes: object) -> str:
    (_, kind), = compare({"sums": component_digest(Sums())}, {"sums": component_digest(Sums(**changes))})
    return kind


def test_the_same_source_is_the_same_text():
    assert same() == "text"


@pytest.mark.parametrize("changes", [{"name": "sum"}, {"inner": True}, {"fields": True}], ids=lambda c: next(iter(c)))
def test_names_hierarchy_and_records_change_the_text_alone(changes):
    assert same(**changes) == "graph"


def test_another_constant_changes_the_graph_though_not_the_number_of_cells():
    assert same(step=2) == "cells"


def test_digests_against_earlier_ones(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tools.verilog_digest.Core", lambda config: Sums())
    file = tmp_path / "before.json"
    assert main(["sim-tiny", "-o", str(file)]) == 0
    assert main(["sim-tiny", "--against", str(file), "--text"]) == 0
    monkeypatch.setattr("tools.verilog_digest.Core", lambda config: Sums(name="sum"))
    assert main(["sim-tiny", "--against", str(file)]) == 0
    assert main(["sim-tiny", "--against", str(file), "--text"]) == 1
    monkeypatch.setattr("tools.verilog_digest.Core", lambda config: Sums(more=True))
    assert main(["sim-tiny", "--against", str(file)]) == 1
    assert capsys.readouterr().out == (
        "sim-tiny: same text\nsim-tiny: same graph\nsim-tiny: same graph\nsim-tiny: same nothing\n  register bits 9 -> 10\n")


def test_an_unknown_name_is_refused(capsys):
    assert main(["ulx4s"]) == 2
    assert capsys.readouterr().err == (
        "nothing is called 'ulx4s'; there are: ulx3s-85f, ulx3s-85f-l8, ulx3s-85f-l2, ulx3s-85f-1lane, ecp5-25f, sim-tiny, "
        "sim-all, sim-slots, sim-two-steps, ecpix5-85f, sim-ddr3, sim-ddr3-slots, sim-norms, orangecrab-85f, "
        "board ecpix5-85f, board icepi_zero-25f, board orangecrab-85f, board ulx3s-85f, board ulx3s-12f\n")
