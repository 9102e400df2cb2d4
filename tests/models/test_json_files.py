# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""JSON of checkpoints: accepted files, every refusal word for word, and files that are not what their names say."""

import json
import os

import pytest

from tellme.models import Model, ModelError
from tellme.models.files import explain_file, printable
from tellme.models.importers.checkpoints import open_checkpoint
from tellme.models.importers.importing import Options
from tellme.models.json_files import parse_json, read_json
from tests.models.folders import byte_level_json, folder, kind_model, tensors_of
from tests.models.random_model import random_model
from tests.models.test_container import edit

DEEP = 100_000
TWICE = "it holds half of a surrogate pair"


def nested(start, end):
    return (start * DEEP + end * DEEP).encode()


@pytest.mark.parametrize(("content", "value"), [
    (b'{"a": [1, -2.5, null, true, "\xc3\xa9"]}', {"a": [1, -2.5, None, True, "\u00e9"]}),
    # The length that tokenizer_config.json of many models gives.
    (b'{"model_max_length": 1000000000000000019884624838656}', {"model_max_length": 1000000000000000019884624838656}),
    (b'"\\ud83d\\ude00"', "\U0001f600"), (b" 1\n", 1), (b"1" * 300, int("1" * 300)),
])
def test_what_is_taken(content, value):
    assert parse_json(content, "it") == value


@pytest.mark.parametrize(("content", "reason"), [
    (b"{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
    (b"", "Expecting value: line 1 column 1 (char 0)"),
    (b"\xef\xbb\xbf{}", "Unexpected UTF-8 BOM (decode using utf-8-sig): line 1 column 1 (char 0)"),
    (b'{"a": "\xff"}', "byte 7 is no UTF-8"),
    ('{"a": 1}'.encode("utf-16"), "byte 0 is no UTF-8"),
    (b'{"a": 1, "b": {"c": 1, "d": 2, "c": 3}}', "the key 'c' stands twice in an object"),
    (b'{"a": NaN}', "it holds NaN, which is no number"),
    (b"[-Infinity]", "it holds -Infinity, which is no number"),
    (b"[1e999]", "it holds 1e999, which is beyond a float"),
    (b"-" + b"1" * 400, "it holds a number of 401 digits"),
    (b'"\\ud800"', TWICE), (b'{"\\uDFFF": 1}', TWICE),
    (nested("[", "]"), "it is nested too deep"),
    (nested('{"a":', "}").replace(b":}", b":1}"), "it is nested too deep"),
])
def test_refusals(content, reason):
    with pytest.raises(ModelError) as caught:
        parse_json(content, "x.json")
    assert str(caught.value) == f"x.json is no JSON that can be read ({reason})"


def test_files(tmp_path):
    path = tmp_path / "x.json"
    for content, message in ((b"[]", f"{path} holds no JSON object"),
                             (nested("[", "]"), f"{path} is no JSON that can be read (it is nested too deep)")):
        path.write_bytes(content)
        with pytest.raises(ModelError) as caught:
            read_json(path)
        assert str(caught.value) == message
    path.unlink()
    with pytest.raises(ModelError) as caught:
        read_json(path)
    assert str(caught.value) == f"cannot read {path}: No such file or directory"
    path.mkdir()
    with pytest.raises(ModelError) as caught:
        read_json(path)
    assert str(caught.value) == f"cannot read {path}: Is a directory"


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4096\n"


def test_why_a_file_is_not_there(tmp_path):
    path = tmp_path / "model.safetensors"
    assert explain_file(path) is None
    path.write_bytes(LFS)
    assert explain_file(path) == f"{path} is a git-lfs pointer, not the file itself: fetch the file with git lfs pull"
    path.write_bytes(LFS + bytes(2000))
    assert explain_file(path) is None
    path.unlink()
    path.symlink_to("../../blobs/0123")
    assert explain_file(path) == (f"{path} is a symbolic link to ../../blobs/0123, which is not there: the download was not "
                                  "finished, or its files were moved; download the model again")
    (tmp_path / "real").write_bytes(b"x")
    path.unlink()
    path.symlink_to("real")
    assert explain_file(path) is None
    long = tmp_path / ("x" * 300)
    assert explain_file(long) == f"cannot read {long}: File name too long"


#: What a folder of a model holds, and what reads it.
NAMES = ["config.json", "model.safetensors", "tokenizer.json", "model.safetensors.index.json"]


def small_folder(tmp_path):
    tensors, _ = tensors_of("falcon", kind_model("falcon"))
    path = folder(tmp_path / "hf", "falcon", tensors)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(tensors, "model.safetensors")}))
    open_checkpoint(path, Options(), lambda text: None)
    return path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lfs", [True, False])
def test_every_file_of_a_folder(name, lfs, tmp_path):
    path = small_folder(tmp_path) / name
    path.unlink()
    if lfs:
        path.write_bytes(LFS)
    else:
        path.symlink_to("nowhere")
    with pytest.raises(ModelError) as caught:
        open_checkpoint(path.parent, Options(), lambda text: None)
    assert str(caught.value) == explain_file(path) and explain_file(path) is not None


@pytest.mark.parametrize("name", ["m.gguf", "m.bin", "m.safetensors", "m"])
def test_every_kind_of_file(name, tmp_path):
    path = tmp_path / name
    for make in (lambda: path.write_bytes(LFS), lambda: path.symlink_to("nowhere")):
        make()
        for read in (lambda: open_checkpoint(path, Options(), print), lambda: Model.load(path)):
            with pytest.raises(ModelError) as caught:
                read()
            assert str(caught.value) == explain_file(path) and explain_file(path) is not None
        path.unlink()


def test_a_tokenizer_file(tmp_path):
    path, given = small_folder(tmp_path), tmp_path / "pieces.model"
    given.write_bytes(LFS)
    with pytest.raises(ModelError) as caught:
        open_checkpoint(path, Options(tokenizer=given), lambda text: None)
    assert str(caught.value) == f"{given} is a git-lfs pointer, not the file itself: fetch the file with git lfs pull"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_nesting_in_a_folder(name, tmp_path):
    path = small_folder(tmp_path) / name
    path.write_bytes(b'{"a":' + nested("[", "]") + b"}")
    with pytest.raises(ModelError) as caught:
        open_checkpoint(path.parent, Options(no_tokenizer=True), lambda text: None)
    assert str(caught.value) == f"{path} is no JSON that can be read (it is nested too deep)"


def test_nesting_in_a_model_file(tmp_path):
    path = tmp_path / "m.tellme"
    random_model("grouped").save(path)
    edit(path, metadata={"config": nested("[", "]").decode()})
    with pytest.raises(ModelError) as caught:
        Model.load(path)
    assert str(caught.value) == f"{path}: its configuration is no JSON that can be read (it is nested too deep)"


def test_nesting_in_a_tokenizer(tmp_path):
    path = small_folder(tmp_path)
    content = byte_level_json().replace(b'"normalizer":null', b'"normalizer":' + nested("[", "]"), 1)
    assert len(content) > DEEP
    (path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelError, match="tokenizer.json is no tokenizer.json"):
        open_checkpoint(path, Options(), lambda text: None)


def test_names_that_are_no_text(tmp_path):
    tensors, _ = tensors_of("falcon", kind_model("falcon"))
    path = folder(tmp_path / os.fsdecode(b"f\xff"), "falcon", tensors)
    heard = []
    source = open_checkpoint(path, Options(), heard.append)
    assert source.name == "f\ufffd" and heard[-1].startswith("f\ufffd: LlamaForCausalLM") and "".join(heard).encode()
    source.name = path.name
    model = Model.read(source)
    target = tmp_path / os.fsdecode(b"m\xff.tellme")
    model.save(target)
    assert Model.load(target).name == "f\ufffd"
    assert printable("plain \u00e9") == "plain \u00e9"


def test_long_names(tmp_path):
    tensors, _ = tensors_of("falcon", kind_model("falcon"))
    path = folder(tmp_path / ("x" * 250), "falcon", tensors)
    assert open_checkpoint(path, Options(), lambda text: None).name == "x" * 250
    path = tmp_path / ("x" * 256)
    for read in (lambda: open_checkpoint(path, Options(), print), lambda: Model.load(path)):
        with pytest.raises(ModelError) as caught:
            read()
        assert str(caught.value) == f"cannot read {path}: File name too long"


def test_pipes_are_not_waited_for(tmp_path):
    path = small_folder(tmp_path)
    (path / "model.safetensors.index.json").unlink()
    (path / "model.safetensors").unlink()
    os.mkfifo(path / "model.safetensors")
    with pytest.raises(ModelError) as caught:
        open_checkpoint(path, Options(), lambda text: None)
    assert str(caught.value) == f"{path}/model.safetensors is neither a file nor a folder"


@pytest.mark.parametrize(("make", "message"), [
    (lambda p: None, "there is no file {}"), (lambda p: p.write_bytes(b""), "{} is empty"),
    (os.mkfifo, "{} is neither a file nor a folder"),
])
def test_what_is_no_file(make, message, tmp_path):
    path = tmp_path / "m.gguf"
    make(path)
    with pytest.raises(ModelError) as caught:
        open_checkpoint(path, Options(), print)
    assert str(caught.value) == message.format(path)
    below = path / "x"
    if path.is_file():
        with pytest.raises(ModelError) as caught:
            open_checkpoint(below, Options(), print)
        assert str(caught.value) == f"cannot read {below}: Not a directory"
