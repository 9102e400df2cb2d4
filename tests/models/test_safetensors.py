# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Safetensors: files that the package refuses are refused; types and ranks of tensors; folders as the hub has them."""

import json
import struct
from fractions import Fraction

import numpy as np
import pytest
from safetensors import SafetensorError, safe_open

from tellme.models import LINEARS, ModelError
from tellme.models.importers.checkpoints import open_checkpoint
from tellme.models.importers.importing import Options
from tellme.models.importers.tensors import SafetensorsFile, as_numbers
from tests.models.folders import PROJECTIONS, folder, kind_model, tensors_of, write_safetensors
from tests.models.test_huggingface import assert_same, converted

ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def file_of(path, header, content=b"", *, length=None):
    """A file with a header (an object, or its text) as it is given."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + content)
    return path


def refusal(path):
    with pytest.raises(ModelError) as caught:
        SafetensorsFile(path)
    return str(caught.value)


@pytest.mark.parametrize(("header", "content"), [
    ({"a": ENTRY | {"shape": [2], "data_offsets": [0, 8]}, "b": ENTRY | {"data_offsets": [4, 8]}}, bytes(8)),  # overlap
    ({"a": ENTRY, "b": ENTRY | {"data_offsets": [8, 12]}}, bytes(12)),  # a hole
    ({"a": ENTRY | {"data_offsets": [4, 8]}}, bytes(8)),  # a hole at the start
    ({"a": ENTRY}, b"12345"),  # bytes that belong to no tensor
    ({"a": ENTRY | {"dtype": "F33"}}, b"1234"),
    ({"a": ENTRY | {"shape": [2]}}, b"1234"),
    ({"a": ENTRY | {"shape": [-1]}}, b"1234"),
    ({"a": ENTRY | {"shape": [1.0]}}, b"1234"),
    ({"a": ENTRY | {"shape": [True]}}, b"1234"),
    ({"a": ENTRY | {"shape": "1"}}, b"1234"),
    ({"a": ENTRY | {"shape": [2**63, 2**63]}}, b"1234"),
    ({"a": ENTRY | {"shape": [2**70]}}, b"1234"),
    ({"a": ENTRY | {"data_offsets": [4, 0]}}, b"1234"),
    ({"a": ENTRY | {"data_offsets": [0]}}, b"1234"),
    ({"a": ENTRY | {"data_offsets": ["0", "4"]}}, b"1234"),
    ({"a": {"dtype": "F32", "shape": [1]}}, b"1234"),
    ({"a": 1}, b""), ({"a": None}, b""),
    ({"__metadata__": {"x": 1}, "a": ENTRY}, b"1234"),
    ({"__metadata__": [], "a": ENTRY}, b"1234"),
])
def test_what_the_package_refuses(header, content, tmp_path):
    path = file_of(tmp_path / "x.safetensors", header, content)
    with pytest.raises(SafetensorError) as theirs:
        safe_open(path, framework="numpy")
    assert refusal(path) == f"{path} is no safetensors file, or is damaged ({theirs.value})"


TWO = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'


@pytest.mark.parametrize(("header", "content", "reason"), [
    # The package takes these two; its format does not.
    (TWO, b"1234", "the key 'a' stands twice in an object"),
    (b'{"__metadata__":{"x":"1","x":"2"}}', b"", "the key 'x' stands twice in an object"),
    (TWO.replace(b"[0,4]}}", b"[4,8]}}"), b"12345678", "the key 'a' stands twice in an object"),
    (b'{"a\xff":1}', b"", "byte 3 is no UTF-8"),
    (b'{"\\ud800":1}', b"", "it holds half of a surrogate pair"),
    (b'{"a":' * 100_000, b"", "it is nested too deep"),
    (b"{}\0\0", b"", "Extra data: line 1 column 3 (char 2)"),
    (b'{"a":NaN}', b"", "it holds NaN, which is no number"),
])
def test_headers_that_are_no_json(header, content, reason, tmp_path):
    path = file_of(tmp_path / "x.safetensors", header, content)
    assert refusal(path) == f"the header of {path} is no JSON that can be read ({reason})"


@pytest.mark.parametrize(("content", "message"), [
    (b"", "{} is no safetensors file, or is cut short (0 bytes)"),
    (bytes(4), "{} is no safetensors file, or is cut short (4 bytes)"),
    (bytes(16), "{} is no safetensors file, or is cut short (16 bytes)"),
    (struct.pack("<Q", 3) + b"{}", "{} is no safetensors file, or is cut short (10 bytes)"),
    (struct.pack("<Q", 2**63) + b"{}", "{} is no safetensors file, or is cut short (10 bytes)"),
    (struct.pack("<Q", 2) + b"[]", "{} is no safetensors file, or is damaged (its header is no object)"),
])
def test_what_is_no_safetensors_file(content, message, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert refusal(path) == message.format(path)


def test_a_header_beyond_the_format(tmp_path):
    """16 MiB at most, and no more is read."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", 100_000_001) + b"{}")
    with path.open("r+b") as file:
        file.truncate(100_000_020)
    assert refusal(path) == f"{path} has a header of 100000001 bytes; up to 16777216 are read"


def test_a_file_that_is_cut_short(tmp_path):
    path = file_of(tmp_path / "x.safetensors", {"a": ENTRY, "b": ENTRY | {"data_offsets": [4, 8]}}, b"1234567")
    assert refusal(path) == f"{path} has 7 bytes of tensors, and its tensor b ends at 8: it is cut short; copy it again"


def test_a_file_that_becomes_shorter(tmp_path):
    size = 1 << 20
    path = file_of(tmp_path / "x.safetensors", {"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}, bytes(size))
    file = SafetensorsFile(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError) as caught:
        file.whole("a")
    assert str(caught.value) == f"{path} has become shorter while it was read (it ends after 1048575 of 1048576 bytes)"


def test_what_is_taken(tmp_path):
    """Spaces around the header, tensors in any order, empty ones, and no metadata."""
    text = json.dumps({"__metadata__": None, "b": ENTRY | {"data_offsets": [4, 8]}, "a": ENTRY,
                       "none": {"dtype": "F32", "shape": [0, 3], "data_offsets": [8, 8]}}).encode()
    file = SafetensorsFile(file_of(tmp_path / "x.safetensors", text + b"   ", struct.pack("<2f", 1, 2)))
    assert file.names() == {"a", "b", "none"} and file.metadata == {}
    assert [file.whole(n).tolist() for n in ("a", "b", "none")] == [[1], [2], []]


# Types


def eight_bits(bits, mantissa, bias):
    """The value of an 8-bit float with a sign and ``mantissa`` bits, by the definition."""
    exponent, fraction = bits % 128 >> mantissa, bits % (1 << mantissa)
    size = (Fraction(fraction, 1 << mantissa) + (exponent > 0)) * Fraction(2) ** (max(exponent, 1) - bias)
    return float(-size if bits >> 7 else size)


def test_eight_bit_floats():
    e5m2 = as_numbers(np.arange(256, dtype=np.uint8), "F8_E5M2")
    # The upper half of a binary16.
    assert np.array_equal(e5m2, (np.arange(256, dtype=np.uint16) << 8).view(np.float16).astype(np.float32), equal_nan=True)
    e4m3 = as_numbers(np.arange(256, dtype=np.uint8), "F8_E4M3")
    assert [i for i in range(256) if np.isnan(e4m3[i])] == [0x7F, 0xFF]
    assert all(e4m3[i] == eight_bits(i, 3, 7) for i in range(256) if i % 128 != 127)
    assert (e4m3[0x7E], e4m3[1], e4m3[0x38]) == (448, 2.0**-9, 1)


#: A scale of 1.75 in each float type.
STORED = {"F64": struct.pack("<d", 1.75), "F32": struct.pack("<f", 1.75), "F16": struct.pack("<e", 1.75), "BF16": b"\xe0\x3f",
          "F8_E4M3": b"\x3e", "F8_E5M2": b"\x3f"}


def with_scales(path, kind, shape, content):
    """Make all weight_scale tensors of a folder's file of a type and a shape."""
    file = path / "model.safetensors"
    whole = file.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    header, new, out = json.loads(whole[8:8 + size]), {}, b""
    for name, fields in header.items():
        first, end = fields["data_offsets"]
        part = whole[8 + size + first:8 + size + end]
        if name.endswith("weight_scale"):
            fields, part = {"dtype": kind, "shape": shape}, content
        new[name] = fields | {"data_offsets": [len(out), len(out) + len(part)]}
        out += part
    file_of(file, new, out)


def scaled_model():
    """A model of the kind "falcon", whose scales divide, with all scales 1 / 1.75."""
    from tellme.spec.scale import scale_from_fraction

    model = kind_model("falcon")
    for layer in model.layers:
        layer.scales = {n: scale_from_fraction(1 / 1.75) for n in LINEARS}
    return model


@pytest.mark.parametrize("kind", STORED)
@pytest.mark.parametrize("shape", [[], [1], [1, 1], [1, 1, 1]])
def test_scales_of_all_float_types_and_ranks(kind, shape, tmp_path):
    model = scaled_model()
    path = folder(tmp_path / "hf", "falcon", tensors_of("falcon", model)[0])
    with_scales(path, kind, shape, STORED[kind])
    assert_same(converted(path, tmp_path), model)


Q, K = (f"model.layers.0.{PROJECTIONS[name]}" for name in ("wq", "wk"))


def folder_with(tmp_path, change, kind="falcon"):
    tensors, _ = tensors_of(kind, kind_model(kind))
    change(tensors)
    return folder(tmp_path / "hf", kind, tensors)


def test_one_scale_a_row_as_a_column(tmp_path):
    change = {f"{Q}.weight_scale": np.linspace(1, 2, 96, dtype=np.float32).reshape(96, 1)}
    flat = {name: scale.reshape(-1) for name, scale in change.items()}
    got = converted(folder_with(tmp_path, lambda t: t.update(change)), tmp_path)
    (tmp_path / "flat").mkdir()
    want = converted(folder_with(tmp_path / "flat", lambda t: t.update(flat)), tmp_path)
    assert_same(got, want)
    assert len(got.layers[0].blocks("wq")) > 90


def test_vectors_with_ones_ahead(tmp_path):
    def change(tensors):
        for name in tensors:
            if "norm" in name:
                tensors[name] = tensors[name].reshape(1, -1)

    assert_same(converted(folder_with(tmp_path, change), tmp_path), kind_model("falcon"))


@pytest.mark.parametrize(("tensor", "message"), [
    ({f"{Q}.weight_scale": np.ones((1, 96), np.float32)},
     f"{Q}.weight_scale has shape (1, 96); one scale is wanted, or one for each row or block of rows"),
    ({f"{Q}.weight_scale": np.ones((2, 2), np.float32)},
     f"{Q}.weight_scale has shape (2, 2); one scale is wanted, or one for each row or block of rows"),
    ({f"{Q}.weight_scale": np.ones((0,), np.float32)}, f"{Q}.weight_scale has 0 values for 96 rows"),
    ({f"{Q}.weight_scale": np.ones(1, np.int8)}, f"{Q}.weight_scale is int8; a scale is a floating-point number"),
    ({f"{Q}.weight_scale": np.ones(1, np.int64)},
     "{}/model.safetensors: " + f"{Q}.weight_scale is I64; F32, F16, BF16, F64, F8_E4M3, F8_E5M2, I8 and U8 are read"),
    ({"model.norm.weight": np.ones((96, 1), np.float32)},
     "model.norm.weight has shape (96, 1), the configuration says (96,)"),
    ({"model.norm.weight": np.ones((), np.float32)}, "model.norm.weight has shape (1,), the configuration says (96,)"),
    ({f"{Q}.bias": np.ones((2, 48), np.float32)}, f"{Q}.bias has shape (2, 48), the configuration says (96,)"),
    ({"model.embed_tokens.weight": np.ones((1, 333, 96), np.float32)},
     "model.embed_tokens.weight has shape (1, 333, 96), the configuration says (333, 96)"),
])
def test_shapes_and_types_that_are_refused(tensor, message, tmp_path):
    path = folder_with(tmp_path, lambda t: t.update(tensor))
    with pytest.raises(ModelError) as caught:
        converted(path, tmp_path)
    assert str(caught.value) == message.format(path)
    assert [p.name for p in tmp_path.iterdir()] == ["hf"]


@pytest.mark.parametrize(("kind", "content", "value"), [
    ("F8_E4M3", b"\x7f", "nan"), ("F8_E5M2", b"\x7c", "inf"), ("F64", struct.pack("<d", 1e300), "inf"),
    ("F8_E4M3", b"\xbe", "-1.75"), ("F8_E4M3", b"\0", "0.0"),
])
def test_scales_that_are_no_positive_numbers(kind, content, value, tmp_path):
    path = folder_with(tmp_path, lambda t: None)
    with_scales(path, kind, [1], content)
    with pytest.raises(ModelError) as caught:
        converted(path, tmp_path)
    assert str(caught.value) == f"{Q}.weight_scale is {value}; a positive finite number is wanted"


def test_a_type_that_is_not_decoded(tmp_path):
    path = folder_with(tmp_path, lambda t: None)
    with_scales(path, "F8_E8M0", [1], b"\x7f")
    with pytest.raises(ModelError) as caught:
        converted(path, tmp_path)
    assert str(caught.value) == (f"{path}/model.safetensors: {Q}.weight_scale is F8_E8M0; F32, F16, BF16, F64, F8_E4M3, F8_E5M2, "
                                 "I8 and U8 are read")


# Folders


SMALL = {"x": np.ones(3, np.float32)}


def hub_folder(tmp_path, *, shards=1, beside=()):
    """A folder of the kind "falcon", with small files of names beside the model's own."""
    path = folder(tmp_path / "hf", "falcon", tensors_of("falcon", kind_model("falcon"))[0], shards=shards)
    for name in beside:
        write_safetensors(path / name, SMALL)
    return path


def heard_of(path, tmp_path):
    """What is said of the files, once the right model has come out."""
    heard = []
    assert_same(converted(path, tmp_path, say=heard.append), kind_model("falcon"))
    return [text for text in heard if "taken" in text or "not read" in text]


@pytest.mark.parametrize("shards", [1, 3])
def test_files_beside_the_model(shards, tmp_path):
    path = hub_folder(tmp_path, shards=shards, beside=["adapter_model.safetensors", "consolidated.safetensors",
                                                       "consolidated.00.safetensors", "model.fp16.safetensors",
                                                       "optimizer.safetensors"])
    (path / "adapter_config.json").write_text("{}")
    (path / "original").mkdir()
    write_safetensors(path / "original" / "model.safetensors", SMALL)
    assert heard_of(path, tmp_path) == [
        "adapter_model.safetensors is not read: a LoRA adapter, which is not applied",
        "consolidated.00.safetensors is not read: the same model under the names of its makers",
        "consolidated.safetensors is not read: the same model under the names of its makers",
        "model.fp16.safetensors is not read: no part of the model that is taken",
        "optimizer.safetensors is not read: the state of a training run"]


def test_a_model_of_another_name_beside_an_adapter(tmp_path):
    path = hub_folder(tmp_path, beside=["adapter_model.safetensors"])
    (path / "model.safetensors").rename(path / "trilm.safetensors")
    assert heard_of(path, tmp_path) == ["adapter_model.safetensors is not read: a LoRA adapter, which is not applied"]


def test_a_stale_index(tmp_path):
    path = hub_folder(tmp_path)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {
        f"t{i}": f"model-0000{i}-of-00005.safetensors" for i in range(1, 6)}}))
    assert heard_of(path, tmp_path) == [
        "model.safetensors is taken, and model.safetensors.index.json is not: model-00001-of-00005.safetensors, "
        "model-00002-of-00005.safetensors, model-00003-of-00005.safetensors and 2 more, which it names, cannot be found"]


def test_an_index_with_its_files_beside_a_whole_model(tmp_path):
    path = hub_folder(tmp_path)
    write_safetensors(path / "model-00001-of-00001.safetensors", SMALL)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "model-00001-of-00001.safetensors"}}))
    assert heard_of(path, tmp_path) == [
        "model.safetensors is taken, and model.safetensors.index.json is not: transformers takes the one file as well",
        "model-00001-of-00001.safetensors is not read: no part of the model that is taken"]


def test_an_index_of_one_file(tmp_path):
    path = hub_folder(tmp_path)
    names = SafetensorsFile(path / "model.safetensors").names()
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(names, "model.safetensors")}))
    assert heard_of(path, tmp_path) == []


def moved(path, names):
    for old, new in names.items():
        (path / old).rename(path / new)


def written(path, name, content):
    (path / name).write_bytes(content)


SHARD, INDEX = "model-00002-of-00003.safetensors", "model.safetensors.index.json"


@pytest.mark.parametrize(("change", "message"), [
    (lambda p: (p / SHARD).unlink(), f"cannot read {{}}/{SHARD}: No such file, though {INDEX} names it: fetch the file"),
    (lambda p: (p / INDEX).unlink(),
     f"{{}} has 3 .safetensors files and no {INDEX}: model-00001-of-00003.safetensors, {SHARD}, model-00003-of-00003.safetensors"
     ". Fetch the index, or call the one that is the whole model model.safetensors"),
    (lambda p: written(p, INDEX, b"{}"), f"{{}}/{INDEX} is no index of safetensors files (it has no weight_map)"),
    (lambda p: written(p, INDEX, b'{"weight_map": {"a": "../x"}}'),
     f"{{}}/{INDEX} is no index of safetensors files (a lies in '../x', which is no file name)"),
    (lambda p: written(p, INDEX, b'{"weight_map": {"a": 1}}'),
     f"{{}}/{INDEX} is no index of safetensors files (a lies in 1, which is no file name)"),
    (lambda p: written(p, INDEX, json.dumps({"weight_map": {"a": "x" * 256}}).encode()),
     f"{{}}/{INDEX} is no index of safetensors files (a lies in '{'x' * 256}', which is no file name)"),
    (lambda p: written(p, INDEX, b'{"weight_map": {"a": "x", "a": "y"}}'),
     f"{{}}/{INDEX} is no JSON that can be read (the key 'a' stands twice in an object)"),
    (lambda p: written(p, INDEX, json.dumps({"weight_map": {"a": SHARD}}).encode()),
     f"{{}}/{SHARD} lacks a, which {INDEX} says is there"),
    (lambda p: written(p, INDEX, (p / INDEX).read_bytes().replace(b"model.norm.weight", b"model.norn.weight")),
     f"{{}}/{{}} lacks model.norn.weight, which {INDEX} says is there"),
    (lambda p: [f.rename(f.with_suffix(".bin")) for f in p.glob("model-*")] and (p / INDEX).unlink(),
     "{} has no .safetensors file; .bin files are Python pickles, which can run code: save the model with safe_serialization"),
    (lambda p: [f.unlink() for f in p.glob("model*")], "{} has no .safetensors file"),
    (lambda p: ([f.unlink() for f in p.glob("model*")], write_safetensors(p / "adapter_model.safetensors", SMALL)),
     "{} holds a LoRA adapter, not a model: put it into its base model (merge_and_unload of the peft package), and convert what "
     "that saves"),
])
def test_folders_that_are_refused(change, message, tmp_path):
    path = hub_folder(tmp_path, shards=3)
    change(path)
    with pytest.raises(ModelError) as caught:
        converted(path, tmp_path)
    where = json.loads((path / INDEX).read_text())["weight_map"].get("model.norn.weight") if "norn" in message else None
    assert str(caught.value) == message.format(path, where)
    assert [p.name for p in tmp_path.iterdir()] == ["hf"]


@pytest.mark.parametrize("weights", ["adapter_model.safetensors", "adapter_model.bin", None])
@pytest.mark.parametrize("config", [True, False])
def test_an_adapter_alone(weights, config, tmp_path):
    """An adapter's folder has no config.json as a rule."""
    path = hub_folder(tmp_path)
    for file in path.iterdir():
        if not (config and file.name == "config.json"):
            file.unlink()
    (path / "adapter_config.json").write_text("{}")
    if weights is not None:
        write_safetensors(path / weights, SMALL)
    with pytest.raises(ModelError) as caught:
        open_checkpoint(path, Options(), print)
    assert str(caught.value) == (f"{path} holds a LoRA adapter, not a model: put it into its base model (merge_and_unload of the "
                                 "peft package), and convert what that saves")
