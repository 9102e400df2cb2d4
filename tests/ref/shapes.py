# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Random models for transformers and llama.cpp, as Hugging Face folders in the manner of each of transformers' two linears."""

import hashlib
import json
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import load_file, save_file

from tellme.models import Model, ModelConfig
from tellme.models.exporters.exporting import export
from tests.models.random_model import model_of

__all__ = ["SHAPES", "Shape", "digest", "prompt", "shape_model", "write_folder"]


class Shape(NamedTuple):
    """``linear`` is transformers' class: autobitlinear multiplies by weight_scale, bitlinear divides."""

    config: ModelConfig
    linear: str
    gains: bool


#: Between them: one query head a KV head and up to four; head_dim 32, 64, 96, 128; SiLU and ReLU squared; sub-norms
#: (BitNetForCausalLM) or none (LlamaForCausalLM); tied or not; widths that are no multiples of 20 or 32.
SHAPES = {
    "bitnet": Shape(ModelConfig(dim=128, ffn=172, layers=3, heads=4, kv_heads=1, head_dim=32, vocab=251, context=24, act="relu2",
                                act_exp=8, o_norm=True, down_norm=True, theta=5e5), "autobitlinear", True),
    "bitnet-silu": Shape(ModelConfig(dim=192, ffn=212, layers=2, heads=3, kv_heads=3, head_dim=64, vocab=190, context=24,
                                     o_norm=True, down_norm=True), "autobitlinear", True),
    "bitnet-96": Shape(ModelConfig(dim=192, ffn=148, layers=2, heads=2, kv_heads=1, head_dim=96, vocab=203, context=24,
                                   act="relu2", act_exp=8, tied=False, o_norm=True, down_norm=True, eps=1e-6), "bitlinear", True),
    "llama-32": Shape(ModelConfig(dim=100, ffn=148, layers=3, heads=4, kv_heads=2, head_dim=32, vocab=222, context=24),
                      "autobitlinear", False),
    "llama-64": Shape(ModelConfig(dim=140, ffn=236, layers=2, heads=4, kv_heads=4, head_dim=64, vocab=230, context=24,
                                  tied=False, theta=1000042.0, eps=1e-6), "bitlinear", True),
    "llama-96": Shape(ModelConfig(dim=108, ffn=164, layers=2, heads=2, kv_heads=2, head_dim=96, vocab=177, context=24),
                      "bitlinear", True),
    "llama-128": Shape(ModelConfig(dim=180, ffn=260, layers=2, heads=4, kv_heads=2, head_dim=128, vocab=210, context=24,
                                   act="relu2", act_exp=8, tied=False), "autobitlinear", True),
}


def shape_model(name: str) -> Model:
    """The model of a shape."""
    config, _, gains = SHAPES[name]
    # Tables as they were when transformers computed the stored logits; heads of six planes.
    return model_of(config, gains=gains, name=name, head_code=127)


def prompt(name: str) -> list[int]:
    """Token ids for all of a shape's positions."""
    config = SHAPES[name].config
    return np.random.default_rng([7, *name.encode()]).integers(0, config.vocab, config.context).tolist()


def digest(model: Model) -> str:
    """Hash of all that a shape's model is made of, so that stored logits are known to be its own."""
    # How texts begin and end changes no logit.  The stored logits were made before a model could have norms on heads, or behind
    # linears.
    newer = [name for name in ("qk_norm", "vector_norms") if not getattr(model.config, name)]
    config = ", ".join(f"{f.name}={getattr(model.config, f.name)!r}" for f in fields(model.config)
                       if f.name not in ("add_bos", "more_ends", *newer))
    sha = hashlib.sha256(f"ModelConfig({config})".encode())
    for layer in model.layers:
        for values in (layer.weights, layer.gains):
            for key in sorted(values):
                sha.update(values[key].tobytes())
        sha.update(repr(sorted(layer.scales.items())).encode())
    for table in (model.embedding, model.embedding_scales, model.final_gain, model.head, model.head_scales):
        sha.update(b"" if table is None else table.tobytes())
    return sha.hexdigest()


def write_folder(model: Model, linear: str, folder: Path) -> Path:
    """The model as ``tellme-host export --format hf`` writes it; for ``bitlinear`` with its config and inverse scales."""
    export(model, folder, "hf", lambda: None)
    if linear == "bitlinear":
        config = json.loads((folder / "config.json").read_text())
        config["quantization_config"] = {"quant_method": "bitnet", "linear_class": "bitlinear",
                                         "modules_to_not_convert": ["lm_head"]}
        (folder / "config.json").write_text(json.dumps(config))
        tensors = load_file(folder / "model.safetensors")
        tensors |= {name: 1 / tensors[name] for name in tensors if name.endswith("weight_scale")}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder
