# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""LoRA adapters, ternary as ComPEFT makes them: the merged weights, the logits, and what a board is sent."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tellme.cli import main
from tellme.compiler.image import CompileError, place_model
from tellme.models import LINEARS, ModelConfig, ModelError
from tellme.models.adapted import weights_of
from tellme.models.importers.adapter import with_adapter
from tellme.runtime.board import Board
from tellme.runtime.device import BoardDevice
from tellme.spec.config import preset
from tests.cli.fake_client import FakeClient
from tests.models.folders import PROJECTIONS, halves, write_safetensors
from tests.models.random_model import model_of, with_groups
from tests.models.test_groups import assert_logits, float_model, worth_of

CONFIG = ModelConfig(dim=64, ffn=100, layers=2, heads=4, kv_heads=2, head_dim=16, vocab=128, context=32, tied=False)


def adapter(path, model, *, modules=LINEARS, rank=3, size=1.0, config=None, change=None):
    """(folder, change of each matrix, rows in adjacent pairs): A and B are -1, 0 and 1 times a number each."""
    rng = np.random.default_rng(rank)
    tensors, changes = {}, {}
    for i in range(model.config.layers):
        for name in modules:
            rows, cols = model.config.shape(name)
            a = (rng.integers(-1, 2, (rank, cols)) * 0.01).astype(np.float32)
            b = (rng.integers(-1, 2, (rows, rank)) * 0.5 * size).astype(np.float32)
            at = f"base_model.model.model.layers.{i}.{PROJECTIONS[name]}"
            tensors[f"{at}.lora_A.weight"] = a
            tensors[f"{at}.lora_B.weight"] = halves(b, 16) if name in ("wq", "wk") else b
            changes[i, name] = 2 / rank * b.astype(np.float64) @ a
    if change is not None:
        change(tensors)
    path.mkdir()
    fields = {"peft_type": "LORA", "r": rank, "lora_alpha": 2, "bias": "none", "target_modules": [], "lora_dropout": 0.05}
    (path / "adapter_config.json").write_text(json.dumps(fields | (config or {})))
    write_safetensors(path / "adapter_model.safetensors", tensors)
    return path, changes


def test_the_merged_model(tmp_path):
    """Each weight is W + B A but for half a step of its row, and the logits are those of the merged floats; from the file too."""
    model = model_of(CONFIG, gains=True, name="base")
    with_groups(model)
    base = {(i, n): worth_of(model.linear(i, n)) for i in range(2) for n in LINEARS}
    assert all(np.array_equal(np.concatenate(list(weights_of(model.linear(*at)))), values) for at, values in base.items())
    path, changes = adapter(tmp_path / "lora", model, modules=("wq", "wv", "w2"))
    adapted = with_adapter(model, path / "adapter_model.safetensors")
    assert adapted.planes.keys() == changes.keys()
    merged = {at: values + changes.get(at, 0) for at, values in base.items()}
    for at, want in merged.items():
        linear = adapted.linear(*at)
        values = worth_of(linear)
        if at not in changes:
            assert np.array_equal(values, want)
            continue
        assert linear.planes == adapted.planes[at] and linear.multipliers is None
        off = values - want
        assert (np.abs(off).max(axis=1) <= np.abs(want).max(axis=1) / (3**linear.planes - 1) * 1.01).all()
        assert np.square(off).mean() <= np.square(changes[at]).mean() / 16 or linear.planes == 5
    assert_logits(adapted, float_model(model, merged))


def test_a_board_keeps_the_model(tmp_path):
    """An adapter is sent without the model, another one too, and going back to the model sends no weights."""
    model = model_of(CONFIG, gains=True, name="base")
    core = preset("ulx3s-85f-l8")
    device = BoardDevice("port", core, FakeClient(core), "ab" * 32)
    with Board(device, lambda text: None) as board:
        def run(source):
            session = board.load(source)
            return [token.id for token in session.generate([1, 2, 3], max_tokens=8, ignore_end=True)], device.sent, device.skipped

        first, sent, _ = run(model)
        image, _ = place_model(model, core)
        tables = sum(len(table) for _, table in image.tables)
        weights = sum(len(part) for _, part in image.sections)
        assert sent == weights + tables
        others = []
        for number in (1, 2):
            adapted = with_adapter(model, adapter(tmp_path / f"lora{number}", model, rank=number, size=8)[0])
            ids, sent, skipped = run(adapted)
            stream = place_model(adapted, core)[0].sections[-1][1]
            assert skipped == weights and sent <= len(stream) + tables + 8
            others.append(ids)
            golden = Board.open("golden").load(adapted)
            assert ids == [token.id for token in golden.generate([1, 2, 3], max_tokens=8, ignore_end=True)]
        assert others[0] != first or others[1] != first
        again, sent, skipped = run(model)
        assert again == first and (sent, skipped) == (tables, weights)


def test_memory_for_both(tmp_path):
    model = model_of(CONFIG, gains=True, name="base")
    core = preset("ulx3s-85f")
    adapted = with_adapter(model, adapter(tmp_path / "lora", model)[0])
    end = place_model(adapted, core)[0].end
    with pytest.raises(CompileError, match="the model and its adapted weights need"):
        place_model(adapted, replace(core, sdram_bytes=end - 4096))


def test_the_command(tmp_path, capsys):
    model = model_of(CONFIG, gains=True, name="base")
    model.save(tmp_path / "m.tellme")
    path, _ = adapter(tmp_path / "lora", model, size=8)
    texts = []
    for more in ([], ["--adapter", str(path)]):
        assert main(["generate", "--model", str(tmp_path / "m.tellme"), "--prompt-ids", "1,2", "--ignore-eos", "--max-tokens=6",
                     "--device", "golden", *more]) == 0
        out = capsys.readouterr()
        texts.append(out.out)
    assert texts[0] != texts[1] and "adapter: 14 matrices of base are merged and coded anew, in" in out.err
    assert main(["generate", "--model", str(tmp_path / "m.tellme"), "--adapter", "nowhere", "--device", "golden"]) == 2
    assert "there is no adapter nowhere" in capsys.readouterr().err
    # The float32 reference reads the model's file.
    assert main(["perplexity", "--model", str(tmp_path / "m.tellme"), "--text", "-", "--reference", "--adapter", str(path)]) == 2
    assert "leave --adapter or --reference out" in capsys.readouterr().err


def dropped(tensors):
    del tensors["base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"]


def renamed(tensors):
    tensors["base_model.model.lm_head.lora_A.weight"] = np.zeros((1, 64), np.float32)


def emptied(tensors):
    tensors.clear()


def infinite(tensors):
    tensors["base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"][5, 1] = np.inf


def rankless(tensors):
    at = "base_model.model.model.layers.1.mlp.down_proj"
    tensors[f"{at}.lora_A.weight"], tensors[f"{at}.lora_B.weight"] = np.zeros((0, 100), "f4"), np.zeros((64, 0), "f4")


def wider(tensors):
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"
    tensors[name] = np.zeros((3, 80), np.float32)


@pytest.mark.parametrize(("config", "change", "message"), [
    ({"peft_type": "IA3"}, None, "peft_type is 'IA3'"), ({"use_dora": True}, None, "use_dora is True"),
    ({"bias": "all"}, None, "bias is 'all'"), ({"modules_to_save": ["lm_head"]}, None, "modules_to_save is"),
    ({"r": 4}, None, "r is 4, and .* has 3 rows of lora_A"), ({"lora_alpha": None}, None, "lora_alpha is None"),
    ({}, dropped, "lacks lora_A or lora_B of model.layers.0.mlp.up_proj"),
    ({}, renamed, "holds base_model.model.lm_head.lora_A.weight, which changes no matrix"),
    ({}, emptied, "changes nothing"), ({}, infinite, "model.layers.1.mlp.down_proj: the adapter holds an infinity or NaN"),
    ({"alpha_pattern": [1]}, None, r"/adapter_config.json: alpha_pattern is \[1\], which is no object"),
    ({"rank_pattern": {"(": 3}}, None, r"/adapter_config.json: rank_pattern has '\(', which is no regular expression"),
    ({"alpha_pattern": {"a{1,99999999999}": 3}}, None, "alpha_pattern has 'a.1,99999999999.', which is no regular expression"),
    ({"alpha_pattern": {"(" * 3000: 3}}, None, "alpha_pattern has '[(]{100}', which is no regular expression"),
    ({"rank_pattern": {"1.mlp.down_proj": 0}}, rankless, r"lora_A has shape \(0, 100\) and lora_B \(64, 0\)"),
    ({"lora_alpha": 1e30}, None, "what the adapter adds may be beyond binary16"),
    ({"lora_alpha": 1e308}, None, "what the adapter adds may be beyond binary16"),
    ({}, wider, r"lora_A has shape \(3, 80\) .* the matrix \(100, 64\): the adapter is of another model"),
])
def test_refusals(config, change, message, tmp_path):
    model = model_of(CONFIG, gains=True, name="base")
    path, _ = adapter(tmp_path / "lora", model, config=config, change=change)
    with pytest.raises(ModelError, match=message):
        with_adapter(model, path)


def test_rank_and_alpha_of_a_module(tmp_path):
    model = model_of(CONFIG, gains=True, name="base")
    path, changes = adapter(tmp_path / "lora", model, config={"use_rslora": True, "alpha_pattern": {"q_proj": 4}})
    adapted = with_adapter(model, path)
    for name, factor in (("wq", 3**0.5 * 2), ("wv", 3**0.5)):
        want = worth_of(model.linear(0, name)) + factor * changes[0, name]
        assert np.abs(worth_of(adapted.linear(0, name)) - want).max() <= np.abs(want).max() / 2 / 13


def test_what_is_no_adapter(tmp_path):
    with pytest.raises(ModelError, match="has no adapter_config.json: an adapter is what save_pretrained"):
        with_adapter(model_of(CONFIG, gains=True), tmp_path)
