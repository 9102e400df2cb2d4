# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Import of trained checkpoints: which kind one is, bitllama2.c files, and the project's own safetensors layout."""

import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellme.models.files import check_regular, printable
from tellme.models.importers.gguf import Gguf
from tellme.models.importers.gguf_tensors import I2S_WAY_OUT
from tellme.models.importers.huggingface import HuggingFace
from tellme.models.importers.importing import Imported, Options, checked_context, read_tokenizer
from tellme.models.importers.padded import padded
from tellme.models.importers.probing import PROBE, Reading, best_reading, nats_per_token, read_in_turn
from tellme.models.importers.tensors import SafetensorsFile, check_no_adapter
from tellme.models.importers.ternary import WAY_OUT, positive_scales
from tellme.models.int8 import int8_rows, table_code
from tellme.models.model import LINEARS, Layer, Model, ModelConfig, ModelError
from tellme.models.source import Source
from tellme.models.tokenizers.tokenizer import Tokenizer
from tellme.spec.scale import pack16, scale_from_fraction

__all__ = ["BIT_ORDERS", "convert", "open_checkpoint", "open_floats", "read_bitllama", "read_safetensors"]

BITLLAMA_MAGIC = 0x616B3432
BITLLAMA_HEADER = struct.Struct("<II7iB")
BITLLAMA_HEADER_BYTES = 256
#: The order of a bitllama2.c file's matrices; all layers of each.
BITLLAMA_MATRICES = ("wq", "wk", "wv", "wo", "w1", "w2", "w3")
#: These models have no eps.  An eps is needed to keep a zero vector finite; this value changes no result.
BITLLAMA_EPS = 1e-8
#: Shift of the first to the fourth weight of a byte.
BIT_ORDERS = {"least significant first": (0, 2, 4, 6), "most significant first": (6, 4, 2, 0)}

#: The norms of the training runs' models, and what the runs' metadata says of them.
GAINS = ("attn_norm", "o_norm", "ffn_norm", "down_norm")
NORM_WITH, NORM_WITHOUT = (f"RMSNorm {word} gain before every linear, eps 1e-5" for word in ("with", "without"))


def _layer(get: Callable[[str], tuple[NDArray[np.int8], float]]) -> Layer:
    layer = Layer({}, {})
    for name in LINEARS:
        codes, scale = get(name)
        layer.weights[name] = codes
        if not np.isfinite(scale) or scale <= 0:
            raise ModelError(f"{name} has the scale {scale}; a positive finite number is wanted")
        layer.scales[name] = scale_from_fraction(scale)
    return layer


def _embedding(config: ModelConfig, table: NDArray[np.floating], gain: NDArray[np.floating],
               row_scales: NDArray[np.floating] | None = None) -> dict[str, NDArray]:
    """The parts of a model: rows of floats become int8; rows that are int8 codes, with ``row_scales``, stay as they are."""
    if not np.isfinite(table).all() or not np.isfinite(gain).all():
        raise ModelError("the embedding or the final norm holds an infinity or NaN")
    if row_scales is None:
        codes, scales = int8_rows(table, table_code(config, "embedding"))
    else:
        codes, scales = table.astype(np.int8), np.array([pack16(scale_from_fraction(float(s))) for s in row_scales], np.uint16)
    return {"embedding": codes, "embedding_scales": scales, "final_gain": gain.astype(np.float16)}


def _gain(name: str, gain: NDArray[np.floating]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        return gain.reshape(-1).astype(np.float16)


def _whole_number(path: Path, key: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ModelError(f"{path} is damaged: {key} in its metadata is {text[:40]!r}, which is no whole number")
    return int(text)


def _context(path: Path, text: str) -> int:
    """Positions that a model was trained at, from ``512`` or ``512 (trained at 256)``."""
    return _whole_number(path, "context", (text.rstrip(")").split() or [""])[-1])


def read_safetensors(path: Path) -> Model:
    """The layout of the project's training runs: int8 ternary tensors with a float32 scale each; shapes are in the metadata.
    The embedding is float, or int8 with a scale a row in ``emb.scale``.

    Convention: an RMSNorm before every linear, all with a gain or all without; a learned gain before the LM head; adjacent RoPE
    pairs.
    """
    file = SafetensorsFile(path)
    metadata, names = file.metadata, file.names()
    missing = {"dim", "hidden", "layers", "heads", "kv_heads", "vocab", "act", "norm", "rope"} - metadata.keys()
    if missing:
        raise ModelError(f"{path}: its metadata lacks {', '.join(sorted(missing))}; this reader takes the project's own training "
                         "output (a float model must be trained to ternary first)")
    if metadata.get("tied", "true") != "true":
        raise ModelError(f"{path} is untied; this reader knows tied checkpoints only")
    norms = GAINS if metadata["norm"].startswith(NORM_WITH) else ()
    if not metadata["norm"].startswith((NORM_WITH, NORM_WITHOUT)):
        raise ModelError(f"{path}: unknown norm convention {metadata['norm']!r}")
    if metadata["rope"] != "interleaved pairs, theta 10000":
        raise ModelError(f"{path}: unknown RoPE convention {metadata['rope']!r}")
    numbers = {key: _whole_number(path, key, metadata[key]) for key in ("dim", "hidden", "layers", "heads", "kv_heads", "vocab")}
    dim, heads = numbers["dim"], numbers["heads"]
    config = ModelConfig(
        dim=dim, ffn=numbers["hidden"], layers=numbers["layers"], heads=heads, kv_heads=numbers["kv_heads"],
        head_dim=dim // max(heads, 1), vocab=numbers["vocab"], context=_context(path, metadata.get("context", "512")),
        act=metadata["act"], eos=1, o_norm=True, down_norm=True)
    config.check()
    if config.layers > len(names):
        raise ModelError(f"{path}: its metadata counts {config.layers} layers, and it has {len(names)} tensors")
    expected = {"emb", "norm"} | {f"layers.{i}.{n}.{part}" for i in range(config.layers) for n in LINEARS
                                  for part in ("weight", "scale")}
    expected |= {f"layers.{i}.{n}" for i in range(config.layers) for n in norms}
    coded = "emb.scale" in names
    if names - {"emb.scale"} != expected:
        odd = sorted((names - {"emb.scale"}) ^ expected)
        raise ModelError(f"{path}: {'unknown' if odd[0] in names else 'missing'} tensor {odd[0]}")
    layers = []
    for i in range(config.layers):
        def get(name: str, i: int = i) -> tuple[NDArray[np.int8], float]:
            what = f"layers.{i}.{name}"
            if file.kind(f"{what}.weight") != "I8":
                raise ModelError(f"{what}.weight is {file.kind(f'{what}.weight')}, int8 is wanted")
            return file.whole(f"{what}.weight"), float(positive_scales(f"{what}.scale", file.whole(f"{what}.scale"), 1)[0])
        layers.append(_layer(get))
        for name in norms:
            layers[-1].gains[name] = _gain(f"layers.{i}.{name}", file.whole(f"layers.{i}.{name}"))
    if coded != (file.kind("emb") == "I8"):
        raise ModelError(f"{path}: emb is {file.kind('emb')} {'with' if coded else 'without'} emb.scale; int8 codes need a scale "
                         "a row, floats have none")
    row_scales = positive_scales("emb.scale", file.whole("emb.scale"), config.vocab) if coded else None
    table = _embedding(config, file.whole("emb"), file.whole("norm"), row_scales)
    model = Model(config, layers, **table, name=path.stem, license=metadata.get("license", ""))  # type: ignore[arg-type]
    model.check()
    return model


def read_bitllama(path: Path, order: str) -> Model:
    """A bitllama2.c .bin file (version 1) with its four weights a byte in the given order.

    The norm before a linear of n columns is x / rms / n, without eps.  With the matrix scales unchanged, activations would be
    near 1e-4 in binary16.  So 1/n is multiplied into the scale of each matrix.  Where only a norm follows, a power of two is
    multiplied in as well: into v, up, and the residual stream (embedding, o and down).  The final gain takes the residual
    stream's power back.
    """
    content = _bytes_of(path)
    if len(content) < BITLLAMA_HEADER_BYTES:
        raise ModelError(f"{path} has {len(content)} bytes, less than a bitllama2.c header ({BITLLAMA_HEADER_BYTES})")
    magic, version, dim, ffn, n_layers, heads, kv_heads, vocab, context, tied = BITLLAMA_HEADER.unpack_from(content)
    if magic != BITLLAMA_MAGIC or version != 1:
        raise ModelError(f"{path} is no bitllama2.c file of version 1 (magic {magic:#x}, version {version})")
    if tied != 1:
        raise ModelError(f"{path} is untied; this reader knows tied bitllama2.c files only")
    if heads <= 0 or dim % heads:
        raise ModelError(f"{path}: {heads} heads do not divide dim {dim}")
    config = ModelConfig(dim=dim, ffn=ffn, layers=n_layers, heads=heads, kv_heads=kv_heads, head_dim=dim // heads,
                         vocab=vocab, context=context, eos=1, eps=BITLLAMA_EPS, o_norm=True, down_norm=True)
    config.check()
    up = 2.0 ** round(np.log2(dim))
    at = BITLLAMA_HEADER_BYTES + 4 * dim + 4 * vocab * dim
    sizes = {name: -(-config.shape(name)[0] * config.shape(name)[1] // 4) for name in BITLLAMA_MATRICES}
    whole = at + n_layers * sum(4 + size for size in sizes.values())
    if len(content) != whole:
        raise ModelError(f"{path} has {len(content)} bytes, its header asks for {whole}: cut short, or not this format")
    floats = np.frombuffer(content, "<f4", dim + vocab * dim, BITLLAMA_HEADER_BYTES)
    shifts = np.array(BIT_ORDERS[order], np.uint8)
    found: dict[tuple[int, str], tuple[NDArray[np.int8], float]] = {}
    for name in BITLLAMA_MATRICES:
        rows, cols = config.shape(name)
        for i in range(n_layers):
            scale = float(np.frombuffer(content, "<f4", 1, at)[0])
            packed = np.frombuffer(content, np.uint8, sizes[name], at + 4)
            codes = (packed[:, None] >> shifts & 3).reshape(-1)[:rows * cols]
            if (codes == 2).any():
                raise ModelError(f"{path}: layer {i} {name} holds the code 10, which is no weight")
            scale *= (1.0 if name in ("wq", "wk", "w1") else up) / cols
            found[i, name] = (np.where(codes == 3, -1, codes).astype(np.int8).reshape(rows, cols), scale)
            at += 4 + sizes[name]
    layers = [_layer(lambda name, i=i: found[i, name]) for i in range(n_layers)]  # type: ignore[misc]
    with np.errstate(over="ignore", invalid="ignore"):
        values = floats[dim:].reshape(vocab, dim) * np.float32(up)
    table = _embedding(config, values, floats[:dim] / np.float32(up))
    model = Model(config, layers, **table, name=path.stem)  # type: ignore[arg-type]
    model.check()
    return model


def is_float_llama2c(source: Path) -> bool:
    """Whether a file is a llama2.c checkpoint: seven shapes before as many float32 values as they ask for."""
    header = struct.Struct("<7i")
    with source.open("rb") as file:
        start = file.read(header.size)
    if len(start) < header.size:
        return False
    dim, ffn, layers, heads, kv_heads, vocab, context = header.unpack(start)
    if min(dim, ffn, layers, heads, kv_heads, context) <= 0 or dim % heads:
        return False
    head_dim = dim // heads
    layer = 2 * dim + 2 * dim * (dim + kv_heads * head_dim) + 3 * dim * ffn
    # A vocabulary below zero: a head of its own.
    tables = abs(vocab) * dim * (1 if vocab > 0 else 2)
    return source.stat().st_size == header.size + 4 * (tables + layers * layer + dim + context * head_dim)


def convert(source: Path, tokenizer: Path | None, say: Callable[[str], None]) -> Model:
    """A checkpoint of any known kind in memory; ``say`` gets what was found and how it was known."""
    opened = open_checkpoint(source, Options(tokenizer=tokenizer), say)
    return opened if isinstance(opened, Model) else Model.read(opened)


def open_checkpoint(source: Path, options: Options, say: Callable[[str], None]) -> Source:
    """A checkpoint of any known kind as a source; ``say`` gets what was found and how it was known."""
    def printed(text: str) -> None:
        say(printable(text))

    check_regular(source)
    try:
        opened = _open(source, options, printed)
        # Floats have no groups of columns.
        if not options.floats:
            opened = padded(opened, printed)
    except OSError as error:
        raise ModelError(f"cannot read {source}: {error.strerror or error}") from error
    opened.name = printable(opened.name)
    return opened


def open_floats(source: Path, say: Callable[[str], None], *, tokenizer: Path | None = None,
                context: int | None = None) -> Imported:
    """A checkpoint of floats, or of k-quantised floats."""
    opened = open_checkpoint(source, Options(tokenizer=tokenizer, context=context, floats=True), say)
    if not isinstance(opened, Imported):
        raise ModelError(f"{source} is neither a Hugging Face folder nor a GGUF file, of which float models are read")
    return opened


def _open(source: Path, options: Options, say: Callable[[str], None]) -> Source:
    try:
        kind = source.stat()
    except FileNotFoundError as error:
        raise ModelError(f"there is no file {source}") from error
    if source.is_dir():
        check_no_adapter(source)
        return HuggingFace(source, options, say)
    if kind.st_size == 0:
        raise ModelError(f"{source} is empty")
    with source.open("rb") as file:
        start = file.read(8)
    if start[:4] == b"GGUF":
        opened = Gguf(source, options, say)
        if opened.tensors.i2s_layouts():
            _detect_layout(opened, say)
        return opened
    for what, given, hint in (("a power of two that activations are divided by", options.act_exp, "act-exp"),
                              ("what weight_scale does", options.weight_scale, "weight-scale"),
                              ("how weights are made of floats", options.method, "method")):
        if given is not None:
            raise ModelError(f"{what} can be said for Hugging Face folders and GGUF files, which {source} is not", hint=hint)
    pieces = b""
    if options.tokenizer is not None:
        pieces = read_tokenizer(options.tokenizer)
    if start[:4] == struct.pack("<I", BITLLAMA_MAGIC):
        if not pieces:
            raise ModelError(f"{source} does not say in which order its bits lie; the loss on a text tells, so give the "
                             "tokenizer's file", hint="tokenizer-file-only")
        model = _detect_order(source, pieces, say)
    elif len(start) == 8 and start[:1] != b"{" and struct.unpack("<Q", start)[0] < kind.st_size:
        if (source.parent / "config.json").is_file():
            raise ModelError(f"{source} is a part of a Hugging Face model: give its folder, {source.parent}")
        model = read_safetensors(source)
        say(f"{source.name}: safetensors, {model.config.layers} layers, int8 ternary codes")
    elif is_float_llama2c(source):
        raise ModelError(f"{source} is a llama2.c model. {WAY_OUT}")
    else:
        raise ModelError(f"{source} is neither a bitllama2.c file nor a safetensors file nor GGUF")
    if pieces:
        size = Tokenizer(pieces).size
        if size != model.config.vocab:
            raise ModelError(f"{options.tokenizer} has {size} pieces, the model a vocabulary of {model.config.vocab}")
    model.tokenizer = pieces
    if options.context is not None:
        model.config = replace(model.config, context=checked_context(options.context, model.config.context))
    return model


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error


def _probe_ids(config: ModelConfig, tokenizer: Tokenizer) -> list[int]:
    """The probe text, with BOS if the model wants one, cut to the model's context."""
    return config.with_bos(tokenizer.encode(PROBE))[:config.context]


def _detect_order(source: Path, pieces: bytes, say: Callable[[str], None]) -> Model:
    tokenizer = Tokenizer(pieces)
    models: dict[str, Model] = {}
    readings: list[Reading] = []
    for order in BIT_ORDERS:
        model = models[order] = read_bitllama(source, order)
        if tokenizer.size != model.config.vocab:
            raise ModelError(f"the tokenizer has {tokenizer.size} pieces, {source} a vocabulary of "
                             f"{model.config.vocab}")
        readings.append(Reading(order, nats_per_token(model, _probe_ids(model.config, tokenizer))))
    best, heard = best_reading(readings, model.config.vocab), ", ".join(map(str, readings))
    if best is None:
        raise ModelError(f"{source} makes no more sense in one bit order than in the other ({heard}): "
                         "is it a trained model, and this its tokenizer?")
    say(f"{source.name}: bitllama2.c, weights lie {best.name}; known by the loss on a probe text: {heard}")
    return models[best.name]


def _detect_layout(source: Gguf, say: Callable[[str], None]) -> None:
    """Choose the layout in which the I2_S matrices are read: the layout with which the model predicts the probe text."""
    tensors = source.tensors
    if not source.tokenizer:
        raise ModelError(f"{tensors.label} holds I2_S weights of bitnet.cpp, and does not say in which of its layouts; the loss "
                         f"on a text tells, for which the model's tokenizer is needed: convert with it. {I2S_WAY_OUT}")
    ids = _probe_ids(source.config, Tokenizer(source.tokenizer))
    readings = read_in_turn(source, ids, tensors.i2s_layouts(), tensors.set_layout)
    best, heard = best_reading(readings, source.config.vocab), ", ".join(map(str, readings))
    if best is None:
        raise ModelError(f"{tensors.label} holds I2_S weights of bitnet.cpp, and makes sense in no layout more than in the "
                         f"others ({heard}). {I2S_WAY_OUT}")
    tensors.set_layout(best.name)
    say(f"I2_S: {best.name}; known by the loss on a probe text: {heard}")
