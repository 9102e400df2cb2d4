# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Numbers of packets, descriptors, registers and tiles: the ends of each range fit, and numbers beyond are refused by name."""

import re
from dataclasses import replace

import pytest

from tellme.spec.memory import (
    EVENT_RANGES,
    MODEL_REGISTERS,
    START_RANGES,
    TOKEN_ID,
    Event,
    StartArgs,
    StartFlags,
    check_registers,
    check_tokens,
)
from tellme.spec.packing import TILE_HEADER_ROWS, TileHeader, pack_gains, pack_head_block
from tellme.spec.program import ADDRESS_RANGE, DESCRIPTOR_RANGES, Descriptor, Op
from tellme.spec.ranges import U32, RangeError
from tellme.spec.scale import SCALE_RANGES, Scale

START = StartArgs(0, 1, 0)
EVENT = Event(0, 0, 0, 0, 0, 0, 0, 0)
UNIT = Scale(1024, -10)


def outside(ranges):
    """(name, number, text of the error) just below and just above each range."""
    return [(name, value, f"{name}: {value} is outside {limits.least} to {limits.most}")
            for name, limits in ranges.items() for value in (limits.least - 1, limits.most + 1)]


def refuses(text):
    return pytest.raises(RangeError, match=f"^{re.escape(text)}$")


@pytest.mark.parametrize("name", START_RANGES)
def test_a_start_carries_the_ends_of_its_ranges(name):
    for value in START_RANGES[name]:
        packed = replace(START, **{name: value}).pack()
        assert dict(zip(START_RANGES, StartArgs.LAYOUT.unpack(packed), strict=True))[name] == value


@pytest.mark.parametrize(("name", "value", "text"), outside(START_RANGES))
def test_a_start_refuses_what_its_fields_cannot_hold(name, value, text):
    with refuses(text) as caught:
        replace(START, **{name: value})
    assert (caught.value.name, caught.value.value) == (name, value)
    assert (caught.value.least, caught.value.most) == START_RANGES[name]


def test_the_flags_of_a_start_are_all_of_them():
    assert START_RANGES["flags"].most == int(StartFlags.CLEAR | StartFlags.DUMP)


def test_a_start_stays_in_the_context():
    StartArgs(4, 4, 1).check_context(8)
    with refuses("position + feed: 9 is outside 0 to 8"):
        StartArgs(4, 5, 1).check_context(8)


@pytest.mark.parametrize("name", EVENT_RANGES)
def test_an_event_carries_the_ends_of_its_ranges(name):
    for value in EVENT_RANGES[name]:
        event = replace(EVENT, **{name: value})
        assert Event.unpack(event.pack()) == event


@pytest.mark.parametrize(("name", "value", "text"), outside(EVENT_RANGES))
def test_an_event_refuses_what_its_fields_cannot_hold(name, value, text):
    with refuses(text):
        replace(EVENT, **{name: value}).pack()


@pytest.mark.parametrize("name", DESCRIPTOR_RANGES)
def test_a_descriptor_carries_the_ends_of_its_ranges(name):
    address = name.endswith("_base")
    for value in ADDRESS_RANGE if address else DESCRIPTOR_RANGES[name]:
        step = Descriptor(Op.ATTENTION if address else Op.LINEAR, **{name: value})
        assert Descriptor.unpack(step.pack()) == step


@pytest.mark.parametrize(("name", "value", "text"), outside(DESCRIPTOR_RANGES))
def test_a_descriptor_refuses_what_its_fields_cannot_hold(name, value, text):
    with refuses(text):
        Descriptor(Op.LINEAR, **{name: value})


@pytest.mark.parametrize("name", ["k_base", "v_base", "s_base"])
def test_a_descriptor_is_not_packed_with_an_address_beyond_a_boards(name):
    step = Descriptor(Op.ATTENTION, **{name: ADDRESS_RANGE.most + 1})
    with refuses(f"{name}: 16777216 is outside 0 to 16777215"):
        step.pack()


@pytest.mark.parametrize("name", SCALE_RANGES)
def test_a_scale_carries_the_ends_of_its_ranges(name):
    for value in SCALE_RANGES[name]:
        scale = UNIT._replace(**{name: value})
        assert Scale.unpack(scale.pack()) == scale


@pytest.mark.parametrize(("name", "value", "text"), outside(SCALE_RANGES))
def test_a_scale_refuses_what_its_fields_cannot_hold(name, value, text):
    with refuses(text):
        UNIT._replace(**{name: value}).pack()


def test_a_tiles_header():
    for rows in TILE_HEADER_ROWS:
        header = TileHeader(UNIT, rows, UNIT)
        assert TileHeader.unpack(header.pack()) == header
    for rows in (0, 256):
        with refuses(f"rows of a tile: {rows} is outside 1 to 255"):
            TileHeader(UNIT, rows, UNIT).pack()


def test_packed_tables():
    with refuses("gain: 65536 is outside 0 to 65535"):
        pack_gains([0, 65536])
    with refuses("stored scale: 65536 is outside 0 to 65535"):
        pack_head_block([[0, 0]], [65536])
    with refuses("code: 128 is outside -128 to 127"):
        pack_head_block([[0, 128]], [0])


@pytest.mark.parametrize("name", MODEL_REGISTERS)
def test_registers_are_words(name):
    values = dict.fromkeys(MODEL_REGISTERS, 0)
    for value in U32:
        check_registers(values | {name: value})
    for value in (-1, 1 << 32):
        with refuses(f"register {name}: {value} is outside 0 to 4294967295"):
            check_registers(values | {name: value})


@pytest.mark.parametrize(("position", "tokens", "text"), [
    (-1, [1], "position: -1 is outside 0 to 8"), (9, [], "position: 9 is outside 0 to 8"),
    (6, [1, 2, 3], "position + tokens: 9 is outside 0 to 8"), (0, [-1], "token: -1 is outside 0 to 262143"),
    (0, [0, 1 << 18], "token: 262144 is outside 0 to 262143"),
])
def test_tokens_that_token_memory_does_not_hold(position, tokens, text):
    with refuses(text):
        check_tokens(position, tokens, 8)


def test_tokens_that_fit():
    check_tokens(0, [TOKEN_ID.least, TOKEN_ID.most] * 4, 8)
    check_tokens(8, [], 8)
