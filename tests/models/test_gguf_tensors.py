# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The index of GGUF files and all that can be wrong with it, split files, and I2_S weights in each layout."""

import struct
from dataclasses import replace

import numpy as np
import pytest

from tellme.models import LINEARS, Layer, Model, ModelError
from tellme.models.config import NORMS
from tellme.models.importers.checkpoints import open_checkpoint
from tellme.models.importers.gguf_tensors import I2S_LAYOUTS, I2S_WAY_OUT, GgufTensors
from tellme.models.importers.importing import Options
from tests.models.gguf_files import UINT16, Part, array, assemble, field, i2s, parts_of, renamed, split
from tests.models.test_checkpoints import SHIPPED
from tests.models.test_gguf import BITNET, NARROW, gguf_model, sentencepiece_fields, write_gguf
from tests.models.test_huggingface import assert_same, converted


def refusal(path, read=GgufTensors):
    with pytest.raises(ModelError) as caught:
        read(path)
    return str(caught.value)


ARCH = field("general.architecture", "llama")
X = Part(b"x", 0, (4, 2), struct.pack("<8f", *range(8)))
Y = Part(b"y", 1, (3,), struct.pack("<3e", 1, 2, 3))


def test_the_index(tmp_path):
    fields = [ARCH, field("number", 7), field("truth", True, 7), field("float", 0.5, 6), field("big", 2**60, 10),
              array("numbers", 5, 3, struct.pack("<3i", -1, 0, 1)), array("none", 8, 0, b""),
              array("texts", 8, 2, b"".join(struct.pack("<Q", len(t)) + t for t in (b"a", "\u00e9".encode())))]
    tensors = GgufTensors(assemble(tmp_path / "m.gguf", fields, [X, Y, Part(b"scalar", 0, (), struct.pack("<f", 2.5))]))
    assert {key: tensors.field(key) for key in tensors.fields} == {
        "general.architecture": "llama", "number": 7, "truth": True, "float": 0.5, "big": 2**60, "numbers": [-1, 0, 1],
        "none": [], "texts": ["a", "\u00e9"]}
    assert tensors.field("number", 3) == 7 and tensors.field("absent", 3) == 3
    assert {n: (tensors.kind(n), tensors.shape(n)) for n in tensors.names()} == {
        "x": ("F32", (2, 4)), "y": ("F16", (3,)), "scalar": ("F32", (1,))}
    assert tensors.rows("x", 1, 2).tolist() == [[4, 5, 6, 7]] and tensors.whole("y").tolist() == [1, 2, 3]
    assert tensors.whole("scalar").tolist() == [2.5]


def test_other_alignments_and_versions(tmp_path):
    path = assemble(tmp_path / "m.gguf", [ARCH, field("general.alignment", 256)], [X, Y], alignment=256, version=2)
    assert GgufTensors(path).whole("y").tolist() == [1, 2, 3]


DAMAGED = "{} is no GGUF file, or is cut short or damaged ({})"


def of(fields, tensors, **changes):
    return lambda path: assemble(path, fields, tensors, **changes)


@pytest.mark.parametrize(("make", "reason"), [
    (lambda p: p.write_bytes(b"GGUF"), "its index goes on behind its end at 4"),
    (of([ARCH], [X], magic=b"GGUX"), "it does not begin with GGUF"),
    (of([ARCH], [X], fields_count=2**60), f"it counts 1 tensors and {2**60} metadata values"),
    (of([array("a", 4, 2**60, b"")], [X]), f"it counts {2**60} parts of 4 bytes at least, with 79 bytes to go"),
    (of([array("a", 8, 2**60, b"")], [X]), f"it counts {2**60} parts of 8 bytes at least, with 79 bytes to go"),
    (of([struct.pack("<Q", 2**40) + b"abcdefghi"], [X]), f"it counts {2**40} parts of 1 bytes at least, with 96 bytes to go"),
    (of([array("a", 9, 1, bytes(12))], [X]), "a metadata array has the type 9, which no array can have"),
    (of([array("a", 99, 1, bytes(12))], [X]), "a metadata array has the type 99, which no array can have"),
    (of([b"\1" + bytes(7) + b"a" + struct.pack("<I", 13)], [X]), "a metadata value has the unknown type 13"),
    (of([field(b"\xff", 1)], [X]), "the name b'\\xff' is no UTF-8"),
    (of([ARCH, ARCH], [X]), "general.architecture stands twice in its metadata"),
    (of([ARCH, field("general.alignment", 24)], [X]), "general.alignment is 24, which is no power of two"),
    (of([ARCH, field("general.alignment", 0)], [X]), "general.alignment is 0, which is no power of two"),
    (of([ARCH, field("general.alignment", "32")], [X]), "general.alignment is b'32', which is no power of two"),
    (of([ARCH], [X, X]), "the tensor x stands twice in it"),
    (of([ARCH], [X._replace(name=b"\xff")]), "the name b'\\xff' is no UTF-8"),
    (of([ARCH], [X._replace(dims=(1, 1, 1, 4, 2))]), "x has 5 dimensions; 4 is the most"),
    (of([ARCH], [X, Y], offsets={1: 8}), "the tensor y lies at 8, which is no multiple of 32"),
    (of([ARCH], [X, Y], offsets={1: 0}), "the tensors y and x overlap"),
    (of([ARCH], [X, Y], offsets={1: 96}), "its tensor y ends at 262, and the file at 224"),
    (of([ARCH], [X._replace(dims=(2**40, 2**40))]), f"its tensor x ends at {2**82 + 128}, and the file at 160"),
    (of([ARCH], [X._replace(number=35)]), "the tensor x is TQ2_0, and its 4 columns are no multiple of 256"),
    (of([ARCH], [Part(b"x", 36, (3, 1), bytes(64))]), "the tensor x is I2_S, and its 3 weights are no multiple of 4"),
])
def test_damage(make, reason, tmp_path):
    path = tmp_path / "m.gguf"
    make(path)
    assert refusal(path) == DAMAGED.format(path, reason)


@pytest.mark.parametrize(("version", "message"), [
    (1, "{} is a GGUF file of version 1; versions 2 and 3 are read"),
    (4, "{} is a GGUF file of version 4; versions 2 and 3 are read"),
    (3 << 24, "{} is a GGUF file of a big-endian machine; little-endian ones are read"),
])
def test_versions(version, message, tmp_path):
    path = assemble(tmp_path / "m.gguf", [ARCH], [X], version=version)
    assert refusal(path) == message.format(path)


def test_texts_that_are_no_utf8(tmp_path):
    """Only the value that is asked for has to be text: a tokenizer may be given beside the file."""
    path = assemble(tmp_path / "m.gguf", [field("name", b"\xff"), array("texts", 8, 1, struct.pack("<Q", 1) + b"\xfe")], [X])
    tensors = GgufTensors(path)
    assert tensors.whole("x").shape == (2, 4)
    assert refusal(path, lambda p: tensors.field("name")) == f"{path}: name holds text that is no UTF-8"
    assert refusal(path, lambda p: tensors.field("texts")) == f"{path}: texts holds text that is no UTF-8"


def test_a_file_that_becomes_shorter(tmp_path):
    path = assemble(tmp_path / "m.gguf", [ARCH], [X._replace(dims=(1 << 18,), content=bytes(1 << 20))])
    tensors = GgufTensors(path)
    path.write_bytes(path.read_bytes()[:-32])
    assert refusal(path, lambda p: tensors.whole("x")) == (
        f"{path} has become shorter while it was read (it ends after 1048544 of 1048576 bytes)")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """(model, metadata, tensors) of a small file."""
    model = gguf_model(NARROW)
    return model, *parts_of(write_gguf(tmp_path_factory.mktemp("gguf") / "m.gguf", model, "F16"))


@pytest.mark.parametrize(("number", "kind", "out"), [
    (38, "TL1", f". Of bitnet.cpp's types I2_S is read. {I2S_WAY_OUT}"), (37, "I8_S",
                                                                          f". Of bitnet.cpp's types I2_S is read. {I2S_WAY_OUT}"),
    (31, "type 31", ""), (8, "Q8_0", ""),
])
def test_types_that_hold_no_ternary_weights(number, kind, out, narrow, tmp_path):
    _, fields, tensors = narrow
    tensors = [t._replace(number=number, content=bytes(len(t.content)), dims=(t.dims[0] // 32 * 32, t.dims[1]))
               if t.name == b"blk.0.attn_q.weight" else t for t in tensors]
    path = assemble(tmp_path / "m.gguf", fields, tensors)
    assert refusal(path, lambda p: open_checkpoint(p, Options(), lambda text: None)) == (
        f"blk.0.attn_q.weight is {kind}; ternary weights are TQ1_0, TQ2_0, I2_S, Q2_0, Q2_0_G128, STQ1_0, "
        f"Q2_0C, F16, F32, BF16{out}")


def test_a_table_of_an_unknown_type(narrow, tmp_path):
    _, fields, tensors = narrow
    path = assemble(tmp_path / "m.gguf", fields, [t._replace(number=31) if t.name == b"output.weight" else t for t in tensors])
    assert refusal(path, lambda p: converted(p, tmp_path)) == (
        f"{path}: output.weight is type 31, which the gguf package does not know")


# Split files


@pytest.mark.parametrize("given", [0, 1, 2])
def test_split_files(given, narrow, tmp_path):
    model, fields, tensors = narrow
    paths = split(tmp_path / "m.gguf", fields, tensors, 3)
    assert_same(converted(paths[given], tmp_path), model)


def test_no_tensor_in_the_first_file(narrow, tmp_path):
    """llama-gguf-split --no-tensor-first-split."""
    model, fields, tensors = narrow
    own = [field("split.count", 2, UINT16), field("split.tensors.count", len(tensors), 5)]
    assemble(tmp_path / "m-00001-of-00002.gguf", [*fields, *own, field("split.no", 0, UINT16)], [])
    path = assemble(tmp_path / "m-00002-of-00002.gguf", [*own, field("split.no", 1, UINT16)], tensors)
    assert_same(converted(path, tmp_path), model)


def test_a_split_of_one(narrow, tmp_path):
    model, fields, tensors = narrow
    path = split(tmp_path / "m.gguf", fields, tensors, 1)[0].rename(tmp_path / "any.gguf")
    assert_same(converted(path, tmp_path), model)


WHAT = "{} is file 2 of 3 of a split GGUF file"


def test_split_files_that_are_missing(narrow, tmp_path):
    _, fields, tensors = narrow
    first, second, third = split(tmp_path / "m.gguf", fields, tensors, 3)
    third.unlink()
    assert refusal(second) == f"{WHAT.format(second)}, and beside it {third.name} cannot be found: put all files into one folder"
    first.unlink()
    assert refusal(second) == (f"{WHAT.format(second)}, and beside it {first.name}, {third.name} cannot be found: put all files "
                               "into one folder")
    other = second.rename(tmp_path / "other.gguf")
    assert refusal(other) == (
        f"{WHAT.format(other)}, and its name does not end in -00002-of-00003.gguf, so that the others cannot be found: give all "
        "files the names that they had, or join them with llama-gguf-split --merge")
    third.symlink_to("nowhere")
    second = other.rename(second)
    assert refusal(second) == (f"{third} is a symbolic link to nowhere, which is not there: the download was not finished, or "
                               "its files were moved; download the model again")


def test_many_split_files_that_are_missing(tmp_path):
    own = [field("split.no", 0, UINT16), field("split.count", 65535, UINT16)]
    path = assemble(tmp_path / "m-00001-of-65535.gguf", own, [X])
    assert refusal(path) == (f"{path} is file 1 of 65535 of a split GGUF file, and beside it m-00002-of-65535.gguf, "
                             "m-00003-of-65535.gguf, m-00004-of-65535.gguf and 65531 more cannot be found: put all files into "
                             "one folder")


@pytest.mark.parametrize(("change", "message"), [
    (lambda i, own: [field("split.no", 0, UINT16), *own[1:]] if i == 2 else own,
     "{2} does not belong to {1}: its split.no is 0, 2 is wanted"),
    (lambda i, own: own[:1] if i == 0 else own, "{0} does not belong to {1}: its split.count is None, 3 is wanted"),
    (lambda i, own: [own[0], field("split.count", 4, UINT16)] if i == 2 else own,
     "{2} does not belong to {1}: its split.count is 4, 3 is wanted"),
    (lambda i, own: [*own[:2], field("split.tensors.count", 99, 5)] if i == 0 else own,
     "{1}: its 3 parts hold 21 tensors, and split.tensors.count is 99"),
    (lambda i, own: [field("split.no", 3, UINT16), *own[1:]] if i == 1 else own,
     "{1} is damaged: split.no is 3 and split.count 3"),
    (lambda i, own: [field("split.no", "1"), *own[1:]] if i == 1 else own,
     "{1} is damaged: split.no is b'1' and split.count 3"),
])
def test_split_files_that_do_not_belong_together(change, message, narrow, tmp_path):
    _, fields, tensors = narrow
    paths = split(tmp_path / "m.gguf", fields, tensors, 3, change=change)
    assert refusal(paths[1]) == message.format(*paths)


def test_a_tensor_in_two_files(narrow, tmp_path):
    _, fields, tensors = narrow
    paths = split(tmp_path / "m.gguf", fields, [tensors[0], tensors[0]], 2)
    assert refusal(paths[0]) == f"{paths[1]} holds the tensor token_embd.weight, and so does {paths[0]}"


def test_a_damaged_part_is_named(narrow, tmp_path):
    _, fields, tensors = narrow
    paths = split(tmp_path / "m.gguf", fields, tensors, 3)
    paths[2].write_bytes(b"GGUF")
    assert refusal(paths[0]) == DAMAGED.format(paths[2], "its index goes on behind its end at 4")


# Architectures of bitnet.cpp


@pytest.mark.parametrize("arch", ["bitnet-b1.58", "bitnet-25"])
@pytest.mark.parametrize("kind", ["F32", "TQ2_0"])
def test_the_architectures_of_bitnet_cpp(arch, kind, tmp_path):
    """Those of BitNet b1.58 2B-4T: ReLU squared, sub-norms, RoPE by halves as in bitnet, the embedding as head."""
    model = gguf_model(replace(BITNET, act="relu2", act_exp=8))
    fields, tensors = parts_of(write_gguf(tmp_path / "m.gguf", model, kind))
    path = assemble(tmp_path / "m.gguf", renamed(fields, "bitnet", arch), tensors)
    heard = []
    assert_same(converted(path, tmp_path, say=heard.append), model)
    assert heard[-1] == f"m.gguf: GGUF, {arch}, {kind}, 2 layers, 0.8 M ternary weights"
    head = next(t for t in tensors if t.name == b"token_embd.weight")._replace(name=b"output.weight")
    assemble(path, renamed(fields, "bitnet", arch), [*tensors, head])
    assert refusal(path, lambda p: converted(p, tmp_path)) == (
        f"{path} has the unknown tensor output.weight: this model computes something that the engine does not")


@pytest.mark.parametrize(("value", "shown"), [(field("general.architecture", 7), "7"),
                                              (array("general.architecture", 8, 0, b""), "[]")])
def test_an_architecture_that_is_no_text(value, shown, tmp_path):
    path = assemble(tmp_path / "m.gguf", [value], [X])
    assert refusal(path, lambda p: converted(p, tmp_path)) == (
        f"{path}: the architecture is {shown}; llama, qwen3, olmo2, bitnet, bitnet-b1.58, bitnet-25 are known")


# I2_S


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(metadata, tensors) of the shipped model, which was trained."""
    c = SHIPPED.config
    layers = [Layer(layer.weights, layer.scales, {n: np.ones(c.norm_width(n), np.float16) for n in NORMS if c.has_norm(n)})
              for layer in SHIPPED.layers]
    model = Model(c, layers, SHIPPED.embedding, SHIPPED.embedding_scales, SHIPPED.final_gain)
    return parts_of(write_gguf(tmp_path_factory.mktemp("gguf") / "m.gguf", model, "F32", tokenizer=sentencepiece_fields))


def packed(tensors, layout, *, change=None):
    """The matrices as I2_S."""
    out = []
    for t in tensors:
        if t.name.startswith(b"blk.") and len(t.dims) == 2:
            values = np.frombuffer(t.content, np.float32).reshape(t.dims[::-1])
            codes = np.sign(values).astype(np.int8)
            t = i2s(t, codes if change is None else change(codes), np.abs(values).max(), layout)
        out.append(t)
    return out


@pytest.mark.parametrize("layout", I2S_LAYOUTS)
def test_each_layout_is_told_by_the_loss(layout, trained, tmp_path):
    fields, tensors = trained
    path = assemble(tmp_path / "m.gguf", fields, packed(tensors, layout))
    heard = []
    got = Model.read(open_checkpoint(path, Options(), heard.append))
    for a, b in zip(got.layers, SHIPPED.layers, strict=True):
        assert all(np.array_equal(a.weights[n], b.weights[n]) and a.blocks(n) == b.blocks(n) for n in LINEARS)
    said = dict(part.rsplit(" nats per token ", 1)[::-1] for part in heard[-1].split(": ")[-1].split(", "))
    assert heard[-1] == f"I2_S: {layout}; known by the loss on a probe text: " + ", ".join(
        f"{said[name]} nats per token {name}" for name in I2S_LAYOUTS)
    assert float(said[layout]) < 1.5 and all(float(said[n]) > 7 for n in I2S_LAYOUTS if n != layout)


def test_a_split_file_of_i2s(trained, tmp_path):
    fields, tensors = trained
    paths = split(tmp_path / "m.gguf", fields, packed(tensors, "blocks of 64"), 3)
    got = Model.read(open_checkpoint(paths[2], Options(), lambda text: None))
    assert all(np.array_equal(a.weights[n], b.weights[n])
               for a, b in zip(got.layers, SHIPPED.layers, strict=True) for n in LINEARS)


def test_no_layout_makes_sense(trained, tmp_path):
    """Weights in an unknown layout: columns from the last to the first."""
    fields, tensors = trained
    path = assemble(tmp_path / "m.gguf", fields, packed(tensors, "blocks of 128", change=lambda codes: codes[:, ::-1]))
    with pytest.raises(ModelError) as caught:
        open_checkpoint(path, Options(), lambda text: None)
    text = str(caught.value)
    heard = text[text.index("(") + 1:text.index(")")]
    assert [part.split(" nats per token ")[1] for part in heard.split(", ")] == [*I2S_LAYOUTS]
    assert text == (f"{path} holds I2_S weights of bitnet.cpp, and makes sense in no layout more than in the others ({heard}). "
                    "Convert the safetensors checkpoint that the file was made of, or make a TQ2_0 file of that checkpoint with "
                    "llama.cpp")


def test_two_layouts_make_the_same_sense(trained, tmp_path):
    """Without weights that differ, there is nothing to tell."""
    fields, tensors = trained
    path = assemble(tmp_path / "m.gguf", fields, packed(tensors, "blocks of 64", change=np.ones_like))
    assert refusal(path, lambda p: open_checkpoint(p, Options(), print)).startswith(
        f"{path} holds I2_S weights of bitnet.cpp, and makes sense in no layout more than in the others (")


def test_no_tokenizer_no_loss(trained, tmp_path):
    fields, tensors = trained
    path = assemble(tmp_path / "m.gguf", fields, packed(tensors, "blocks of 64"))
    assert refusal(path, lambda p: open_checkpoint(p, Options(no_tokenizer=True), print)) == (
        f"{path} holds I2_S weights of bitnet.cpp, and does not say in which of its layouts; the loss on a text tells, for which "
        f"the model's tokenizer is needed: convert with it. {I2S_WAY_OUT}")
    tensors = GgufTensors(path)
    assert refusal(path, lambda p: tensors.rows("blk.0.attn_q.weight", 0, 1)) == (
        f"{path}: blk.0.attn_q.weight is I2_S, of which the layout is not known")


Q = b"blk.0.attn_q.weight"


@pytest.mark.parametrize(("content", "message"), [
    # As type 36 is read by programs that know another one under this number.
    (bytes(192 * 192 * 4), "{}: blk.0.attn_q.weight is of type 36, I2_S of bitnet.cpp, and has 147456 bytes, where I2_S has 9248"
                           f": the file is damaged, or another program's. {I2S_WAY_OUT}"),
    (b"\xff" * (192 * 192 // 4) + struct.pack("<8f", *[1] * 8), "blk.0.attn_q.weight holds the I2_S code 3, which is no weight"),
    (b"\x55" * (192 * 192 // 4) + struct.pack("<8f", *[0] * 8),
     "blk.0.attn_q.weight: its I2_S scale is 0.0; a positive finite number is wanted"),
    (b"\x55" * (192 * 192 // 4) + struct.pack("<8f", *[np.nan] * 8),
     "blk.0.attn_q.weight: its I2_S scale is nan; a positive finite number is wanted"),
])
def test_i2s_that_is_none(content, message, trained, tmp_path):
    fields, tensors = trained
    tensors = [t._replace(content=content) if t.name == Q else t for t in packed(tensors, "blocks of 64")]
    path = assemble(tmp_path / "m.gguf", fields, tensors)
    assert refusal(path, lambda p: open_checkpoint(p, Options(), lambda text: None)) == message.format(path)


def test_the_last_tensor_may_lack_its_padding(tmp_path):
    codes = np.random.default_rng(1).integers(-1, 2, (64, 128))
    part = i2s(Part(b"w", 0, (128, 64), b""), codes, 0.5, "blocks of 128", tail=4)
    tensors = GgufTensors(assemble(tmp_path / "m.gguf", [ARCH], [part], padding=False))
    tensors.set_layout("blocks of 128")
    assert np.array_equal(tensors.whole("w"), codes * np.float32(0.5))
    path = assemble(tmp_path / "m.gguf", [ARCH], [part._replace(content=part.content[:-1])], padding=False)
    assert refusal(path) == DAMAGED.format(path, f"its tensor w ends at {path.stat().st_size + 1}, and the file at "
                                                 f"{path.stat().st_size}")


@pytest.mark.parametrize("layout", I2S_LAYOUTS)
def test_rows_of_i2s_a_few_at_a_time(layout, tmp_path):
    """Blocks that lie across rows, and rows that share bytes."""
    rng = np.random.default_rng(2)
    codes = rng.integers(-1, 2, (32, 36))
    tensors = GgufTensors(assemble(tmp_path / "m.gguf", [ARCH], [i2s(Part(b"w", 0, (36, 32), b""), codes, 0.25, layout)]))
    assert tensors.i2s_layouts() == [*I2S_LAYOUTS]
    tensors.set_layout(layout)
    for first, end in ((0, 32), (0, 1), (5, 7), (31, 32), (3, 30)):
        assert np.array_equal(tensors.rows("w", first, end), codes[first:end] * np.float32(0.25))


def test_layouts_that_a_shape_rules_out(tmp_path):
    path = tmp_path / "m.gguf"
    for dims, left in (((64, 3), ["blocks of 64", "four weights a byte"]), ((12, 4), ["four rows a byte", "four weights a byte"]),
                       ((128, 1), ["blocks of 128", "blocks of 64", "four weights a byte"])):
        assemble(path, [ARCH], [Part(b"w", 36, dims, bytes(dims[0] * dims[1] // 4 + 32))])
        assert GgufTensors(path).i2s_layouts() == left
    assemble(path, [ARCH], [X])
    assert GgufTensors(path).i2s_layouts() == []
