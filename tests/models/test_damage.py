# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Checkpoints with random bytes changed and cut: a ModelError or a model, never a crash, and nothing left behind."""

import json
import random
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tellme.models import Model, ModelError
from tellme.models.container import write
from tellme.models.importers.checkpoints import open_checkpoint
from tellme.models.importers.importing import Options
from tests.models.folders import config_json, folder, kind_model, tensors_of
from tests.models.gguf_files import parts_of, split
from tests.models.test_gguf import NARROW, gguf_model, write_gguf
from tests.models.test_huggingface import assert_same
from tests.models.test_qat import checkpoint


def attempt(path, out, options=None, known=None):
    """Convert; True if that went well.

    ``known``: what was converted before.  A model that is opened as one of these, by its configuration and by what is said of how
    its weights are read, is not converted again.
    """
    heard = []
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            source = open_checkpoint(path, options or Options(no_tokenizer=True), heard.append)
            if known is not None:
                if (source.config, *heard) in known:
                    return True
                known.add((source.config, *heard))
            write(source, out)
    except ModelError as error:
        assert str(error) and not out.exists()
        return False
    out.unlink()
    return True


def damaged(rng, whole, region):
    content = bytearray(whole)
    if rng.random() < 0.3:
        del content[rng.randrange(len(content)):]
    else:
        for _ in range(rng.randrange(1, 4)):
            content[rng.randrange(min(region, len(content)))] = rng.randrange(256)
    return bytes(content)


def test_safetensors(tmp_path):
    tensors, _ = tensors_of("bitnet-2b4t", kind_model("bitnet-2b4t"))
    path = folder(tmp_path / "hf", "bitnet-2b4t", tensors)
    file = path / "model.safetensors"
    whole, rng = file.read_bytes(), random.Random(5)
    done = []
    for _ in range(75):
        file.write_bytes(damaged(rng, whole, rng.choice([20, 4000, len(whole)])))
        done.append(attempt(path, tmp_path / "out.tellme"))
    assert any(done) and not all(done)
    assert [p.name for p in tmp_path.iterdir()] == ["hf"]


def test_gguf(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", gguf_model(NARROW), "F16")
    whole, rng = path.read_bytes(), random.Random(6)
    done = []
    for _ in range(75):
        # The tokens' texts lie after the model's numbers.
        path.write_bytes(damaged(rng, whole, rng.choice([40, 700, len(whole)])))
        done.append(attempt(path, tmp_path / "out.tellme", Options(no_tokenizer=rng.random() < 0.5)))
    assert any(done) and not all(done)
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]


@pytest.mark.parametrize("kind", ["bitnet-2b4t", "falcon", "trilm"])
def test_config_json(kind, tmp_path):
    tensors, _ = tensors_of(kind, kind_model(kind))
    path = folder(tmp_path / "hf", kind, tensors)
    rng = random.Random(7)
    odd = [None, -1, 0, 1, 3, 2**40, 0.5, float("nan"), "x", "", True, [], [1], {}, {"rope_type": 5}, {"quant_method": 1}]
    fields = config_json(kind) | {"rope_scaling": None, "rope_parameters": None, "weight_bits": None, "head_dim": None}
    known = set()
    for key in fields:
        for value in odd:
            (path / "config.json").write_text(json.dumps(fields | {key: value}))
            attempt(path, tmp_path / "out.tellme", Options(no_tokenizer=True, context=rng.choice([None, 4])), known)
    assert len(known) > 5


def test_config_json_of_quantised_training(tmp_path):
    """The same for the keys of such training, which say how weights are read."""
    path, _, _ = checkpoint(tmp_path, {})
    base, done = json.loads((path / "config.json").read_text()), []
    for method, keys in (("sherry", ("quant_method", "w_bits", "granularity", "group_size", "N", "M", "enable_zero_point")),
                         ("ultraquantv2", ("eps",))):
        fields = base | {"quant_method": method, "w_bits": 0, "granularity": "per_group", "group_size": 32, "N": 3, "M": 4}
        for key in keys:
            for value in (-1, 0, 5, 2**40, 0.5, "x", True, [], {"a": 1}):
                (path / "config.json").write_text(json.dumps(fields | {key: value}))
                done.append(attempt(path, tmp_path / "out.tellme"))
    assert any(done) and not all(done)


# The same with hypothesis, which makes a failing case small.


def edited(content, edits):
    """Bytes after edits: ("flip", where, byte), ("insert", where, bytes), ("cut", where, count); ``where`` is a share."""
    out = bytearray(content)
    for kind, where, what in edits:
        at = int(where * max(len(out) - 1, 0))
        if kind == "flip" and out:
            out[at] = what
        elif kind == "insert":
            out[at:at] = what
        elif kind == "cut":
            del out[at:at + what]
    return bytes(out)


SHARES = st.integers(0, (1 << 20) - 1).map(lambda n: n / (1 << 20))
EDITS = st.lists(st.one_of(st.tuples(st.just("flip"), SHARES, st.integers(0, 255)),
                           st.tuples(st.just("insert"), SHARES, st.binary(min_size=1, max_size=9)),
                           st.tuples(st.just("cut"), SHARES, st.integers(1, 40))), min_size=1, max_size=3)
ONE_FLIP = st.tuples(st.just("flip"), SHARES, st.integers(0, 255)).map(lambda edit: [edit])
PLENTY = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def read_or_refused(path, options):
    """The model, or None where it is refused; anything else is a failure."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return Model.read(open_checkpoint(path, options, lambda text: None))
    except ModelError as error:
        assert str(error)
        return None


class Copies:
    """Folders or files that edits are made to, one after the other."""

    def __init__(self, at, path):
        self.path, self.at = path, at
        self.kept = {file.name: file.read_bytes() for file in (path.iterdir() if path.is_dir() else path.parent.iterdir())}
        self.options = Options(no_tokenizer=True)
        self.whole = read_or_refused(path, self.options)
        assert self.whole is not None

    def after(self, name, content):
        """What is read with one file's content replaced."""
        file = (self.path if self.path.is_dir() else self.path.parent) / name
        file.write_bytes(content)
        try:
            return read_or_refused(self.path, self.options)
        finally:
            file.write_bytes(self.kept[name])


@pytest.fixture(scope="module")
def one_file(tmp_path_factory):
    at = tmp_path_factory.mktemp("damage")
    return Copies(at, folder(at / "hf", "bitnet-2b4t", tensors_of("bitnet-2b4t", kind_model("bitnet-2b4t"))[0]))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    at = tmp_path_factory.mktemp("damage")
    return Copies(at, folder(at / "hf", "falcon", tensors_of("falcon", kind_model("falcon"))[0], shards=2))


@pytest.fixture(scope="module")
def split_gguf(tmp_path_factory):
    at = tmp_path_factory.mktemp("damage")
    whole = write_gguf(at / "m.gguf", gguf_model(NARROW), "F16", tokenizer=None)
    paths = split(at / "m.gguf", *parts_of(whole), 3)
    whole.unlink()
    return Copies(at, paths[1])


def header_of(content):
    return 8 + int.from_bytes(content[:8], "little")


@PLENTY
@given(edits=ONE_FLIP)
def test_a_flipped_byte_of_a_safetensors_header_is_seen(one_file, edits):
    """The header's names, types, shapes and offsets say the same thing several times over."""
    whole = one_file.kept["model.safetensors"]
    end = header_of(whole)
    got = one_file.after("model.safetensors", edited(whole[:end], edits) + whole[end:])
    if got is not None:
        assert_same(got, one_file.whole)


@PLENTY
@given(edits=EDITS, part=st.sampled_from(["header", "all"]))
def test_any_edit_of_a_safetensors_file(one_file, edits, part):
    whole = one_file.kept["model.safetensors"]
    end = header_of(whole) if part == "header" else len(whole)
    one_file.after("model.safetensors", edited(whole[:end], edits) + whole[end:])


@PLENTY
@given(where=SHARES)
def test_a_safetensors_file_that_is_cut_is_refused(one_file, where):
    whole = one_file.kept["model.safetensors"]
    assert one_file.after("model.safetensors", whole[:int(where * (len(whole) - 1))]) is None


@PLENTY
@given(edits=EDITS)
def test_any_edit_of_an_index_is_seen(shards, edits):
    name = "model.safetensors.index.json"
    got = shards.after(name, edited(shards.kept[name], edits))
    if got is not None:
        assert_same(got, shards.whole)


@PLENTY
@given(edits=EDITS)
def test_any_edit_of_config_json(shards, edits):
    shards.after("config.json", edited(shards.kept["config.json"], edits))


@PLENTY
@given(edits=EDITS, number=st.integers(1, 3), part=st.sampled_from(["index", "all"]))
def test_any_edit_of_a_split_gguf_file(split_gguf, edits, number, part):
    name = f"m-0000{number}-of-00003.gguf"
    whole = split_gguf.kept[name]
    end = 1500 if part == "index" else len(whole)
    split_gguf.after(name, edited(whole[:end], edits) + whole[end:])


@PLENTY
@given(where=SHARES, number=st.integers(1, 3))
def test_a_split_gguf_file_that_is_cut_is_refused(split_gguf, where, number):
    """Up to the padding after the last tensor, 31 bytes at most."""
    name = f"m-0000{number}-of-00003.gguf"
    whole = split_gguf.kept[name]
    assert split_gguf.after(name, whole[:int(where * (len(whole) - 32))]) is None
