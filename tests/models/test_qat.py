# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Checkpoints of AngelSlim's and ParetoQ's training: weights computed here one by one against the linears."""

import math

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tellme.models import LINEARS, ModelError
from tellme.models.importers.checkpoints import open_checkpoint
from tellme.models.importers.importing import Options
from tests.models.folders import PROJECTIONS, floats, folder, halves, kind_model
from tests.models.test_groups import assert_logits, float_model, worth_of
from tests.models.test_huggingface import converted

WIDTH = 32


def checkpoint(tmp_path, config, *, clip=False, factors=False, name="hf"):
    """(folder, model, floats of each matrix in its rows' order, what stands beside them) of a small LLaMA."""
    model = kind_model("trilm")
    rng = np.random.default_rng(5)
    tensors = {"model.embed_tokens.weight": floats(model.embedding, model.embedding_scales),
               "model.norm.weight": model.final_gain, "lm_head.weight": floats(model.head, model.head_scales)}
    found = {}
    for i, layer in enumerate(model.layers):
        at = f"model.layers.{i}"
        for norm, where in (("attn_norm", "input_layernorm"), ("ffn_norm", "post_attention_layernorm")):
            tensors[f"{at}.{where}.weight"] = layer.gains[norm]
        for part in LINEARS:
            shape = model.config.shape(part)
            weight = (rng.normal(size=shape) * shape[1]**-0.5).astype(np.float32)
            beside = (rng.uniform(1.5, 2.5, (shape[0], 1)) * shape[1]**-0.5 if clip else rng.normal(size=shape) / 8)
            beside = beside.astype(np.float32)
            found[i, part] = weight, beside
            order = (lambda rows: halves(rows, 16)) if part in ("wq", "wk") else (lambda rows: rows)
            tensors[f"{at}.{PROJECTIONS[part]}.weight"] = order(weight)
            if clip or factors:
                tensors[f"{at}.{PROJECTIONS[part]}.{'weight_clip_val' if clip else 'Lambada'}"] = order(beside)
    return folder(tmp_path / name, "trilm", tensors, config=config), model, found


def of_bits(method, bits, weight, clip):
    """Weights of a row's scale, one by one."""
    out = np.zeros(weight.shape)
    for (row, col), w in np.ndenumerate(weight):
        a = clip[row, 0]
        ratio = np.float32(w) / a
        if method == "seq":
            levels, shift = (1.5, 0) if bits == 0 else (2 ** (bits - 1), 0.5)
            cut = np.clip(ratio, np.float32(-0.99), np.float32(0.99))
            out[row, col] = (np.rint(cut * np.float32(levels) - np.float32(shift)) + shift) / levels * a
        elif bits == 1:
            out[row, col] = math.copysign(a, w)
        else:
            least, most = (-1, 1) if bits == 0 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
            out[row, col] = min(max(np.rint(ratio), least), most) * a
    return out


@pytest.mark.parametrize(("config", "method", "bits", "planes"), [
    # The released HY-1.8B-2Bit says nothing in its config.json.
    ({}, "seq", 2, 2), ({"quant_method": "seq", "w_bits": 2}, "seq", 2, 2), ({"w_bits": 0}, "seq", 0, 1),
    ({"quant_method": "seq", "w_bits": 3}, "seq", 3, 3), ({"w_bits": 1}, "lsq", 1, 1), ({"w_bits": 3}, "lsq", 3, 2),
    ({"quant_method": "lsq", "w_bits": 4}, "lsq", 4, 3), ({"quant_method": "lsq", "w_bits": 0}, "lsq", 0, 1),
])
def test_bits_are_tied_planes(config, method, bits, planes, tmp_path):
    """Exactly, but for a scale's rounding to 11 bits."""
    path, _, found = checkpoint(tmp_path, config, clip=True)
    source = open_checkpoint(path, Options(), lambda text: None)
    for name in ("wk", "w2"):
        linear = source.linear(1, name)
        assert linear.planes == planes and linear.multipliers is None
        want = of_bits(method, bits, *found[1, name])
        assert np.abs(worth_of(linear) / np.where(want == 0, 1, want) - (want != 0)).max() <= 2**-11
        if (method, bits) == ("seq", 2):
            assert set(np.abs(linear.read()[0]).ravel()) == {1, 3}


def test_seq_as_angelslim_saves_it(tmp_path):
    """Logits, and what is said."""
    path, model, found = checkpoint(tmp_path, {}, clip=True)
    heard = []
    got = converted(path, tmp_path, say=heard.append)
    assert "weights: floats that the model quantises as it runs: seq of 2 bits, by weight_clip_val" in heard
    assert_logits(got, float_model(model, {at: of_bits("seq", 2, *pair) for at, pair in found.items()}))


def of_groups(method, weight, factors):
    """(weights, biases) of groups, one by one."""
    out, bias = np.zeros(weight.shape), np.zeros(len(weight))
    for row, values in enumerate(weight.astype(np.float64)):
        for first in range(0, len(values), WIDTH):
            group = values[first:first + WIDTH]
            mean = sum(abs(w) for w in group) / WIDTH
            if method == "sherry":
                kept = {i for four in range(0, WIDTH, 4)
                        for i in sorted(range(four, four + 4), key=lambda i, group=group: -abs(group[i]))[:3]}
            else:
                kept = {i for i, w in enumerate(group) if abs(w) >= (0.75 if method == "twn" else 0.5) * mean}
            scale = sum(abs(group[i]) for i in kept) / len(kept) if method in ("sherry", "twn") else mean
            for i, w in enumerate(group):
                if i in kept:
                    out[row, first + i] = math.copysign(scale, w)
                else:
                    bias[row] += w * (0.25 if method == "ultraquantv2" else factors[row, first + i])
    return out, bias


@pytest.mark.parametrize("method", ["sherry", "ultraquantv2", "ultraquantv3", "absmean", "twn"])
def test_groups_and_biases(method, tmp_path):
    config = {"quant_method": method, "w_bits": 0, "granularity": "per_group", "group_size": WIDTH, "N": 3, "M": 4, "eps": 0.25}
    path, model, found = checkpoint(tmp_path, config, factors=method == "ultraquantv3")
    source = open_checkpoint(path, Options(), lambda text: None)
    # Padded to whole slices: 32 columns to 40.
    assert (source.config.dim, source.config.ffn) == (80, 200)
    has_bias = method.startswith("ultraquant")
    weights = {}
    for (i, name), pair in found.items():
        want, bias = of_groups(method, *pair)
        weights[i, name] = want
        if has_bias:
            model.layers[i].biases[name] = bias.astype(np.float16)
        if i:
            continue
        linear = source.linear(i, name)
        rows = np.arange(len(want)) if name in ("wq", "wk", "wv") else np.arange(len(want)) // 32 * 40 + np.arange(len(want)) % 32
        cols = np.arange(want.shape[1]) if name == "wo" else np.arange(want.shape[1]) // 32 * 40 + np.arange(want.shape[1]) % 32
        factor = 1 if name in ("wo", "w2") else 0.8**0.5
        off = np.abs(worth_of(linear)[np.ix_(rows, cols)] - want * factor)
        assert (off.max(axis=1) <= np.abs(want).max(axis=1) / 128).all()
        assert np.allclose(linear.bias[rows], bias, atol=1e-3) if has_bias else linear.bias is None
    if method in ("sherry", "ultraquantv3"):
        assert_logits(converted(path, tmp_path), float_model(model, weights))


def of_wholes(method, granularity, weight):
    """Weights of one threshold and scale a matrix, or a row, one by one."""
    out = np.zeros(weight.shape)
    for place in [slice(None)] if granularity == "per_tensor" else range(len(weight)):
        whole = weight[place].astype(np.float64)
        mean = math.fsum(np.abs(whole).ravel()) / whole.size
        kept = np.abs(whole) >= (0.75 if method == "twn" else 0.5) * mean
        scale = math.fsum(np.abs(whole[kept])) / kept.sum() if method == "twn" else mean
        out[place] = np.where(kept, np.copysign(scale, whole), 0)
    return out


@pytest.mark.parametrize("granularity", ["per_tensor", "per_channel"])
@pytest.mark.parametrize("method", ["absmean", "twn"])
def test_one_scale_a_matrix_or_a_row(method, granularity, tmp_path):
    """No columns are padded, as no group ends within a slice."""
    path, model, found = checkpoint(tmp_path, {"quant_method": method, "granularity": granularity})
    heard = []
    source = open_checkpoint(path, Options(), heard.append)
    assert f"weights: floats that the model quantises as it runs: {method}, {granularity}" in heard
    assert source.config.dim == model.config.dim
    for name in ("wk", "w2"):
        linear = source.linear(1, name)
        want = of_wholes(method, granularity, found[1, name][0])
        assert linear.planes == 1 and linear.bias is None
        assert np.abs(worth_of(linear) / np.where(want == 0, 1, want) - (want != 0)).max() <= 2**-11


def test_weights_of_16_bits_are_none_of_such_training(tmp_path):
    """The floats are then taken as they are, and refused as such."""
    for name, fields in (("a", {"w_bits": 16}), ("b", {"quant_method": "none", "w_bits": 0})):
        path, _, _ = checkpoint(tmp_path, fields, name=name)
        with pytest.raises(ModelError, match="ternary"):
            converted(path, tmp_path)


def test_a_matrix_without_its_clips(tmp_path):
    path, _, _ = checkpoint(tmp_path, {}, clip=True)
    file = path / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.1.mlp.down_proj.weight_clip_val"]
    save_file(tensors, file)
    with pytest.raises(ModelError, match=r"lacks the tensor model\.layers\.1\.mlp\.down_proj\.weight_clip_val$"):
        converted(path, tmp_path)


@pytest.mark.parametrize(("config", "clip", "message"), [
    ({"quant_method": ["seq"], "w_bits": 2}, True, r"quant_method is \['seq'\], of which seq, lsq, absmean"),
    ({"quant_method": "sherry", "enable_zero_point": True}, False, "enable_zero_point is True"),
    ({"quant_method": "sherry", "group_size": 0}, False, "group_size is 0, which is no number of weights"),
    ({"quant_method": "sherry", "M": "4"}, False, "M is '4', which is no number of weights"),
    ({"quant_method": "sherry", "N": 5}, False, "N is 5, of each 4 weights"),
    ({"quant_method": "sherry", "group_size": 32, "M": 5}, False,
     "has groups of 32 weights, which are no whole runs of M = 5"),
    ({"quant_method": "sherry", "granularity": "per_channel", "M": 7}, False,
     "has groups of 64 weights, which are no whole runs of M = 7"),
    ({"quant_method": "sherry", "granularity": "per_tensor"}, False, "sherry with granularity per_tensor is not known"),
    ({"quant_method": "ultraquantv2", "eps": "tiny"}, False, "eps is 'tiny', which is no number"),
    ({"quant_method": "ultraquant"}, False, "quant_method is 'ultraquant', which adds .* the sign of each activation"),
    ({"quant_method": "dlt", "w_bits": 2}, True, "quant_method is 'dlt', which adds a number to all weights"),
    ({"quant_method": "gptq"}, False, "quant_method is 'gptq', of which seq, lsq, absmean"),
    ({"quant_method": "sherry", "w_bits": 2}, False, "w_bits is 2, and sherry makes weights ternary"),
    ({"quant_method": "seq", "w_bits": 2}, False, "quant_method is 'seq', and the matrices have no weight_clip_val"),
    ({"w_bits": 8}, True, "w_bits is 8, of which 0 to 4 are known"),
    ({"quant_method": "sherry", "group_size": 48}, False, "has 64 columns, which are no whole groups of 48"),
    ({"quant_method": "sherry", "granularity": "per_token"}, False, "granularity is 'per_token'"),
    ({"quant_method": "ultraquantv3", "group_size": 32}, False, "lacks the tensor .*Lambada"),
    ({"architectures": ["HunYuanDenseV1ForCausalLM"]}, True, "norm.* behind RoPE|RMSNorm on heads of q and k behind RoPE"),
])
def test_refusals(config, clip, message, tmp_path):
    path, _, _ = checkpoint(tmp_path, config, clip=clip)
    with pytest.raises(ModelError, match=message):
        converted(path, tmp_path)
