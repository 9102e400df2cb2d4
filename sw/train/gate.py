# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""From the sums of gate and up to the int8 codes that the down projection sees, in one pass over memory each way.

The half of a training step's elementwise work lies here, and torch.compile makes several passes of it.  A row's program:

    gate, up = sums * size * scale + bias;  a = silu(gate) * up;  n = a / rms(a) * gain;  code = n * 127 / max |n|
"""

import torch
import torch.nn.functional as F
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

__all__ = ["gate_codes", "gate_codes_plain"]

#: Programs of the way back: each sums gradients over its share of the rows.
PROGRAMS = 528


def gate_codes_plain(sums: Tensor, size: Tensor, scale: Tensor, bias: Tensor, gain: Tensor, part: Tensor | float,
                     eps: float) -> tuple[Tensor, Tensor]:
    """(codes, scale [rows, 1]) of sums [rows, 2 * ffn], size [rows, 1], scale and bias [2 * ffn], gain [ffn]."""
    gate, up = (sums.float() * size * scale + bias).chunk(2, -1)
    a = F.silu(gate) * up
    n = a * torch.rsqrt(a.square().mean(-1, keepdim=True) + eps) * gain
    peak = n.detach().abs().amax(-1, keepdim=True).clamp(min=1e-5)
    code = n * (127 / peak)
    return (code + part * (code.detach().round() - code.detach())).to(sums.dtype), peak / 127


if triton is not None:
    @triton.jit
    def _forward(sums, size, scale, bias, gain, part, codes, out_size, inverse, peaks, FFN: tl.constexpr, EPS: tl.constexpr,
                 BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
        row = tl.program_id(0).to(tl.int64)
        c = tl.arange(0, BLOCK)
        there = c < FFN
        s = tl.load(size + row)
        gate = tl.load(sums + row * (2 * FFN) + c, mask=there, other=0.0).to(tl.float32) * s
        up = tl.load(sums + row * (2 * FFN) + FFN + c, mask=there, other=0.0).to(tl.float32) * s
        gate = gate * tl.load(scale + c, mask=there, other=0.0) + tl.load(bias + c, mask=there, other=0.0)
        up = up * tl.load(scale + FFN + c, mask=there, other=0.0) + tl.load(bias + FFN + c, mask=there, other=0.0)
        a = gate / (1 + tl.exp(-gate)) * up
        r = 1 / tl.sqrt(tl.sum(a * a, 0) / FFN + EPS)
        n = a * r * tl.load(gain + c, mask=there, other=0.0)
        peak = tl.maximum(tl.max(tl.abs(n), 0), 1e-5)
        code = n * (127 / peak)
        code = code + tl.load(part) * (tl.floor(code + 0.5) - code)
        tl.store(codes + row * FFN + c, code.to(codes.dtype.element_ty), mask=there)
        tl.store(out_size + row, peak / 127)
        tl.store(inverse + row, r)
        tl.store(peaks + row, peak)

    @triton.jit
    def _backward(sums, size, scale, bias, gain, inverse, peaks, d_codes, d_sums, totals, rows, FFN: tl.constexpr,
                  BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
        c = tl.arange(0, BLOCK)
        there = c < FFN
        gate_scale, up_scale = tl.load(scale + c, mask=there, other=0.0), tl.load(scale + FFN + c, mask=there, other=0.0)
        gate_bias, up_bias = tl.load(bias + c, mask=there, other=0.0), tl.load(bias + FFN + c, mask=there, other=0.0)
        g = tl.load(gain + c, mask=there, other=0.0)
        d_gain = tl.zeros((BLOCK,), tl.float32)
        d_gate_scale = tl.zeros((BLOCK,), tl.float32)
        d_up_scale = tl.zeros((BLOCK,), tl.float32)
        d_gate_bias = tl.zeros((BLOCK,), tl.float32)
        d_up_bias = tl.zeros((BLOCK,), tl.float32)
        for turn in range(0, tl.cdiv(rows, tl.num_programs(0))):
            row = tl.program_id(0).to(tl.int64) + turn * tl.num_programs(0)
            last = row < rows
            live = there & last
            s, r = tl.load(size + row, mask=last, other=0.0), tl.load(inverse + row, mask=last, other=0.0)
            peak = tl.load(peaks + row, mask=last, other=1.0)
            gate_sum = tl.load(sums + row * (2 * FFN) + c, mask=live, other=0.0).to(tl.float32) * s
            up_sum = tl.load(sums + row * (2 * FFN) + FFN + c, mask=live, other=0.0).to(tl.float32) * s
            gate, up = gate_sum * gate_scale + gate_bias, up_sum * up_scale + up_bias
            likely = 1 / (1 + tl.exp(-gate))
            a = gate * likely * up
            d_n = tl.load(d_codes + row * FFN + c, mask=live, other=0.0).to(tl.float32) * (127 / peak)
            d_gain += d_n * a * r
            d_a = d_n * g
            d_a = r * d_a - a * (r * r * r / FFN * tl.sum(d_a * a, 0))
            d_gate = d_a * up * likely * (1 + gate * (1 - likely))
            d_up = d_a * gate * likely
            d_gate_scale += d_gate * gate_sum
            d_up_scale += d_up * up_sum
            d_gate_bias += d_gate
            d_up_bias += d_up
            tl.store(d_sums + row * (2 * FFN) + c, (d_gate * gate_scale * s).to(d_sums.dtype.element_ty), mask=live)
            tl.store(d_sums + row * (2 * FFN) + FFN + c, (d_up * up_scale * s).to(d_sums.dtype.element_ty), mask=live)
        out = totals + tl.program_id(0) * (5 * FFN) + c
        tl.store(out, d_gate_scale, mask=there)
        tl.store(out + FFN, d_up_scale, mask=there)
        tl.store(out + 2 * FFN, d_gate_bias, mask=there)
        tl.store(out + 3 * FFN, d_up_bias, mask=there)
        tl.store(out + 4 * FFN, d_gain, mask=there)


class _GateCodes(torch.autograd.Function):
    @staticmethod
    def forward(ctx, sums, size, scale, bias, gain, part, eps):  # type: ignore[no-untyped-def]
        rows, ffn = sums.shape[0], sums.shape[1] // 2
        codes = torch.empty(rows, ffn, device=sums.device, dtype=sums.dtype)
        out_size, inverse, peaks = (torch.empty(rows, device=sums.device) for _ in range(3))
        block = triton.next_power_of_2(ffn)
        _forward[(rows,)](sums, size, scale, bias, gain, part, codes, out_size, inverse, peaks, ffn, eps, block, num_warps=8)
        ctx.save_for_backward(sums, size, scale, bias, gain, inverse, peaks)
        out_size = out_size[:, None]
        ctx.mark_non_differentiable(out_size)
        return codes, out_size

    @staticmethod
    def backward(ctx, d_codes, _size):  # type: ignore[no-untyped-def]
        sums, size, scale, bias, gain, inverse, peaks = ctx.saved_tensors
        rows, ffn = sums.shape[0], sums.shape[1] // 2
        d_sums = torch.empty_like(sums)
        programs = min(PROGRAMS, rows)
        totals = torch.empty(programs, 5, ffn, device=sums.device)
        _backward[(programs,)](sums, size, scale, bias, gain, inverse, peaks, d_codes.contiguous(), d_sums, totals, rows, ffn,
                               triton.next_power_of_2(ffn), num_warps=8)
        found = totals.sum(0).flatten()
        return d_sums, None, found[:2 * ffn], found[2 * ffn:4 * ffn], found[4 * ffn:], None, None


def gate_codes(sums: Tensor, size: Tensor, scale: Tensor, bias: Tensor, gain: Tensor, part: Tensor,
               eps: float) -> tuple[Tensor, Tensor]:
    """The same as gate_codes_plain, on a GPU; ``part`` is a tensor there.  A half is rounded up, not to even."""
    out: tuple[Tensor, Tensor] = _GateCodes.apply(sums, size, scale, bias, gain, part, eps)
    return out
