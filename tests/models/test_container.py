# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The .tellme container: written and read again, and every way in which a file can be wrong."""

import json
import random
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from tellme import reference
from tellme.models import LINEARS, Model, ModelError, Multipliers, int8_rows
from tellme.models.container import Container, write
from tellme.models.int8 import float_rows, table_code
from tellme.models.model import pack_rows, unpack_rows
from tellme.models.source import check_parts, multiplier_bytes, trits
from tellme.spec.packing import HEAD_CODE, HEAD_PLANES, MAX_LINEAR_PLANES, pack_trits, plane_reach, planes_for, trits_of
from tellme.spec.scale import Scale, unpack16
from tests.models.random_model import (
    FAMILY,
    random_model,
    with_biases,
    with_groups,
    with_planes,
    with_row_scales,
    with_several_scales,
    worth,
)


@pytest.fixture(params=FAMILY)
def model(request):
    return random_model(request.param)


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "grouped.tellme"
    random_model("grouped").save(path)
    return path


def same(a, b):
    return (a is None and b is None) or (a.dtype == b.dtype and (a == b).all())


def test_there_and_back(model, tmp_path):
    path = tmp_path / "a model.tellme"
    model.tokenizer = b"not looked into"
    model.save(path)
    again = Model.load(path)
    assert again.config == model.config and again.tokenizer == model.tokenizer and again.name == model.name
    for name in ("embedding", "embedding_scales", "final_gain", "head", "head_scales"):
        assert same(getattr(again, name), getattr(model, name))
    for a, b in zip(again.layers, model.layers, strict=True):
        assert all(same(a.weights[n], b.weights[n]) and a.scales[n] == b.scales[n] for n in LINEARS)
        assert a.gains.keys() == b.gains.keys() and all(same(a.gains[n], b.gains[n]) for n in a.gains)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(("conventions", "version"), [
    ({}, "1"), ({"bos": 5, "eos": 5}, "1"), ({"add_bos": False}, "3"), ({"bos": None, "add_bos": False}, "3"),
    ({"more_ends": (3, 4)}, "3"), ({"eos": None}, "3")])
def test_how_texts_begin_and_end_there_and_back(conventions, version, tmp_path):
    model = random_model("plain")
    model.config = replace(model.config, **conventions)
    model.save(tmp_path / "m.tellme")
    assert Model.load(tmp_path / "m.tellme").config == model.config
    with safe_open(tmp_path / "m.tellme", framework="numpy") as file:
        metadata = file.metadata()
    assert metadata["format_version"] == version
    # Programs that know versions 1 and 2 only take no key that they do not know.
    assert set(json.loads(metadata["config"])) - {"add_bos", "more_ends", "qk_norm", "vector_norms"} == {
        f.name for f in fields(model.config)} - {"add_bos", "more_ends", "qk_norm", "vector_norms"}
    assert ("more_ends" in json.loads(metadata["config"])) == ("more_ends" in conventions)


@pytest.mark.parametrize("name", FAMILY)
def test_several_scales_and_biases_there_and_back(name, tmp_path):
    model = with_biases(with_several_scales(random_model(name)))
    path = tmp_path / "m.tellme"
    model.save(path)
    again = Model.load(path)
    for a, b in zip(again.layers, model.layers, strict=True):
        assert all(same(a.weights[n], b.weights[n]) and a.blocks(n) == b.blocks(n) for n in LINEARS)
        assert a.biases.keys() == b.biases.keys() and all(same(a.biases[n], b.biases[n]) for n in a.biases)


def written_twice(model, folder):
    """The container of a model that was saved, and written from its file into another one: the file's every byte."""
    path, again = folder / "m.tellme", folder / "again.tellme"
    model.save(path)
    container = Container(path)
    container.check()
    write(container, again)
    assert again.read_bytes() == path.read_bytes()
    return container, path


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("change", [lambda model: model, with_row_scales, lambda model: with_biases(with_several_scales(model))])
def test_planes_there_and_back(name, change, tmp_path):
    """From memory into a file, from the file into another, and into memory: each part, and the file's every byte."""
    model = with_planes(change(random_model(name)))
    container, path = written_twice(model, tmp_path)
    got = Model.load(path)
    for a, b in zip(got.layers, model.layers, strict=True):
        assert a.planes == b.planes and set(b.planes.values()) <= {2, 3, 4, 5} and b.planes
        assert all(same(a.weights[n], b.weights[n]) and a.blocks(n) == b.blocks(n) for n in LINEARS)
        assert a.biases.keys() == b.biases.keys() and all(same(a.biases[n], b.biases[n]) for n in a.biases)
    assert trits(container) == trits(model) == sum(
        layer.weights[n].size * layer.planes.get(n, 1) for layer in model.layers for n in LINEARS)


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("change", [lambda model: model, with_planes, lambda model: with_biases(with_several_scales(model))])
def test_groups_and_multipliers_there_and_back(name, change, tmp_path):
    """From memory into a file, from the file into another, and into memory; and the reference reads the same integers."""
    model = with_groups(change(random_model(name)))
    container, path = written_twice(model, tmp_path)
    got, read = Model.load(path), reference.read_container(path)
    for a, b, c in zip(got.layers, model.layers, read.layers, strict=True):
        assert a.multipliers.keys() == b.multipliers.keys() and len(b.multipliers) in range(3, 7)
        for n, (size, values) in b.multipliers.items():
            assert a.multipliers[n].group_slices == size and same(a.multipliers[n].values, values)
        assert a.planes == b.planes and all(same(a.weights[n], b.weights[n]) for n in LINEARS)
        assert all((c[n][0] == worth(b, n)).all() for n in LINEARS)
    assert multiplier_bytes(container) == multiplier_bytes(model) == sum(
        m.values.size for layer in model.layers for m in layer.multipliers.values())


@pytest.mark.parametrize(("tensors", "drop", "message"), [
    ({}, ["layers.0.wq.group_slices"], "misses 'layers.0.wq.group_slices'; convert it again"),
    ({}, ["layers.0.wq.multipliers"], "misses 'layers.0.wq.multipliers'; convert it again"),
    ({"layers.0.wq.group_slices": np.array([0], np.int32)}, [], r"wq.group_slices is int32 \[0\]; an int32 of 1 to 255"),
    ({"layers.0.wq.group_slices": np.array([256], np.int32)}, [], r"wq.group_slices is int32 \[256\]"),
    ({"layers.0.wq.group_slices": np.array([2], np.int64)}, [], r"wq.group_slices is int64 \[2\]"),
    ({"layers.0.wq.group_slices": np.array([2, 2], np.int32)}, [], r"wq.group_slices is int32 \[2, 2\]"),
    ({"layers.0.wq.multipliers": np.zeros((1, 2, 64), np.int8)}, [],
     r"wq: its multipliers are int8 of shape \(1, 2, 64\); 1 planes, 3 column groups and 64 rows want int8 of \(1, 3, 64\)"),
    ({"layers.0.wq.multipliers": np.zeros((1, 3, 64), np.int16)}, [], "its multipliers are int16 of shape")])
def test_damaged_groups_are_found(tensors, drop, message, written):
    model = Model.load(written)
    model.layers[0].multipliers["wq"] = Multipliers(2, np.ones((1, 3, 64), np.int8))
    model.save(written)
    edit(written, tensors=tensors, drop=drop)
    for read in (Model.load, lambda path: Container(path).check()):
        with pytest.raises(ModelError, match=message) as caught:
            read(written)
        assert str(written) in str(caught.value)
    # In an older file such tensors are none of the model's.
    edit(written, metadata={"format_version": "3"})
    assert not Model.load(written).layers[0].multipliers


def test_groups_that_no_header_says(tmp_path):
    model = random_model("plain")
    for size, values, message in ((0, np.ones((1, 4, 64), np.int8), "layers.1.w3 has column groups of 0 slices; 1 to 255 can be"),
                                  (256, np.ones((1, 1, 64), np.int8), "layers.1.w3 has column groups of 256 slices"),
                                  (1, np.ones((1, 1, 64), np.int8), r"layers.1.w3: its multipliers are int8 of shape \(1, 1, ")):
        model.layers[1].multipliers["w3"] = Multipliers(size, values)
        for check in (model.check, lambda: check_parts(model), lambda: write(model, tmp_path / "m.tellme")):
            with pytest.raises(ModelError, match=message):
                check()
    assert not list(tmp_path.iterdir())


def test_rows_of_planes_are_the_specification():
    rng = np.random.default_rng(3)
    for planes in range(2, MAX_LINEAR_PLANES + 1):
        for cols in (1, 19, 20, 43):
            reach = plane_reach(planes)
            rows = rng.integers(-reach, reach + 1, (3, cols)).astype(np.int8)
            rows[0, 0], rows[1, 0], rows[2, 0] = reach, -reach, 0
            packed = pack_rows(rows, planes)
            for row, stored in zip(rows.tolist(), packed, strict=True):
                split = [trits_of(weight, planes) for weight in [*row, *[0] * (-cols % 20)]]
                for plane in range(planes):
                    trits_here = [weight[plane] for weight in split]
                    assert stored[plane].tolist() == [pack_trits(trits_here[at:at + 5]) for at in range(0, len(split), 5)]
            assert (unpack_rows("w", packed, rows.shape, planes) == rows).all()


def planes_of(path, wanted):
    """The file with a matrix of the wanted shape, of zeros."""
    edit(path, metadata={"format_version": "4"}, tensors={"layers.0.wq": np.full(wanted, 121, np.uint8)})


@pytest.mark.parametrize(("shape", "message"), [
    ((64, 6, 20), "layers.0.wq has 6 planes; 1 to 5 can be"), ((64, 0, 20), "layers.0.wq has 0 planes; 1 to 5 can be"),
    ((64, 1, 20), r"layers.0.wq is uint8 of shape \(64, 1, 20\); 64 x 100 weights want uint8 of \(64, 20\)"),
    ((64, 3, 16), r"uint8 of shape \(64, 3, 16\); 64 x 100 weights of 3 planes want uint8 of \(64, 3, 20\)"),
    ((3, 64, 20), "layers.0.wq has 64 planes")])
def test_tensors_that_hold_no_planes(shape, message, written):
    planes_of(written, shape)
    with pytest.raises(ModelError, match=message) as caught:
        Model.load(written)
    assert str(written) in str(caught.value)
    # An older file has no planes at all.
    edit(written, metadata={"format_version": "3"})
    with pytest.raises(ModelError, match=r"64 x 100 weights want uint8 of \(64, 20\)"):
        Model.load(written)


def test_a_damaged_plane_is_found(written):
    planes_of(written, (64, 3, 20))
    assert not Model.load(written).layers[0].weights["wq"].any()
    with safe_open(written, framework="numpy") as file:
        tensor = file.get_tensor("layers.0.wq")
    tensor[63, 2, 19] = 243
    edit(written, tensors={"layers.0.wq": tensor})
    with pytest.raises(ModelError, match="layers.0.wq holds byte 243, which is no base-3 code"):
        Model.load(written)


def test_codes_that_the_planes_do_not_hold(tmp_path):
    model = random_model("plain")
    layer = model.layers[1]
    layer.planes["w3"] = 3
    layer.weights["w3"] = np.full((64, 64), -13, np.int8)
    model.check()
    layer.weights["w3"][5, 6] = 14
    for check in (model.check, lambda: check_parts(model), lambda: write(model, tmp_path / "m.tellme")):
        with pytest.raises(ModelError, match="layers.1.w3 has a code outside -13 to 13, which is what 3 planes hold"):
            check()
    layer.planes["w3"] = 6
    for check in (model.check, lambda: check_parts(model), lambda: write(model, tmp_path / "m.tellme")):
        with pytest.raises(ModelError, match="layers.1.w3 has 6 planes; 1 to 5 can be"):
            check()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("change", "version"), [
    (lambda model: None, "1"), (with_several_scales, "2"), (with_biases, "2"), (with_planes, "4"), (with_groups, "4"),
    (lambda model: setattr(model, "tokenizer", b"{}"), "2"), (lambda model: setattr(model, "tokenizer", b"x"), "1"),
])
def test_the_version_is_the_oldest_that_will_do(change, version, tmp_path):
    model = random_model("plain")
    change(model)
    model.save(tmp_path / "m.tellme")
    with safe_open(tmp_path / "m.tellme", framework="numpy") as file:
        assert file.metadata()["format_version"] == version


def test_a_failing_source_leaves_the_old_file(tmp_path):
    path = tmp_path / "m.tellme"
    path.write_bytes(b"precious")
    model = random_model("plain")
    good = model.layers[1].weights["w2"]
    for bad, message in ((np.where(good == 1, 2, good).astype(np.int8), "layers.1.w2 has a code outside -1, 0, 1"),
                         (good[:-2], "layers.1.w2 has shape"), (good.astype(np.int16), "layers.1.w2 is int16")):
        model.layers[1].weights["w2"] = bad
        with pytest.raises(ModelError, match=message):
            write(model, path)
    assert path.read_bytes() == b"precious" and [p.name for p in tmp_path.iterdir()] == ["m.tellme"]


def test_packed_rows_are_the_specification():
    rng = np.random.default_rng(1)
    for cols in (1, 5, 19, 20, 21, 43):
        rows = rng.integers(-1, 2, (3, cols)).astype(np.int8)
        packed = pack_rows(rows)
        padded = [[*map(int, row), *[0] * (-cols % 20)] for row in rows]
        assert packed.tolist() == [[pack_trits(row[at:at + 5]) for at in range(0, len(row), 5)] for row in padded]
        assert (unpack_rows("w", packed, rows.shape) == rows).all()


@pytest.mark.parametrize("most", [127, HEAD_CODE])
def test_int8_rows_are_within_half_a_step(most):
    rng = np.random.default_rng(2)
    table = rng.normal(size=(50, 64)) * 10.0 ** rng.uniform(-4, 3, (50, 1))
    table[7] = 0
    codes, stored = int8_rows(table, most)
    steps = np.array([float(unpack16(int(s)).value()) for s in stored])
    assert codes.dtype == np.int8 and (np.abs(np.delete(codes, 7, 0)).max(axis=1) == most).all()
    # Half a step, and at the largest elements what the rounding of the step takes.
    assert (np.abs(codes * steps[:, None] - table) <= steps[:, None] * (0.5 + most * 2.0**-11)).all()
    assert stored[7] == 0 and not codes[7].any()


@pytest.mark.parametrize("most", [127, HEAD_CODE, 40, 13, 1])
def test_rows_that_are_int8_already_keep_their_codes(most):
    """Tables of older files with codes of up to 127, and of few planes, exported as floats: not a value changes."""
    rng = np.random.default_rng(3)
    codes = rng.integers(-most, most + 1, (40, 64)).astype(np.int8)
    codes[:, 5] = most
    # Rows whose codes end below the most, and a row of two codes far apart.
    codes[:10] = np.clip(codes[:10], -most, max(most - 3, 1))
    codes[10] = 0
    codes[10, [40, 50]] = 1, -most
    stored = rng.integers(20 << 10, 60 << 10, 40).astype(np.uint16)
    got = int8_rows(float_rows(codes, stored), HEAD_CODE)
    assert (got[0] == codes).all() and (got[1] == stored).all()


def test_codes_of_a_head_fit_five_planes():
    """Those of a head, and of an embedding that is one; another embedding has all codes of int8."""
    tied = random_model("plain").config
    assert tied.tied and planes_for(HEAD_CODE) == HEAD_PLANES < planes_for(HEAD_CODE + 1)
    untied = replace(tied, tied=False)
    assert [table_code(tied, "embedding"), table_code(untied, "embedding"), table_code(untied, "head")] == [
        HEAD_CODE, 127, HEAD_CODE]


def edit(path, *, metadata=None, tensors=None, drop=()):
    """Write the file again with changed metadata or tensors."""
    with safe_open(path, framework="numpy") as file:
        meta = {**file.metadata(), **(metadata or {})}
        content = {name: file.get_tensor(name) for name in file.keys()}
    content |= tensors or {}
    for name in drop:
        meta.pop(name, None)
        content.pop(name, None)
    save_file(content, path, metadata=meta)


def config_with(**changes):
    return {"config": json.dumps(asdict(FAMILY["grouped"][0]) | changes)}


def blocks(rows):
    return {"layers.0.w1.scale_rows": np.array(rows, np.int32),
            "layers.0.w1.scale": np.array([[1024, -9], [1025, -9]], np.int16)}


@pytest.mark.parametrize(("change", "message"), [
    (lambda p: p.unlink(), "there is no model file"),
    (lambda p: p.write_bytes(b""), "is empty"),
    (lambda p: p.write_bytes(b"GGUF" + bytes(99)), "is a GGUF file: convert the file$"),
    (lambda p: p.write_bytes(p.read_bytes()[:-1]), "cut short or damaged"),
    (lambda p: p.write_bytes(p.read_bytes()[:100]), "cut short or damaged"),
    (lambda p: p.write_bytes(p.read_bytes()[:4]), "cut short or damaged"),
    (lambda p: p.write_bytes(random.Random(1).randbytes(5000)), "no .tellme file"),
    (lambda p: p.write_text("a story\n" * 100), "no .tellme file"),
    (lambda p: (p.unlink(), p.mkdir()), "is a folder"),
    (lambda p: edit(p, drop=["format"]), "not a tellme model: convert the file$"),
    (lambda p: edit(p, metadata={"format_version": "6"}), "has format_version 6; this tellme-host reads up to 5"),
    (lambda p: edit(p, metadata={"format_version": "17"}), "has format_version 17; this tellme-host reads up to 5"),
    (lambda p: edit(p, drop=["format_version"]), "has format_version \\?"),
    (lambda p: edit(p, drop=["config"]), "misses 'config'"),
    (lambda p: edit(p, metadata={"config": "{"}), "misses"),
    (lambda p: edit(p, metadata={"config": "[]"}), "misses"),
    (lambda p: edit(p, metadata=config_with(colour=3)), "colour"),
    (lambda p: edit(p, metadata=config_with(layers="2")), "layers is '2', which is no int"),
    (lambda p: edit(p, metadata=config_with(dim=0)), "dim is 0"),
    (lambda p: edit(p, metadata=config_with(dim=104)), "shape"),
    (lambda p: edit(p, metadata=config_with(act="gelu")), "'gelu' is neither silu nor relu2"),
    (lambda p: edit(p, metadata=config_with(act_exp=99)), "act_exp is 99; "),
    (lambda p: edit(p, metadata=config_with(kv_heads=3)), "4 heads are no multiple of 3"),
    (lambda p: edit(p, metadata=config_with(eps=0.0)), "eps 0.0"),
    (lambda p: edit(p, metadata=config_with(bos=999)), "bos is 999"),
    (lambda p: edit(p, metadata=config_with(bos=None)), "BOS is put ahead of a prompt, but the model has no BOS token$"),
    (lambda p: edit(p, metadata=config_with(bos="1")), "bos is '1', which is no int | None$"),
    (lambda p: edit(p, metadata=config_with(more_ends=[3, 203])), "an end token is 203, outside the vocabulary of 203$"),
    (lambda p: edit(p, metadata=config_with(more_ends=[3, -1])), "an end token is -1, outside the vocabulary of 203$"),
    (lambda p: edit(p, metadata=config_with(more_ends=[3.0])), r"more_ends is \(3.0,\), which is no list of token ids$"),
    (lambda p: edit(p, metadata=config_with(more_ends="3")), "more_ends is '3', which is no list of token ids$"),
    (lambda p: edit(p, metadata=config_with(eos=None, more_ends=[3])),
     "more_ends names end tokens, but eos is none: the first end token is eos$"),
    (lambda p: edit(p, metadata=config_with(o_norm=False)), "o_norm is a gain of a norm"),
    (lambda p: edit(p, tensors={"layers.1.q_norm": np.ones(16, np.float16)}), "layers.1.q_norm is a gain of a norm that"),
    (lambda p: edit(p, metadata=config_with(qk_norm=True), tensors={"layers.1.k_norm": np.ones(64, np.float16)}),
     r"layers.1.k_norm is float16 of shape \(64,\), expected float16 of 16"),
    (lambda p: edit(p, metadata=config_with(qk_norm=1)), "qk_norm is 1, which is no bool$"),
    (lambda p: edit(p, metadata=config_with(vector_norms=True)), "vector_norms stands beside qk_norm, o_norm or down_norm"),
    (lambda p: edit(p, metadata=config_with(vector_norms=True, o_norm=False, down_norm=False)),
     "layers.0.attn_norm is a gain of a norm that the configuration does not have"),
    (lambda p: edit(p, metadata=config_with(tied=False)), "untied but has no head"),
    (lambda p: edit(p, drop=["layers.1.wo"]), "misses 'layers.1.wo'"),
    (lambda p: edit(p, drop=["embedding.scale"]), "misses 'embedding.scale'"),
    (lambda p: edit(p, tensors={"layers.0.w1.scale": np.array([5, 0], np.int16)}), "w1.scale is no scale: 5, 0"),
    (lambda p: edit(p, tensors={"layers.0.w1.scale": np.array([5], np.int16)}), "w1.scale misses values"),
    (lambda p: edit(p, tensors={"layers.0.w1.scale_rows": np.array([100, 64], np.int32)}), "for 2 blocks of rows"),
    (lambda p: edit(p, tensors=blocks([100, 63])), "layers.0.w1 has 164 rows, and scales for blocks of 100, 63"),
    (lambda p: edit(p, tensors=blocks([164, 0])), "layers.0.w1 has 164 rows, and scales for blocks of 164, 0"),
    (lambda p: edit(p, tensors=blocks([165, -1])), "layers.0.w1 has 164 rows, and scales for blocks of 165, -1"),
    (lambda p: edit(p, tensors={"layers.0.w1.bias": np.zeros(163, np.float16)}), "w1.bias is float16 of shape"),
    (lambda p: edit(p, tensors={"layers.0.w1.bias": np.full(164, np.nan, np.float16)}), "w1.bias holds an infinity or NaN"),
    (lambda p: edit(p, tensors={"layers.0.wq": np.full((64, 20), 250, np.uint8)}), "250, which is no base-3 code"),
    (lambda p: edit(p, tensors={"layers.0.w2": np.full((100, 36), 0, np.uint8)}), "behind column 164 is not zero"),
    (lambda p: edit(p, tensors={"embedding": np.zeros((203, 100), np.int16)}), "embedding is int16"),
    (lambda p: edit(p, tensors={"embedding": np.zeros((203, 99), np.int8)}), "embedding has shape"),
    (lambda p: edit(p, tensors={"final_norm": np.full(100, np.inf, np.float16)}), "infinity"),
    (lambda p: edit(p, tensors={"layers.0.attn_norm": np.ones(99, np.float16)}), "attn_norm is float16"),
])
def test_refusals(written, change, message):
    change(written)
    with pytest.raises(ModelError, match=message) as caught:
        Model.load(written)
    assert str(written) in str(caught.value)


def test_any_cut_and_any_flipped_byte_is_no_crash(written):
    rng = random.Random(3)
    whole = written.read_bytes()
    for _ in range(300):
        content = bytearray(whole)
        if rng.random() < 0.3:
            del content[rng.randrange(len(content)):]
        else:
            # The header, where a byte means most.
            content[rng.randrange(min(3000, len(content)))] = rng.randrange(256)
        written.write_bytes(content)
        try:
            Model.load(written)
        except ModelError as error:
            assert str(error)


def test_nothing_half_written(tmp_path):
    model = random_model("plain")
    model.layers[0].weights["wq"] = model.layers[0].weights["wq"][:-1]
    with pytest.raises(ModelError, match="layers.0.wq has shape"):
        model.save(tmp_path / "x.tellme")
    with pytest.raises(ModelError, match="cannot write"):
        random_model("plain").save(tmp_path / "no-folder" / "x.tellme")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("change", "message"), [
    (lambda m: m.layers.pop(), "1 layers of weights for 2 in the configuration"),
    (lambda m: setattr(m, "head", None), "the model is untied but has no head"),
    (lambda m: m.layers[1].scales.update(w2=Scale(0, 0)), "layers.1.w2: its scale is zero or too small"),
    (lambda m: m.layers[0].weights.update(wk=m.layers[0].weights["wk"].astype(np.int16)), "layers.0.wk is int16, int8 is wanted"),
    (lambda m: m.layers[0].gains.update(q_norm=np.ones(16, np.float16)),
     "layers.0.q_norm is a gain of a norm that the configuration does not have"),
    (lambda m: setattr(m, "final_gain", np.full(m.config.dim, np.inf, np.float16)), "final_norm holds an infinity or NaN"),
])
def test_a_model_in_memory_that_is_wrong_is_not_written(change, message, tmp_path):
    model = random_model("untied")
    change(model)
    with pytest.raises(ModelError) as caught:
        model.save(tmp_path / "x.tellme")
    assert str(caught.value) == message and not list(tmp_path.iterdir())


class Wrong:
    """A source that is a model but for some of its parts."""

    def __init__(self, model, **parts):
        self._model, self._parts = model, parts

    def __getattr__(self, name):
        return self._parts.get(name, getattr(self._model, name))


def test_a_source_whose_parts_do_not_fit_its_configuration():
    model = random_model("plain")
    check_parts(Wrong(model))
    with pytest.raises(ModelError, match=r"^layers\.0\.wq has shape \(64, 128\), the configuration says \(64, 64\)$"):
        check_parts(Wrong(model, linear=lambda i, name: replace(model.linear(i, name), shape=(64, 128))))
    with pytest.raises(ModelError, match="^embedding has 100 rows, the configuration says 128$"):
        check_parts(Wrong(model, table=lambda name: (part._replace(codes=part.codes[:100], scales=part.scales[:100])
                                                     for part in model.table(name))))


def test_every_field_of_the_configuration_is_checked():
    config = FAMILY["plain"][0]
    for f in fields(config):
        broken = type(config)(**(asdict(config) | {f.name: b""}))
        with pytest.raises(ModelError, match=f.name):
            broken.check()


def test_norms_on_heads_and_behind_linears_want_a_version_that_knows_them(tmp_path):
    """A model without has the file that it had before there were such norms, to the key."""
    on_qk = ("q_norm", "k_norm")
    for name, version, key, own in (("plain", "1", "", ()), ("head-norms", "4", "qk_norm", on_qk),
                                    ("vector-norms", "5", "vector_norms", (*on_qk, "attn_post_norm", "ffn_post_norm"))):
        path = tmp_path / f"{name}.tellme"
        model = random_model(name)
        model.save(path)
        with safe_open(path, framework="numpy") as file:
            metadata, names = file.metadata(), set(file.keys())
        assert metadata["format_version"] == version
        assert {"qk_norm", "vector_norms"} & set(json.loads(metadata["config"])) == ({key} if key else set())
        found = {n.rsplit(".", 1)[1] for n in names if n.endswith("_norm") and n != "final_norm"}
        assert found == {*own, *(() if name == "vector-norms" or name == "plain" else ("attn_norm", "ffn_norm"))}
        assert Model.load(path).config == model.config
