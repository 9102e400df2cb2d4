# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Import of Hugging Face folders: config.json, safetensors, tokenizer.json or tokenizer.model.

Six kinds of ternary models, each a LLaMA with differences:

- ``BitNetForCausalLM`` (BitNet b1.58 2B-4T): sub-norms, ReLU squared;
- ``BitnetForCausalLM`` (1bitLLM): sub-norms under other names, SiLU, weights that each run makes ternary anew;
- ``LlamaForCausalLM`` with a bitnet ``quantization_config`` (Falcon3-1.58bit, HF1BitLLM);
- ``LlamaForCausalLM`` without (TriLM): float weights of few values (:mod:`tellme.models.importers.levels`), or ones that the
  model quantises as it runs (:mod:`tellme.models.importers.qat`, :mod:`tellme.models.importers.fairy`);
- ``Qwen3ForCausalLM``: RMSNorm on each head of q and k; weights as in the two kinds of ``LlamaForCausalLM``;
- ``Olmo2ForCausalLM``: RMSNorm on the whole of q and of k, and behind attention and feed-forward in place of ahead of them;
  weights the same.

Models that are read as floats (``Options.floats``) are ``LlamaForCausalLM``, ``Qwen3ForCausalLM``, ``Qwen2ForCausalLM``,
``Olmo2ForCausalLM``, and ``MistralForCausalLM`` without a sliding window.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import LINEARS, ModelConfig, ModelError
from tellme.models.files import is_there
from tellme.models.importers.chat_template import template_of_folder
from tellme.models.importers.conventions import conventions_of_folder
from tellme.models.importers.fairy import Fairy
from tellme.models.importers.grouped import Part
from tellme.models.importers.importing import Imported, Options, Say, act_exp_of, checked_tokenizer, read_tokenizer
from tellme.models.importers.levels import from_values, group_width
from tellme.models.importers.neutral_keys import check_config_keys
from tellme.models.importers.qat import Qat
from tellme.models.importers.rope import Rope, plain_frequencies, rope_of_config
from tellme.models.importers.tensors import SafetensorsFolder
from tellme.models.importers.ternary import from_absmean, from_codes, from_packed, positive_scales
from tellme.models.int8 import int8_rows, table_code
from tellme.models.json_files import read_json
from tellme.models.source import Linear, TableRows, row_chunks

__all__ = ["HF_NAMES", "HF_SUB_NORMS", "HuggingFace"]

#: Name here -> name in a Hugging Face checkpoint; ``{i}`` is the layer.
HF_NAMES = {
    "embedding": "model.embed_tokens.weight", "head": "lm_head.weight", "final_norm": "model.norm.weight",
    "attn_norm": "model.layers.{i}.input_layernorm.weight", "ffn_norm": "model.layers.{i}.post_attention_layernorm.weight",
    "wq": "model.layers.{i}.self_attn.q_proj", "wk": "model.layers.{i}.self_attn.k_proj",
    "wv": "model.layers.{i}.self_attn.v_proj", "wo": "model.layers.{i}.self_attn.o_proj",
    "w1": "model.layers.{i}.mlp.gate_proj", "w3": "model.layers.{i}.mlp.up_proj", "w2": "model.layers.{i}.mlp.down_proj",
}
#: Norms by architecture, besides those of each model.
HF_SUB_NORMS: dict[str, dict[str, str]] = {
    "LlamaForCausalLM": {},
    "BitNetForCausalLM": {"o_norm": "model.layers.{i}.self_attn.attn_sub_norm.weight",
                          "down_norm": "model.layers.{i}.mlp.ffn_sub_norm.weight"},
    "BitnetForCausalLM": {"o_norm": "model.layers.{i}.self_attn.inner_attn_ln.weight",
                          "down_norm": "model.layers.{i}.mlp.ffn_layernorm.weight"},
    "Qwen3ForCausalLM": {"q_norm": "model.layers.{i}.self_attn.q_norm.weight",
                         "k_norm": "model.layers.{i}.self_attn.k_norm.weight"},
    "Olmo2ForCausalLM": {"q_norm": "model.layers.{i}.self_attn.q_norm.weight",
                         "k_norm": "model.layers.{i}.self_attn.k_norm.weight",
                         "attn_post_norm": "model.layers.{i}.post_attention_layernorm.weight",
                         "ffn_post_norm": "model.layers.{i}.post_feedforward_layernorm.weight"},
}
#: The same of models that are read as floats.
_FLOAT_NORMS: dict[str, dict[str, str]] = {name: HF_SUB_NORMS.get(name, {}) for name in (
    "LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "Olmo2ForCausalLM")}
#: Architectures that look as if they were known, and what they compute that the engine does not.
_REFUSED = {
    "Olmo3ForCausalLM": "has a sliding window in most of its layers",
    "HunYuanDenseV1ForCausalLM": "has the RMSNorm on heads of q and k behind RoPE, where its gains cannot go ahead of RoPE"}
#: mean |W| of a trained matrix is below this.
_BIG = 4.0
#: hidden_act, rms_norm_eps and rope_theta of each architecture where config.json does not say.
_DEFAULTS = {"LlamaForCausalLM": ("silu", 1e-6, 1e4), "BitNetForCausalLM": ("relu2", 1e-5, 5e5),
             "BitnetForCausalLM": ("silu", 1e-5, 1e4), "Qwen3ForCausalLM": ("silu", 1e-6, 1e4),
             "MistralForCausalLM": ("silu", 1e-6, 1e4), "Qwen2ForCausalLM": ("silu", 1e-6, 1e4),
             "Olmo2ForCausalLM": ("silu", 1e-5, 1e4)}
#: The same of head_dim and of num_key_value_heads, where they do not follow from hidden_size and num_attention_heads.
_HEAD_DIMS = {"Qwen3ForCausalLM": 128}
_KV_HEADS = {"MistralForCausalLM": 8}


class _Config:
    """config.json, asked with an error that names the file and the key."""

    def __init__(self, path: Path):
        self.path = path
        self.fields = read_json(path)

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        value = self.fields.get(key)
        if value is None:
            value = default
        if kind is float and type(value) is int:
            value = float(value)
        if value is None:
            raise ModelError(f"{self.path} has no {key}")
        if type(value) is not kind:
            raise ModelError(f"{self.path}: {key} is {value!r}, which is no {kind.__name__}")
        return value


def architecture(config: _Config, known: Mapping[str, dict[str, str]]) -> str:
    """The architecture, one of those that are known."""
    names = config.fields.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if isinstance(name, str) and name in _REFUSED:
        raise ModelError(f"{config.path}: the architecture {name} {_REFUSED[name]}, which the engine does not do")
    if not isinstance(name, str) or name not in known:
        raise ModelError(f"{config.path}: the architecture is {name}; {', '.join(known)} are known")
    return name


def model_config(config: _Config, name: str) -> ModelConfig:
    """The model's shape.  A key that asks for something the engine does not compute is refused by name.  BOS and end tokens are
    left out."""
    get = config.get
    default_act, default_eps, default_theta = _DEFAULTS[name]
    act = get("hidden_act", str, default_act)
    if act not in ("silu", "relu2"):
        raise ModelError(f"{config.path}: hidden_act is {act!r}; silu and relu2 are known")
    dim, heads = get("hidden_size", int), get("num_attention_heads", int)
    head_dim = get("head_dim", int, _HEAD_DIMS.get(name, dim // max(heads, 1)))
    rope = rope_of_config(config.fields, str(config.path), head_dim=head_dim, default_theta=default_theta)
    norms = (HF_SUB_NORMS | _FLOAT_NORMS)[name]
    behind = "attn_post_norm" in norms
    result = ModelConfig(
        dim=dim, ffn=get("intermediate_size", int), layers=get("num_hidden_layers", int), heads=heads,
        kv_heads=get("num_key_value_heads", int, _KV_HEADS.get(name, heads)), head_dim=head_dim,
        vocab=get("vocab_size", int), context=get("max_position_embeddings", int),
        tied=get("tie_word_embeddings", bool, False), act=act, eps=get("rms_norm_eps", float, default_eps), theta=rope.theta,
        o_norm="o_norm" in norms, down_norm="down_norm" in norms, qk_norm="q_norm" in norms and not behind, vector_norms=behind,
        bos=None, add_bos=False, eos=None)
    result.check()
    check_config_keys(_without_unused_window(config, name), result, str(config.path))
    return result


def _without_unused_window(config: _Config, name: str) -> dict[str, Any]:
    """The keys without a sliding window that the model says it does not use; a window that is there by default is refused."""
    fields = dict(config.fields)
    if name == "MistralForCausalLM" and "sliding_window" not in fields:
        raise ModelError(f"{config.path} has no sliding_window, which by the architecture's default is a window of 4096: the "
                         "engine does none, and a model without one has null there")
    if name in ("Qwen2ForCausalLM", "Qwen3ForCausalLM") and fields.get("use_sliding_window") in (None, False):
        fields.pop("sliding_window", None)
    return fields


def quantisation(config: _Config, name: str, options: Options, say: Say) -> str:
    """How weights are stored: "multiply" or "divide" (what weight_scale does to codes), "absmean", or "values"."""
    fields = config.fields.get("quantization_config")
    if options.floats:
        if fields is not None:
            raise ModelError(f"{config.path} has a quantization_config: the model is quantised already, and is no float model",
                             hint="convert")
        say("weights: floats")
        return "values"
    if fields is None:
        found, why = ("absmean", "the architecture makes weights ternary as it runs") if name == "BitnetForCausalLM" else (
            "values", "no quantization_config: weights must be ternary in value")
    elif not isinstance(fields, dict) or fields.get("quant_method") != "bitnet":
        method = fields.get("quant_method") if isinstance(fields, dict) else fields
        raise ModelError(f"{config.path}: the quantisation is {method!r}, which is not ternary; bitnet is known")
    else:
        if fields.get("use_rms_norm"):
            raise ModelError(f"{config.path}: use_rms_norm puts a norm of its own ahead of each matrix, which the engine does "
                             "not compute")
        linear = fields.get("linear_class") or "bitlinear"
        if linear not in ("bitlinear", "autobitlinear"):
            raise ModelError(f"{config.path}: linear_class is {linear!r}; bitlinear and autobitlinear are known")
        if linear == "autobitlinear" and fields.get("quantization_mode") == "online":
            found, why = "absmean", "quantization_mode is online"
        else:
            found = "multiply" if linear == "autobitlinear" else "divide"
            why = f"linear_class is {linear}: its weight_scale {'multiplies' if found == 'multiply' else 'divides'}"
    if options.weight_scale is not None and found in ("multiply", "divide"):
        found, why = options.weight_scale, f"weight_scale is said to {options.weight_scale}"
    say(f"weights: {why}")
    return found


class HuggingFace(Imported):
    """A folder.  Names, shapes and scales are checked before any weight is read."""

    halves = True

    def __init__(self, folder: Path, options: Options, say: Say):
        if not is_there(folder / "config.json"):
            raise ModelError(f"{folder} has no config.json: not a Hugging Face model folder")
        config = _Config(folder / "config.json")
        name = architecture(config, _FLOAT_NORMS if options.floats else HF_SUB_NORMS)
        self._say = say
        read = model_config(config, name)
        if options.floats and read.act != "silu":
            raise ModelError(f"{config.path}: hidden_act is {read.act!r}; of float models only those with silu are taken")
        self.config = replace(read, context=self.cut_context(read, options), act_exp=act_exp_of(options, read.act))
        self.name, self.license = folder.resolve().name, str(config.fields.get("license") or "")
        self.tensor_names = HF_NAMES | (HF_SUB_NORMS | _FLOAT_NORMS)[name]
        self._mode = quantisation(config, name, options, say)
        self.tokenizer = self._read_tokenizer(folder, options)
        self.chat_template = template_of_folder(folder) if self.tokenizer else ""
        found = conventions_of_folder(folder, config.fields, name, self.tokenizer, read.vocab, say)
        self.config = replace(self.config, **asdict(found))
        self.config.check()
        self.tensors = SafetensorsFolder(folder, say)
        ignored = plain_frequencies(self.tensors, Rope(read.theta), read.head_dim)
        if self.config.tied:
            ignored.add(self.tensor_name("head"))
        self._qat = self._read_qat(config, options)
        if self._qat is not None:
            say(f"weights: floats that the model quantises as it runs: {self._qat}")
        self.check_names(self._beside, ignored)
        self._check_tied_head()
        self._scales = {(i, part): self._scale_of(i, part) for i in range(self.config.layers) for part in LINEARS}
        if options.weight_scale is None:
            self._check_meaning()
        say(f"{folder.name}: {name}, {self.config.layers} layers, {self.config.ternary_weights / 1e6:.1f} M "
            f"{'' if options.floats else 'ternary '}weights")

    def _read_qat(self, config: _Config, options: Options) -> Qat | Fairy | None:
        """How the floats of the files become weights, where they are not the weights."""
        if options.method is None:
            return Qat.of_config(config.fields, self.tensors.names(), str(config.path)) if self._mode == "values" else None
        if self._mode != "values" or self.config.tied:
            raise ModelError(f"{options.method} is of untied models whose files have floats, which {config.path} says it is not",
                             hint="method")
        return Fairy(options.method)

    def _beside(self, layer: int, name: str) -> set[str]:
        """Tensors that may stand beside a matrix."""
        base = self.base(layer, name)
        return {f"{base}.weight_scale"} if self._qat is None else self._qat.beside(base)

    def _read_tokenizer(self, folder: Path, options: Options) -> bytes:
        if options.no_tokenizer:
            return b""
        path = options.tokenizer
        if path is None:
            found = [folder / n for n in ("tokenizer.json", "tokenizer.model") if is_there(folder / n)]
            if not found:
                raise ModelError(f"{folder} has neither tokenizer.json nor tokenizer.model: give a tokenizer's file, or convert "
                                 "without one, for token ids only", hint="tokenizer-file")
            path = found[0]
        return checked_tokenizer(read_tokenizer(path), str(path), self.config.vocab, self._say)

    def _check_tied_head(self) -> None:
        """Check that an LM head in the files of a tied model is the embedding."""
        head, embedding = self.tensor_name("head"), self.tensor_name("embedding")
        if not self.config.tied or head not in self.tensors.names():
            return
        same = self.tensors.shape(head) == self.tensors.shape(embedding) and all(
            np.array_equal(self.tensors.rows(head, a, b), self.tensors.rows(embedding, a, b))
            for a, b in row_chunks(self.config.vocab, self.config.dim))
        if not same:
            raise ModelError(f"{head} is not {embedding}, though tie_word_embeddings is true")

    def _packed(self, layer: int, name: str) -> bool:
        return self._mode in ("multiply", "divide") and self.tensors.kind(f"{self.base(layer, name)}.weight") == "U8"

    def stored_shape(self, layer: int, name: str) -> tuple[int, ...]:
        rows, cols = self.config.shape(name)
        weight = f"{self.base(layer, name)}.weight"
        if weight in self.tensors.names() and self._packed(layer, name):
            if rows % 4:
                raise ModelError(f"{weight} packs four rows a byte, and has {rows}")
            return rows // 4, cols
        return rows, cols

    def _scale_of(self, layer: int, name: str) -> NDArray[np.float64] | None:
        """The factor of each row of codes, in the checkpoint's order; None where the values tell."""
        what = f"{self.base(layer, name)}.weight_scale"
        there = what in self.tensors.names()
        if self._mode in ("absmean", "values"):
            if there:
                raise ModelError(f"{what} lies beside weights that the configuration calls unquantised")
            return None
        if not there:
            raise ModelError(f"{self.tensors.label} lacks the tensor {what}")
        scales = positive_scales(what, self.tensors.whole(what), self.config.shape(name)[0])
        return scales if self._mode == "multiply" else 1 / scales

    def _check_meaning(self) -> None:
        """Check the meaning of weight_scale: the factor of a matrix is mean |W| of the trained weights, far below 1, and the
        inverse of the factor is far above 1.

        Near 1 the data cannot tell the two apart, and the configuration is believed.
        """
        factors = [float(np.median(s)) for s in self._scales.values() if s is not None]
        if not factors:
            return
        typical = float(np.median(factors))
        if typical > _BIG:
            other = "divide" if self._mode == "multiply" else "multiply"
            raise ModelError(f"weight_scale is said to {self._mode}, which makes weights of about {typical:.3g}, where trained "
                             f"ones are far below 1: say that it has to {other}, or to {self._mode} if it is so",
                             hint="weight-scale")
        if typical > 1 / _BIG:
            self._say(f"weights of about {typical:.3g}: so near 1 that only the configuration tells what weight_scale does")

    def bias(self, layer: int, name: str) -> NDArray[np.float16] | None:
        bias = super().bias(layer, name)
        base = self.base(layer, name)
        more = None if self._qat is None else self._qat.bias(self.tensors, base, self.head_dim_of(name))
        if more is None:
            return bias
        with np.errstate(over="ignore"):
            total = (more if bias is None else more + bias).astype(np.float16)
        if not np.isfinite(total).all():
            raise ModelError(f"{base}.weight: the sum of a row's weights that became 0 is beyond binary16")
        return total

    def group_width(self, layer: int, name: str) -> int | None:
        what = f"{self.base(layer, name)}.weight"
        if self._qat is not None:
            return self._qat.width(what, self.config.shape(name)[1])
        return group_width(self.tensors, what) if self._mode == "values" else None

    def group_parts(self, layer: int, name: str, width: int) -> Iterator[Part]:
        if isinstance(self._qat, Qat):
            return self._qat.parts(self.tensors, self.base(layer, name), self.head_dim_of(name))
        return super().group_parts(layer, name, width)

    def table(self, name: str) -> Iterator[TableRows]:
        if name != "head" or not isinstance(self._qat, Fairy):
            yield from super().table(name)
            return
        for part in self._qat.floats(self.tensors, self.tensor_name(name)):
            yield TableRows(*int8_rows(part, table_code(self.config, name)))

    def weights(self, layer: int, name: str, bias: NDArray[np.float16] | None) -> Linear:
        weight, scales, head_dim = f"{self.base(layer, name)}.weight", self._scales[layer, name], self.head_dim_of(name)
        if self._qat is not None:
            return self._qat.linear(self.tensors, self.base(layer, name), head_dim, bias)
        if self._mode == "absmean":
            return from_absmean(self.tensors, weight, head_dim=head_dim, bias=bias, say=self._say)
        if bias is not None and self._mode == "multiply":
            raise ModelError(f"{self.base(layer, name)}.bias stands beside a weight_scale that multiplies: whether it is "
                             "multiplied as well depends on the version of transformers, so this bias is not taken")
        if scales is None:
            return from_values(self.tensors, weight, head_dim=head_dim, bias=bias)
        read = from_packed if self._packed(layer, name) else from_codes
        return read(self.tensors, weight, scales, head_dim=head_dim, bias=bias)
