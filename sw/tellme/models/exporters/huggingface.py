# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Export to a Hugging Face folder, for transformers."""

import json
import tempfile
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import LINEARS, ModelError
from tellme.models.exporters.parts import Progress, gain_or_ones, gains_of, has_sub_norms, ternary
from tellme.models.importers.conventions import with_frame
from tellme.models.importers.huggingface import HF_NAMES, HF_SUB_NORMS
from tellme.models.importers.ternary import pairs_to_halves
from tellme.models.int8 import float_rows
from tellme.models.source import Source
from tellme.models.tokenizers.tokenizer import Tokenizer
from tellme.models.writing import SafetensorsWriter, whole_folder

__all__ = ["export_folder"]


def _packed(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Four rows a byte, as :func:`tellme.models.importers.ternary.from_packed` reads them."""
    digits = (codes + 1).astype(np.uint8).reshape(4, -1, codes.shape[1])
    return digits[0] | digits[1] << 2 | digits[2] << 4 | digits[3] << 6


def export_folder(source: Source, folder: Path, progress: Progress) -> None:
    """A folder that transformers loads: BitNetForCausalLM with sub-norms, else LlamaForCausalLM; packed weights."""
    c = source.config
    arch = "BitNetForCausalLM" if has_sub_norms(source) else "LlamaForCausalLM"
    names = HF_NAMES | HF_SUB_NORMS[arch]
    for name in LINEARS:
        if c.shape(name)[0] % 4:
            raise ModelError(f"{name} has {c.shape(name)[0]} rows, and transformers packs four a byte")
    with whole_folder(folder) as scratch:
        _write_json(scratch / "config.json", _hf_config(source, arch))
        _write_json(scratch / "generation_config.json", _hf_special_tokens(source))
        _hf_tokenizer(source, scratch)
        with tempfile.TemporaryFile(dir=scratch) as content, (scratch / "model.safetensors").open("wb") as target:
            out = SafetensorsWriter(cast(BinaryIO, content))
            for name in ("embedding",) if c.tied else ("embedding", "head"):
                out.begin(names[name], "float32", (c.vocab, c.dim))
                for rows in source.table(name):
                    out.put(float_rows(*rows))
            out.add(names["final_norm"], gain_or_ones(source.final_norm(), c.dim))
            for i in range(c.layers):
                for name, gain in gains_of(source, i):
                    out.add(names[name].format(i=i), gain)
                for name in LINEARS:
                    linear = ternary(source, i, name)
                    if linear.bias is not None:
                        raise ModelError(f"layers.{i}.{name} has a bias, which transformers' AutoBitLinear multiplies by the "
                                         "scale: export to gguf-f16")
                    codes, blocks = linear.read()
                    if len(blocks) > 1:
                        raise ModelError(f"layers.{i}.{name} has {len(blocks)} scales, and transformers takes one a matrix: "
                                         "export to gguf-f16")
                    if name in ("wq", "wk"):
                        codes = pairs_to_halves(codes, c.head_dim)
                    base = names[name].format(i=i)
                    out.add(f"{base}.weight", _packed(codes))
                    out.add(f"{base}.weight_scale", np.array([float(blocks[0].scale.value())], np.float32))
                progress()
            out.finish(target, {"format": "pt"})


def _hf_config(source: Source, arch: str) -> dict[str, Any]:
    c = source.config
    return {
        "architectures": [arch], "model_type": "bitnet" if arch == "BitNetForCausalLM" else "llama", "hidden_size": c.dim,
        "intermediate_size": c.ffn, "num_hidden_layers": c.layers, "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads, "head_dim": c.head_dim, "vocab_size": c.vocab, "max_position_embeddings": c.context,
        "hidden_act": c.act, "rms_norm_eps": c.eps, "rope_theta": c.theta, "tie_word_embeddings": c.tied,
        "attention_bias": False, "mlp_bias": False, **_hf_special_tokens(source), "torch_dtype": "float32",
        "quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline",
                                "modules_to_not_convert": ["lm_head"]},
    }


def _hf_special_tokens(source: Source) -> dict[str, Any]:
    """BOS and the end tokens as transformers' configurations have them: null for none, a list of several."""
    ends = source.config.ends
    return {"bos_token_id": source.config.bos, "eos_token_id": list(ends) if len(ends) > 1 else source.config.eos}


def _hf_tokenizer(source: Source, folder: Path) -> None:
    """The tokenizer, and what it puts before a text: transformers' LlamaTokenizer looks at add_bos_token, its
    PreTrainedTokenizerFast at the post-processor in tokenizer.json."""
    c = source.config
    fields: dict[str, Any] = {"add_bos_token": c.add_bos, "add_eos_token": False}
    if source.tokenizer:
        known = Tokenizer(source.tokenizer)
        as_json = known.kind == "tokenizer.json"
        if c.add_bos and not known.text(cast(int, c.bos)):
            raise ModelError(f"BOS is {c.bos}, and the tokenizer has no such token that could be put ahead of a text")
        content = with_frame(source.tokenizer, c.bos if c.add_bos else None) if as_json else source.tokenizer
        (folder / ("tokenizer.json" if as_json else "tokenizer.model")).write_bytes(content)
        fields |= {"tokenizer_class": "PreTrainedTokenizerFast" if as_json else "LlamaTokenizer",
                   "bos_token": None if c.bos is None else known.text(c.bos) or None,
                   "eos_token": None if c.eos is None else known.text(c.eos) or None}
    _write_json(folder / "tokenizer_config.json", fields)
    if source.chat_template:
        (folder / "chat_template.jinja").write_bytes(source.chat_template.encode("utf-8"))


def _write_json(path: Path, fields: dict[str, Any]) -> None:
    path.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", "utf-8")
