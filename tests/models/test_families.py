# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Conversion of every real family's layout: small with all keys of config.json in CI, at the real size in the night."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open

from tellme.cli import main
from tellme.models.config import ModelConfig
from tellme.models.container import Container, write, written_elements
from tellme.models.importers.checkpoints import open_checkpoint
from tellme.models.importers.importing import Options
from tellme.spec.config import PRESETS
from tests.models.families import DOCS, FAMILIES, measured, model_config, with_table
from tests.models.random_model import random_model

MB = 1 << 20


def raw(folder, name):
    """A tensor as float64, or as bytes; the safetensors package gives NumPy no bfloat16."""
    with (folder / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        entry = header[name]
        start, end = entry["data_offsets"]
        file.seek(start, 1)
        content = file.read(end - start)
    if entry["dtype"] == "BF16":
        values = (np.frombuffer(content, "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(content, {"F32": "<f4", "F16": "<f2", "U8": "u1"}[entry["dtype"]])
    return (values if entry["dtype"] == "U8" else values.astype(np.float64)).reshape(entry["shape"])


def decoded(folder, name, weights):
    """Codes of a matrix, by the family's own definition."""
    values = raw(folder, name)
    if weights == "packed":
        return np.concatenate([values >> shift & 3 for shift in (0, 2, 4, 6)]).astype(int) - 1
    if weights == "ternary":
        return np.sign(values).astype(int)
    return np.clip(np.rint(values / np.abs(values).mean()), -1, 1).astype(int)


def shape_of(config):
    """A configuration without its BOS and end tokens."""
    return replace(config, bos=None, eos=None, more_ends=(), add_bos=False)


@pytest.mark.parametrize("name", FAMILIES)
def test_each_layout_converts(name, tmp_path, capsys):
    family = FAMILIES[name].small()
    source, out = tmp_path / name, tmp_path / "m.tellme"
    family.write(source)
    with safe_open(source / "model.safetensors", "numpy") as file:
        assert len(list(file.keys())) == len(family.tensors())
    assert main(["convert", str(source), "-o", str(out), "--no-tokenizer"]) == 0
    said = capsys.readouterr().err
    assert "fits" in said and "ternary weights" in said
    model = Container(out)
    assert shape_of(model.config) == shape_of(model_config(family))
    for layer in range(2):
        for ours, theirs in (("w1", "gate_proj"), ("w2", "down_proj")):
            codes = np.concatenate(list(model.linear(layer, ours).chunks()))
            assert (codes == decoded(source, f"model.layers.{layer}.mlp.{theirs}.weight", family.weights)).all()
    assert main(["inspect", str(out), "--json"]) == 0
    fits = {fit["preset"]: fit for fit in json.loads(capsys.readouterr().out)["fits"]}
    # Small as it is, Falcon-E keeps its eight query heads of each KV head.
    group = model.config.heads // model.config.kv_heads
    small_enough = group <= PRESETS["ecpix5-85f"].max_group
    assert fits["ecpix5-85f"]["head"] == ("board" if small_enough else None)
    assert small_enough or f"query heads of a KV head is {group}" in fits["ecpix5-85f"]["reason"]


def test_real_configurations_are_read_as_written(tmp_path, monkeypatch):
    """The real config.json of each family, beside weights that are all holes; no weight is read."""
    monkeypatch.setattr("tellme.models.importers.huggingface.HuggingFace._check_meaning", lambda self: None)
    monkeypatch.setattr("tellme.models.importers.huggingface.HuggingFace._scale_of", lambda self, layer, part: None)
    for name, family in FAMILIES.items():
        source = tmp_path / name
        source.mkdir()
        (source / "config.json").write_text(json.dumps(family.config))
        header, at = {}, 0
        for tensor, kind, shape, _ in family.tensors():
            size = int(np.prod(shape)) * {"F32": 4, "F16": 2, "BF16": 2, "U8": 1}[kind]
            header[tensor] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
            at += size
        text = json.dumps(header).encode()
        with (source / "model.safetensors").open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + at)
        read = open_checkpoint(source, Options(no_tokenizer=True), lambda line: None).config
        assert shape_of(read) == shape_of(model_config(family)), name


def test_published_sizes():
    """What the makers' pages say: bytes of the weights' files, or elements."""
    sizes = {"TriLM-99M": 200e6, "TriLM-390M": 785e6, "TriLM-830M": 1.67e9, "TriLM-1.1B": 2.3e9, "TriLM-1.5B": 3.03e9,
             "TriLM-2.4B": 4.92e9, "bitnet-b1.58-2B-4T": 1.18e9, "Falcon-E-3B": 999e6}
    bytes_of = {"F32": 4, "F16": 2, "BF16": 2, "U8": 1}
    for name, size in sizes.items():
        made = sum(int(np.prod(shape)) * bytes_of[kind] for _, kind, shape, _ in FAMILIES[name].tensors())
        assert made == pytest.approx(size, rel=0.006), name
    assert sum(int(np.prod(shape)) for _, _, shape, _ in FAMILIES["Falcon-E-3B"].tensors()) == pytest.approx(864e6, rel=0.001)


@pytest.mark.parametrize("tied", [True, False])
def test_progress_counts_each_element_once(tied, tmp_path):
    """A file's parts, in the order in which they come, add up to what the bar expects."""
    model = random_model("plain")
    if model.config.tied != tied:
        model = replace(model, config=replace(model.config, tied=tied), head=None if tied else model.embedding,
                        head_scales=None if tied else model.embedding_scales)
    heard = []
    write(model, tmp_path / "m.tellme", heard.append)
    assert sum(heard) == written_elements(model.config) and min(heard) > 0
    c: ModelConfig = model.config
    assert sum(heard) == c.ternary_weights + (1 if tied else 2) * c.vocab * c.dim


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "head"), [("bitnet_b1_58-large", "board"), ("bitnet-b1.58-2B-4T", "host")])
def test_real_sizes(name, head, tmp_path):
    """Peak memory of a conversion at the real size: 3 GB and 1.2 GB of weights take minutes and disk, so the night has them."""
    source, out = tmp_path / name, tmp_path / "m.tellme"
    size = FAMILIES[name].write(source)
    took = measured("convert", source, "-o", out, "--no-tokenizer", "--context", 2048)
    assert took["anon_bytes"] < 150 * MB < size, took
    fits = json.loads(measured("inspect", out, "--json")["output"])["fits"]
    found, = (fit for fit in fits if fit["preset"] == "ecpix5-85f")
    assert found["fits"] and found["head"] == head


def test_the_table_in_the_docs():
    """``python -m tests.models.families --docs`` writes the table anew."""
    page = DOCS.read_text("utf-8")
    assert with_table(page) == page
