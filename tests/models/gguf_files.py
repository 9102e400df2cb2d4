# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""GGUF files put together byte by byte, including features and errors that the gguf package's writer cannot write."""

import struct
from typing import NamedTuple

import gguf
import numpy as np

__all__ = ["UINT16", "UINT32", "Part", "array", "assemble", "field", "i2s", "parts_of", "renamed", "split"]

UINT16, UINT32, ARRAY = 2, 4, 9
_FORMATS = {UINT16: "<H", UINT32: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q"}


class Part(NamedTuple):
    """A tensor: the number of its type, its dimensions (columns first), its bytes."""

    name: bytes
    number: int
    dims: tuple[int, ...]
    content: bytes


def string(text):
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def field(key, value, kind=UINT32):
    """A metadata value as it lies in a file."""
    if isinstance(value, (str, bytes)):
        return string(key) + struct.pack("<I", 8) + string(value)
    return string(key) + struct.pack("<I", kind) + struct.pack(_FORMATS[kind], value)


def array(key, kind, length, content):
    """A metadata array whose length may be a lie."""
    return string(key) + struct.pack("<IIQ", ARRAY, kind, length) + content


def renamed(fields, old, new):
    """Metadata values of a file with another name of the architecture."""
    out = []
    for raw in fields:
        end = 8 + int.from_bytes(raw[:8], "little")
        key = raw[8:end].decode()
        if key == "general.architecture":
            out.append(field(key, new))
        else:
            out.append(string(new + key.removeprefix(old)) + raw[end:] if key.startswith(f"{old}.") else raw)
    return out


def parts_of(path):
    """(metadata values as bytes, tensors) of a file."""
    reader = gguf.GGUFReader(path)
    fields = [b"".join(part.tobytes() for part in f.parts) for name, f in reader.fields.items() if not name.startswith("GGUF.")]
    tensors = [Part(t.name.encode(), int(t.tensor_type), tuple(int(n) for n in t.shape), t.data.tobytes())
               for t in reader.tensors]
    return fields, tensors


def assemble(path, fields, tensors, *, version=3, alignment=32, offsets=None, magic=b"GGUF", fields_count=None, padding=True):
    """Write a file; ``offsets`` replaces offsets of tensors by their index."""
    head = magic + struct.pack("<IQQ", version, len(tensors), len(fields) if fields_count is None else fields_count)
    head += b"".join(fields)
    content = b""
    for i, part in enumerate(tensors):
        at = (offsets or {}).get(i, len(content))
        head += string(part.name) + struct.pack(f"<I{len(part.dims)}QIQ", len(part.dims), *part.dims, part.number, at)
        content += part.content
        if padding or i + 1 < len(tensors):
            content += bytes(-len(content) % alignment)
    path.write_bytes(head + bytes(-len(head) % alignment) + content)
    return path


def i2s(part, codes, scale, layout, *, tail=32):
    """A matrix as bitnet.cpp's I2_S: weights plus 1, two bits each, four a byte from the top, and the scale after them."""
    digits = (codes + 1).astype(np.uint8)
    flat = {"blocks of 128": lambda: digits.reshape(-1, 4, 32).swapaxes(1, 2), "blocks of 64": lambda: digits.reshape(-1, 4, 16)
            .swapaxes(1, 2), "four rows a byte": lambda: digits.reshape(-1, 4, digits.shape[1]).swapaxes(1, 2),
            "four weights a byte": lambda: digits}[layout]().reshape(-1, 4)
    packed = bytes(int(a) << 6 | int(b) << 4 | int(c) << 2 | int(d) for a, b, c, d in flat)
    return Part(part.name, 36, part.dims, packed + struct.pack("<f", scale).ljust(tail, b"\0"))


def split(path, fields, tensors, count, *, change=None):
    """The files of a split one beside ``path``, as llama-gguf-split writes them: metadata in the first, its own keys in all."""
    paths = []
    for i in range(count):
        own = [field("split.no", i, UINT16), field("split.count", count, UINT16), field("split.tensors.count", len(tensors), 5)]
        if change is not None:
            own = change(i, own)
        name = path.with_name(f"{path.stem}-{i + 1:05}-of-{count:05}.gguf")
        share = tensors[i * len(tensors) // count:(i + 1) * len(tensors) // count]
        paths.append(assemble(name, [*(fields if i == 0 else []), *own], share))
    return paths
