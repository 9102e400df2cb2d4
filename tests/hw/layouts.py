# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Payloads of the gateware's layouts as the simulator's integers, and back: no test knows where a field lies."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
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


def pack(shape: Any, value: Any = None, /, **values: Any) -> int:
    """Bits of a payload of ``shape``.

    A structure takes its fields by name, as keywords, a mapping or a named tuple such as a Scale; what is not named is zero.
    An array takes a sequence of its elements from the first on.  A number is an integer in the range of its shape.
    Raises ValueError for a number out of range, an unknown name, and too many elements.
    """
    if isinstance(shape, data.Layout) and not isinstance(value, int):
        if value is not None and hasattr(value, "_asdict"):
            value = value._asdict()
        if isinstance(value, Sequence):
            value = dict(enumerate(value))
        given: Mapping[Any, Any] = values if value is None else value
        places = dict(shape)
        unknown = [name for name in given if name not in places]
        if unknown:
            raise ValueError(f"the layout has no field {unknown[0]!r}; there are: {', '.join(map(str, places))}")
        return sum(pack(places[name].shape, part) << places[name].offset for name, part in given.items())
    plain = Shape.cast(shape)
    low, high = (-(1 << plain.width - 1), (1 << plain.width - 1) - 1) if plain.signed else (0, (1 << plain.width) - 1)
    if not low <= int(value) <= high:
        raise ValueError(f"{int(value)} is not in the range of {plain!r}, {low} to {high}")
    return int(value) & (1 << plain.width) - 1


def unpack(shape: Any, bits: int) -> Any:
    """A payload of ``shape`` from its bits: a dict of a structure's fields, a list of an array's elements, or an integer."""
    if isinstance(shape, data.Layout):
        parts = {name: unpack(field.shape, bits >> field.offset & (1 << field.width) - 1) for name, field in shape}
        return list(parts.values()) if isinstance(shape, data.ArrayLayout) else parts
    plain = Shape.cast(shape)
    return bits - (1 << plain.width) if plain.signed and bits >> plain.width - 1 & 1 else bits


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
