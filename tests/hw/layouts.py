# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Payloads of the gateware's layouts as the simulator's integers, and back: no test knows where a field lies."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from amaranth.hdl import Shape, signed
from amaranth.lib import data, wiring

from hw.lib.layouts import Layouts
from tellme.spec.config import CoreConfig
from tellme.spec.scale import Scale

__all__ = ["accumulator", "accumulators", "fields", "layouts_of", "pack", "payload_of", "unpack", "words_of"]

FOUR = data.ArrayLayout(signed(8), 4)


def layouts_of(*, rows: int | None = None, **parameters: Any) -> Layouts:
    """Layouts of a bench: those of a configuration with these parameters, and of matrices of ``rows`` rows if that is given.

    There are as many lanes as a chunk has tokens, and a residual vector is no longer than another, where nothing else is said.
    """
    parameters = {"lanes": parameters.get("chunk", 1), "max_dim": min(512, parameters.get("max_cols", 512))} | parameters
    widths = CoreConfig(name="bench", **parameters).widths
    return Layouts(widths if rows is None else replace(widths, rows=rows))


class Plain:
    """Bits of an integer of a shape that is no layout, and back."""

    def __init__(self, shape: Any):
        plain = Shape.cast(shape)
        self.shape, self.mask = plain, (1 << plain.width) - 1
        self.low, self.high = (-(1 << plain.width - 1), self.mask >> 1) if plain.signed else (0, self.mask)

    def pack(self, value: Any) -> int:
        number = int(value)
        if not self.low <= number <= self.high:
            raise ValueError(f"{number} is not in the range of {self.shape!r}, {self.low} to {self.high}")
        return number & self.mask

    def unpack(self, bits: int) -> int:
        return bits - self.mask - 1 if bits > self.high else bits


class Fields:
    """Bits of a layout's fields, and back."""

    def __init__(self, layout: data.Layout):
        self.whole = Plain(layout)
        self.places = {name: (codec(field.shape), field.offset, (1 << field.width) - 1) for name, field in layout}
        self.is_array = isinstance(layout, data.ArrayLayout)

    def pack(self, value: Any) -> int:
        if isinstance(value, int):
            return self.whole.pack(value)
        if hasattr(value, "_asdict"):
            value = value._asdict()
        bits, places = 0, self.places
        for name, part in value.items() if isinstance(value, dict) else enumerate(value):
            if name not in places:
                raise ValueError(f"the layout has no field {name!r}; there are: {', '.join(map(str, places))}")
            inner, offset, _ = places[name]
            bits |= inner.pack(part) << offset
        return bits

    def unpack(self, bits: int) -> Any:
        if self.is_array:
            return [inner.unpack(bits >> offset & mask) for inner, offset, mask in self.places.values()]
        return {name: inner.unpack(bits >> offset & mask) for name, (inner, offset, mask) in self.places.items()}


@cache
def codec(shape: Any) -> Plain | Fields:
    """What packs payloads of a shape, made once: benches pack and unpack in each cycle."""
    return Fields(shape) if isinstance(shape, data.Layout) else Plain(shape)


def pack(shape: Any, value: Any = None, /, **values: Any) -> int:
    """Bits of a payload of ``shape``.

    A structure takes its fields by name, as keywords, a dict or a named tuple such as a Scale; what is not named is zero.
    An array takes a sequence of its elements from the first on.  A number is an integer in the range of its shape.
    Raises ValueError for a number out of range, an unknown name, and too many elements.
    """
    return codec(shape).pack(values if value is None else value)


def unpack(shape: Any, bits: int) -> Any:
    """A payload of ``shape`` from its bits: a dict of a structure's fields, a list of an array's elements, or an integer."""
    return codec(shape).unpack(bits)


def payload_of(component: wiring.Component, name: str) -> Any:
    """Shape of the payload of a component's stream, or of a port."""
    port = getattr(component, name)
    value = getattr(port, "payload", port)
    return value.shape()


def fields(shape: data.Layout, bits: int, *names: str) -> tuple[Any, ...]:
    """Some fields of a payload."""
    parts = unpack(shape, bits)
    return tuple(parts[name] for name in names)


def accumulators(layouts: Layouts, values: Sequence[int]) -> list[tuple[int, Scale, int, int]]:
    """(acc, scale, token, index) of each accumulator's payload."""
    parts = [unpack(layouts.acc, bits) for bits in values]
    return [(p["acc"], Scale(**p["scale"]), p["place"]["token"], p["place"]["index"]) for p in parts]


def accumulator(layouts: Layouts, acc: int, scale: Scale, token: int, index: int) -> int:
    """Payload of an accumulator."""
    return pack(layouts.acc, acc=acc, scale=scale, place={"token": token, "index": index})


def words_of(row: Sequence[int]) -> list[int]:
    """Memory words of a row of int8 values, four a word, the first one lowest."""
    return [pack(FOUR, [int(v) for v in row[i:i + 4]]) for i in range(0, len(row), 4)]
