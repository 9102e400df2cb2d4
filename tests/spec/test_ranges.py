# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Numbers of packets, descriptors, registers and tiles: the ends of each range fit, and numbers beyond are refused by name."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellme.errors import InputError
from tellme.spec.memory import (
    END_RANGE,
    END_TOKENS,
    EVENT_RANGES,
    KV_PAGE,
    KV_PAGE_REGISTERS,
    MODEL_REGISTERS,
    NO_END,
    START_RANGES,
    TOKEN_ID,
    Event,
    StartArgs,
    StartFlags,
    check_registers,
    check_tokens,
)
from tellme.spec.packing import (
    MAX_PLANES,
    TILE_HEADER_FIELDS,
    TILE_HEADER_PLANES,
    TILE_HEADER_ROWS,
    RowWord,
    TileHeader,
    pack_gains,
    pack_head_block,
    pack_matrix,
    pack_trits,
    plane_reach,
    planes_for,
    trits_of,
    unpack_trits,
)
from tellme.spec.program import (
    ADDRESS_RANGE,
    DESCRIPTOR_RANGES,
    MAX_SEGMENTS,
    SEGMENT_ENTRIES,
    SEGMENT_FIELDS,
    SEGMENT_WORDS,
    WORD0_FIELDS,
    Descriptor,
    Epilogue,
    FormatError,
    Op,
    QkvPart,
    Segment,
    check_segments,
    pack_segments,
    unpack_segments,
)
from tellme.spec.ranges import I8, U8, U16, U32, RangeError
from tellme.spec.scale import SCALE_RANGES, Scale
from tellme.spec.words import pack_word, unpack_word

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
        *numbers, both = StartArgs.LAYOUT.unpack(packed)[:-END_TOKENS]
        assert dict(zip(START_RANGES, (*numbers, both & 0xFFFF, both >> 16), strict=True))[name] == value


def test_a_start_carries_up_to_four_end_tokens():
    for count in range(END_TOKENS + 1):
        ends = (*END_RANGE, 7, 8)[:count]
        told = StartArgs.LAYOUT.unpack(replace(START, ends=ends).pack())[-END_TOKENS:]
        assert told == ends + (NO_END,) * (END_TOKENS - count)
    with pytest.raises(ValueError, match="5 end tokens; a START has room for 4"):
        replace(START, ends=(1, 2, 3, 4, 5))
    for value in (END_RANGE.least - 1, END_RANGE.most + 1):
        with refuses(f"end token: {value} is outside 0 to {END_RANGE.most}"):
            replace(START, ends=(1, value))


@pytest.mark.parametrize(("name", "value", "text"), outside(START_RANGES))
def test_a_start_refuses_what_its_fields_cannot_hold(name, value, text):
    with refuses(text) as caught:
        replace(START, **{name: value})
    assert (caught.value.name, caught.value.value) == (name, value)
    assert (caught.value.least, caught.value.most) == START_RANGES[name]


def test_the_flags_of_a_start_are_all_of_them():
    assert START_RANGES["flags"].most == int(StartFlags.CLEAR | StartFlags.DUMP | StartFlags.SAMPLE | StartFlags.ALL
                                               | StartFlags.TWO_STEPS)


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
    for value in DESCRIPTOR_RANGES[name]:
        step = Descriptor(Op.LINEAR, **{name: value})
        assert Descriptor.unpack(step.pack()) == step


@pytest.mark.parametrize(("name", "value", "text"), outside(DESCRIPTOR_RANGES))
def test_a_descriptor_refuses_what_its_fields_cannot_hold(name, value, text):
    with refuses(text):
        Descriptor(Op.LINEAR, **{name: value})


def test_a_layers_number_is_in_every_descriptor_of_it():
    for op in (Op.LINEAR, Op.ATTENTION):
        for layer in (0, 1, 254, 255):
            step = Descriptor(op, layer=layer)
            assert step.pack()[0] >> 24 == layer and Descriptor.unpack(step.pack()) == step


@pytest.mark.parametrize("words", [(15, 0, 0, 0), (Op.LINEAR | 1 << 15, 0, 0, 0), (Op.ATTENTION, 5, 0, 0),
                                   (Op.ATTENTION, 0, 5, 0), (Op.EMBED, 0, 0, 5), (Op.END, 1, 0, 0)])
def test_what_is_no_descriptor_of_this_format(words):
    with pytest.raises(FormatError, match="is no descriptor of program format 3$"):
        Descriptor.unpack(words)


@pytest.mark.parametrize(("address", "words64", "text"), [
    (0, 0, "words64: 0 is outside 1 to 4294967295"), (-1, 1, "address: -1 is outside 0 to 4294967295"),
    (1 << 28, 1, "address of a segment: 268435456 is outside 0 to 268435455"),
    ((1 << 28) - 1, 1, "last word of a segment: 268435456 is outside 0 to 268435455"),
    (0, 1 << 28, "last word of a segment: 536870911 is outside 0 to 268435455"),
])
def test_a_segment_refuses_what_a_board_cannot_read(address, words64, text):
    with refuses(text):
        Segment(address, words64).pack()


def test_the_ends_of_a_segments_ranges():
    for segment in (Segment(0, 1), Segment((1 << 28) - 2, 1), Segment(0, 1 << 27), Segment(5, 7, lm_head=True)):
        first = Segment(0, 1)
        assert unpack_segments(pack_segments([first, segment])) == (first, segment)


def test_lists_of_segments():
    body, head = Segment(0, 1), Segment(0, 1, lm_head=True)
    assert len(pack_segments([body] * MAX_SEGMENTS)) == SEGMENT_WORDS * SEGMENT_ENTRIES
    for count in (0, MAX_SEGMENTS + 1):
        with refuses(f"segments of the weight stream: {count} is outside 1 to 255"):
            pack_segments([body] * count)
    with pytest.raises(FormatError, match="^the first segment of the weight stream is for the LM head: each chunk reads"):
        pack_segments([head])
    with pytest.raises(FormatError, match="^segment 3 of the weight stream lies behind one of the LM head, whose segments come "):
        check_segments([body, body, head, body])
    with pytest.raises(FormatError, match="^the list of segments has no end within its 256 entries$"):
        unpack_segments([1, 0] * SEGMENT_ENTRIES)
    for words in ([1 << 28 | 1, 0], [1, 1 << 28], [1]):
        with pytest.raises(FormatError, match="^entry 0 of the list of segments is none of program format 3$"):
            unpack_segments(words)


@pytest.mark.parametrize("name", KV_PAGE_REGISTERS)
def test_caches_begin_at_pages(name):
    for value in (0, KV_PAGE, 77 * KV_PAGE):
        check_registers({name: value})
    for value in (1, KV_PAGE - 1, KV_PAGE + 1):
        with pytest.raises(InputError, match=f"^register {name}: {value} is no multiple of 256, where caches begin$"):
            check_registers({name: value})


def within(limits):
    """Numbers of a range, its ends more often than others."""
    return st.integers(*limits) | st.sampled_from(limits)


SCALES = st.builds(Scale, *(within(SCALE_RANGES[name]) for name in ("sig", "exp")))
BITS = {name: st.booleans() for name in ("src_a", "norm", "gain", "gain_next", "relu2")}
COMMON = BITS | {"epilogue": st.sampled_from(Epilogue), "act_exp": within(I8), "layer": within(U8)}


def step_of(op, epilogue, *, gain, gain_next, **args):
    """A step, without gains for A of a step that stores in A and has gains of A."""
    return Descriptor(op, epilogue, gain=gain, gain_next=gain_next and not (epilogue == Epilogue.STORE and gain), **args)


#: A LINEAR or HEAD has numbers of its own; of all others these are zeros.
DESCRIPTORS = st.one_of(
    st.builds(step_of, st.sampled_from((Op.LINEAR, Op.HEAD)), rows=within(U16), cols=within(U16), n_eps=within(U32),
              sqrt_n=SCALES, **COMMON),
    st.builds(Descriptor, st.sampled_from((Op.END, Op.EMBED, Op.ATTENTION)), **COMMON),
    st.builds(Descriptor, st.just(Op.LINEAR), rows=within(U16), cols=within(U16), bias=st.booleans(), head_gains=st.just(True),
              **COMMON | {"epilogue": st.just(Epilogue.QKV), "gain_next": st.just(False)}),
    st.builds(Descriptor, st.just(Op.LINEAR), rows=within(U16), cols=within(U16), bias=st.just(True),
              **COMMON | {"epilogue": st.sampled_from((Epilogue.STORE, Epilogue.ACT, Epilogue.QKV)), "gain": st.just(False)}),
    st.builds(lambda n, part, **args: Descriptor(Op.NORM, Epilogue.QKV if part else Epilogue.RESIDUAL, src_a=True, part=part,
                                                 rows=n, cols=n, gain_next=not part, **args),
              within(U16), st.sampled_from((QkvPart.WHOLE, QkvPart.Q, QkvPart.K)), norm=st.booleans(), gain=st.booleans(),
              n_eps=within(U32), sqrt_n=SCALES, layer=within(U8)),
    st.builds(lambda part, **args: Descriptor(Op.LINEAR, Epilogue.QKV if part == QkvPart.V else Epilogue.STORE, part=part,
                                              **args),
              st.sampled_from((QkvPart.Q, QkvPart.K, QkvPart.V)), rows=within(U16), cols=within(U16), bias=st.booleans(),
              layer=within(U8)))
SEGMENTS = st.builds(Segment, st.integers(0, ADDRESS_RANGE.most // 2), within((1, 1 << 22)))


NORM = Descriptor(Op.NORM, Epilogue.RESIDUAL, src_a=True, rows=8, cols=8)


@pytest.mark.parametrize("change", [
    {"src_a": False}, {"relu2": True}, {"act_exp": 1}, {"rows": 4}, {"epilogue": Epilogue.STORE}, {"epilogue": Epilogue.ACT},
    {"epilogue": Epilogue.QKV}, {"part": QkvPart.Q}, {"epilogue": Epilogue.QKV, "part": QkvPart.V},
    {"epilogue": Epilogue.QKV, "part": QkvPart.K, "gain_next": True}])
def test_a_norm_that_no_gateware_does_is_none(change):
    with pytest.raises(FormatError, match="^a NORM of . rows and 8 columns with the epilogue [A-Z]+ of the part [A-Z]+ is none:"):
        replace(NORM, **change)


@pytest.mark.parametrize(("op", "epilogue", "part", "more"), [
    (Op.ATTENTION, Epilogue.STORE, QkvPart.Q, {}), (Op.LINEAR, Epilogue.QKV, QkvPart.Q, {}),
    (Op.LINEAR, Epilogue.STORE, QkvPart.V, {}),
    (Op.LINEAR, Epilogue.ACT, QkvPart.K, {}), (Op.LINEAR, Epilogue.QKV, QkvPart.V, {"head_gains": True})])
def test_a_step_of_no_part_has_none(op, epilogue, part, more):
    with pytest.raises(FormatError, match=f"^a step {op.name} with the epilogue {epilogue.name} has no part {part.name}$"):
        Descriptor(op, epilogue, part=part, **more)


def test_what_is_quantised_again_and_what_goes_from_a_to_a():
    for part, again in ((QkvPart.Q, False), (QkvPart.K, True)):
        step = Descriptor(Op.LINEAR, Epilogue.STORE, part=part)
        assert step.again == again
        for name in ("src_a", "norm", "gain"):
            if again:
                with pytest.raises(FormatError, match="^a LINEAR of the part K takes the codes of X that the one before took, "):
                    replace(step, **{name: True})
            else:
                replace(step, **{name: True})
    to_a = Descriptor(Op.LINEAR, Epilogue.STORE, src_a=True, gain=True)
    with pytest.raises(FormatError, match="^a LINEAR from A to A has gains of its own, or loads those of the norm that"):
        replace(to_a, gain_next=True)


@given(DESCRIPTORS)
def test_descriptors_survive_their_packing(step):
    words = step.pack()
    assert Descriptor.unpack(words) == step and Descriptor.unpack(words).pack() == words
    assert all(0 <= word <= U32.most for word in words)


@pytest.mark.parametrize(("op", "epilogue", "gain_next"), [
    (Op.LINEAR, Epilogue.ACT, False), (Op.LINEAR, Epilogue.QKV, True), (Op.HEAD, Epilogue.QKV, False),
    (Op.ATTENTION, Epilogue.STORE, False)])
def test_a_step_without_heads_takes_no_gains_of_heads(op, epilogue, gain_next):
    with pytest.raises(FormatError, match=f"^a step {op.name} with the epilogue {epilogue.name}"
                                          f"{' and gains of a norm that follows' * gain_next} takes no gains of heads$"):
        Descriptor(op, epilogue, head_gains=True, gain_next=gain_next)


@pytest.mark.parametrize(("op", "epilogue"), [(Op.LINEAR, Epilogue.RESIDUAL), (Op.HEAD, Epilogue.STORE),
                                              (Op.EMBED, Epilogue.STORE)])
def test_a_step_that_cannot_add_biases_has_none(op, epilogue):
    with pytest.raises(FormatError, match=f"a step {op.name} with the epilogue {epilogue.name} adds no biases"):
        Descriptor(op, epilogue, bias=True)
    with pytest.raises(FormatError, match="adds no biases"):
        Descriptor.unpack((op | epilogue << 4 | 1 << 11, 0, 0, 0))


@given(SCALES, within(TILE_HEADER_ROWS), SCALES, within(TILE_HEADER_PLANES), st.booleans(), st.booleans(), within(U8))
def test_headers_of_tiles_survive_their_packing(even, rows, odd, planes, row_words, free, group_slices):
    header = TileHeader(even, rows, odd, planes, row_words, free, group_slices)
    assert TileHeader.unpack(header.pack()) == header and header.pack() < 1 << 59
    assert TileHeader(even, rows, odd).pack() < 1 << 46


@given(within(U16), within(U16))
def test_words_of_rows_survive_their_packing(scale, bias):
    row = RowWord(scale, bias)
    assert RowWord.unpack(row.pack()) == row and row.pack() == scale | bias << 16
    assert RowWord(scale).bias == 0x8000


@pytest.mark.parametrize("planes", range(1, MAX_PLANES + 1))
def test_planes_hold_each_integer_up_to_their_reach(planes):
    reach = plane_reach(planes)
    assert reach == (1, 4, 13, 40, 121, 364)[planes - 1]
    for weight in range(-reach, reach + 1):
        trits = trits_of(weight, planes)
        assert len(trits) == planes and set(trits) <= {-1, 0, 1} and sum(t * 3**p for p, t in enumerate(trits)) == weight
        assert planes_for(abs(weight)) <= planes
    assert planes_for(reach) == planes
    with refuses(f"weight of {planes} plane{'s' * (planes > 1)}: {reach + 1} is outside {-reach} to {reach}"):
        trits_of(reach + 1, planes)


def test_no_tile_has_planes_for_more():
    with refuses("magnitude of a weight: 365 is outside 0 to 364"):
        planes_for(365)


@given(st.lists(SEGMENTS, min_size=1, max_size=MAX_SEGMENTS), st.integers(1, MAX_SEGMENTS), st.integers(0, 40))
def test_lists_of_segments_survive_their_packing(segments, body, rest):
    segments = tuple(replace(s, lm_head=i >= body) for i, s in enumerate(segments))
    words = pack_segments(segments)
    # What lies behind the end counts for nothing.
    assert unpack_segments([*words, *[U32.most] * rest]) == segments


def test_words_of_fields():
    layout = {"low": 3, "high": 5}
    assert pack_word(layout, {"low": 5, "high": 9}) == 0x4D and unpack_word(layout, 0x4D) == {"low": 5, "high": 9}
    with refuses("low: 8 is outside 0 to 7"):
        pack_word(layout, {"low": 8})
    with pytest.raises(KeyError, match="middle"):
        pack_word(layout, {"middle": 0})
    # Layouts of whole words, of which no bit is left out.
    assert [sum(f.values()) for f in (WORD0_FIELDS, *SEGMENT_FIELDS, TILE_HEADER_FIELDS)] == [32, 32, 32, 64]


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
    for planes in (0, 7):
        with refuses(f"planes of a tile: {planes} is outside 1 to 6"):
            TileHeader(UNIT, 2, UNIT, planes).pack()
    with refuses("slices of a column group: 256 is outside 0 to 255"):
        TileHeader(UNIT, 2, UNIT, group_slices=256).pack()
    word = TileHeader(UNIT, 2, UNIT).pack()
    assert word >> 46 == 0
    for planes in (7, 8):
        with pytest.raises(FormatError, match=f"has {planes} planes, which format 3 does not know: "):
            TileHeader.unpack(word | planes - 1 << 46)
    for bit in range(59, 64):
        with pytest.raises(FormatError, match="has bits above its fields, which format 3 does not know"):
            TileHeader.unpack(word | 1 << bit)


def test_packed_tables():
    with refuses("gain: 65536 is outside 0 to 65535"):
        pack_gains([0, 65536])
    with refuses("stored scale: 65536 is outside 0 to 65535"):
        pack_head_block([[0, 0]], [65536])
    with refuses("code: 128 is outside -128 to 127"):
        pack_head_block([[0, 128]], [0])
    for rows, scales in ((5, 5), (2, 1)):
        with pytest.raises(ValueError, match=f"^a block has up to 4 rows with a scale each, not {rows}$"):
            pack_head_block([[0, 0]] * rows, [0] * scales)


def test_trits_that_are_none():
    with pytest.raises(ValueError, match="^weight 2 is not one of -1, 0, 1$"):
        pack_trits([0, 2])
    for byte in (-1, 243):
        with pytest.raises(ValueError, match=rf"^byte {byte} is no base-3 code \(0 to 242\)$"):
            unpack_trits(byte)
    assert [pack_trits(unpack_trits(byte)) for byte in range(243)] == [*range(243)]
    with pytest.raises(ValueError, match="^3 rows: a packed matrix has an even number$"):
        pack_matrix([[0, 1]] * 3, Scale(1024, 0))


@pytest.mark.parametrize("name", MODEL_REGISTERS)
def test_registers_are_words(name):
    values = dict.fromkeys(MODEL_REGISTERS, 0)
    for value in U32:
        check_registers(values | {name: value - value % KV_PAGE if name in KV_PAGE_REGISTERS else value})
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


def test_tokens_of_a_core_with_a_small_vocabulary():
    check_tokens(0, [0, 12], 8, 12)
    with refuses("token: 13 is outside 0 to 12"):
        check_tokens(0, [13], 8, 12)


def test_tokens_that_fit():
    check_tokens(0, [TOKEN_ID.least, TOKEN_ID.most] * 4, 8)
    check_tokens(8, [], 8)
