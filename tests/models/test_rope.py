# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""RoPE of checkpoints: plain RoPE is accepted and gives a float model's logits; all else is refused by name."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellme.golden.perplexity import golden_board
from tellme.models import ModelError
from tellme.models.importers.rope import Rope, rope_of_config, rope_of_gguf
from tests import reference
from tests.models.folders import KINDS, folder, kind_model, tensors_of
from tests.models.test_gguf import LLAMA, gguf_model, write_gguf
from tests.models.test_huggingface import assert_same, converted

DEFAULT = 10000.0


def of_config(fields):
    return rope_of_config(fields, "config.json", head_dim=16, default_theta=DEFAULT)


@pytest.mark.parametrize(("fields", "theta"), [
    ({}, DEFAULT), ({"rope_theta": 500000}, 5e5), ({"rope_theta": None}, DEFAULT), ({"rope_scaling": None}, DEFAULT),
    ({"rope_parameters": None, "rope_scaling": {}, "rope_theta": 2e6}, 2e6),
    ({"rope_parameters": {"rope_theta": 5e5}}, 5e5), ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, 5e5),
    ({"rope_scaling": {"type": "default"}, "rope_theta": 5e5}, 5e5), ({"rope_scaling": {"rope_theta": 5e5}}, 5e5),
    # The same theta in several places.
    ({"rope_theta": 5e5, "rope_parameters": {"rope_theta": 500000}, "rotary_emb_base": 5e5, "rope_local_base_freq": 5e5}, 5e5),
    ({"rotary_emb_base": 10000}, DEFAULT),
    # Nested by the layers' type; a type that no layer has may be null.
    ({"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 5e5}, "sliding_attention": None}}, 5e5),
    ({"rope_parameters": {"full_attention": {"rope_theta": 5e5}, "sliding_attention": {"rope_theta": 5e5}}}, 5e5),
    ({"rope_theta": {"full_attention": 5e5}}, 5e5),
    # Scaling by 1.
    ({"rope_scaling": {"type": "linear", "factor": 1.0}}, DEFAULT), ({"rope_scaling": {"factor": 1}}, DEFAULT),
    ({"rope_parameters": {"rope_type": "default", "factor": 1, "attention_factor": 1.0}}, DEFAULT),
    ({"rope_scaling": {"rope_type": "default", "original_max_position_embeddings": 4096, "low_freq_factor": None}}, DEFAULT),
    # All dimensions.
    ({"partial_rotary_factor": 1, "rotary_pct": 1.0, "rotary_dim": 16, "rope_scaling": {"rotary_pct": 1.0}}, DEFAULT),
    ({"rope_interleaved": False, "rope_interleave": False, "use_rope": True, "position_embedding_type": "rope"}, DEFAULT),
    ({"no_rope_layers": [1, 1], "no_rope_layer_interval": None, "rope_scaling_type": "none", "rope_ratio": 1}, DEFAULT),
    # Not about RoPE.
    ({"type": "x", "factor": 3, "property": 2, "dropout": 0.1, "original_max_position_embeddings": 7, "scope": 1}, DEFAULT),
])
def test_plain_in_every_place(fields, theta):
    assert of_config(fields) == Rope(theta)


NOT = ", which the engine does not do"
RANGE = ", and theta is a number between 1 and 1e+12"


@pytest.mark.parametrize(("fields", "message"), [
    ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "rope_scaling.type is 'linear', with the factor 4.0" + NOT),
    ({"rope_parameters": {"type": "linear", "factor": 4.0, "rope_theta": 1e4}},
     "rope_parameters.type is 'linear', with the factor 4.0" + NOT),
    ({"rope_scaling": {"rope_type": "linear"}}, "rope_scaling.rope_type is 'linear', with no factor" + NOT),
    ({"rope_scaling": {"factor": 4.0}}, "rope_scaling.factor is 4.0, with no type of scaling" + NOT),
    ({"rope_scaling": {"rope_type": "default", "factor": 4.0}}, "rope_scaling.factor is 4.0" + NOT),
    ({"rope_scaling": {"rope_type": "default", "type": "linear", "factor": 2}},
     "rope_scaling.type is 'linear', with the factor 2" + NOT),
    ({"rope_scaling": {"rope_type": "dynamic", "factor": 1.0}}, "rope_scaling.rope_type is 'dynamic'" + NOT),
    ({"rope_scaling": {"type": "su"}}, "rope_scaling.type is 'su'" + NOT),
    ({"rope_scaling": {"type": ["linear"]}}, "rope_scaling.type is ['linear']" + NOT),
    ({"rope_scaling": {"rope_type": "default", "attention_factor": 1.2}}, "rope_scaling.attention_factor is 1.2" + NOT),
    ({"rope_scaling": {"rope_type": "default", "beta_fast": 32}}, "rope_scaling.beta_fast is 32" + NOT),
    ({"rope_scaling": {"short_factor": [1.0] * 64}}, "rope_scaling.short_factor is "
     "[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1..." + NOT),
    ({"rope_scaling": {"mrope_section": [1, 1]}}, "rope_scaling.mrope_section is [1, 1]" + NOT),
    ({"rope_scaling": "linear"}, "rope_scaling is 'linear'" + NOT), ({"rope_parameters": []}, "rope_parameters is []" + NOT),
    ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "rope_parameters.partial_rotary_factor is 0.5" + NOT),
    ({"rope_parameters": {"full_attention": {"partial_rotary_factor": 0.5}}},
     "rope_parameters.full_attention.partial_rotary_factor is 0.5" + NOT),
    ({"rope_parameters": {"full_attention": {"rope_type": "yarn", "factor": 2}}},
     "rope_parameters.full_attention.rope_type is 'yarn'" + NOT),
    ({"rope_parameters": {"a": {"b": {"rope_theta": 5.0}}}}, "rope_parameters.a.b is {'rope_theta': 5.0}" + NOT),
    ({"partial_rotary_factor": 0.25}, "partial_rotary_factor is 0.25" + NOT), ({"rotary_pct": 0.25}, "rotary_pct is 0.25" + NOT),
    ({"partial_rotary_factor": True}, "partial_rotary_factor is True" + NOT),
    ({"rotary_dim": 8}, "rotary_dim is 8" + NOT), ({"rope_interleave": True}, "rope_interleave is True" + NOT),
    ({"use_rope": False}, "use_rope is False" + NOT),
    ({"position_embedding_type": "alibi"}, "position_embedding_type is 'alibi'" + NOT),
    ({"no_rope_layers": [1, 0]}, "no_rope_layers is [1, 0]" + NOT), ({"rope_type": "llama3"}, "rope_type is 'llama3'" + NOT),
    ({"yarn_scale": 0}, "yarn_scale is 0" + NOT), ({"ropeScaling": {}}, "ropeScaling is {}" + NOT),
    ({"rope_theta": "x"}, "rope_theta is 'x'" + RANGE), ({"rope_theta": True}, "rope_theta is True" + RANGE),
    ({"rope_theta": 1}, "rope_theta is 1" + RANGE), ({"rope_parameters": {"rope_theta": 1e12}}, "rope_parameters.rope_theta is "
                                                     "1000000000000.0" + RANGE),
    ({"rope_theta": 5e5, "rope_parameters": {"rope_theta": 1e4}},
     "rope_parameters.rope_theta is 10000.0, and rope_theta is 500000.0: the engine turns by one theta"),
    ({"rotary_emb_base": 5e5},
     "rotary_emb_base is 500000.0, and the default rope_theta is 10000.0: the engine turns by one theta"),
    ({"rope_theta": 5e5, "rope_local_base_freq": 1e4},
     "rope_local_base_freq is 10000.0, and rope_theta is 500000.0: the engine turns by one theta"),
    ({"rope_theta": {"full_attention": 5e5, "sliding_attention": 1e4}},
     "rope_theta.sliding_attention is 10000.0, and rope_theta.full_attention is 500000.0: the engine turns by one theta"),
])
def test_all_else_is_refused_by_name(fields, message):
    with pytest.raises(ModelError) as caught:
        of_config(fields)
    assert str(caught.value) == "config.json: " + message


SHARES = ("partial_rotary_factor", "rotary_pct", "rotary_emb_fraction", "rope_percent", "rope_ratio", "rope_scaling_factor")
NAMES = st.one_of(
    st.sampled_from(("rope_theta", "rotary_emb_base", "rope_local_base_freq", "rope_type", "rotary_dim", "use_rope",
                     "rope_interleaved", "no_rope_layers", *SHARES)),
    st.text("abcdrs_", max_size=6).map(lambda text: f"rope_{text}x"),
    st.text("abc", min_size=1).map(lambda text: f"my_yarn_{text}"))
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 20), st.floats(allow_nan=False), st.sampled_from((1.0, 16, 10000, 1e4, 5e5, 1)),
    st.sampled_from(("default", "none", "linear", "yarn", "")), st.lists(st.integers(0, 1), max_size=3),
    st.dictionaries(st.sampled_from(("full_attention", "x")), st.sampled_from((1e4, 5e5, "x")), max_size=2))


def theta_of(key, value):
    """Theta if all else is plain: computed from the key's meaning; None: RoPE is another, or nobody knows."""
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    if value is None:
        return DEFAULT
    if key == "rope_theta":
        if isinstance(value, dict):
            found = {theta_of(key, one) for one in value.values()}
            return found.pop() if len(found) == 1 else None if found else DEFAULT
        return number if number is not None and 1 < number < 1e12 else None
    if key in ("rotary_emb_base", "rope_local_base_freq"):
        if isinstance(value, dict):
            return DEFAULT if all(one == DEFAULT for one in value.values()) else None
        return DEFAULT if number == DEFAULT else None
    plain = {"rope_type": value in ("default", "none"), "rotary_dim": number == 16, "use_rope": value is True,
             "rope_interleaved": value is False, "no_rope_layers": isinstance(value, list) and 0 not in value}
    return DEFAULT if plain.get(key, key in SHARES and number == 1) else None


@settings(max_examples=500, deadline=None)
@given(NAMES, VALUES, st.sampled_from(([], ["rope_scaling"], ["rope_parameters"], ["rope_parameters", "full_attention"])))
def test_any_key_anywhere_is_plain_or_refused_by_name(key, value, places):
    fields = {key: value}
    for place in reversed(places):
        fields = {place: fields}
    wanted = theta_of(key, value)
    if places and key == "rope_type" and value == "linear":
        wanted = None
    if len(places) == 1 and isinstance(value, dict) and key != "rope_theta":
        # The values of a type of layers, which none of these are; nothing at all is plain.
        wanted = DEFAULT if not value else None
    if key == "rope_type" and isinstance(value, dict):
        wanted = None
    if wanted is None:
        with pytest.raises(ModelError) as caught:
            of_config(fields)
        assert str(caught.value).startswith("config.json: ") and key in str(caught.value)
    else:
        assert of_config(fields) == Rope(wanted)


@pytest.mark.parametrize("fields", [
    {"rope_theta": None, "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1000042.0}}},
    {"rope_theta": None, "rope_scaling": {"type": "linear", "factor": 1, "rope_theta": 1000042}, "partial_rotary_factor": 1.0},
])
def test_folders_have_the_logits_of_a_float_model(fields, tmp_path):
    tensors, float_model = tensors_of("falcon", kind_model("falcon"))
    c = KINDS["falcon"][0]
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = (c.theta ** (-np.arange(0, 32, 2) / 32)).astype(np.float16)
    got = converted(folder(tmp_path / "hf", "falcon", tensors, config=fields), tmp_path)
    assert got.config.theta == c.theta
    ids = list(range(3, c.context))
    expected = reference.forward(float_model, ids)
    assert np.abs(golden_board(got).feed(ids, 0, heads="all") / 65536 - expected).mean() < 0.03 * expected.std()


def test_frequencies_in_a_folder_must_be_thetas(tmp_path):
    tensors, _ = tensors_of("falcon", kind_model("falcon"))
    tensors["model.layers.1.self_attn.rotary_emb.inv_freq"] = (1e4 ** (-np.arange(0, 32, 2) / 32)).astype(np.float32)
    with pytest.raises(ModelError) as caught:
        converted(folder(tmp_path / "hf", "falcon", tensors), tmp_path)
    assert str(caught.value) == (f"{tmp_path / 'hf'}: model.layers.1.self_attn.rotary_emb.inv_freq holds other frequencies of "
                                 "RoPE than those of theta 1000042.0, which the engine does not do")


def of_gguf(fields):
    values = {f"llama.rope.{key}": value for key, value in fields.items()} | {"llama.context_length": 24, "general.rope.x": 1}
    return rope_of_gguf("llama", values, values.get, "m.gguf", head_dim=16)


@pytest.mark.parametrize(("fields", "theta"), [
    ({}, DEFAULT), ({"freq_base": float(np.float32(1000042.1))}, 1000042.1), ({"freq_base": 5e5, "freq_base_swa": 5e5}, 5e5),
    ({"dimension_count": 16, "dimension_count_swa": 16, "dimension_sections": [0, 0, 0, 0]}, DEFAULT),
    ({"scaling.type": "none"}, DEFAULT), ({"scaling.type": "linear", "scaling.factor": 1.0}, DEFAULT),
    ({"scaling.factor": 0.0, "scale_linear": 1.0, "scaling.attn_factor": 1.0, "scaling.finetuned": False}, DEFAULT),
    ({"scaling.type": "none", "scaling.original_context_length": 2048, "scaling.yarn_log_multiplier": 0.0,
      "scaling.yarn_ext_factor": -1.0, "scaling.yarn_attn_factor": 1.0, "scaling.yarn_beta_fast": 32.0, "scaling.alpha": 1.0},
     DEFAULT),
])
def test_plain_in_gguf(fields, theta):
    assert of_gguf(fields) == Rope(theta)


@pytest.mark.parametrize(("fields", "message"), [
    ({"scaling.factor": 4.0}, "llama.rope.scaling.factor is 4.0, a linear scaling" + NOT),
    ({"scale_linear": 4.0}, "llama.rope.scale_linear is 4.0, a linear scaling" + NOT),
    ({"scaling.type": "none", "scaling.factor": 4.0}, "llama.rope.scaling.factor is 4.0" + NOT),
    ({"scaling.type": "yarn"}, "llama.rope.scaling.type is 'yarn'" + NOT),
    ({"scaling.attn_factor": 1.19}, "llama.rope.scaling.attn_factor is 1.19" + NOT),
    ({"scaling.yarn_ext_factor": 1.0}, "llama.rope.scaling.yarn_ext_factor is 1.0" + NOT),
    ({"scaling.yarn_log_multiplier": 0.1}, "llama.rope.scaling.yarn_log_multiplier is 0.1" + NOT),
    ({"scaling.alpha": 1000.0}, "llama.rope.scaling.alpha is 1000.0" + NOT),
    ({"dimension_sections": [4, 4, 0, 0]}, "llama.rope.dimension_sections is [4, 4, 0, 0]" + NOT),
    ({"freq_scale": 1.0}, "llama.rope.freq_scale is 1.0" + NOT),
    ({"freq_base": 0.0}, "llama.rope.freq_base is 0.0" + RANGE), ({"freq_base": "x"}, "llama.rope.freq_base is 'x'" + RANGE),
    ({"freq_base": 5e5, "freq_base_swa": 1e4},
     "llama.rope.freq_base_swa is 10000.0, and llama.rope.freq_base is 500000.0: the engine turns by one theta"),
    ({"dimension_count": 8}, "RoPE turns 8 of 16 dimensions, the engine turns all"),
])
def test_all_else_in_gguf_is_refused_by_name(fields, message):
    with pytest.raises(ModelError) as caught:
        of_gguf(fields)
    assert str(caught.value) == "m.gguf: " + message


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(("freq_base_swa", "scaling.factor", "scale_linear", "scaling.type", "scaling.attn_factor",
                        "dimension_count", "scaling.yarn_ext_factor", "scaling.alpha", "dimension_sections",
                        "some.thing")), VALUES)
def test_any_key_of_gguf_is_plain_or_refused_by_name(key, value):
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    plain = {"freq_base_swa": number == DEFAULT, "scaling.factor": number in (0, 1), "scale_linear": number in (0, 1),
             "scaling.type": value in ("none", "linear"), "scaling.attn_factor": number == 1, "dimension_count": number == 16,
             "scaling.yarn_ext_factor": number is not None and number <= 0, "scaling.alpha": number in (0, 1),
             "dimension_sections": isinstance(value, list) and not any(value), "some.thing": False}
    if plain[key] and (number is not None or value is not None):
        assert of_gguf({key: value}) == Rope(DEFAULT)
    else:
        with pytest.raises(ModelError, match=r"^m\.gguf: "):
            of_gguf({key: value})


def factors(name, value):
    return lambda tensors: tensors.__setitem__(name, (np.full(16, value, np.float32), None))


def test_gguf_files(tmp_path):
    model = gguf_model(LLAMA)
    fields = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 1.0, "llama.rope.dimension_count": 32,
              "llama.vocab_size": 300, "llama.attention.value_length": 32, "llama.attention.causal": True}
    path = write_gguf(tmp_path / "m.gguf", model, "F16", fields=fields.items(), change=factors("rope_freqs.weight", 1))
    assert_same(converted(path, tmp_path), model)


@pytest.mark.parametrize("name", ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"])
def test_factors_in_gguf_files_must_be_one(name, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", gguf_model(LLAMA), "F16", change=factors(name, 8))
    with pytest.raises(ModelError) as caught:
        converted(path, tmp_path)
    assert str(caught.value) == (f"{path}: {name} holds other frequencies of RoPE than those of theta 10000.0, which the engine "
                                 "does not do")
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]
