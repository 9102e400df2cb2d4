# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Export to GGUF, for llama.cpp."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import LINEARS, NORMS, ModelError
from tellme.models.exporters.gguf_tokenizer import to_gguf
from tellme.models.exporters.parts import Progress, gain_or_ones, gains_of, has_sub_norms, row_scales, ternary
from tellme.models.importers.conventions import END_TOKENS, gguf_special_tokens
from tellme.models.importers.gguf import GGUF_NAMES, SUB_NORMS
from tellme.models.importers.importing import Say
from tellme.models.importers.ternary import pairs_to_halves
from tellme.models.int8 import float_rows
from tellme.models.source import Source
from tellme.models.writing import whole_file

__all__ = ["export_gguf"]

#: Columns of a TQ block.
TQ_COLUMNS = 256


def export_gguf(source: Source, target: Path, kind: str, progress: Progress, say: Say) -> None:
    """A GGUF file with weights of ``kind``: architecture bitnet with sub-norms, else llama."""
    # Late: the package is needed for GGUF only.
    import gguf

    c = source.config
    bitnet = has_sub_norms(source)
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
    special, ends = gguf_special_tokens(c, tokenizer.model, tokenizer.tokens, tokenizer.types, say) if tokenizer else (
        gguf_special_tokens(c, "", [], [], say))
    raw_type = gguf.GGMLQuantizationType[kind]

    def codes(layer: int, name: str) -> np.ndarray:
        what = f"layers.{layer}.{name}"
        rows, blocks = ternary(source, layer, name).read()
        scales = row_scales(blocks)
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
            values, at = np.empty((c.vocab, c.dim), np.float32), 0
            for rows in source.table(name):
                values[at:at + len(rows.codes)] = float_rows(*rows)
                at += len(rows.codes)
            yield names[name], values
        yield names["final_norm"], gain_or_ones(source.final_norm(), c.dim)
        for i in range(c.layers):
            for name, gain in gains_of(source, i):
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
            for key, token in special.items():
                out.add_uint32(f"tokenizer.ggml.{key}_token_id", token)
            if ends:
                out.add_array(END_TOKENS, ends)
            # The index lies before the tensors, so the sizes of the tensors must be known first.
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
            if c.has_norm(name):
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
    out.add_add_bos_token(c.add_bos)
    if tokenizer is None:
        out.add_tokenizer_model("no_vocab")
        return
    tokenizer.write(out)
    if source.chat_template:
        out.add_chat_template(source.chat_template)
