# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Small or crafted files that say of themselves that they are large: refused within the rule of tests/fuzz, whatever they say."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from tellme.models import Model, ModelError, json_files
from tellme.models.container import Container
from tellme.models.importers import gguf_tensors
from tellme.models.importers import tensors as tensors_module
from tellme.models.importers.checkpoints import NORM_WITHOUT, open_checkpoint
from tellme.models.importers.gguf_tensors import GgufTensors
from tellme.models.importers.importing import Options
from tellme.models.json_files import parse_json, read_json
from tests.fuzz import limits
from tests.fuzz.limits import Guard
from tests.models.folders import folder, kind_model, tensors_of, write_safetensors
from tests.models.gguf_files import array, assemble, field
from tests.models.random_model import random_model

MANY = (1 << 24) - 1
#: Limits that the tests set, so that their files are small.
MOST_LISTED, MAX_JSON = 1 << 10, 1 << 16


@pytest.fixture
def low_limits(monkeypatch):
    for module in (json_files, tensors_module):
        assert module.MAX_JSON == 1 << 24
        monkeypatch.setattr(module, "MAX_JSON", MAX_JSON)
    assert gguf_tensors.MOST_LISTED == 1 << 21
    monkeypatch.setattr(gguf_tensors, "MOST_LISTED", MOST_LISTED)
    monkeypatch.setattr(limits, "CONSTANT", 4 << 20)


def refused(run, size, match):
    """Runs within the rule, for a file of so many bytes, and is a ModelError."""
    guard = Guard(lambda content: run(), (ModelError,))
    guard(bytes(size))
    assert guard.refused == 1
    with pytest.raises(ModelError, match=match):
        run()


@pytest.mark.parametrize("changes", [
    {"layers": MANY}, {"dim": MANY}, {"ffn": MANY}, {"vocab": MANY}, {"heads": MANY, "kv_heads": MANY}, {"head_dim": MANY - 1},
    {"dim": 1 << 23, "ffn": 1 << 23},
])
def test_shapes_that_a_container_only_says(tmp_path, changes):
    path = tmp_path / "m.tellme"
    random_model("plain").save(path)
    content = path.read_bytes()
    header = json.loads(content[8:8 + int.from_bytes(content[:8], "little")])
    header["__metadata__"]["config"] = json.dumps(json.loads(header["__metadata__"]["config"]) | changes)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + int.from_bytes(content[:8], "little"):])
    for run in (lambda: Model.read(Container(path)), lambda: Container(path).check(), lambda: Model.load(path)):
        refused(run, len(content), "m.tellme")


def test_layers_that_a_folder_only_says(tmp_path):
    """The names of layers are not listed before the first one that lacks ends it."""
    path = folder(tmp_path / "hf", "falcon", tensors_of("falcon", kind_model("falcon"))[0], config={"num_hidden_layers": MANY})
    refused(lambda: open_checkpoint(path, Options(no_tokenizer=True), lambda text: None), 1000,
            "lacks the tensor model.layers.2.self_attn.q_proj.weight")


def test_layers_that_a_file_of_a_training_run_only_says(tmp_path):
    path = tmp_path / "m.safetensors"
    metadata = dict.fromkeys(("dim", "hidden", "heads", "kv_heads", "vocab"), "4") | {
        "dim": "8", "layers": str(MANY), "act": "silu", "norm": NORM_WITHOUT, "rope": "interleaved pairs, theta 10000"}
    write_safetensors(path, {"emb": np.zeros((4, 4), np.float32)})
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    text = json.dumps(json.loads(content[8:8 + length]) | {"__metadata__": metadata}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length:])
    refused(lambda: open_checkpoint(path, Options(), lambda text: None), len(content),
            "counts 16777215 layers, and it has 1 tensors")


def gguf(path, *more):
    return assemble(path, [field("general.architecture", "llama"), *more], [])


@pytest.mark.parametrize(("kind", "count", "content"), [(0, 3 << 20, b"\1"), (12, 3 << 18, b"\0" * 7 + b"\x40")])
def test_arrays_of_gguf_that_nobody_asks_for(tmp_path, low_limits, kind, count, content):
    """As Python's numbers they would take four to eight times the file."""
    path = gguf(tmp_path / "m.gguf", array("general.odd", kind, count, content * count))
    refused(lambda: open_checkpoint(path, Options(no_tokenizer=True), lambda text: None), path.stat().st_size, "lacks the tensor")
    with pytest.raises(ModelError, match=f"general.odd has {count} elements; up to {MOST_LISTED} are read"):
        GgufTensors(path).field("general.odd")


def test_strings_of_gguf(tmp_path, low_limits):
    many = MOST_LISTED + 1
    path = gguf(tmp_path / "m.gguf", array("a", 8, many, struct.pack("<Q", 0) * many))
    refused(lambda: GgufTensors(path), path.stat().st_size, f"a metadata array has {many} strings; up to {MOST_LISTED}")
    texts = b"".join(struct.pack("<Q", len(text)) + text for text in (b"", b"xy", b"\xe2\x98\x83"))
    path = gguf(tmp_path / "m.gguf", array("a", 8, 3, texts),
                array("b", 4, 2, struct.pack("<II", 7, 9)), array("c", 8, 0, b""), field("d", 5))
    tensors = GgufTensors(path)
    # In any order, and again.
    for _ in range(2):
        assert [tensors.field(key) for key in "bacd"] == [[7, 9], ["", "xy", "\u2603"], [], 5]


def test_an_array_of_a_file_that_became_shorter(tmp_path):
    path = gguf(tmp_path / "m.gguf", array("a", 4, 99999, bytes(4 * 99999)))
    tensors = GgufTensors(path)
    with path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ModelError, match="has become shorter while it was read"):
        tensors.field("a")


def test_json_has_a_length(tmp_path, low_limits):
    path = tmp_path / "config.json"
    path.write_bytes(b'{"a": "' + b"x" * MAX_JSON + b'"}')
    refused(lambda: read_json(path), MAX_JSON, f"config.json has more than {MAX_JSON} bytes of JSON")
    assert parse_json(b'"' + b"x" * (MAX_JSON - 2) + b'"', "it") == "x" * (MAX_JSON - 2)
    with pytest.raises(ModelError, match="it has more than"):
        parse_json(b'"' + b"x" * (MAX_JSON - 1) + b'"', "it")


def test_a_header_of_safetensors_has_a_length(tmp_path, low_limits):
    path = folder(tmp_path / "hf", "falcon", tensors_of("falcon", kind_model("falcon"))[0])
    file = path / "model.safetensors"
    header = b"{}" + b" " * MAX_JSON
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    refused(lambda: open_checkpoint(path, Options(no_tokenizer=True), lambda text: None), len(header),
            f"has a header of {len(header)} bytes; up to {MAX_JSON} are read")


def test_a_template_in_a_container_has_a_length():
    from tellme.models.chat import ChatTemplate
    from tests.models.test_chat import STORIES, TOKENIZER

    with pytest.raises(ModelError, match="has 1048577 bytes, and up to 1048576 are taken"):
        ChatTemplate(replace(STORIES, chat_template="x" * ((1 << 20) + 1)), TOKENIZER)
