# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A float model as its own teacher, and the ternary student that is trained to give the teacher's logits.

The student computes what a board does: RMSNorm with a gain ahead of every linear (those ahead of the output and down
projections are new), int8 activations (absmax of the token), weights of integer codes with a scale a row, int8 q, k and v
(absmax of the head), and an int8 embedding, which is also the LM head of a tied model.  Rounding has straight-through
gradients.  A model with the norms of OLMo 2 keeps them and gets no others: on the whole of q and of k, and behind attention and
feed-forward.  There a norm ahead of the output or down projection would change nothing, as the one behind it takes out any size.

A matrix's row r has the step s[r] = mean |w[r]| * STEP[planes] and the codes round(w[r] / s[r]), limited to (3**planes - 1) /
2.  A code changes only when its weight is ``margin`` steps behind the threshold (:meth:`Student.settle`).  What the row is
worth:

    absmean   y[r] = exp(rho[r]) s[r] (codes[r] . x)
    tequila   the same, plus lambda times the sum of the row's weights whose code is 0, as a bias (Tequila, arXiv 2509.23809)
    ttq       one plane; the codes 1 and -1 are worth 1 + k[r] / 127 and -1 + k[r] / 127, k[r] an integer of -126 to 126 (TTQ,
              arXiv 1612.01064)

rho, lambda and k are learned.  At the start the student is the teacher up to rounding, and up to the new norms, whose mean size
is multiplied into the rows behind them.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from gate import gate_codes, gate_codes_plain
from numpy.typing import NDArray
from torch import Tensor, nn

from tellme.models.config import LINEARS, NORMS, ModelConfig
from tellme.models.importers.importing import Imported
from tellme.models.int8 import stored_values
from tellme.models.source import whole
from tellme.spec.packing import plane_reach

__all__ = ["BIASED", "METHODS", "STEP", "Student", "Teacher", "distil"]

METHODS = ("absmean", "tequila", "ttq")
#: Linears whose rows may have a bias on a board.
BIASED = ("wq", "wk", "wv", "w1", "w3")
#: The step of each number of planes, in means of |w|: near the least squared error of normally distributed weights for two planes
#: and more.
STEP = {1: 1.0, 2: 0.69, 3: 0.27, 4: 0.105, 5: 0.041}
#: The mean |w| of each row of a student at its start; what it was goes into the row's scale.  So Muon's steps move all rows
#: alike.
SIZE = 0.14
#: The largest multiplier of a TTQ row.
WORTH = 127


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """float32."""
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * gain


def rounded(x: Tensor, part: Tensor | float) -> Tensor:
    """A share ``part`` of the rounding, with the gradient of none."""
    return x + part * (x.detach().round() - x.detach())


def int8_codes(x: Tensor, part: Tensor | float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(codes, scale) along the last axis."""
    peak = x.detach().abs().amax(-1, keepdim=True).clamp(min=1e-5)
    return rounded(x * (127 / peak), part).to(dtype), peak / 127


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE of adjacent pairs; x is [..., time, heads, width]."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def angles(config: ModelConfig, time: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """cos and sin [time, 1, head_dim / 2] of RoPE."""
    rate = config.theta ** (-torch.arange(0, config.head_dim, 2, dtype=torch.float64) / config.head_dim)
    angle = (torch.arange(time, dtype=torch.float64)[:, None] * rate)[:, None].to(device)
    return angle.cos().float(), angle.sin().float()


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention; [batch, time, heads, width] each, fewer heads in k and v."""
    out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True,
                                         enable_gqa=q.shape[2] != k.shape[2])
    return out.transpose(1, 2).flatten(-2)


class Teacher:
    """The float model's tensors, and its states.  Matrices and tables have the type ``dtype``."""

    def __init__(self, model: Imported, device: str, dtype: torch.dtype) -> None:
        self.config = c = model.config
        self.device, self.dtype = device, dtype

        def put(values: object, kind: torch.dtype = torch.float32) -> Tensor:
            return torch.tensor(values).to(device, kind)

        def gain(values: NDArray[np.float16] | None, width: int) -> Tensor:
            return put(np.ones(width) if values is None else values)

        self.table = put(np.concatenate(list(model.floats("embedding"))), dtype)
        self.head = self.table if c.tied else put(np.concatenate(list(model.floats("head"))), dtype)
        self.norm = gain(model.final_norm(), c.dim)
        self.layers: list[dict[str, Tensor]] = []
        for i in range(c.layers):
            layer = {name: put(model.matrix(i, name), dtype) for name in LINEARS}
            layer |= {norm: gain(model.gain(i, norm), c.norm_width(norm)) for norm in NORMS if c.has_norm(norm)}
            layer |= {"b" + name: put(bias) for name in LINEARS if (bias := model.bias(i, name)) is not None}
            self.layers.append(layer)

    def heads(self, layer: dict[str, Tensor], x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v [..., heads, width] of states."""
        c = self.config
        h = self.ahead(layer, "attn_norm", x)
        q, k, v = (self.linear(layer, name, h) for name in ("wq", "wk", "wv"))
        if c.vector_norms:
            q, k = rms_norm(q, layer["q_norm"], c.eps), rms_norm(k, layer["k_norm"], c.eps)
        q, k, v = (part.unflatten(-1, (-1, c.head_dim)) for part in (q, k, v))
        if c.qk_norm:
            q, k = rms_norm(q, layer["q_norm"], c.eps), rms_norm(k, layer["k_norm"], c.eps)
        return rotate(q.float(), cos, sin).to(self.dtype), rotate(k.float(), cos, sin).to(self.dtype), v

    def ahead(self, layer: dict[str, Tensor], norm: str, x: Tensor) -> Tensor:
        """What linears see of the residual stream: behind their norm, if it has a place there."""
        return (rms_norm(x, layer[norm], self.config.eps) if self.config.has_norm(norm) else x).to(self.dtype)

    def behind(self, layer: dict[str, Tensor], norm: str, y: Tensor) -> Tensor:
        """What is added to the residual stream: behind a norm, if it has a place there."""
        return rms_norm(y, layer[norm], self.config.eps) if self.config.has_norm(norm) else y.float()

    @staticmethod
    def linear(layer: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
        y = F.linear(x, layer[name])
        return y + layer["b" + name].to(y.dtype) if "b" + name in layer else y

    def finish(self, layer: dict[str, Tensor], x: Tensor, mixed: Tensor, sizes: list[Tensor] | None = None) -> Tensor:
        """The residual stream behind a layer.  ``sizes`` gets the mean squares of what o and down see."""
        x = x + self.behind(layer, "attn_post_norm", self.linear(layer, "wo", mixed))
        h = self.ahead(layer, "ffn_norm", x)
        act = (F.silu(self.linear(layer, "w1", h).float()) * self.linear(layer, "w3", h).float())
        if sizes is not None:
            sizes += [mixed.float().square().mean(), act.square().mean()]
        return x + self.behind(layer, "ffn_post_norm", self.linear(layer, "w2", act.to(self.dtype)))

    @torch.no_grad()
    def states(self, ids: Tensor, sizes: list[Tensor] | None = None) -> Tensor:
        """What the LM head sees [batch, time, dim], for ids [batch, time]."""
        cos, sin = angles(self.config, ids.shape[1], ids.device)
        x = self.table[ids].float()
        for layer in self.layers:
            x = self.finish(layer, x, attend(*self.heads(layer, x, cos, sin)), sizes)
        return rms_norm(x, self.norm, self.config.eps).to(self.dtype)


class Student(nn.Module):
    """All layers' matrices of a kind are one parameter [layers, rows, columns]; so are gains, and what rows are worth.

    ``codes_NAME``: int8 buffers, the codes that are held.  ``part`` of the methods: the share of the rounding that is done, 0
    to 1.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, model: Imported, teacher: Teacher, time: int, *, method: str = "absmean", planes: int = 1,
                 biases: bool = False) -> None:
        super().__init__()
        self.config = c = model.config
        self.method, self.planes, self.reach = method, planes, plane_reach(planes)
        self.biased = [name for name in LINEARS if biases and name in BIASED or "b" + name in teacher.layers[0]]
        for name in LINEARS:
            w = torch.stack([layer[name].float() for layer in teacher.layers]).cpu()
            size = w.abs().mean(-1, keepdim=True).clamp(min=1e-8)
            self.register_buffer("base_" + name, (size / SIZE).squeeze(-1))
            setattr(self, name, nn.Parameter(w * (SIZE / size)))
            setattr(self, "rho_" + name, nn.Parameter(torch.zeros(c.layers, w.shape[1])))
            self.register_buffer("codes_" + name, self.nearest(getattr(self, name).detach()).round().to(torch.int8))
            if name in self.biased:
                zero = torch.zeros(w.shape[1])
                rows = [layer.get("b" + name, zero).float().cpu() for layer in teacher.layers]
                setattr(self, "bias_" + name, nn.Parameter(torch.stack(rows)))
            if method == "tequila" and name in BIASED:
                setattr(self, "lambda_" + name, nn.Parameter(torch.full((c.layers, 1), 1e-3)))
            if method == "ttq":
                setattr(self, "pair_" + name, nn.Parameter(torch.zeros(c.layers, w.shape[1])))
        #: Gains are base * (1 + delta).
        self.norms = [norm for norm in NORMS if c.has_norm(norm) or norm in ("o_norm", "down_norm") and not c.vector_norms]
        for norm in self.norms:
            width = c.norm_width(norm)
            base = (torch.stack([layer[norm].float() for layer in teacher.layers]).cpu() if c.has_norm(norm)
                    else torch.ones(c.layers, width))
            self.register_buffer("base_" + norm, base)
            setattr(self, norm, nn.Parameter(torch.zeros(c.layers, width)))
        self.register_buffer("base_final", teacher.norm.float().cpu().clone())
        self.final = nn.Parameter(torch.zeros(c.dim))
        for name in ("embedding",) if c.tied else ("embedding", "head"):
            codes, scales = whole(model.table(name))
            self.register_buffer(name + "_codes", torch.from_numpy(codes))
            self.register_buffer(name + "_scale", torch.from_numpy(stored_values(scales)).float())
        for name, values in zip(("cos", "sin"), angles(c, time, "cpu"), strict=True):
            self.register_buffer(name, values, persistent=False)
        #: Runs a layer; a compiled one takes its place on a GPU.
        self.run: Callable[..., Tensor] = self.layer
        #: Whether sums are float32 on a GPU too; then ``hardest`` is the largest attention score, in base 2.
        self.exact, self.hardest = False, 0.0

    @property
    def dtype(self) -> torch.dtype:
        """Of codes and of what attention sees."""
        return torch.bfloat16 if self.final.is_cuda and not self.exact else torch.float32

    def calibrate(self, sizes: list[Tensor]) -> None:
        """Multiply the rows of wo and w2 with the mean size of what they see, where norms ahead of them are new; ``sizes``: mean
        squares, of o and of down by layer."""
        if self.config.vector_norms:
            return
        for name, found in (("wo", sizes[0::2]), ("w2", sizes[1::2])):
            base = getattr(self, "base_" + name)
            base *= torch.stack(found).sqrt().to(base.device)[:, None]

    def steps(self, w: Tensor) -> Tensor:
        """The step of each row [..., rows, 1]."""
        return w.detach().abs().mean(-1, keepdim=True).clamp(min=1e-8) * STEP[self.planes]

    def nearest(self, w: Tensor) -> Tensor:
        """Codes ahead of rounding, as far as they reach."""
        return (w / self.steps(w)).clamp(-self.reach, self.reach)

    @torch.no_grad()
    def settle(self, margin: float) -> None:
        """Change the codes whose weight is more than ``margin`` steps behind the threshold."""
        for name in LINEARS:
            w, held = getattr(self, name), getattr(self, "codes_" + name)
            self.settle_one(w, held, margin)

    def settle_one(self, w: Tensor, held: Tensor, margin: float) -> None:
        code = self.nearest(w)
        held.copy_(torch.where((code - held).abs() > 0.5 + margin, code.round(), held.to(code.dtype)).to(torch.int8))

    def parts(self) -> list[dict[str, Tensor]]:
        """The tensors of each layer."""
        names = [name for name, _ in (*self.named_parameters(), *self.named_buffers())
                 if name not in ("final", "base_final", "cos", "sin") and not name.startswith(("embedding", "head"))]
        stacks = {name: getattr(self, name).unbind(0) for name in names}
        return [{name: stack[i] for name, stack in stacks.items()} for i in range(self.config.layers)]

    def row(self, p: dict[str, Tensor], name: str, part: Tensor | float,
            dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
        """(codes [rows, columns], scale [rows], bias [rows] or None) of a matrix of a layer."""
        w, held = p[name], p["codes_" + name].to(torch.float32)
        step = self.steps(w)
        code = w / step
        code = code + part * (held - code.detach())
        scale = step.squeeze(-1) * (p["base_" + name] * p["rho_" + name].exp())
        bias = p.get("bias_" + name)
        if self.method == "tequila" and name in BIASED:
            dead = (w * (held == 0)).sum(-1) * p["lambda_" + name] * p["base_" + name]
            bias = dead * part if bias is None else bias + dead * part
        if self.method == "ttq":
            pair = rounded(p["pair_" + name].clamp(-0.99, 0.99) * WORTH, part)
            code = WORTH * code + pair[:, None] * held.abs()
            scale = scale / WORTH
        return code.to(dtype), scale, bias

    def sums(self, p: dict[str, Tensor], names: tuple[str, ...], q: Tensor,
             part: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
        """(sums of codes [..., rows], scale [rows], bias [rows]) of linears that see the same codes."""
        rows = [self.row(p, name, part, self.dtype) for name in names]
        scale = torch.cat([scale for _, scale, _ in rows])
        bias = torch.cat([torch.zeros_like(scale) if bias is None else bias for _, scale, bias in rows])
        return F.linear(q, torch.cat([codes for codes, _, _ in rows])), scale, bias

    def seen(self, p: dict[str, Tensor], x: Tensor, gain: str, part: Tensor | float) -> tuple[Tensor, Tensor]:
        """(codes, scale) of what linears see, behind a norm if it has a place there."""
        return int8_codes(self.normed(p, x, gain) if gain in self.norms else x.float(), part, self.dtype)

    def normed(self, p: dict[str, Tensor], x: Tensor, gain: str) -> Tensor:
        """A norm with its gain."""
        return rms_norm(x, p["base_" + gain] * (1 + p[gain]), self.config.eps)

    def first_half(self, x: Tensor, p: dict[str, Tensor], cos: Tensor, sin: Tensor,
                   part: Tensor | float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(residual stream behind attention, sums of gate and up, their scale of each token, of each row, bias, gain of the norm
        ahead of down, or the final norm's where there is none)."""
        c, dtype = self.config, self.dtype
        codes, size = self.seen(p, x, "attn_norm", part)
        y, scale, bias = self.sums(p, ("wq", "wk", "wv"), codes, part)
        y = y.float() * size * scale + bias
        heads = []
        for part_of_y, norm in zip(y.split((c.q_dim, c.kv_dim, c.kv_dim), -1), ("q_norm", "k_norm", ""), strict=True):
            if norm and c.vector_norms:
                part_of_y = self.normed(p, part_of_y, norm)
            head = part_of_y.unflatten(-1, (-1, c.head_dim))
            if norm and c.qk_norm:
                head = self.normed(p, head, norm)
            codes, size = int8_codes(rotate(head, cos, sin) if norm else head, part, torch.float32)
            heads.append((codes * size).to(dtype))
        if self.exact:
            self.hardest = max(self.hardest, hardest_score(*heads[:2]))
        codes, size = self.seen(p, attend(*heads), "o_norm", part)
        y, scale, bias = self.sums(p, ("wo",), codes, part)
        x = x + self.added(p, "attn_post_norm", y.float() * size * scale + bias)
        codes, size = self.seen(p, x, "ffn_norm", part)
        y, scale, bias = self.sums(p, ("w1", "w3"), codes, part)
        return x, y, size, scale, bias, p["base_down_norm"] * (1 + p["down_norm"]) if "down_norm" in self.norms else self.final

    def added(self, p: dict[str, Tensor], norm: str, y: Tensor) -> Tensor:
        """What is added to the residual stream: behind a norm, if it has a place there."""
        return self.normed(p, y, norm) if norm in self.norms else y

    def between(self, sums: Tensor, size: Tensor, scale: Tensor, bias: Tensor, gain: Tensor,
                part: Tensor | float) -> tuple[Tensor, Tensor]:
        """(codes, scale) of what down sees, from the sums of gate and up."""
        if "down_norm" in self.norms:
            return gate_codes_plain(sums, size, scale, bias, gain, part, self.config.eps)
        gate, up = (sums.float() * size * scale + bias).chunk(2, -1)
        return int8_codes(F.silu(gate) * up, part, self.dtype)

    def second_half(self, x: Tensor, codes: Tensor, size: Tensor, p: dict[str, Tensor], part: Tensor | float) -> Tensor:
        """The residual stream behind a layer, from what down sees."""
        y, scale, bias = self.sums(p, ("w2",), codes, part)
        return x + self.added(p, "ffn_post_norm", y.float() * size * scale + bias)

    def layer(self, x: Tensor, p: dict[str, Tensor], cos: Tensor, sin: Tensor, part: Tensor | float) -> Tensor:
        """The residual stream behind a layer."""
        x, *between = self.first_half(x, p, cos, sin, part)
        return self.second_half(x, *self.between(*between, part), p, part)

    def compiled(self) -> None:
        """Run layers as compiled code, on a GPU."""
        if "down_norm" not in self.norms:
            # gate.py has the norm ahead of down in it.
            self.run = torch.compile(self.layer, dynamic=False)
            return
        first, second = torch.compile(self.first_half, dynamic=False), torch.compile(self.second_half, dynamic=False)

        def layer(x: Tensor, p: dict[str, Tensor], cos: Tensor, sin: Tensor, part: Tensor) -> Tensor:
            x, sums, size, scale, bias, gain = first(x, p, cos, sin, part)
            codes, out = gate_codes(sums.flatten(0, 1), size.flatten(0, 1), scale, bias, gain, part, self.config.eps)
            return second(x, codes.view(*x.shape[:2], -1), out.view(*x.shape[:2], 1), p, part)

        self.run = layer

    def forward(self, ids: Tensor, part: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
        """(codes, scale) of what the LM head sees, [batch, time, dim] and [batch, time, 1], for ids [batch, time]."""
        time = ids.shape[1]
        x = self.embedding_codes[ids].float() * self.embedding_scale[ids][..., None]
        for p in self.parts():
            x = self.run(x, p, self.cos[:time], self.sin[:time], part)
        gain = self.base_final * (1 + self.final)
        return int8_codes(rms_norm(x, gain, self.config.eps), part, self.dtype)

    def head(self) -> tuple[Tensor, Tensor]:
        """(codes [vocab, dim], scale [vocab]) of the LM head."""
        return (self.embedding_codes, self.embedding_scale) if self.config.tied else (self.head_codes, self.head_scale)


def compare(student: Tensor, teacher: Tensor, size: Tensor, scale: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(KL of each row in nats, whether both have the same first choice, gradient by the student's sums times ``weight``).

    ``student``: sums of codes [rows, vocab]; logits are sums * size * scale.  ``teacher``: logits.
    """
    a, b = student.float() * size * scale, teacher.float()
    a_log, b_log = a - a.logsumexp(-1, keepdim=True), b - b.logsumexp(-1, keepdim=True)
    likely = b_log.exp()
    kl = (likely * (b_log - a_log)).sum(-1)
    gradient = (a_log.exp() - likely) * (weight[:, None] * scale)
    return kl, a.argmax(-1) == b.argmax(-1), gradient.to(student.dtype)


class _Distil(torch.autograd.Function):
    """Weighted sum of KL divergences; the gradient is made on the way forward, some rows at a time."""

    @staticmethod
    def forward(ctx, q, size, weight, table, scale, states, head, run, chunk):  # type: ignore[no-untyped-def]
        gradient = torch.empty_like(q)
        total, same = torch.zeros((), device=q.device), torch.zeros((), device=q.device)
        for at in range(0, len(q), chunk):
            rows = slice(at, at + chunk)
            kl, alike, step = run(F.linear(q[rows], table), F.linear(states[rows], head), size[rows], scale, weight[rows])
            torch.mm(step, table, out=gradient[rows])
            total += (kl * weight[rows]).sum()
            same += (alike * weight[rows]).sum()
        ctx.save_for_backward(gradient * size.to(q.dtype))
        ctx.mark_non_differentiable(same)
        return total, same

    @staticmethod
    def backward(ctx, total, _same):  # type: ignore[no-untyped-def]
        (gradient,) = ctx.saved_tensors
        return (gradient * total.to(gradient.dtype), *[None] * 8)


def distil(q: Tensor, size: Tensor, weight: Tensor, table: Tensor, scale: Tensor, states: Tensor, head: Tensor,
           run: Callable[..., tuple[Tensor, Tensor, Tensor]] = compare, chunk: int = 8192) -> tuple[Tensor, Tensor]:
    """(sum of weight * KL(teacher, student), sum of weight * same first choice) over rows.

    q [rows, dim] and size [rows, 1]: what the student's head sees, codes and scale; table and scale: its codes and their scales;
    states [rows, dim] and head: the teacher's.
    """
    return _Distil.apply(q, size, weight, table, scale, states, head, run, chunk)


def hardest_score(q: Tensor, k: Tensor) -> float:
    """The largest attention score in base 2, of q and k [batch, time, heads, width]."""
    k = k.repeat_interleave(q.shape[2] // k.shape[2], 2)
    scores = torch.einsum("bihd,bjhd->bhij", q.float(), k.float()) / math.sqrt(q.shape[-1]) * math.log2(math.e)
    return float(scores.tril().abs().max())
