# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Orders of tables, tables of carry cells, and the one Verilog text of both forms of an adder."""

import pytest

from hw.tlmm.carry import add_table
from hw.tlmm.study.gray_order import folded_entry, folded_steps, gray_order
from hw.tlmm.study.groups import Shape
from hw.tlmm.study.kinds import BEST_TABLE, KINDS
from hw.verilog import to_verilog
from tellme.spec.packing import SLICE


@pytest.mark.parametrize("trits", [1, 2, 3, 5])
def test_every_weight_is_an_entry_or_the_negative_of_one(trits):
    position = [0] * trits
    seen = {tuple(position): 0}
    for at, (which, sign) in enumerate(folded_steps(trits), 1):
        position[which] += sign
        assert -1 <= position[which] <= 1
        seen[tuple(position)] = at
    assert len(seen) == (3**trits + 1) // 2
    for weights in gray_order(trits):
        at, negative = folded_entry(weights)
        assert seen[tuple(-w if negative else w for w in weights)] == at


def test_a_full_table_has_an_address_for_every_weight():
    shape = Shape(7, (3,), folded=False)
    assert len({shape.entry(w)[0] for w in gray_order(3)}) == 27 and shape.entry((0, 0, 0)) == (0, 0)
    written = [step.at for step in shape.program() if step.table == 0]
    assert sorted(written) == sorted({shape.entry(w)[0] for w in gray_order(3)} - {0})


def test_no_cell_adds_what_is_not_zero_where_c_and_d_are():
    with pytest.raises(ValueError, match=r"w\(0, 1, 0, 0\) is 1: a CCU2C adds only what is zero where c and d are"):
        add_table(lambda a, b: a, lambda a, b, c, d: b ^ d)


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_has_an_entry_for_every_code_and_columns_for_a_slice(name):
    kind = KINDS[name]
    assert len(kind.rom()) == 1 << kind.code_bits and kind.units * kind.trits in (SLICE, SLICE + 1)
    dot = kind.dot(tokens=1)
    assert max(kind.rom()) < 1 << len(dot.select.as_value()) // kind.units
    assert kind.dot.LATENCY >= 4 and kind.builder.CYCLES >= SLICE


def test_plain_kinds_serve_one_token():
    with pytest.raises(ValueError, match="tokens is 2; a PlainDot serves one"):
        KINDS["g3g2-plain"].dot(tokens=2)
    with pytest.raises(ValueError, match="tokens is 2; a PlainBuilder serves one at a time"):
        KINDS["g3g2-plain"].builder(cols=40, tokens=2)


def test_the_text_holds_both_forms_of_the_adder():
    text = to_verilog(KINDS[BEST_TABLE].dot(tokens=1), "dot")
    assert text.count("module tellme_add ") == 1 and "CCU2C" in text and "`ifndef VERILATOR" in text
