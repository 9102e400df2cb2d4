# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Export of a model to what transformers and llama.cpp run; the ternary values stay exactly what they are."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import LINEARS, NORMS, ModelError
from tellme.models.gguf_import import GGUF_NAMES, SUB_NORMS
from tellme.models.gguf_tokenizer import to_gguf
from tellme.models.huggingface import HF_NAMES, HF_SUB_NORMS
from tellme.models.int8 import float_rows
from tellme.models.source import Block, Source
from tellme.models.ternary import pairs_to_halves
from tellme.models.tokenizer import Tokenizer
from tellme.models.writing import SafetensorsWriter, whole_file

__all__ = ["FORMATS", "export"]

#: Format -> the gguf package's name of the weights' type; None for a Hugging Face folder.
FORMATS = {"gguf-tq1": "TQ1_0", "gguf-tq2": "TQ2_0", "gguf-f16": "F16", "hf": None}
#: Columns of a TQ block.
TQ_COLUMNS = 256

Progress = Callable[[], object]


def export(source: Source, target: Path, form: str, progress: Progress) -> None:
    """Write a model as one of FORMATS, whole or not at all; ``progress`` is called once for each layer.

    Refused by name: what the other program does not compute as tellme does.
    """
    kind = FORMATS[form]
    if kind is None:
        _export_folder(source, target, progress)
    else:
        _export_gguf(source, target, kind, progress)


def _sub_norms(source: Source) -> bool:
    """Whether the model has the two sub-norms of BitNet; one alone is what neither program has."""
    c = source.config
    if c.o_norm != c.down_norm:
        raise ModelError("the model has a norm ahead of one of the output and down projections only, which no architecture of "
                         "transformers or llama.cpp has")
    if c.o_norm and c.q_dim != c.dim:
        raise ModelError(f"heads x head_dim is {c.q_dim} and dim {c.dim}, and BitNet's sub-norm wants them equal")
    return c.o_norm


def _gain(gain: NDArray[np.float16] | None, width: int) -> NDArray[np.float32]:
    return np.ones(width, np.float32) if gain is None else gain.astype(np.float32)


def _gains(source: Source, layer: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Gains of a layer's norms, ones where the model has none."""
    for name in NORMS:
        if name in ("attn_norm", "ffn_norm") or getattr(source.config, name):
            yield name, _gain(source.gain(layer, name), source.config.norm_width(name))


def _values(blocks: tuple[Block, ...]) -> NDArray[np.float64]:
    """The scale of each row."""
    return np.repeat([float(b.scale.value()) for b in blocks], [b.rows for b in blocks])


# GGUF


def _export_gguf(source: Source, target: Path, kind: str, progress: Progress) -> None:
    # Late: the package is needed for GGUF only.
    import gguf

    c = source.config
    bitnet = _sub_norms(source)
    arch = "bitnet" if bitnet else "llama"
    names = GGUF_NAMES | (SUB_NORMS if bitnet else {})
    if c.act != "silu":
        raise ModelError(f"the activation is {c.act}, and llama.cpp's {arch} computes SiLU: export to hf")
    if bitnet and not c.tied:
        raise ModelError("the model has a head of its own, and llama.cpp's bitnet takes the embedding: export to hf")
    for name in LINEARS if kind != "F16" else ():
        if c.shape(name)[1] % TQ_COLUMNS:
            raise ModelError(f"{name} has {c.shape(name)[1]} columns, and {kind} wants a multiple of {TQ_COLUMNS}: export to "
                             "gguf-f16")
    tokenizer = to_gguf(source.tokenizer, c.vocab) if source.tokenizer else None
    raw_type = gguf.GGMLQuantizationType[kind]

    def codes(layer: int, name: str) -> np.ndarray:
        what = f"layers.{layer}.{name}"
        rows, blocks = source.linear(layer, name).read()
        scales = _values(blocks)
        if not (scales.astype(np.float16).astype(np.float64) == scales).all():
            raise ModelError(f"{what} has a scale of {scales.min():.3g}, which {kind} cannot hold exactly: export to hf")
        values = rows.astype(np.float32) * scales.astype(np.float32)[:, None]
        if bitnet and name in ("wq", "wk"):
            values = pairs_to_halves(values, c.head_dim)
        return values.astype(np.float16) if kind == "F16" else np.asarray(gguf.quants.quantize(values, raw_type))

    def bias(layer: int, name: str) -> NDArray[np.float32] | None:
        found = source.linear(layer, name).bias
        if found is None:
            return None
        if bitnet:
            raise ModelError(f"layers.{layer}.{name} has a bias, which llama.cpp's bitnet does not add")
        return found.astype(np.float32)

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        for name in ("embedding",) if c.tied else ("embedding", "head"):
            yield names[name], np.concatenate([float_rows(*rows) for rows in source.table(name)])
        yield names["final_norm"], _gain(source.final_norm(), c.dim)
        for i in range(c.layers):
            for name, gain in _gains(source, i):
                yield names[name].format(i=i), gain
            for name in LINEARS:
                base = names[name].format(i=i)
                yield f"{base}.weight", codes(i, name)
                added = bias(i, name)
                if added is not None:
                    yield f"{base}.bias", added
            progress()

    with whole_file(target) as scratch:
        out = gguf.GGUFWriter(scratch, arch)
        try:
            _gguf_fields(out, source, gguf.LlamaFileType[f"MOSTLY_{kind}"], tokenizer)
            # The index lies ahead of the tensors, so their sizes are wanted first.
            for name, shape, dtype in _gguf_index(source, names, bitnet, kind):
                quantised = dtype == "quantised"
                size = gguf.quants.quant_shape_to_byte_shape(shape, raw_type) if quantised else shape
                real = np.dtype(np.uint8 if quantised else dtype)
                out.add_tensor_info(name, size, real, int(np.prod(size)) * real.itemsize, raw_type if quantised else None)
            out.write_header_to_file()
            out.write_kv_data_to_file()
            out.write_ti_data_to_file()
            for _, tensor in tensors():
                out.write_tensor_data(np.ascontiguousarray(tensor))
        finally:
            out.close()


def _gguf_index(source: Source, names: dict[str, str], bitnet: bool, kind: str) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """Name, shape and type of each tensor in their order."""
    c = source.config
    for name in ("embedding",) if c.tied else ("embedding", "head"):
        yield names[name], (c.vocab, c.dim), "float32"
    yield names["final_norm"], (c.dim,), "float32"
    for i in range(c.layers):
        for name in NORMS:
            if name in ("attn_norm", "ffn_norm") or bitnet:
                yield names[name].format(i=i), (c.norm_width(name),), "float32"
        for name in LINEARS:
            base = names[name].format(i=i)
            yield f"{base}.weight", c.shape(name), "float16" if kind == "F16" else "quantised"
            if source.linear(i, name).bias is not None:
                yield f"{base}.bias", c.shape(name)[:1], "float32"


def _gguf_fields(out: Any, source: Source, file_type: int, tokenizer: Any) -> None:
    c = source.config
    out.add_name(source.name)
    if source.license:
        out.add_license(source.license)
    out.add_file_type(file_type)
    out.add_vocab_size(c.vocab)
    out.add_context_length(c.context)
    out.add_embedding_length(c.dim)
    out.add_block_count(c.layers)
    out.add_feed_forward_length(c.ffn)
    out.add_head_count(c.heads)
    out.add_head_count_kv(c.kv_heads)
    out.add_key_length(c.head_dim)
    out.add_value_length(c.head_dim)
    out.add_rope_dimension_count(c.head_dim)
    out.add_rope_freq_base(c.theta)
    out.add_layer_norm_rms_eps(c.eps)
    out.add_bos_token_id(c.bos)
    out.add_eos_token_id(c.eos)
    if tokenizer is None:
        out.add_tokenizer_model("no_vocab")
        return
    out.add_tokenizer_model(tokenizer.model)
    out.add_tokenizer_pre(tokenizer.pre)
    out.add_token_list(tokenizer.tokens)
    out.add_token_types(tokenizer.types)
    out.add_add_bos_token(True)
    if tokenizer.model == "llama":
        out.add_token_scores(tokenizer.scores)
        out.add_add_space_prefix(tokenizer.add_space_prefix)
        out.add_remove_extra_whitespaces(tokenizer.remove_extra_whitespaces)
    else:
        out.add_token_merges(tokenizer.merges)


# Hugging Face


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """A folder beside ``folder`` that takes its place when the block ends without an error."""
    if folder.exists():
        raise ModelError(f"{folder} exists; a Hugging Face export makes a new folder")
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        scratch.mkdir()
        yield scratch
        scratch.rename(folder)
    except OSError as error:
        raise ModelError(f"cannot write {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _packed(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Four rows a byte, as :func:`tellme.models.ternary.from_packed` reads them."""
    digits = (codes + 1).astype(np.uint8).reshape(4, -1, codes.shape[1])
    return digits[0] | digits[1] << 2 | digits[2] << 4 | digits[3] << 6


def _export_folder(source: Source, folder: Path, progress: Progress) -> None:
    c = source.config
    arch = "BitNetForCausalLM" if _sub_norms(source) else "LlamaForCausalLM"
    names = HF_NAMES | HF_SUB_NORMS[arch]
    for name in LINEARS:
        if c.shape(name)[0] % 4:
            raise ModelError(f"{name} has {c.shape(name)[0]} rows, and transformers packs four a byte")
    with _whole_folder(folder) as scratch:
        (scratch / "config.json").write_text(json.dumps(_hf_config(source, arch), indent=2) + "\n", "utf-8")
        _hf_tokenizer(source, scratch)
        with tempfile.TemporaryFile(dir=scratch) as content, (scratch / "model.safetensors").open("wb") as target:
            out = SafetensorsWriter(cast(BinaryIO, content))
            for name in ("embedding",) if c.tied else ("embedding", "head"):
                out.begin(names[name], "float32", (c.vocab, c.dim))
                for rows in source.table(name):
                    out.put(float_rows(*rows))
            out.add(names["final_norm"], _gain(source.final_norm(), c.dim))
            for i in range(c.layers):
                for name, gain in _gains(source, i):
                    out.add(names[name].format(i=i), gain)
                for name in LINEARS:
                    linear = source.linear(i, name)
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
        "attention_bias": False, "mlp_bias": False, "bos_token_id": c.bos, "eos_token_id": c.eos, "torch_dtype": "float32",
        "quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline",
                                "modules_to_not_convert": ["lm_head"]},
    }


def _hf_tokenizer(source: Source, folder: Path) -> None:
    if not source.tokenizer:
        return
    known = Tokenizer(source.tokenizer)
    as_json = known.kind == "tokenizer.json"
    (folder / ("tokenizer.json" if as_json else "tokenizer.model")).write_bytes(source.tokenizer)
    fields = {"tokenizer_class": "PreTrainedTokenizerFast" if as_json else "LlamaTokenizer", "add_bos_token": True,
              "add_eos_token": False, "bos_token": known.text(source.config.bos), "eos_token": known.text(source.config.eos)}
    (folder / "tokenizer_config.json").write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", "utf-8")
