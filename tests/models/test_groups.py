# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Checkpoints whose ternary weights have a scale a column group, a pair of scales, or four levels: what the file describes
against what is imported, and the golden model's logits against those of a float model of the file's weights."""

import struct
from dataclasses import replace

import numpy as np
import pytest

from tellme.golden.perplexity import golden_board
from tellme.models import LINEARS, ModelConfig, ModelError
from tellme.models.importers.checkpoints import open_checkpoint
from tellme.models.importers.gguf_groups import type_of
from tellme.models.importers.grouped import Geometry, Part, grouped
from tellme.models.importers.importing import Options
from tests import reference
from tests.models.folders import PROJECTIONS, floats, folder, halves, kind_model, tensors_of
from tests.models.gguf_files import assemble, parts_of
from tests.models.random_model import model_of
from tests.models.test_gguf import NAMES, arch_of, write_gguf
from tests.models.test_huggingface import converted

#: Widths of whole groups of 128 that are no whole slices of 20, and a head of 128 as those of Qwen3.
QWEN3 = ModelConfig(dim=256, ffn=384, layers=2, heads=2, kv_heads=1, head_dim=128, vocab=300, context=12, qk_norm=True, eps=1e-6,
                    theta=1e6, bos=0, eos=1)
#: Blocks of STQ1_0 have 256 weights, those of Q2_0C 512.
WIDE = ModelConfig(dim=512, ffn=512, layers=1, heads=4, kv_heads=1, head_dim=128, vocab=300, context=8, bos=0, eos=1)


def worth_of(linear):
    """The weights of a linear, as floats."""
    codes, blocks = linear.read()
    scales = np.concatenate([np.full(block.rows, float(block.scale.value())) for block in blocks])[:, None]
    if linear.multipliers is None:
        return codes * scales
    worth = np.repeat(linear.multipliers().astype(int), 20 * linear.group_slices, axis=1)[:, :codes.shape[1]]
    reach = (3**linear.planes - 1) // 2
    return scales * sum(((codes.astype(int) + reach) // 3**p % 3 - 1) * worth[p].T for p in range(linear.planes))


def float_model(model, weights):
    """The float reference of a model whose matrices are ``weights``: a dict (layer, name) -> floats, rows in adjacent pairs."""
    c = model.config
    layers = [{n: (weights[i, n], 1.0) for n in LINEARS} for i in range(c.layers)]
    table = floats(model.embedding, model.embedding_scales)
    head = None if c.tied else floats(model.head, model.head_scales)
    return reference.ReferenceModel(layers, table, model.final_gain, c.heads, c.kv_heads, head=head,
                                    gains=[layer.gains for layer in model.layers], eps=c.eps, theta=c.theta, qk_norm=c.qk_norm,
                                    o_norm=c.o_norm, down_norm=c.down_norm, biases=[layer.biases for layer in model.layers])


def assert_logits(got, expected):
    """The golden model of an imported one, against a float model."""
    ids = [int(i) for i in np.random.default_rng(1).integers(0, got.config.vocab, got.config.context)]
    want = reference.forward(expected, ids)
    logits = golden_board(got).feed(ids, 0, heads="all") / 65536
    assert np.abs(logits - want).mean() < 0.03 * want.std()


@pytest.mark.parametrize(("cols", "planes", "width", "way", "linear_planes", "group_slices"), [
    (256, 1, 64, "split", 2, 3), (384, 1, 128, "split", 2, 6), (512, 1, 256, "split", 2, 12), (100, 1, 50, "split", 2, 2),
    (320, 2, 160, "whole", 2, 8), (260, 2, 260, "whole", 2, 13), (5200, 1, 2600, "whole", 1, 130),
    (256, 2, 128, "split", 4, 6), (200, 4, 100, "whole", 4, 5), (192, 4, 96, "recode", 4, 1), (130, 3, 65, "recode", 3, 1),
])
def test_planes_with_groups(cols, planes, width, way, linear_planes, group_slices):
    """Each way that groups become those of a linear, within the bound that its module says."""
    geometry = Geometry(cols, planes, width)
    assert (geometry.way, geometry.linear_planes, geometry.group_slices) == (way, linear_planes, group_slices)
    rng = np.random.default_rng(cols)
    rows = 6
    trits = rng.integers(-1, 2, (planes, rows, cols)).astype(np.int8)
    worth = rng.uniform(0.3, 1, (planes, geometry.groups, rows)) * rng.uniform(0.01, 5, rows)
    trits[:, 4] = 0
    worth[:, :, 4] = 0
    linear = grouped("x", (rows, cols), planes, width, lambda: iter([Part(trits[:, :4], worth[:, :, :4]),
                                                                      Part(trits[:, 4:], worth[:, :, 4:])]))
    want = (trits * worth[:, np.arange(cols) // width].transpose(0, 2, 1)).sum(axis=0)
    off, top = np.abs(worth_of(linear) - want), worth.max(axis=(0, 1))[:, None]
    # Of each plane a multiplier's half step.
    bound = np.broadcast_to(planes * top / 128 * (1 + 2**-10), off.shape).copy()
    if way == "recode":
        for end in range(width, cols, width):
            bound[:, end // 20 * 20:end // 20 * 20 + 20] = planes * top * (1 / (3**planes - 1) + 1 / 128 * 1.5)
    assert (off <= bound).all() and off[4].max() == 0
    assert off.max() > 0


def test_equal_scales_are_exact():
    trits = np.random.default_rng(0).integers(-1, 2, (1, 3, 128)).astype(np.int8)
    worth = np.array([[[0.375, 1, 2**-9], [0.375, 0.5, 2**-9]]])
    linear = grouped("x", (3, 128), 1, 64, lambda: iter([Part(trits, worth)]))
    assert np.array_equal(worth_of(linear), trits[0] * worth[0][np.arange(128) // 64].T)


# GGUF types of groups, packed here bit by bit


def four_a_byte(codes):
    """Codes of 0 to 3 along the last axis, the first of four in the low bits."""
    return (codes.astype(np.uint8).reshape(*codes.shape[:-1], -1, 4) << np.array([0, 2, 4, 6], np.uint8)).sum(-1).astype(np.uint8)


def behind_scales(scales, codes):
    """Blocks of bytes, a binary16 scale ahead of each."""
    return np.concatenate([scales.astype("<f2")[..., None].view(np.uint8), codes], axis=-1).tobytes()


def q2_0(trits, scales):
    """Rows as Q2_0, a group for each scale."""
    return behind_scales(scales, four_a_byte(trits.reshape(*scales.shape, -1) + 1))


def grouped_weights(model, rng, width):
    """A model's matrices with a binary16 scale a group: (layer, name) -> (trits, scales)."""
    out = {}
    for i, layer in enumerate(model.layers):
        for name in LINEARS:
            rows, cols = model.config.shape(name)
            scales = (rng.uniform(0.6, 1.4, (rows, cols // width)) * cols**-0.5).astype(np.float16)
            out[i, name] = layer.weights[name], scales
    return out


def in_file_order(model, name, rows):
    return halves(rows, model.config.head_dim) if arch_of(model.config) != "llama" and name in ("wq", "wk") else rows


def q2_0_file(path, model, weights, number, *, change=None):
    fields, tensors = parts_of(write_gguf(path.with_name("f16.gguf"), model, "F16"))
    names = {f"blk.{i}.{NAMES[n]}.weight".encode(): (i, n) for i in range(model.config.layers) for n in LINEARS}
    out = []
    for part in tensors:
        if part.name in names:
            trits, scales = (in_file_order(model, names[part.name][1], x) for x in weights[names[part.name]])
            part = part._replace(number=number, content=q2_0(trits, scales))
        if part.name == b"token_embd.weight" and "table" in weights:
            part = part._replace(number=number, content=q2_0(*weights["table"]))
        if change is not None:
            part = change(part)
        out.append(part)
    return assemble(path, fields, out)


def spread(trits, scales):
    return trits * np.repeat(scales.astype(np.float64), trits.shape[1] // scales.shape[1], axis=1)


@pytest.mark.parametrize(("width", "number"), [(64, 42), (128, 42), (128, 142)])
def test_ternary_bonsai(width, number, tmp_path):
    """Q2_0 in groups of 64 and 128 of a Qwen3: padded to whole slices, each weight within 1/128 of its row's largest scale."""
    model = model_of(QWEN3, gains=True, name="bonsai")
    rng = np.random.default_rng(width)
    weights = grouped_weights(model, rng, width)
    # The head, which is the embedding, is ternary as well.
    trits = rng.integers(-1, 2, model.embedding.shape).astype(np.int8)
    weights["table"] = trits, rng.uniform(0.6, 1.4, (len(trits), trits.shape[1] // width)).astype(np.float16)
    heard = []
    got = converted(q2_0_file(tmp_path / "m.gguf", model, weights, number), tmp_path, say=heard.append)
    wide = {64: 80, 128: 140}[width]
    assert (got.config.dim, got.config.ffn) == (256 // width * wide, 384 // width * wide)
    assert any(f"GGUF, qwen3, Q2_0{'' if width == 64 else '_G128'}, 2 layers" in line for line in heard)
    assert f"groups of {width} columns: {wide - width} columns of zeros" in heard[-1]

    def kept(size):
        return np.arange(size) // width * wide + np.arange(size) % width

    source = open_checkpoint(tmp_path / "m.gguf", Options(), lambda text: None)
    table = spread(*weights.pop("table"))
    rows = floats(got.embedding, got.embedding_scales)
    assert np.abs(rows[:, kept(256)] - table).max() <= np.abs(table).max() / 121 / 2 * 1.01 and not rows[:, width:wide].any()
    for (i, name), (trits, scales) in weights.items():
        linear = source.linear(i, name)
        assert linear.planes == (2 if name == "wo" else 1)
        values, want = worth_of(linear), spread(trits, scales)
        if name in ("wq", "wk", "wv", "w1", "w3"):
            want = want * (256 / got.config.dim) ** 0.5
        rows = kept(len(want)) if name in ("wo", "w1", "w3", "w2") else np.arange(len(want))
        cols = np.arange(want.shape[1]) if name == "wo" else kept(want.shape[1])
        assert np.abs(values[np.ix_(rows, cols)] - want).max(axis=1).max() <= np.abs(want).max() / 128 * 1.01
        values[np.ix_(rows, cols)] = 0
        assert not values.any()
    expected = float_model(model, {at: spread(*pair) for at, pair in weights.items()})
    expected.embedding = table.astype(np.float32)
    assert_logits(got, expected)


def of_tensor(name, change):
    return lambda part: part._replace(content=change(part.content)) if part.name == name.encode() else part


@pytest.mark.parametrize(("change", "message"), [
    (of_tensor("blk.0.attn_k.weight", lambda content: content + bytes(320)), "blk.0.attn_q.weight is type 42; ternary weights"),
    # The code 3 is twice the scale.
    (of_tensor("blk.0.attn_k.weight", lambda content: content[:2] + b"\xe4" * 16 + content[18:]),
     "blk.0.attn_k.weight is not ternary: a row of it holds"),
    # A group of another width than the first layer's.
    (of_tensor("blk.1.attn_v.weight", lambda content: bytes(content[:1]) + bytes([content[1] ^ 4]) + content[2:]),
     "blk.1.attn_v.weight has more than one magnitude in a row's group of 128 columns"),
])
def test_what_is_refused(change, message, tmp_path):
    model = model_of(QWEN3, gains=True, name="bonsai")
    weights = grouped_weights(model, np.random.default_rng(0), 128)
    weights = {at: (trits, np.repeat(scales, 2, axis=1)) for at, (trits, scales) in weights.items()}
    path = q2_0_file(tmp_path / "m.gguf", model, weights, 42, change=change)
    with pytest.raises(ModelError, match=message):
        converted(path, tmp_path)


def test_a_number_is_a_type_by_its_bytes():
    shape = 8, 512
    for name, size in (("Q2_0", 1152), ("Q2_0_G128", 1088), ("STQ1_0", 672)):
        assert type_of(42, [(shape, size, False)], 32) == name
        # The padding behind the last tensor may be missing; other bytes may not.
        assert type_of(42, [((1, 512), size // 8, True)], 32) == name
        assert type_of(42, [(shape, size, False), (shape, size + 32, False)], 32) is None
    assert type_of(42, [((8, 64), 160, False)], 32) == "Q2_0"
    assert type_of(40, [(shape, 1056, False)], 32) == "Q2_0C"


def stq1_0(trits, scales):
    """Rows as STQ1_0, by its code book: entry (sign, slot) has two bits a lane, trit plus 1, lane 0 lowest."""
    book = [0xA9, 0x89, 0x29, 0x09, 0xA6, 0x86, 0x26, 0x06, 0x9A, 0x92, 0x1A, 0x12, 0x6A, 0x62, 0x4A, 0x42,
            0x01, 0x21, 0x81, 0xA1, 0x04, 0x24, 0x84, 0xA4, 0x10, 0x18, 0x90, 0x98, 0x40, 0x48, 0x60, 0x68]
    out = b""
    for row, row_scales in zip(trits, scales, strict=True):
        for block, scale in zip(row.reshape(-1, 256), row_scales, strict=True):
            slots, signs = bytearray(32), bytearray(8)
            for four in range(64):
                lanes = [int(block[four // 16 * 64 + four % 16 + 16 * p]) for p in range(4)]
                entry = book.index(sum(lane + 1 << 2 * p for p, lane in enumerate(lanes)))
                slots[four // 2] |= (entry & 15) << 4 * (four % 2)
                signs[four // 8] |= (entry >> 4) << four % 8
            out += bytes(slots) + bytes(signs) + struct.pack("<e", scale)
    return out


def q2_0c(codes, scales):
    """Rows of 1, 3 and their negatives as Q2_0C: blocks of 512 with the row's scale."""
    blocks = codes.reshape(len(codes), -1, 512)
    return behind_scales(np.repeat(scales[:, None], blocks.shape[1], axis=1), four_a_byte((blocks + 3) // 2))


def test_sherry_in_stq1_0(tmp_path):
    model = model_of(replace(WIDE, dim=256, ffn=256, heads=2, kv_heads=1), gains=True, name="sherry")
    rng = np.random.default_rng(0)
    fields, tensors = parts_of(write_gguf(tmp_path / "f16.gguf", model, "F16"))
    weights, parts = {}, []
    for part in tensors:
        name = next((n for n in LINEARS if part.name == f"blk.0.{NAMES[n]}.weight".encode()), None)
        if name is not None:
            rows, cols = model.config.shape(name)
            trits = rng.choice([-1, 1], (rows, cols))
            # A lane of each four is zero.
            at = np.arange(cols).reshape(-1, 4, 16)
            for row in trits:
                row[np.take_along_axis(at, rng.integers(0, 4, (len(at), 1, 16)), axis=1)] = 0
            scales = (rng.uniform(0.6, 1.4, (rows, cols // 256)) * cols**-0.5).astype(np.float16)
            weights[0, name] = spread(trits, scales)
            part = part._replace(number=43, content=stq1_0(trits, scales))
        parts.append(part)
    got = converted(assemble(tmp_path / "m.gguf", fields, parts), tmp_path)
    # One block a row: no groups within a row.
    assert (got.config.dim, got.config.ffn) == (256, 256) and not got.layers[0].multipliers
    assert_logits(got, float_model(model, weights))


def test_seq_in_q2_0c(tmp_path):
    """SEQ of AngelSlim: levels 1, 3 and their negatives are two tied planes, exactly."""
    model = model_of(WIDE, gains=True, name="seq")
    rng = np.random.default_rng(0)
    fields, tensors = parts_of(write_gguf(tmp_path / "f16.gguf", model, "F16"))
    weights, parts = {}, []
    for part in tensors:
        name = next((n for n in LINEARS if part.name == f"blk.0.{NAMES[n]}.weight".encode()), None)
        if name is not None:
            rows, cols = model.config.shape(name)
            codes = rng.choice([-3, -1, 1, 3], (rows, cols))
            scales = (rng.uniform(0.2, 0.5, rows) * cols**-0.5).astype(np.float16)
            weights[0, name] = codes * scales[:, None].astype(np.float64)
            part = part._replace(number=40, content=q2_0c(codes, scales))
        parts.append(part)
    path = assemble(tmp_path / "m.gguf", fields, parts)
    source = open_checkpoint(path, Options(), lambda text: None)
    for (i, name), want in weights.items():
        linear = source.linear(i, name)
        assert linear.planes == 2 and linear.multipliers is None
        assert np.array_equal(worth_of(linear), want)
    assert_logits(converted(path, tmp_path), float_model(model, weights))


# Floats of few levels in a Hugging Face folder


def test_scales_of_column_blocks(tmp_path):
    """TriLM whose scales are of blocks of columns: both blocks of wq, one linear of two planes."""
    model = kind_model("trilm")
    tensors, _ = tensors_of("trilm", model)
    name = f"model.layers.0.{PROJECTIONS['wq']}.weight"
    weight = tensors[name].copy()
    weight[:, 32:] *= 2
    tensors[name] = weight
    source = open_checkpoint(folder(tmp_path / "hf", "trilm", tensors), Options(), lambda text: None)
    assert (source.config.dim, source.config.ffn) == (80, 200)
    linear = source.linear(0, "wq")
    assert (linear.planes, linear.group_slices) == (1, 2)
    values = halves(worth_of(linear), 16) / (64 / 80) ** 0.5
    assert np.abs(values[:, np.arange(64) // 32 * 40 + np.arange(64) % 32] - weight).max() < 2**-11 * np.abs(weight).max()
    # Where the output projection alone has such blocks, its planes are split, and no width grows.
    tensors[name] = weight[:, :1] * np.sign(weight)
    tensors[name.replace("q_proj", "o_proj")] = weight
    source = open_checkpoint(folder(tmp_path / "hf2", "trilm", tensors), Options(), lambda text: None)
    assert source.config.dim == 64 and source.linear(0, "wq").planes == 1
    linear = source.linear(0, "wo")
    assert (linear.planes, linear.group_slices) == (2, 1)
    assert np.array_equal(worth_of(linear), weight)


def test_a_pair_of_scales(tmp_path):
    """TTQ: + a and - b, a pair for the matrix, are two planes with multipliers."""
    model = kind_model("trilm")
    tensors, _ = tensors_of("trilm", model)
    weights = {}
    for i, layer in enumerate(model.layers):
        for name in LINEARS:
            what = f"model.layers.{i}.{PROJECTIONS[name]}.weight"
            codes = np.sign(tensors[what]).astype(np.int8)
            values = np.where(codes > 0, np.float16(0.1172), np.where(codes < 0, np.float16(-0.3), 0)).astype(np.float16)
            tensors[what] = values
            weights[i, name] = np.where(layer.weights[name] > 0, np.float16(0.1172), np.float16(0.3)) * layer.weights[name]
    path = folder(tmp_path / "hf", "trilm", tensors)
    source = open_checkpoint(path, Options(), lambda text: None)
    for (i, name), want in weights.items():
        linear = source.linear(i, name)
        assert linear.planes == 2 and linear.group_slices == -(-want.shape[1] // 20)
        assert np.abs(worth_of(linear) - want).max() <= 0.3 / 128
    assert_logits(converted(path, tmp_path), float_model(model, weights))
