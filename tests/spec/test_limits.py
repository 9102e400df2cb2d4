# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Configurations and shapes at, below and above each limit: each fits the widths that follow from it, or is refused; and no width
that follows from a configuration is wider than its largest number."""

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.lib.layouts import Layouts
from tellme.compiler.image import CompileError, check_shape, lay_out
from tellme.models.config import ModelConfig, ModelError
from tellme.spec.attention import SUM_FRAC, softmax
from tellme.spec.config import PRESETS, ConfigError, CoreConfig
from tellme.spec.packing import head_block_words, head_row_words, slices
from tellme.spec.scale import Scale
from tellme.spec.widths import Widths

#: The largest weight of an attention sum, from the specification's arithmetic: that of the only key, with the largest scale.
WEIGHT = softmax([0], [Scale(2047, 0)]).weights[0]
CODE = -128


def around(*edges):
    """Numbers at some edges and next to them, and any up to the largest."""
    near = [edge + step for edge in edges for step in (-4, -1, 0, 1, 4) if edge + step > 0]
    return st.one_of(st.sampled_from(near), st.integers(1, 2 * max(edges)))


def multiples(factor, *edges):
    """The same, rounded up to multiples."""
    return around(*edges).map(lambda n: factor * -(-n // factor))


CONFIGS = st.fixed_dictionaries({
    "lanes": st.sampled_from([1, 2, 8, 16, 17]), "chunk": around(2, 16), "float_lanes": st.sampled_from([1, 2, 3, 4, 32]),
    "head_tokens": st.sampled_from([1, 1, 1, 2, 16]), "pes": st.sampled_from([4, 8, 16, 5]),
    "exp_units": st.sampled_from([1, 2, 3]),
    "max_dim": around(512, 4096), "max_cols": around(1280, 4096, 6912, 8200), "max_head_dim": around(16, 64, 128),
    "max_kv_heads": around(1, 8, 16), "max_group": around(1, 2, 4, 8), "max_context": around(1024, 4096, 65535),
    "max_vocab": around(8, 32000, 1 << 18), "tile_rows": around(128, 160, 255), "program_steps": around(256, 1 << 16),
    "sdram_bytes": around(1 << 25, 1 << 26), "sdram_column_bits": st.sampled_from([8, 9, 10, 11]),
    "planes": st.sampled_from([1, 1, 2, 3, 5, 6, 7]), "multipliers": st.sampled_from([False, False, True]),
    "name": st.sampled_from(["a", "a name of sixteen", "sixteen letters!", "\u00e9" * 8, "\u00e9" * 9, ""])})

SHAPES = st.fixed_dictionaries({
    "dim": multiples(4, 64, 512, 4096, 8192), "ffn": multiples(4, 64, 1280, 4096, 6912), "layers": st.integers(1, 4),
    "kv_heads": around(1, 16, 32, 43), "group": st.one_of(st.just(1), around(4, 7)), "head_dim": multiples(8, 16, 64, 128),
    "vocab": around(300, 32000, 1 << 18), "context": around(24, 1024, 4096)})


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


@cache
def layouts_of(widths):
    return Layouts(widths)


def holds(width, value, *, sign=False):
    """Whether so many bits hold a number; ``sign``: in two's complement."""
    return -(1 << width - 1) <= value < 1 << width - 1 if sign else 0 <= value < 1 << width


def fits(config, c):
    """Each number that the gateware passes on for a shape has room in the layouts of that configuration's gateware."""
    layouts = layouts_of(config.widths)
    rows = max(c.q_dim + 2 * c.kv_dim, 2 * c.ffn, c.dim)
    assert bits(rows - 1) <= width(layouts.place, "index")
    assert bits(rows) <= min(width(layouts.engine_args, "rows"), width(layouts.pass_args, "length"))
    assert bits(c.q_dim + c.kv_dim) <= min(width(layouts.pass_args, "rope_rows"), width(layouts.sizes, "qk_dim"))
    assert not layouts.row_words or bits(c.q_dim) <= width(layouts.pass_args, "q_rows")
    longest = max(c.dim, c.ffn, c.q_dim)
    assert bits(longest) <= width(layouts.engine_args, "cols") and bits(longest) <= width(layouts.quant_args, "n")
    assert bits(c.vocab) <= width(layouts.lm_head_args, "vocab") and bits(c.vocab) <= width(layouts.engine_args, "rows")
    assert bits(c.heads + 2 * c.kv_heads - 1) <= width(layouts.head_codes, "head")
    assert bits(config.chunk - 1) <= width(layouts.place, "token") and bits(config.chunk) <= width(layouts.engine_args, "tokens")
    assert bits(c.context - 1) <= width(layouts.fetch_args, "position")
    for name, value in (("dim", c.dim), ("heads", c.heads), ("kv_heads", c.kv_heads), ("head_dim", c.head_dim),
                        ("group", c.heads // c.kv_heads), ("context", c.context), ("vocab", c.vocab),
                        ("block_words", 2 * head_block_words(c.dim)), ("row_words", 2 * head_row_words(c.dim)),
                        ("kv_stride", c.context * c.head_dim // 4), ("s_stride", c.context)):
        assert bits(value) <= width(layouts.model_shape, name), name
    acc = width(layouts.acc, "acc")
    weight = largest_weight(config.planes)
    assert holds(acc, WEIGHT * CODE * c.context, sign=True) and holds(acc, -CODE * weight * longest, sign=True)
    assert c.head_dim >= 16 and slices(longest) * 20 <= config.padded_cols
    last = config.sdram_bytes // 4 - 1
    assert bits(last) <= width(layouts.attention_args, "k_base") and bits(last) <= width(layouts.memory_request, "addr")


def largest_weight(planes):
    """A one in each plane."""
    return sum(3**plane for plane in range(planes))


def largest_power(most):
    """The largest power of two up to a number."""
    return max(1 << bits for bits in range(17) if 1 << bits <= most)


def largest(config):
    """The largest number of each width of a core, worked out from its parameters and the specification's arithmetic; a signed
    one has a sum's largest size with either sign."""
    kv_dim = min(config.max_cols, config.max_kv_heads * config.max_head_dim)
    rows = max(2 * config.max_cols, config.max_cols + 2 * kv_dim)
    positions = range(config.max_context)
    weight = largest_weight(config.planes)
    # With multipliers: what an int32 holds.
    engine = (1 << 31) - 1 if config.multipliers else -CODE * weight * config.max_cols
    return {
        "row_bits": rows - 1, "row_count_bits": rows, "col_count_bits": config.max_cols, "dim_bits": config.max_dim,
        "token_bits": config.chunk - 1, "token_count_bits": config.chunk,
        "attention_head_bits": config.max_heads + 2 * config.max_kv_heads - 1, "heads_bits": config.max_heads,
        "kv_heads_bits": config.max_kv_heads, "head_dim_bits": config.max_head_dim, "group_bits": config.max_group,
        "position_bits": positions[-1], "position_count_bits": len(positions), "token_id_bits": config.max_vocab,
        "word_address_bits": config.sdram_bytes // 4 - 1, "step_bits": config.program_steps - 1,
        "request_bits": max((1 << 22) // 4 - 1, config.max_context * config.max_head_dim // 4,
                            config.max_vocab * config.head_tokens),
        "head_token_bits": config.head_tokens - 1, "slot_bits": config.slots - 1,
        "row_place_bits": config.slots * len(positions) - 1, "row_place_count_bits": config.slots * len(positions),
        "window_position_bits": (largest_power(len(positions) // config.slots) if config.slots > 1 else len(positions)) - 1,
        "exp_sum_bits": len(positions) << SUM_FRAC,
        "row_words_bits": 2 * head_row_words(config.max_dim), "block_words_bits": 2 * head_block_words(config.max_dim),
    }, {
        "engine_sum_bits": engine,
        "attention_sum_bits": -WEIGHT * CODE * config.max_context,
        "acc_bits": max(engine, -WEIGHT * CODE * config.max_context),
        "dot_bits": CODE * CODE * config.max_head_dim,
        "logit_sum_bits": -CODE * max(-CODE, weight) * config.max_dim,
    }


def check_widths(config):
    """Each width holds its largest number, and one bit less does not; an unsigned one has a bit at least."""
    widths = config.widths
    counts, sums = largest(config)
    words = {"word_bits", "attention_bits"}
    assert counts.keys() | sums.keys() == {name for name in dir(Widths) if name.endswith("_bits")} - words
    for name, value in counts.items():
        assert holds(getattr(widths, name), value), name
        assert getattr(widths, name) == 1 or not holds(getattr(widths, name) - 1, value), name
    for name, value in sums.items():
        assert holds(getattr(widths, name), value, sign=True) and holds(getattr(widths, name), -value, sign=True), name
        assert not holds(getattr(widths, name) - 1, value, sign=True), name


@settings(max_examples=250, deadline=None)
@given(CONFIGS, SHAPES)
def test_what_is_not_refused_fits(parameters, drawn):
    try:
        config = CoreConfig(**parameters)
    except ConfigError as error:
        assert str(error).startswith(f"preset {parameters['name']}: ") and " can be" in str(error)
        return
    check_widths(config)
    try:
        c = shape(drawn)
    except ModelError:
        return
    try:
        check_shape(c, config)
        lay_out(c, config, 0, 0, "board")
    except CompileError:
        return
    fits(config, c)


@settings(max_examples=1000, deadline=None)
@given(SHAPES)
def test_what_the_widest_configuration_takes_fits(drawn):
    """A configuration at all of its limits."""
    widest = CoreConfig("widest", max_dim=8200, max_cols=8200, max_head_dim=128, max_kv_heads=16, max_group=4, max_context=65535,
                        max_vocab=(1 << 32) - 1, program_steps=(1 << 24) - 1, sdram_bytes=1 << 26, sdram_column_bits=10)
    check_widths(widest)
    try:
        c = shape(drawn)
        check_shape(c, widest)
    except (ModelError, CompileError):
        return
    fits(widest, c)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_right_and_their_widths_are_tight(name):
    assert replace(PRESETS[name]) == PRESETS[name]
    check_widths(PRESETS[name])


LIMITS = {"max_cols": 8200, "max_context": 65535, "max_head_dim": 128, "max_kv_heads": 32, "max_group": 4, "sdram_bytes": 1 << 26,
          "max_vocab": (1 << 32) - 1, "tile_rows": 255, "planes": 6, "lanes": 16, "program_steps": (1 << 24) - 1,
          "sdram_column_bits": 10}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_the_last_that_can_be(name):
    base = CoreConfig("base", max_dim=64, max_kv_heads=8, sdram_column_bits=10)
    assert getattr(replace(base, **{name: LIMITS[name]}), name) == LIMITS[name]
    with pytest.raises(ConfigError) as caught:
        replace(base, **{name: LIMITS[name] + 1})
    assert f"preset base: {name} is {LIMITS[name] + 1}; " in str(caught.value)
    assert f" to {LIMITS[name]} can be (" in str(caught.value)


@pytest.mark.parametrize(("changes", "message"), [
    ({"chunk": 3}, "preset x: chunk is 3; 1 to 2 can be (1 lane a token, of the lanes that there are)"),
    ({"lanes": 17, "chunk": 17}, "preset x: lanes is 17; 1 to 16 can be (a lane a token of a chunk)"),
    ({"max_dim": 1284}, "preset x: max_dim is 1284; 4 to 1280 can be (max_cols, as a linear takes the residual vector)"),
    ({"max_cols": 8204}, "preset x: max_cols is 8204; 4 to 8200 can be (the sum of a vector's squares is exact in 77 bits)"),
    ({"max_kv_heads": 33}, "preset x: max_kv_heads is 33; 1 to 32 can be (the attention units' memories)"),
    ({"max_group": 5}, "preset x: max_group is 5; 1 to 4 can be (query heads that a token's attention takes in one pass)"),
    ({"lanes": 2, "chunk": 2, "max_group": 9}, "preset x: max_group is 9; 1 to 8 can be (query heads that a chunk's attention "
                                               "sorts)"),
    ({"tile_rows": 32}, "preset x: tile_rows is 32; 64 to 255 can be (a tile holds a whole head of max_head_dim rows, and its "
                        "header says how many there are in 8 bits)"),
    ({"planes": 0}, "preset x: planes is 0; 1 to 6 can be (a tile's header says how many there are)"),
    ({"lanes": 2, "chunk": 2, "pes": 5}, "preset x: pes is 5; 4, 8, 16 can be"),
    ({"lanes": 2, "chunk": 2, "exp_units": 3}, "preset x: exp_units is 3; 1, 2 can be"),
    ({"lanes": 4, "chunk": 4, "head_tokens": 2}, "preset x: head_tokens is 2; 1, 4 can be"),
    ({"head_tokens": 2}, "preset x: head_tokens is 2; 1 can be"),
    ({"lanes": 3, "ddr3_chip": "MT41K256M16"}, "preset x: lanes is 3; a multiple of 2 can be (a lane a row of the memory's "
                                               "word)"),
    ({"float_lanes": 2}, "preset x: float_lanes is 2; a power of two up to chunk, 1, can be"),
    ({"ddr3_chip": "MT41K1G16"}, "preset x: ddr3_chip is 'MT41K1G16'; MT41K64M16, MT41K128M16, MT41K256M16, MT41K512M16 can be"),
    ({"planes": 1, "vector_norms": True}, "preset x: planes is 1; 2 to 6 can be with vector_norms"),
    ({"name": "seventeen letters"}, "preset seventeen letters: length of the name is 17; 1 to 16 can be (HELLO's field)"),
])
def test_a_configuration_that_no_gateware_has(changes, message):
    with pytest.raises(ConfigError) as caught:
        CoreConfig(**{"name": "x"} | changes)
    assert str(caught.value) == message


def test_a_configuration_of_an_ffn_of_6912():
    """Gate and up have 13,824 rows, whose last number needs 14 bits."""
    config = CoreConfig("wide", max_dim=2560, max_cols=6912, max_head_dim=128, max_kv_heads=5, max_context=4096)
    assert (config.widths.rows, config.widths.row_bits, config.widths.col_count_bits) == (13824, 14, 13)
    check_shape(ModelConfig(dim=2560, ffn=6912, layers=30, heads=20, kv_heads=5, head_dim=128, vocab=128256, context=4096),
                config)


@pytest.mark.parametrize(("changes", "message"), [
    ({"ffn": 4100}, "ffn is 4100, and the build wide can do 4096"),
    ({"kv_heads": 17, "heads": 17}, "KV heads is 17, and the build wide can do 16"),
    ({"heads": 68}, "query heads is 68, and the build wide can do 64"),
    ({"head_dim": 8}, "head_dim is 8, and the build wide can do 16 or more"),
    ({"head_dim": 136}, "head_dim is 136, and the build wide can do 128"),
    ({"vocab": 1 << 18}, "vocabulary is 262144, and the build wide can do 262143"),
])
def test_a_shape_that_no_gateware_has(changes, message):
    wide = CoreConfig("wide", max_dim=4096, max_cols=4096, max_head_dim=128, max_group=4, max_context=4096)
    base = ModelConfig(dim=64, ffn=64, layers=1, heads=4, kv_heads=4, head_dim=16, vocab=300, context=24)
    check_shape(base, wide)
    with pytest.raises(CompileError) as caught:
        check_shape(replace(base, **changes), wide)
    assert str(caught.value) == message
