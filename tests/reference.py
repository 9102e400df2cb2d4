# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The float32 forward pass of tellme.reference over any checkpoint: readers with code of their own.

The embedding is taken as it was before it became int8 rows.
"""

import struct
from pathlib import Path

import numpy as np
from safetensors import safe_open

from tellme.reference import NAMES, ReferenceModel, forward, nats, read_container

__all__ = ["ReferenceModel", "forward", "nats", "read"]


def read(path: Path, *, least_first: bool = True, plain: bool = False) -> ReferenceModel:
    """A .bin, .safetensors or .tellme file.  ``least_first`` is the bit order of a .bin.

    ``plain``: of several scales take the first, and no bias.
    """
    if path.suffix == ".bin":
        return read_bin(path.read_bytes(), least_first=least_first)
    if path.suffix == ".tellme":
        return read_container(path, plain=plain)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    layers = [{n: (tensors[f"layers.{i}.{n}.weight"], float(tensors[f"layers.{i}.{n}.scale"][0])) for n in NAMES}
              for i in range(int(metadata["layers"]))]
    return ReferenceModel(layers, tensors["emb"].astype(np.float32), tensors["norm"].astype(np.float32),
                          int(metadata["heads"]), int(metadata["kv_heads"]))


def read_bin(raw: bytes, *, least_first: bool) -> ReferenceModel:
    dim, hidden, count, heads, kv_heads, vocab, _ = struct.unpack_from("<7i", raw, 8)
    width = dim // heads
    shapes = {"wq": (heads * width, dim), "wk": (kv_heads * width, dim), "wv": (kv_heads * width, dim),
              "wo": (dim, heads * width), "w1": (hidden, dim), "w2": (dim, hidden), "w3": (hidden, dim)}
    gain = np.frombuffer(raw, "<f4", dim, 256)
    embedding = np.frombuffer(raw, "<f4", vocab * dim, 256 + 4 * dim).reshape(vocab, dim)
    at = 256 + 4 * dim + 4 * vocab * dim
    layers: list[dict] = [{} for _ in range(count)]
    for name in NAMES:
        rows, cols = shapes[name]
        for layer in layers:
            scale, = struct.unpack_from("<f", raw, at)
            bits = np.unpackbits(np.frombuffer(raw, np.uint8, rows * cols // 4, at + 4),
                                 bitorder="little" if least_first else "big").reshape(rows, cols, 2)
            low, high = (bits[..., 0], bits[..., 1]) if least_first else (bits[..., 1], bits[..., 0])
            layer[name] = low.astype(np.int8) - 2 * high.astype(np.int8) * low.astype(np.int8), scale
            at += 4 + rows * cols // 4
    return ReferenceModel(layers, embedding, gain, heads, kv_heads, eps=1e-12, final_eps=1e-5, norm_over_width=True)
