# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What inspect finds: sizes that are the compiler's own, zeros, features, and why a build does not fit."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tellme.compiler import inspect as module
from tellme.compiler.image import CompileError, compile_model, needed_bytes, place_model
from tellme.compiler.inspect import inspect_model
from tellme.models.container import Container
from tellme.models.shipped import find_model
from tellme.spec.config import PRESETS
from tests.models.random_model import BOARD_FAMILY, random_model, with_biases, with_groups, with_planes, with_several_scales


def inspected(model, tmp_path):
    path = tmp_path / "m.tellme"
    model.save(path)
    return inspect_model(Container(path)), path


@pytest.mark.parametrize("build", ["ulx3s-85f-l2", "ulx3s-85f"])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("name", BOARD_FAMILY)
def test_fits_where_the_compiler_says_so(name, several, build, tmp_path, monkeypatch):
    """Memories around the size of the image, head and all or without: inspect draws the lines where the compiler does."""
    model = random_model(name)
    if several:
        model = with_several_scales(model)
    board = PRESETS[build]
    ends = [compile_model(model, board, head=head).end for head in ("board", "host")]
    boards = {f"b{size}": replace(board, name=f"b{size}", sdram_bytes=size)
              for end in ends for size in (end - 1024, end - 1, end, end + 1)}
    monkeypatch.setattr(module, "PRESETS", boards)
    found, _ = inspected(model, tmp_path)
    heads = set()
    for fit in found.fits:
        try:
            image, _ = place_model(model, boards[fit.preset])
            assert (fit.reason, fit.head) == ("", "board" if image.probe is None else "host")
        except CompileError as error:
            assert (fit.reason, fit.head) == (str(error), None)
        heads.add(fit.head)
    assert {"board", None} <= heads


def test_numbers_of_a_file(tmp_path):
    model = random_model("grouped")
    found, path = inspected(model, tmp_path)
    for share, layer in zip(found.zeros_by_layer, model.layers, strict=True):
        codes = np.concatenate([w.reshape(-1) for w in layer.weights.values()])
        assert share == pytest.approx((codes == 0).mean())
    assert found.zeros == pytest.approx(np.mean(found.zeros_by_layer))
    # All of the file but its header.
    assert 0 < path.stat().st_size - sum(found.bytes_by_part.values()) < 6000
    assert found.gains == ["attn_norm", "down_norm", "ffn_norm", "final_norm", "o_norm"]
    assert found.tokenizer == "none" and not found.features
    normed, _ = inspected(random_model("head-norms"), tmp_path)
    assert normed.gains == ["attn_norm", "ffn_norm", "final_norm", "k_norm", "q_norm"]
    assert normed.features == {"norms on heads": "golden, and builds of several planes"}
    fit = found.fits[0]
    assert fit.preset == "ulx3s-85f" and not fit.reason
    assert fit.tokens_per_second[0] == pytest.approx(4 * 200e6 / 3 / needed_bytes(model.config, 0))
    assert max(fit.tokens_per_second) == model.config.context - 1


def test_features_say_what_runs_them(tmp_path):
    found, _ = inspected(with_biases(with_several_scales(random_model("plain"))), tmp_path)
    assert found.features == {"several scales a matrix": "golden and boards", "bias": "golden only"}
    assert "layers.0.wq" in found.several_scales and found.biases[0] == "layers.0.wq"
    assert {fit.reason for fit in found.fits} == {"layers.0.w2 has a bias, which no gateware adds: use the golden model"}


def test_a_bias_wants_a_build_of_several_planes(tmp_path, monkeypatch):
    boards = {name: replace(PRESETS["ulx3s-85f"], name=name, planes=planes) for name, planes in (("one", 1), ("six", 6))}
    monkeypatch.setattr(module, "PRESETS", boards)
    model = random_model("plain")
    model.layers[0].biases["wq"] = np.ones(len(model.layers[0].weights["wq"]), np.float16)
    found, _ = inspected(model, tmp_path)
    assert found.features == {"bias": "golden, and builds of several planes"}
    assert [fit.reason for fit in found.fits] == ["layers.0.wq has a bias, and the build one adds none: use the golden model", ""]


def test_planes_of_a_file(tmp_path, monkeypatch):
    """Zeros and bits a weight of matrices of 1 to 5 planes, which builds take them, and the bytes that a token needs there."""
    boards = {name: replace(PRESETS["ulx3s-85f"], name=name, planes=planes) for name, planes in (("four", 4), ("five", 5))}
    monkeypatch.setattr(module, "PRESETS", boards)
    model = with_planes(random_model("grouped"))
    for layer in model.layers:
        layer.biases["w1"] = np.ones(len(layer.weights["w1"]), np.float16)
    found, path = inspected(model, tmp_path)
    counts = Counter()
    for share, layer in zip(found.zeros_by_layer, model.layers, strict=True):
        assert share == pytest.approx(np.mean(np.concatenate([w.reshape(-1) for w in layer.weights.values()]) == 0))
        for name, codes in layer.weights.items():
            counts[layer.planes.get(name, 1)] += codes.size
    assert found.planes == counts and set(counts) == {1, 2, 3, 4, 5}
    trits = sum(planes * size for planes, size in counts.items())
    assert found.bits_a_weight == pytest.approx(1.6 * trits / model.ternary_weights)
    assert found.features == {"several planes": "golden, and builds of as many planes",
                              "bias": "golden, and builds of several planes"}
    four, five = found.fits
    first = next(name for name, planes in model.layers[0].planes.items() if planes == 5)
    assert four.reason == f"layers.0.{first} has 5 planes, and the build four can do 4"
    assert five.head == "board"
    c = model.config
    needed = trits / 5 + c.vocab * c.dim + c.dim + 2 * c.layers * (c.kv_dim + 2 * c.kv_heads)
    assert five.tokens_per_second[0] == pytest.approx(4 * 200e6 / 3 / needed)
    image = compile_model(Container(path), boards["five"])
    assert image.trits == trits and needed_bytes(c, 0, trits=image.trits) == needed


def test_column_groups_of_a_file(tmp_path, monkeypatch):
    """Weights by the size of their groups, multipliers in bits a weight and in the bytes that a token needs, and who runs it."""
    boards = {name: replace(PRESETS["ulx3s-85f"], name=name, multipliers=name == "with") for name in ("with", "without")}
    monkeypatch.setattr(module, "PRESETS", boards)
    plain = with_planes(random_model("grouped"))
    before, _ = inspected(plain, tmp_path)
    model = with_groups(plain)
    found, path = inspected(model, tmp_path)
    groups, count = Counter(), 0
    for layer in model.layers:
        for name, (size, values) in layer.multipliers.items():
            groups[size] += layer.weights[name].size
            count += values.size
    assert found.groups == groups and found.multipliers == count > 0 and len(groups) > 3
    assert found.bits_a_weight == pytest.approx(before.bits_a_weight + 8 * count / model.ternary_weights)
    tensors = sum(len(layer.multipliers) for layer in model.layers)
    assert found.bytes_by_part["multipliers"] == count + 4 * tensors and "multipliers" not in before.bytes_by_part
    assert found.features["column groups"] == "golden, and builds with multipliers" and "column groups" not in before.features
    fits = {fit.preset: fit for fit in found.fits}
    first = next(iter(model.layers[0].multipliers))
    assert fits["without"].reason == f"layers.0.{first} has multipliers of column groups, and the build without takes none"
    rate = boards["with"].fabric_mhz * 1e6 * boards["with"].peak_bytes_per_cycle
    image = compile_model(Container(path), boards["with"], head=fits["with"].head)
    needed = needed_bytes(model.config, 0, fits["with"].head, trits=image.trits, multipliers=image.multipliers,
                          head_trits=image.head_trits)
    assert image.multipliers == count and fits["with"].tokens_per_second[0] == pytest.approx(rate / needed)
    assert rate / needed < {fit.preset: fit for fit in before.fits}["with"].tokens_per_second[0]


def test_the_shipped_model(tmp_path):
    found, _ = inspected(find_model("stories-1m"), tmp_path)
    fits = {fit.preset: fit.reason for fit in found.fits}
    assert fits["ulx3s-85f"] == "" and fits["sim-tiny"] == "dim is 192, and the build sim-tiny can do 128"
