# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Payload layouts that several units share, the same in each core (those of a core's own widths: :mod:`hw.lib.layouts`)."""

from amaranth.hdl import signed
from amaranth.lib import data

from tellme.spec.packing import ROW_WORD_FIELDS, TILE_HEADER_FIELDS
from tellme.spec.scale import SCALE_EXP_BITS, SCALE_SIG_BITS

__all__ = ["KvScales", "MonitorLayout", "RowWordLayout", "ScaleLayout", "TileHeaderLayout"]

#: A scale: value ``sig * 2**exp``, see :mod:`tellme.spec.scale`.
ScaleLayout = data.StructLayout({"sig": SCALE_SIG_BITS, "exp": signed(SCALE_EXP_BITS)})

#: The word before a tile, see :class:`tellme.spec.packing.TileHeader`.
TileHeaderLayout = data.StructLayout({name: ScaleLayout if name in ("scale", "odd_scale") else bits
                                       for name, bits in TILE_HEADER_FIELDS.items()})

#: A row's word between a tile's header and its planes, see :class:`tellme.spec.packing.RowWord`.
RowWordLayout = data.StructLayout(ROW_WORD_FIELDS)

#: A word of the memory's S region: the stored scales of a position's K and V row.
KvScales = data.StructLayout({"k": 16, "v": 16})

#: One 16-bit word of a step's output stream, for its CRC-32.
MonitorLayout = data.StructLayout({"valid": 1, "word": 16})
