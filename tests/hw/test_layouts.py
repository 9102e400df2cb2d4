# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The benches' packing of layouts against Amaranth's own constants; and the layouts against the specification's bytes."""

import pytest
from amaranth.hdl import signed
from amaranth.lib import data

from hw.lib.control import EventLayout, RunArgs, StatusLayout
from hw.lib.types import ScaleLayout
from tellme.spec.memory import END_TOKENS, Event, StartArgs, StartFlags, StatusWord
from tellme.spec.scale import Scale
from tests.hw.layouts import fields, layouts_of, pack, unpack

LAYOUTS = layouts_of(chunk=16, max_cols=4096, max_kv_heads=16)
ACC = {"acc": -5, "scale": {"sig": 1500, "exp": -20}, "place": {"token": 9, "index": 4097}, "bias": 0xBC00}


def test_packing_is_amaranths():
    assert pack(LAYOUTS.acc, ACC) == LAYOUTS.acc.const(ACC).as_value().value
    assert unpack(LAYOUTS.acc, LAYOUTS.acc.const(ACC).as_value().value) == ACC
    pairs = data.ArrayLayout(data.StructLayout({"a": signed(3), "b": 2}), 3)
    values = [{"a": -4, "b": 1}, {"a": 3, "b": 0}, {"a": -1, "b": 3}]
    assert pack(pairs, values) == pairs.const(values).as_value().value
    assert unpack(pairs, pack(pairs, values)) == values


def test_a_named_tuple_is_a_structure_and_missing_fields_are_zero():
    assert unpack(LAYOUTS.head_codes, pack(LAYOUTS.head_codes, code=-128, scale=Scale(2047, -1), head=63)) == {
        "code": -128, "scale": {"sig": 2047, "exp": -1}, "last": 0, "token": 0, "head": 63}
    assert fields(LAYOUTS.head_codes, pack(LAYOUTS.head_codes, token=3, last=1), "last", "token") == (1, 3)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError) as wide:
        pack(LAYOUTS.head_codes, code=128)
    assert str(wide.value) == "128 is not in the range of signed(8), -128 to 127"
    with pytest.raises(ValueError) as unknown:
        pack(LAYOUTS.head_codes, codes=1)
    assert str(unknown.value) == "the layout has no field 'codes'; there are: code, scale, last, token, head"


def test_a_scale_is_the_specifications_bits():
    for scale in (Scale(0, 0), Scale(1024, -128), Scale(2047, 127)):
        assert pack(ScaleLayout, scale) == scale.pack()


def test_records_of_the_link_are_the_specifications_bytes():
    def words(record):
        """The fields but the slot, which lies in the upper half of another one's word."""
        return {name: value for name, value in vars(record).items() if name != "slot"}

    start = StartArgs(position=258, feed=3, generate=65535, flags=StartFlags.DUMP, chunk=16, ends=(0xDEADBEEF, 1, 2, 0x80000003))
    assert pack(RunArgs, words(start)) == int.from_bytes(start.pack(), "little")
    assert RunArgs["ends"].shape == data.ArrayLayout(32, END_TOKENS)
    event = Event(position=1, id=2, logit=3, cycles=4, read_words=5, write_words=6, sdram_busy=7, engine_busy=8)
    assert pack(EventLayout["payload"].shape, words(event)) == int.from_bytes(event.pack(), "little")
    for word in StatusWord:
        assert StatusLayout[word.name.lower()].offset == 32 * word
    assert StatusLayout.size == 256
