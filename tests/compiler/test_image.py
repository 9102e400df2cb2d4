# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The compiler: packing against the plain specification, layout, program, and what it refuses."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellme.compiler import CompileError, compile_model, needed_bytes
from tellme.compiler.head import head_bytes
from tellme.compiler.image import (
    cache_registers,
    check_linears,
    check_shape,
    lay_out,
    program_length,
    segment_list,
    tiling,
)
from tellme.compiler.pack import Matrix, Run, Tiling, matrices, pack_gain, pack_head, pack_linear, table_bytes
from tellme.golden.perplexity import unlimited_config
from tellme.models import Model, ModelConfig, Multipliers
from tellme.models.random import random_model as drawn_model
from tellme.models.shipped import find_model
from tellme.models.source import Block, regroup
from tellme.models.trits import pack_rows, unpack_rows
from tellme.runtime.board import Board
from tellme.runtime.device import BoardDevice
from tellme.spec import packing
from tellme.spec.config import PRESETS, preset
from tellme.spec.memory import KV_PAGE, KV_PAGE_REGISTERS, MODEL_REGISTERS, cache_bases, check_registers
from tellme.spec.program import DESCRIPTOR_WORDS, MAX_LAYERS, Descriptor, Epilogue, Op, check_segments, unpack_segments
from tellme.spec.scale import Scale
from tellme.spec.widths import MAX_WORDS
from tests.cli.fake_client import FakeClient
from tests.models.random_model import (
    FAMILY,
    model_of,
    random_model,
    with_biases,
    with_groups,
    with_planes,
    with_row_scales,
    with_several_scales,
)


def words(content):
    return np.frombuffer(bytes(content), "<u8").tolist()


def matrix(codes, *runs):
    return Matrix(lambda counts: regroup(iter([pack_rows(codes)[:, None]]), counts), codes.shape[1], runs)


@pytest.mark.parametrize(("rows", "cols"), [(2, 1), (128, 20), (130, 21), (6, 64), (256, 43)])
def test_linear_is_packed_as_specified(rows, cols):
    codes = np.random.default_rng(rows).integers(-1, 2, (rows, cols)).astype(np.int8)
    even, odd = Scale(1100, -9), Scale(1999, 3)
    packed = pack_linear(matrix(codes, Run(0, rows, even, odd)), Tiling())
    assert words(packed) == packing.pack_matrix(codes.tolist(), even, odd)
    assert len(packed) == 8 * packing.matrix_words(rows, cols)


def test_tiles_end_with_their_scale():
    codes = np.ones((150, 20), np.int8)
    a, b = Scale(1024, 0), Scale(1025, 0)
    packed = pack_linear(matrix(codes, Run(0, 130, a, a), Run(130, 150, b, b)), Tiling())
    expected = packing.pack_matrix(codes[:130].tolist(), a) + packing.pack_matrix(codes[130:].tolist(), b)
    assert words(packed) == expected


@pytest.mark.parametrize(("rows", "unit", "most", "sizes"), [
    (2, 1, 160, [2]), (126, 1, 160, [126]), (128, 1, 160, [64, 64]), (130, 1, 160, [66, 64]), (192, 1, 160, [120, 72]),
    (256, 1, 160, [160, 96]), (320, 1, 160, [160, 96, 64]), (512, 1, 160, [160, 160, 120, 72]), (256, 1, 128, [128, 64, 64]),
    (128, 32, 160, [64, 64]), (160, 32, 160, [96, 64]), (192, 64, 160, [64, 64, 64]), (256, 128, 160, [128, 128])])
def test_tiles_taper(rows, unit, most, sizes):
    tiles = list(packing.tile_rows(rows, unit, most=most, least=PRESETS["ulx3s-85f"].least_rows))
    assert [size for _, size in tiles] == sizes
    assert [first for first, _ in tiles] == [sum(sizes[:i]) for i in range(len(sizes))]


@pytest.mark.parametrize(("rows", "unit", "sizes"), [
    (128, 1, [128]), (240, 1, [240]), (256, 1, [128, 128]), (512, 1, [240, 144, 128]), (1536, 1, [*[240] * 5, 208, 128]),
    (2560, 1, [*[240] * 10, 160]), (4608, 96, [192] * 24), (3840, 128, [128] * 30)])
def test_tiles_taper_with_two_rows_a_step(rows, unit, sizes):
    board = PRESETS["ecpix5-85f"]
    tiles = list(packing.tile_rows(rows, unit, most=board.tile_rows, least=board.least_rows))
    assert [size for _, size in tiles] == sizes
    assert [first for first, _ in tiles] == [sum(sizes[:i]) for i in range(len(sizes))]


@pytest.mark.parametrize("least", [0, 64, 128])
@pytest.mark.parametrize("unit", [1, 2, 8, 24, 64])
def test_tiles_hold_every_row_once(unit, least):
    whole = unit * (1 + unit % 2)
    for most in (128, 160, 240):
        for units in range(1, 700 // whole):
            at = 0
            for first, size in packing.tile_rows(units * whole, unit, most=most, least=least):
                assert first == at and 0 < size <= most and size % whole == 0
                at += size
            assert at == units * whole


def test_only_the_last_run_tapers():
    codes = np.ones((256, 20), np.int8)
    a, b = Scale(1024, 0), Scale(1025, 0)
    packed = pack_linear(matrix(codes, Run(0, 128, a, a), Run(128, 256, b, b)), Tiling(most=160, least=64))
    expected = (packing.pack_matrix(codes[:128].tolist(), a, most=160)
                + packing.pack_matrix(codes[128:].tolist(), b, most=160, least=64))
    assert words(packed) == expected


@pytest.mark.parametrize(("vocab", "dim"), [(1, 8), (4, 16), (7, 100), (13, 5)])
def test_head_is_packed_as_specified(vocab, dim):
    rng = np.random.default_rng(vocab)
    codes = rng.integers(-128, 128, (vocab, dim)).astype(np.int8)
    scales = rng.integers(0, 1 << 16, vocab).astype(np.uint16)
    expected = [w for at in range(0, vocab, 4)
                for w in packing.pack_head_block(codes[at:at + 4].tolist(), scales[at:at + 4].tolist())]
    assert words(pack_head(codes, scales)) == expected


def test_gains_are_packed_as_specified():
    gain = np.arange(1, 7).astype(np.float16)
    assert words(pack_gain(gain)) == packing.pack_gains(gain.view(np.uint16).tolist())


def test_rows_of_gate_and_up_alternate():
    model = random_model("plain")
    layer = model.layers[0]
    both = matrices(model, 0)["gate_up"]
    codes = unpack_rows("both", np.concatenate(list(both.rows([2, 100, 26])))[:, 0], (128, 64))
    assert (codes[0::2] == layer.weights["w1"]).all() and (codes[1::2] == layer.weights["w3"]).all()
    assert both.runs == (Run(0, 128, layer.scales["w1"], layer.scales["w3"]),)


@pytest.mark.parametrize("name", FAMILY)
def test_every_row_keeps_its_scale(name):
    model = with_several_scales(random_model(name))
    for i, layer in enumerate(model.layers):
        found = {}
        for what, matrix in matrices(model, i).items():
            rows = []
            for run in matrix.runs:
                assert run.first == len(rows) and (run.end - run.first) % 2 == 0
                rows += [run.even, run.odd] * ((run.end - run.first) // 2)
            assert len(rows) == sum(map(len, matrix.rows([len(rows)])))
            found[what] = rows
        want = {n: [b.scale for b in layer.blocks(n) for _ in range(b.rows)] for n in layer.scales}
        if not model.config.down_norm:
            want["w2"] = [s._replace(exp=s.exp + model.config.act_exp) for s in want["w2"]]
        qkv = ({name[1]: want[name] for name in ("wq", "wk", "wv")} if model.config.vector_norms else
               {"qkv": want["wq"] + want["wk"] + want["wv"]})
        assert found == {**qkv, "o": want["wo"], "down": want["w2"],
                         "gate_up": [s for pair in zip(want["w1"], want["w3"], strict=True) for s in pair]}


def test_a_bias_is_refused_where_nothing_adds_it():
    model = with_biases(random_model("plain"))
    with pytest.raises(CompileError, match="layers.0.wq has a bias, and the build ulx3s-85f adds none: use the golden model"):
        compile_model(model, ONE)
    with pytest.raises(CompileError, match="layers.0.w2 has a bias, which no gateware adds: use the golden model"):
        compile_model(model, SEVERAL)
    image = compile_model(model, unlimited_config(model))
    # q, k, v and gate, up of both layers, whose rows have words; wo of the second layer and w2 of the first.
    assert [n for n, d in enumerate(image.program) if d.bias] == [1, 4, 6, 9] and sorted(image.residual_biases) == [5, 8]
    for layer in model.layers:
        layer.biases = {name: bias for name, bias in layer.biases.items() if name not in ("wo", "w2")}
    image = compile_model(model, SEVERAL)
    assert [n for n, d in enumerate(image.program) if d.bias] == [1, 4, 6, 9] and not image.residual_biases


def test_planes_are_refused_where_a_build_takes_fewer():
    model = random_model("plain")
    model.layers[1].planes["w2"] = 3
    with pytest.raises(CompileError, match="^layers.1.w2 has 3 planes, and the build ulx3s-85f can do 1$"):
        compile_model(model, ONE)
    with pytest.raises(CompileError, match="^layers.1.w2 has 3 planes, and the build two can do 2$"):
        compile_model(model, replace(BOARD, name="two", planes=2))
    assert compile_model(model, replace(BOARD, planes=3), head="host").trits == model.ternary_weights + 2 * 64 * 64


@pytest.mark.parametrize("head", ["board", "host"])
@pytest.mark.parametrize("name", [name for name, board in PRESETS.items() if not board.multipliers])
def test_multipliers_are_refused_where_a_build_has_none(name, head):
    """By name, before a byte is sent."""
    model = random_model("plain")
    model.layers[1].multipliers["w2"] = Multipliers(2, np.ones((1, 2, 64), np.int8))
    client = FakeClient(PRESETS[name])
    board = Board(BoardDevice("port", PRESETS[name], client, "ab" * 32))
    with pytest.raises(CompileError, match=f"^layers.1.w2 has multipliers of column groups, and the build {name} takes none$"):
        board.load(model, head=head)
    assert not any(client.memory) and not any(client.program)
    compile_model(model, replace(PRESETS[name], multipliers=True), head="host")


def test_linears_with_groups_are_packed_as_specified():
    """Tiles of q, k and v keep their own groups; those of gate and up have groups that are parts of both, and tied planes become
    powers of three there."""
    config = ModelConfig(dim=260, ffn=144, layers=1, heads=2, kv_heads=1, head_dim=64, vocab=64, context=16)
    model = with_groups(with_planes(model_of(config, gains=False)))
    layer, rng = model.layers[0], np.random.default_rng(6)

    def groups(name, size):
        rows, cols = layer.weights[name].shape
        shape = layer.planes.get(name, 1), packing.groups_of(cols, size), rows
        layer.multipliers[name] = Multipliers(size, rng.integers(-128, 128, shape).astype(np.int8))

    @cache
    def planes_of(name):
        """(planes, rows, cols) of trits."""
        return np.moveaxis(np.array([[packing.trits_of(int(w), layer.planes.get(name, 1)) for w in row]
                                     for row in layer.weights[name]]), 2, 0)

    layer.multipliers.pop("wk", None)
    for name, size in (("wq", 3), ("wv", 255), ("w2", 1)):
        groups(name, size)
    for sizes, common in (((4, 6), 2), ((5, 0), 5), ((0, 255), 255), ((2, 2), 2)):
        for name, size in zip(("w1", "w3"), sizes, strict=True):
            groups(name, size) if size else layer.multipliers.pop(name, None)
        found = matrices(model, 0)
        linear = found["gate_up"]
        count, parts = max(layer.planes.get(n, 1) for n in ("w1", "w3")), []
        for name, size in zip(("w1", "w3"), sizes, strict=True):
            trits = planes_of(name)
            trits = np.concatenate([trits, np.zeros((count - len(trits), *trits.shape[1:]), int)])
            # Of each slice, and then of the common groups.
            m = np.zeros((count, 13, 144), int)
            for plane in range(layer.planes.get(name, 1)):
                for s in range(13):
                    m[plane, s] = layer.multipliers[name].values[plane, s // size] if size else 3**plane
            parts.append((trits, m[:, ::common]))
        (gate, gate_m), (up, up_m) = parts
        want = packing.pack_planes(
            np.stack([gate, up], axis=2).reshape(count, 288, 260).tolist(), layer.scales["w1"][0].scale,
            layer.scales["w3"][0].scale, free=True, group_slices=common,
            multipliers=np.stack([gate_m, up_m], axis=3).reshape(count, -1, 288).tolist())
        part = pack_linear(linear, Tiling(row_words=True))
        assert words(part) == want and len(part) == 8 * len(want)
    want = packing.pack_planes(planes_of("w2").tolist(), layer.scales["w2"][0].scale, free=True, group_slices=1,
                               multipliers=layer.multipliers["w2"].values.tolist())
    assert words(pack_linear(found["down"], Tiling())) == want
    want = []
    for name in ("wq", "wk", "wv"):
        size, m = layer.multipliers.get(name, (0, None))
        scale = layer.blocks(name)[0].scale
        want += packing.pack_planes(planes_of(name).tolist(), scale, free=size > 0, group_slices=size,
                                    multipliers=() if m is None else m.tolist())
    assert words(pack_linear(found["qkv"], Tiling())) == want


def test_sums_beyond_an_int32_are_refused():
    """No preset takes so many columns; a sum of five planes and 138,654 columns is just within."""
    config = ModelConfig(dim=4, ffn=138_656, layers=1, heads=1, kv_heads=1, head_dim=16, vocab=8, context=8)
    model = drawn_model("wide", config, planes={"w2": 5})
    with pytest.raises(CompileError, match=r"^layers.0.w2: a sum of 138656 columns and 5 planes is up to 2147504128, and the "
                                           "sums of the engine are up to 2147483647$"):
        check_linears(model, unlimited_config(model))
    check_linears(drawn_model("wide", replace(config, ffn=138_652), planes={"w2": 5}), unlimited_config(model))
    check_linears(drawn_model("wide", config, planes={"w2": 4}), unlimited_config(model))


def test_sums_of_multipliers_beyond_an_int32_are_refused():
    """131,072 columns times a code and a multiplier of -128 are just beyond."""
    for cols, planes in ((131_068, 1), (131_072, 1), (26_212, 5), (26_216, 5)):
        config = ModelConfig(dim=4, ffn=cols, layers=1, heads=1, kv_heads=1, head_dim=16, vocab=8, context=8)
        model = Model.read(drawn_model("wide", config, planes={"w2": planes}))
        shape = planes, packing.groups_of(cols, 200), 4
        model.layers[0].multipliers["w2"] = Multipliers(200, np.full(shape, -128, np.int8))
        size = 128 * 128 * cols * planes
        if size < 1 << 31:
            check_linears(model, unlimited_config(model))
            continue
        with pytest.raises(CompileError, match=f"^layers.0.w2: a sum of {cols} columns and {planes} planes is up to {size}, "):
            check_linears(model, unlimited_config(model))


def test_a_scale_that_a_row_word_does_not_hold():
    """With a bias it is refused by name; without, tiles end with their scales."""
    for scale, text in ((Scale(1030, -55), "2.859e-14"), (Scale(1024, -54), "5.684e-14"), (Scale(1024, 10), "1.049e\\+06")):
        model = random_model("plain")
        rows = [Block(1, Scale(1025 + r % 2 * 500 + r // 4, -9)) for r in range(60)]
        model.layers[0].scales["wk"] = (*rows, Block(4, scale))
        image = compile_model(model, SEVERAL, head="host")
        assert not image.whole_heads
        assert bytes(image.sections[0][1]) == bytes(compile_model(model, ONE, head="host").sections[0][1])
        model.layers[0].biases["wq"] = np.ones(64, np.float16)
        with pytest.raises(CompileError, match=f"^layers.0.wk has the scale {text}, which the 16 bits beside a bias do not"):
            compile_model(model, SEVERAL)


def test_row_words_leave_heads_whole():
    """Scales that change within heads: with row words a chunk takes several tokens all the same."""
    for name in FAMILY:
        for change in (with_row_scales, with_several_scales):
            model = change(random_model(name))
            board = unlimited_config(model)
            assert compile_model(model, board).whole_heads
            if not model.config.qk_norm:
                assert not compile_model(model, replace(board, planes=1), head="host").whole_heads


def test_norms_on_heads():
    """Gains of q and of k ahead of the tiles of each QKV step, ones where there are none; the registers; and who refuses them."""
    model = random_model("head-norms")
    c = model.config
    with pytest.raises(CompileError, match="^the model has an RMSNorm on each head of q and k, and the build ulx3s-85f does "
                                           "none: use the golden model$"):
        compile_model(model, ONE)
    plain = random_model("head-norms")
    plain.config = replace(c, qk_norm=False)
    for layer in plain.layers:
        del layer.gains["q_norm"], layer.gains["k_norm"]
    del model.layers[1].gains["k_norm"]
    image, without = compile_model(model, SEVERAL), compile_model(plain, SEVERAL)
    assert [n for n, d in enumerate(image.program) if d.head_gains] == [1, 6]
    assert tuple(replace(d, head_gains=False) for d in image.program) == without.program
    assert (image.registers["head_n_eps"], image.registers["head_sqrt_n"]) == (round(0.16 * 2**32), Scale(1024, -8).pack())
    assert (without.registers["head_n_eps"], without.registers["head_sqrt_n"]) == (0, 0)
    streams = [bytes(i.sections[0][1])[:8 * i.segments[0].words64] for i in (image, without)]
    for number, layer in enumerate(model.layers):
        gains = np.concatenate([layer.gains[n] if n in layer.gains else np.ones(16, np.float16) for n in ("q_norm", "k_norm")])
        place = streams[0].index(gains.tobytes())
        tiles_of = bytes(pack_linear(matrices(model, number)["qkv"], tiling(SEVERAL)))
        assert streams[0].startswith(tiles_of, place + gains.nbytes)
        streams[0] = streams[0][:place] + streams[0][place + gains.nbytes:]
    assert streams[0] == streams[1]


@pytest.mark.parametrize("name", [name for name, board in PRESETS.items() if not board.vector_norms])
def test_norms_behind_linears_are_refused_where_a_build_has_none(name):
    model = random_model("vector-norms")
    for head in ("board", "host"):
        with pytest.raises(CompileError, match="^the model has the norms of OLMo 2, on the whole of q and of k and behind "
                                               f"attention and feed-forward, and the build {name} does none: use the golden "
                                               "model$") as caught:
            compile_model(model, PRESETS[name], head=head)
        assert caught.value.hint == "golden"


def test_norms_behind_linears():
    """The gains of each NORM lie ahead of the tiles of the linear before it, and those of the final norm behind all tiles."""
    model, board = with_biases(random_model("vector-norms")), PRESETS["sim-norms"]
    image = compile_model(model, board)
    assert not image.residual_biases and image.registers["head_n_eps"] == 0
    want = b""
    for number, layer in enumerate(model.layers):
        packed = {name: bytes(pack_linear(matrix, tiling(board))) for name, matrix in matrices(model, number).items()}
        for name, norm in (("q", "q_norm"), ("k", "k_norm"), ("v", ""), ("o", "attn_post_norm"), ("gate_up", ""),
                           ("down", "ffn_post_norm")):
            want += (bytes(pack_gain(layer.gains[norm])) if norm else b"") + packed[name]
    want += bytes(pack_gain(model.final_gain))
    assert bytes(image.sections[0][1])[:8 * image.segments[0].words64] == want
    # Each bias is in row words of its own step, those of wo and w2 too.
    assert [n for n, d in enumerate(image.program) if d.bias] == [1, 5, 9, 10, 14, 18, 20]
    # A norm without gains takes none.
    del model.layers[1].gains["k_norm"]
    assert [n for n, d in enumerate(compile_model(model, board).program) if d.op == Op.NORM and not d.gain] == [15]
    # Eleven steps a layer, and three.
    with pytest.raises(CompileError, match="^descriptors is 25, and the build sim-norms can do 24$"):
        compile_model(model, replace(board, program_steps=24))


@pytest.mark.parametrize("build", ["ulx3s-85f", "ulx3s-85f-l2", "ecp5-25f"])
def test_a_build_of_several_planes_takes_the_shipped_model_as_it_is(build):
    """But for its LM head, whose rows have words."""
    model, board = find_model("stories-1m"), preset(build)
    one, several = (compile_model(model, replace(board, planes=planes), head="host") for planes in (1, 5))
    assert [(at, bytes(part)) for at, part in one.sections] == [(at, bytes(part)) for at, part in several.sections]
    assert (one.program, one.registers, one.segments) == (several.program, several.registers, several.segments)


@pytest.mark.parametrize("name", FAMILY)
def test_layout_and_program(name):
    model = random_model(name)
    c = model.config
    image = compile_model(model, unlimited_config(model))
    # Nothing overlaps: sections, logits, and three KV regions a layer.
    kv = c.kv_heads * c.context * c.head_dim
    regions = [(base, base + len(content)) for base, content in image.sections]
    regions.append((4 * image.registers["logits_base"], 4 * image.registers["logits_base"] + 4 * c.vocab))
    for layer in range(c.layers):
        k, v, s = (4 * base for base in cache_bases(image.registers, layer))
        regions += [(k, k + kv), (v, v + kv), (s, s + 4 * c.kv_heads * c.context)]
    regions.sort()
    assert len(regions) == len(image.sections) + 1 + 3 * c.layers
    assert all(a[1] <= b[0] for a, b in zip(regions, regions[1:], strict=False)) and regions[-1][1] <= image.end
    assert all(base % 4 == 0 and len(content) % 4 == 0 for base, content in image.sections)
    # The program: a fixed order, and descriptors survive their packing.
    steps = [(Op.LINEAR, Epilogue.QKV), (Op.ATTENTION, Epilogue.STORE), (Op.LINEAR, Epilogue.RESIDUAL),
             (Op.LINEAR, Epilogue.ACT), (Op.LINEAR, Epilogue.RESIDUAL)]
    if c.vector_norms:
        stored = [(Op.LINEAR, Epilogue.STORE)]
        steps = [*[*stored, (Op.NORM, Epilogue.QKV)] * 2, (Op.LINEAR, Epilogue.QKV), (Op.ATTENTION, Epilogue.STORE), *stored,
                 (Op.NORM, Epilogue.RESIDUAL), (Op.LINEAR, Epilogue.ACT), *stored, (Op.NORM, Epilogue.RESIDUAL)]
    assert len(image.program) == program_length(c)
    assert [(d.op, d.epilogue) for d in image.program] == [
        (Op.EMBED, Epilogue.STORE), *steps * c.layers,
        (Op.HEAD, Epilogue.STORE), (Op.END, Epilogue.STORE)]
    packed = np.frombuffer(image.program_bytes, "<u4").reshape(-1, DESCRIPTOR_WORDS)
    assert tuple(Descriptor.unpack(tuple(int(w) for w in row)) for row in packed) == image.program
    # Each layer's steps, and no others, have its number.
    layered = [d for d in image.program if d.op in (Op.LINEAR, Op.ATTENTION, Op.NORM)]
    assert [d.layer for d in layered] == [layer for layer in range(c.layers) for _ in steps]
    # q, k and v in parts, where norms are on the whole of q and of k.
    assert [d.part for d in image.program if d.part] == [1, 1, 2, 2, 3] * (c.layers * c.vector_norms)
    assert all(d.layer == 0 for d in image.program if d not in layered)
    # A segment of all layers and one for the LM head, which survive their packing.
    assert [s.lm_head for s in image.segments] == [False, True]
    assert unpack_segments(np.frombuffer(image.segment_bytes, "<u4").tolist()) == image.segments
    # Each step that loads gains is followed by one that uses them.
    linear = [d for d in image.program if d.op in (Op.LINEAR, Op.HEAD, Op.NORM)]
    loads = [d.gain_next for d in image.program if d.op != Op.END]
    assert sum(loads) == sum(d.gain for d in linear)
    assert set(image.registers) == set(MODEL_REGISTERS) and len(image.register_bytes) == 4 * len(MODEL_REGISTERS)


#: Shapes that a board's layout has to place, without weights: many layers, odd sizes, few and many positions.
SHAPES = st.builds(
    lambda layers, kv_heads, group, head_dim, ffn, context, vocab, tied: ModelConfig(
        dim=kv_heads * group * head_dim, ffn=4 * ffn, layers=layers, heads=kv_heads * group, kv_heads=kv_heads,
        head_dim=head_dim, vocab=vocab, context=context, tied=tied),
    st.integers(1, MAX_LAYERS), st.integers(1, 9), st.integers(1, 4), st.sampled_from((8, 24, 64)), st.integers(1, 40),
    st.integers(1, 300), st.integers(1, 400), st.booleans())


@settings(deadline=None)
@given(SHAPES, st.sampled_from(("board", "host")), st.integers(1, 5000 * MAX_LAYERS),
       st.integers(1, packing.MAX_PLANES))
def test_strides_and_segments_reach_what_was_laid_out(c, head, stream_words, planes):
    """Each layer's caches, of as many slots as there is room for, and each segment lie in regions of their own, within the
    memory, and nothing lies twice."""
    stream = 8 * stream_words
    rows = c.vocab if head == "board" else c.dim
    board = replace(preset("ulx3s-85f"), unlimited=True, sdram_bytes=4 * MAX_WORDS)
    table = head_bytes(rows, c.dim, planes, board.tile_rows)
    at = lay_out(c, board, stream, table, head)
    assert at.slots == 1 if head == "host" else 1 < at.slots <= board.slots
    segments = segment_list(at.weights, stream, table)
    check_segments(segments)
    registers = cache_registers(at)
    check_registers(registers)
    assert all(registers[name] % KV_PAGE == 0 for name in KV_PAGE_REGISTERS)
    kv, scales = at.slots * c.kv_heads * c.context * c.head_dim, at.slots * 4 * c.kv_heads * c.context
    regions = [(4 * s.address, 4 * s.end) for s in segments]
    assert sum(end - base for base, end in regions) == stream + table
    assert [s.lm_head for s in segments] == [False, True]
    for layer in range(c.layers):
        k, v, s = (4 * base for base in cache_bases(registers, layer))
        regions += [(k, k + kv), (v, v + kv), (s, s + scales)]
    regions += [(at.rope, at.rope + 2 * c.context * c.head_dim), (at.logits, at.logits + 4 * rows * board.head_tokens)]
    if head == "host":
        regions.append((at.embedding, at.embedding + table_bytes(c.context, c.dim)))
    else:
        regions.append((at.embedding, at.embedding + table_bytes(c.vocab, c.dim)))
    regions.sort()
    assert regions[0][0] >= 0 and regions[-1][1] <= at.end
    assert all(a[1] <= b[0] for a, b in zip(regions, regions[1:], strict=False))
    # No more memory than that, each region in whole rows of the memory, and all segments as one.
    whole = [(4 * segments[0].address, 4 * segments[-1].end), *(r for r in regions if r[0] >= 4 * segments[-1].end)]
    assert at.end == sum(-(-(end - base) // 1024) * 1024 for base, end in whole)
    # In a memory that is a byte smaller there are fewer slots, and one that has no room for one slot is refused with the sizes.
    one = lay_out(c, replace(board, slots=1), stream, table, head)
    assert one.slots == 1
    if at.end > one.end:
        smaller = lay_out(c, replace(board, sdram_bytes=at.end - 1), stream, table, head)
        assert smaller.slots < at.slots and smaller.end < at.end
    with pytest.raises(CompileError, match="the model needs [0-9.]+ MB, and the memory of ulx3s-85f has"):
        lay_out(c, replace(board, sdram_bytes=one.end - 1), stream, table, head)


def test_more_layers_than_a_program_numbers():
    model = random_model("plain")
    config = replace(model.config, layers=MAX_LAYERS)
    board = replace(unlimited_config(model), program_steps=2000)
    check_shape(config, board)
    with pytest.raises(CompileError, match="^layers is 255, and a program numbers 254$"):
        check_shape(replace(config, layers=MAX_LAYERS + 1), board)


def test_needed_bytes():
    c = find_model("stories-1m").config
    ternary = 4 * (192 * 192 * 2 + 2 * 192 * 96 + 3 * 192 * 320)
    assert needed_bytes(c, 9) == ternary / 5 + 2048 * 192 + 192 + 2 * 4 * 3 * (32 + 2) * 10
    assert needed_bytes(c, 9, trits=2 * ternary + 10) == needed_bytes(c, 9) + ternary / 5 + 2
    assert needed_bytes(c, 9, multipliers=7) == needed_bytes(c, 9) + 7


def test_multipliers_of_a_model_are_counted():
    model = with_groups(random_model("grouped"))
    image = compile_model(model, unlimited_config(model))
    assert image.multipliers == sum(m.values.size for layer in model.layers for m in layer.multipliers.values()) > 0
    model.layers[0].multipliers, model.layers[1].multipliers = {}, {}
    assert compile_model(model, unlimited_config(model)).multipliers == 0


#: A board for one sequence.
BOARD = replace(preset("ulx3s-85f"), head_tokens=1, slots=1, drafts=False)
#: The same with all that planes bring, and with nothing of it: its LM heads are on the host.
SEVERAL, ONE = replace(BOARD, planes=packing.MAX_PLANES), replace(BOARD, planes=1)


@pytest.mark.parametrize(("change", "message"), [
    ({"max_dim": 96}, "dim is 100, and the build ulx3s-85f can do 96"),
    ({"max_cols": 160, "max_dim": 160}, "ffn is 164, and the build ulx3s-85f can do 160"),
    ({"max_group": 2}, "query heads of a KV head is 4, and the build ulx3s-85f can do 2"),
    ({"max_context": 20}, "context is 24, and the build ulx3s-85f can do 20"),
    ({"program_steps": 12}, "descriptors is 13, and the build ulx3s-85f can do 12"),
    ({"sdram_bytes": 1 << 15}, r"the model with an LM head of one plane needs 0.066 MB, and the memory of ulx3s-85f has 0.033 MB "
                               r"\(weights and head 0.034 MB, embedding 0.022 MB, RoPE table 0.001 MB, logits 0.001 MB, "
                               r"K cache 0.001 MB"),
    # An LM head of one plane would fit.
    ({"sdram_bytes": 70_000}, r"the model needs 0.08\d MB, and the memory of ulx3s-85f has 0.070 MB \(weights and head "
                              r"0.05\d MB, embedding 0.022 MB, RoPE table 0.001 MB, logits 0.001 MB, K cache 0.001 MB"),
])
def test_what_does_not_fit_is_refused_by_name_and_number(change, message):
    with pytest.raises(CompileError, match=message):
        compile_model(random_model("grouped"), replace(BOARD, **change))


def test_kv_heads_limit():
    with pytest.raises(CompileError, match="KV heads is 4, and the build ulx3s-85f can do 2"):
        compile_model(random_model("plain"), replace(BOARD, max_kv_heads=2))


@pytest.mark.parametrize(("change", "message"), [
    ({"dim": 98}, "dim is 98, and the gateware wants a multiple of 4"),
    ({"ffn": 62}, "ffn is 62, and the gateware wants a multiple of 4"),
    ({"head_dim": 12}, "head_dim is 12, and the gateware wants a multiple of 8"),
    ({"eps": 1e-13}, "eps 1e-13 times 64 is outside"),
    ({"eps": 0.5}, "eps 0.5 times 64 is outside"),
])
def test_shapes_that_no_build_can_do(change, message):
    model = random_model("plain")
    model.config = replace(model.config, **change)
    with pytest.raises(CompileError, match=message):
        compile_model(model, BOARD)


def test_the_shipped_model_fits_the_ulx3s():
    image = compile_model(find_model("stories-1m"), BOARD)
    assert image.end <= BOARD.sdram_bytes
