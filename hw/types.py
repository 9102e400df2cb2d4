# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Payload layouts that several units share."""

from amaranth.hdl import signed
from amaranth.lib import data

from tellme.spec.scale import SCALE_EXP_BITS, SCALE_SIG_BITS

__all__ = ["ACC_BITS", "AccLayout", "FactorsLayout", "MonitorLayout", "ProductsLayout", "QuantLayout", "ScaleLayout"]

#: Width of an accumulator on its way to dequantisation.  TLMM and head sums fit 32 bits; the attention sum of
#: 16-bit weights and int8 values over 2,048 positions needs 35.
ACC_BITS = 36

#: A scale: value ``sig * 2**exp``, see :mod:`tellme.spec.scale`.
ScaleLayout = data.StructLayout({"sig": SCALE_SIG_BITS, "exp": signed(SCALE_EXP_BITS)})

#: One accumulator with the scale that dequantises it; ``last`` marks the end of a pass.
AccLayout = data.StructLayout({"acc": signed(ACC_BITS), "scale": ScaleLayout, "last": 1})

#: Factors of the four products that attention lends to the head in a compact core, and the products, a cycle later.
FactorsLayout = data.StructLayout({"a": data.ArrayLayout(signed(8), 4), "b": data.ArrayLayout(signed(17), 4)})
ProductsLayout = data.ArrayLayout(signed(25), 4)

#: One 16-bit word of a step's output stream, for its CRC-32.
MonitorLayout = data.StructLayout({"valid": 1, "word": 16})

#: Arguments of the fused pipeline's quantise pass.
QuantLayout = data.StructLayout({"src_a": 1, "gain": 1, "norm": 1, "n": 13, "n_eps": 32, "sqrt_n": ScaleLayout})
