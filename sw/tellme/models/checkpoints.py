# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Import of trained checkpoints: which kind one is, bitllama2.c files, and the project's own safetensors layout."""

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from tellme.models.gguf_import import Gguf
from tellme.models.huggingface import HuggingFace
from tellme.models.importing import Options, read_tokenizer
from tellme.models.model import LINEARS, NORMS, Layer, Model, ModelConfig, ModelError, int8_rows
from tellme.models.source import Source
from tellme.models.ternary import WAY_OUT
from tellme.models.tokenizer import Tokenizer
from tellme.spec.scale import scale_from_fraction

__all__ = ["BIT_ORDERS", "convert", "open_checkpoint", "read_bitllama", "read_safetensors"]

BITLLAMA_MAGIC = 0x616B3432
BITLLAMA_HEADER = struct.Struct("<II7iB")
BITLLAMA_HEADER_BYTES = 256
#: The order of a bitllama2.c file's matrices; all layers of each.
BITLLAMA_MATRICES = ("wq", "wk", "wv", "wo", "w1", "w2", "w3")
#: These models have no eps; one is needed to keep a zero vector finite, and this one changes no result.
BITLLAMA_EPS = 1e-8
#: Shift of the first to the fourth weight of a byte.
BIT_ORDERS = {"least significant first": (0, 2, 4, 6), "most significant first": (6, 4, 2, 0)}

#: What the training runs' metadata says of the norms.
NORM_WITH, NORM_WITHOUT = (f"RMSNorm {word} gain before every linear, eps 1e-5" for word in ("with", "without"))
#: A trained model's loss in the wrong order is at least this much higher; in the right one it beats plain guessing.
CLEAR_NATS = 0.5
#: Text that tells the bit orders apart: any plain English story does, the gap is nats wide.
PROBE = ("Once upon a time, there was a little girl named Lily. She loved to play outside in the park with her dog. "
         "One day, she saw a big red ball under a tree. She ran to it and smiled. \"Look, a ball!\" she said.")


def _layer(get: Callable[[str], tuple[NDArray[np.int8], float]]) -> Layer:
    layer = Layer({}, {})
    for name in LINEARS:
        codes, scale = get(name)
        layer.weights[name] = codes
        if not np.isfinite(scale) or scale <= 0:
            raise ModelError(f"{name} has the scale {scale}; a positive finite number is wanted")
        layer.scales[name] = scale_from_fraction(scale)
    return layer


def _embedding(config: ModelConfig, table: NDArray[np.floating],
               gain: NDArray[np.floating]) -> dict[str, NDArray]:
    if not np.isfinite(table).all() or not np.isfinite(gain).all():
        raise ModelError("the embedding or the final norm holds an infinity or NaN")
    codes, scales = int8_rows(table)
    return {"embedding": codes, "embedding_scales": scales, "final_gain": gain.astype(np.float16)}


def _context(text: str) -> int:
    """Positions that a model was trained at, from ``512`` or ``512 (trained at 256)``."""
    return int(text.rstrip(")").split()[-1])


def read_safetensors(path: Path) -> Model:
    """The layout of the project's training runs: int8 ternary tensors, a float32 scale each, shapes in the metadata.

    Convention: RMSNorm ahead of every linear, with a gain each or without any, a learned gain ahead of the head,
    adjacent RoPE pairs.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            names = set(file.keys())
            missing = {"dim", "hidden", "layers", "heads", "kv_heads", "vocab", "act", "norm", "rope"} - metadata.keys()
            if missing:
                raise ModelError(f"{path}: its metadata lacks {', '.join(sorted(missing))}; this reader takes the "
                                 "project's own training output (a float model must be trained to ternary first)")
            if metadata.get("tied", "true") != "true":
                raise ModelError(f"{path} is untied; this reader knows tied checkpoints only")
            norms = NORMS if metadata["norm"].startswith(NORM_WITH) else ()
            if not metadata["norm"].startswith((NORM_WITH, NORM_WITHOUT)):
                raise ModelError(f"{path}: unknown norm convention {metadata['norm']!r}")
            if metadata["rope"] != "interleaved pairs, theta 10000":
                raise ModelError(f"{path}: unknown RoPE convention {metadata['rope']!r}")
            dim, heads = int(metadata["dim"]), int(metadata["heads"])
            config = ModelConfig(
                dim=dim, ffn=int(metadata["hidden"]), layers=int(metadata["layers"]), heads=heads,
                kv_heads=int(metadata["kv_heads"]), head_dim=dim // heads, vocab=int(metadata["vocab"]),
                context=_context(metadata.get("context", "512")), act=metadata["act"], eos=1, o_norm=True,
                down_norm=True)
            config.check()
            expected = {"emb", "norm"} | {f"layers.{i}.{n}.{part}" for i in range(config.layers) for n in LINEARS
                                          for part in ("weight", "scale")}
            expected |= {f"layers.{i}.{n}" for i in range(config.layers) for n in norms}
            if names != expected:
                odd = sorted(names ^ expected)
                raise ModelError(f"{path}: {'unknown' if odd[0] in names else 'missing'} tensor {odd[0]}")
            layers = []
            for i in range(config.layers):
                def get(name: str, i: int = i) -> tuple[NDArray[np.int8], float]:
                    codes = file.get_tensor(f"layers.{i}.{name}.weight")
                    if codes.dtype != np.int8:
                        raise ModelError(f"layers.{i}.{name}.weight is {codes.dtype}, int8 is wanted")
                    return codes, float(file.get_tensor(f"layers.{i}.{name}.scale")[0])
                layers.append(_layer(get))
                for name in norms:
                    layers[-1].gains[name] = file.get_tensor(f"layers.{i}.{name}").astype(np.float16)
            table = _embedding(config, file.get_tensor("emb"), file.get_tensor("norm"))
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is no safetensors file, or is damaged ({error})") from error
    model = Model(config, layers, **table, name=path.stem, license=metadata.get("license", ""))  # type: ignore[arg-type]
    model.check()
    return model


def read_bitllama(path: Path, order: str) -> Model:
    """A bitllama2.c .bin file (version 1) with its four weights a byte in the given order.

    Its norm ahead of a linear of n columns is x / rms / n, without eps, and with the matrix scales as they are that
    would leave activations of 1e-4 in binary16.  So 1/n goes into the scale of each matrix, and where only a norm
    follows a power of two goes in as well: v, up, and the residual stream (embedding, o and down), which the final
    gain takes back.
    """
    content = path.read_bytes()
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
    table = _embedding(config, floats[dim:].reshape(vocab, dim) * np.float32(up), floats[:dim] / np.float32(up))
    model = Model(config, layers, **table, name=path.stem)  # type: ignore[arg-type]
    model.check()
    return model


def is_float_llama2c(source: Path) -> bool:
    """Whether a file is a llama2.c checkpoint: seven shapes ahead of as many float32 values as they ask for."""
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
    if not source.exists():
        raise ModelError(f"there is no file {source}")
    if source.is_dir():
        return HuggingFace(source, options, say)
    if source.stat().st_size == 0:
        raise ModelError(f"{source} is empty")
    with source.open("rb") as file:
        start = file.read(8)
    if start[:4] == b"GGUF":
        return Gguf(source, options, say)
    for what, given in (("--act-exp", options.act_exp), ("--weight-scale", options.weight_scale)):
        if given is not None:
            raise ModelError(f"{what} is for Hugging Face folders and GGUF files, which {source} is not")
    pieces = b""
    if options.tokenizer is not None:
        pieces = read_tokenizer(options.tokenizer)
    if start[:4] == struct.pack("<I", BITLLAMA_MAGIC):
        if not pieces:
            raise ModelError(f"{source} does not say in which order its bits lie; the loss on a text tells, so give "
                             "--tokenizer FILE")
        model = _detect_order(source, pieces, say)
    elif len(start) == 8 and start[:1] != b"{" and struct.unpack("<Q", start)[0] < source.stat().st_size:
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
        if not 0 < options.context <= model.config.context:
            raise ModelError(f"--context {options.context}: the model has positions 1 to {model.config.context}")
        model.config = replace(model.config, context=options.context)
    return model


def _detect_order(source: Path, pieces: bytes, say: Callable[[str], None]) -> Model:
    from tellme.golden.board import NonfiniteError
    from tellme.golden.perplexity import nats_per_token
    tokenizer = Tokenizer(pieces)
    best: tuple[float, str, Model] | None = None
    heard: list[str] = []
    losses: list[float] = []
    for order in BIT_ORDERS:
        model = read_bitllama(source, order)
        if tokenizer.size != model.config.vocab:
            raise ModelError(f"the tokenizer has {tokenizer.size} pieces, {source} a vocabulary of "
                             f"{model.config.vocab}")
        ids = model.config.with_bos(tokenizer.encode(PROBE))[:model.config.context]
        try:
            nats = nats_per_token(model, [ids])
        except NonfiniteError:
            nats = float("inf")
        losses.append(nats)
        heard.append(f"{nats:.2f} nats per token {order}")
        if best is None or nats < best[0]:
            best = (nats, order, model)
    assert best is not None
    if not (max(losses) - min(losses) >= CLEAR_NATS and min(losses) < np.log(best[2].config.vocab)):
        raise ModelError(f"{source} makes no more sense in one bit order than in the other ({', '.join(heard)}): "
                         "is it a trained model, and this its tokenizer?")
    say(f"{source.name}: bitllama2.c, weights lie {best[1]}; known by the loss on a probe text: {', '.join(heard)}")
    return best[2]
