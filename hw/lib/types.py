# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Payload layouts that several units share."""

from amaranth.hdl import signed
from amaranth.lib import data

from tellme.spec.packing import TILE_HEADER_FIELDS
from tellme.spec.scale import SCALE_EXP_BITS, SCALE_SIG_BITS
from tellme.spec.widths import ACC_BITS, ATTENTION_HEAD_BITS, INDEX_BITS, TOKEN_BITS

__all__ = ["ACC_BITS", "INDEX_BITS", "TOKEN_BITS", "AccLayout", "AttnHeadCodes", "AttnHeadWords", "FactorsLayout",
           "KvScales", "MonitorLayout", "PlaceLayout", "ProductsLayout", "ScaleLayout", "TileHeaderLayout"]

#: A scale: value ``sig * 2**exp``, see :mod:`tellme.spec.scale`.
ScaleLayout = data.StructLayout({"sig": SCALE_SIG_BITS, "exp": signed(SCALE_EXP_BITS)})

#: The word ahead of a tile, see :class:`tellme.spec.packing.TileHeader`.
TileHeaderLayout = data.StructLayout({name: ScaleLayout if name in ("scale", "odd_scale") else bits
                                      for name, bits in TILE_HEADER_FIELDS.items()})

#: Which element it is.
PlaceLayout = data.StructLayout({"token": TOKEN_BITS, "index": INDEX_BITS})

#: An int8 code of an attention head with the head's scale (absmax / 127); ``last`` ends the head.  Heads of a token are
#: numbered q heads first, then k heads, then v heads.
AttnHeadCodes = data.StructLayout({"code": signed(8), "scale": ScaleLayout, "last": 1, "token": TOKEN_BITS,
                                   "head": ATTENTION_HEAD_BITS})
#: Four of them, the first one lowest; ``last`` ends the head.
AttnHeadWords = data.StructLayout({"codes": 32, "scale": ScaleLayout, "last": 1, "token": TOKEN_BITS,
                                   "head": ATTENTION_HEAD_BITS})

#: A word of the memory's S region: the stored scales of a position's K and V row.
KvScales = data.StructLayout({"k": 16, "v": 16})

#: One accumulator with the scale that dequantises it.
AccLayout = data.StructLayout({"acc": signed(ACC_BITS), "scale": ScaleLayout, "place": PlaceLayout})

#: Factors of the four products that attention lends to the LM head in a compact core, and the products, a cycle later.
FactorsLayout = data.StructLayout({"a": data.ArrayLayout(signed(8), 4), "b": data.ArrayLayout(signed(17), 4)})
ProductsLayout = data.ArrayLayout(signed(25), 4)

#: One 16-bit word of a step's output stream, for its CRC-32.
MonitorLayout = data.StructLayout({"valid": 1, "word": 16})
