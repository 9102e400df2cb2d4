# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Configurations and shapes at, below and above each limit: each fits the widths of the gateware's own layouts, or is refused."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.lib.control import EngineArgs, LmHeadArgs, QuantArgs
from hw.lib.ports import MemoryRequest
from hw.lib.types import AccLayout, AttnHeadCodes, PlaceLayout
from tellme.compiler.image import CompileError, check_shape, lay_out
from tellme.models.config import ModelConfig, ModelError
from tellme.spec.config import PRESETS, BoardConfig, ConfigError
from tellme.spec.packing import slices

#: A bias of the sum's rounding and the code -128 are within the bounds below: 16-bit weights, int8 codes.
WEIGHT, CODE = (1 << 16) - 1, 128


def around(*edges):
    """Numbers at some edges and next to them, and any up to the largest."""
    near = [edge + step for edge in edges for step in (-4, -1, 0, 1, 4) if edge + step > 0]
    return st.one_of(st.sampled_from(near), st.integers(1, 2 * max(edges)))


def multiples(factor, *edges):
    """The same, rounded up to multiples."""
    return around(*edges).map(lambda n: factor * -(-n // factor))


CONFIGS = st.fixed_dictionaries({
    "lanes": st.sampled_from([1, 2, 8, 16, 32]), "chunk": around(16), "float_lanes": st.sampled_from([1, 2, 3, 4, 32]),
    "max_dim": around(512, 4096), "max_cols": around(1280, 4096), "max_head_dim": around(64, 128), "max_kv_heads": around(16, 32),
    "max_group": around(4, 7), "max_context": around(1024, 4096), "program_steps": around(256, 1 << 16),
    "sdram_bytes": around(1 << 25, 1 << 26), "sdram_column_bits": st.sampled_from([8, 9, 10, 11]),
    "name": st.sampled_from(["a", "a name of sixteen", "sixteen letters!", "\u00e9" * 8, "\u00e9" * 9, ""])})

SHAPES = st.fixed_dictionaries({
    "dim": multiples(4, 64, 512, 4096, 8192), "ffn": multiples(4, 64, 1280, 4096, 6912), "layers": st.integers(1, 4),
    "kv_heads": around(1, 16, 32, 43), "group": st.one_of(st.just(1), around(4, 7)), "head_dim": multiples(8, 16, 64, 128),
    "vocab": around(300, 1 << 18), "context": around(24, 1024, 4096)})


def shape(drawn):
    """A model's configuration; a ModelError where it is no model at all."""
    drawn = dict(drawn)
    group = drawn.pop("group")
    config = ModelConfig(heads=group * drawn["kv_heads"], bos=0, eos=0, **drawn)
    config.check()
    return config


def bits(value):
    """Bits of a number from 0 up."""
    return value.bit_length()


def width(layout, *fields):
    """Bits of a field of a layout, or of a layout within."""
    for name in fields[:-1]:
        layout = layout[name].shape
    found = layout[fields[-1]].width
    return found


def fits(config, c):
    """Each number that the gateware passes on for a shape has room in the gateware's own layout."""
    rows = max(c.q_dim + 2 * c.kv_dim, 2 * c.ffn, c.dim)
    assert bits(rows - 1) <= width(PlaceLayout, "index")
    assert bits(rows) <= width(EngineArgs, "rows")
    longest = max(c.dim, c.ffn, c.q_dim)
    assert bits(longest) <= width(EngineArgs, "cols") and bits(longest) <= width(QuantArgs, "n")
    assert bits(c.dim) <= width(LmHeadArgs, "dim") and bits(c.vocab) <= width(LmHeadArgs, "vocab")
    assert bits(c.heads + 2 * c.kv_heads - 1) <= width(AttnHeadCodes, "head")
    assert bits(config.chunk - 1) <= width(PlaceLayout, "token") and bits(config.chunk) <= width(EngineArgs, "tokens")
    # A sum is signed: one bit more than its size.
    assert bits(WEIGHT * CODE * c.context) < width(AccLayout, "acc")
    assert bits(longest * CODE) < width(AccLayout, "acc") and slices(longest) * 20 <= config.padded_cols
    assert bits(config.sdram_bytes // 4 - 1) <= width(MemoryRequest, "addr")


@settings(max_examples=400, deadline=None)
@given(CONFIGS, SHAPES)
def test_what_is_not_refused_fits(parameters, drawn):
    try:
        config = BoardConfig(**parameters)
    except ConfigError as error:
        assert str(error).startswith(f"preset {parameters['name']}: ") and " can be" in str(error)
        return
    try:
        c = shape(drawn)
    except ModelError:
        return
    try:
        check_shape(c, config)
        lay_out(c, config, 0, "board")
    except CompileError:
        return
    fits(config, c)


@settings(max_examples=2000, deadline=None)
@given(SHAPES)
def test_what_the_widest_configuration_takes_fits(drawn):
    """No build's own limits, only those of the gateware's widths."""
    widest = BoardConfig("widest", lanes=16, chunk=16, max_dim=4096, max_cols=4096, max_head_dim=128, max_kv_heads=42,
                         max_group=1, max_context=4096, program_steps=1 << 16, sdram_bytes=1 << 26, sdram_column_bits=10)
    try:
        c = shape(drawn)
        check_shape(c, widest)
    except (ModelError, CompileError):
        return
    fits(widest, c)


def test_presets_are_within_the_widths():
    assert all(replace(config) == config for config in PRESETS.values())


LIMITS = {"max_cols": 4096, "max_context": 4096, "max_head_dim": 128, "max_group": 7, "sdram_bytes": 1 << 26,
          "program_steps": 1 << 16}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_the_last_that_can_be(name):
    base = BoardConfig("base", max_dim=64, max_kv_heads=8, sdram_column_bits=10)
    assert getattr(replace(base, **{name: LIMITS[name]}), name) == LIMITS[name]
    with pytest.raises(ConfigError) as caught:
        replace(base, **{name: LIMITS[name] + 1})
    assert f"preset base: {name} is {LIMITS[name] + 1}; " in str(caught.value)
    assert f" to {LIMITS[name]} can be (" in str(caught.value)


@pytest.mark.parametrize(("changes", "message"), [
    ({"chunk": 3}, "preset x: chunk is 3; 1 to 2 can be (a lane a token, of the lanes that there are)"),
    ({"lanes": 32, "chunk": 17}, "preset x: chunk is 17; 1 to 16 can be (a lane a token, of the lanes that there are)"),
    ({"max_dim": 1284}, "preset x: max_dim is 1284; 4 to 1280 can be (max_cols, as a linear takes the residual vector)"),
    ({"max_cols": 6912},
     "preset x: max_cols is 6912; 4 to 4096 can be (gate and up have twice as many rows, which have numbers)"),
    ({"max_kv_heads": 22}, "preset x: max_heads + 2 max_kv_heads is 132; 3 to 128 can be (attention heads have numbers)"),
    ({"float_lanes": 2}, "preset x: float_lanes is 2; a power of two up to chunk, 1, can be"),
    ({"name": "seventeen letters"}, "preset seventeen letters: length of the name is 17; 1 to 16 can be (HELLO's field)"),
])
def test_a_configuration_that_no_gateware_has(changes, message):
    with pytest.raises(ConfigError) as caught:
        BoardConfig(**{"name": "x"} | changes)
    assert str(caught.value) == message


@pytest.mark.parametrize(("changes", "message"), [
    ({"ffn": 4100}, "ffn is 4100, and the build wide can do 4096"),
    ({"kv_heads": 42, "heads": 42, "head_dim": 72}, "rows of q, k and v: 9072, and the gateware numbers 8192"),
    ({"vocab": 1 << 18}, "vocabulary is 262144, and the build wide can do 262143"),
])
def test_a_shape_that_no_gateware_has(changes, message):
    wide = BoardConfig("wide", max_dim=4096, max_cols=4096, max_head_dim=128, max_kv_heads=42, max_group=1, max_context=4096)
    base = ModelConfig(dim=64, ffn=64, layers=1, heads=4, kv_heads=4, head_dim=16, vocab=300, context=24)
    check_shape(base, wide)
    with pytest.raises(CompileError) as caught:
        check_shape(replace(base, **changes), wide)
    assert str(caught.value) == message
