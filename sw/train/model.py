# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The student: a BitNet b1.58 LLaMA as the board computes it, for quantisation-aware training.

Every linear sees RMSNorm with a gain, int8 activations (absmax of the token) and ternary weights (absmean of the
matrix), with straight-through gradients.  The matrix product runs on the integer codes, exact in bfloat16 inputs.
The table (embedding and LM head) is float, or integers of some ternary planes with a learned scale a row.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["GAINS", "LINEARS", "Shape", "Student", "absmean", "bits_per_byte", "quantise", "row_scales", "ternary"]

LINEARS = ("wq", "wk", "wv", "wo", "w1", "w3", "w2")
#: Gains of the norms ahead of wq, wk and wv; of wo; of w1 and w3; of w2.
GAINS = ("attn_norm", "o_norm", "ffn_norm", "down_norm")
EPS = 1e-5
THETA = 10000.0
#: Marks targets that count nothing.
IGNORE = -100


@dataclass(frozen=True)
class Shape:
    """Shape of a student; ``context`` is the longest sequence it is trained at.

    ``head_planes``: ternary planes of the table, 1 to 5; 0 is a float table.
    """

    dim: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    context: int = 512
    head_planes: int = 0

    @classmethod
    def parse(cls, text: str, vocab: int, context: int, head_planes: int = 0) -> "Shape":
        """From ``dim,ffn,layers,heads,kv_heads``."""
        shape = cls(*(int(part) for part in text.split(",")), vocab, context, head_planes)
        if shape.dim % shape.heads or shape.heads % shape.kv_heads or shape.head_dim % 8:
            raise ValueError(f"{text}: heads must divide dim, kv_heads heads, and 8 the head's width")
        return shape

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    def matrix(self, name: str) -> tuple[int, int]:
        """(rows, columns) of a linear."""
        kv = self.kv_heads * self.head_dim
        return {"wq": (self.dim, self.dim), "wk": (kv, self.dim), "wv": (kv, self.dim), "wo": (self.dim, self.dim),
                "w1": (self.ffn, self.dim), "w3": (self.ffn, self.dim), "w2": (self.dim, self.ffn)}[name]

    @property
    def reach(self) -> int:
        """The largest code of a table of planes: (3**planes - 1) / 2."""
        return (3**self.head_planes - 1) // 2

    @property
    def ternary_weights(self) -> int:
        return self.layers * sum(math.prod(self.matrix(name)) for name in LINEARS)

    def asdict(self) -> dict[str, int]:
        return asdict(self)


def absmean(w: Tensor) -> Tensor:
    """Scale of each matrix of a stack [layers, rows, columns]: the mean absolute value."""
    return w.abs().mean(dim=(-2, -1), keepdim=True).clamp(min=EPS)


def ternary(w: Tensor, part: Tensor | None, held: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(codes -1, 0, 1 in bfloat16, scale) of a stack; of the float weights a share 1 - ``part`` of each layer stays.

    ``held``: the codes, where they are not the nearest ones.
    """
    scale = absmean(w.detach())
    code = w / scale
    step = (code.detach().round().clamp(-1, 1) if held is None else held.float()) - code.detach()
    return (code + (step if part is None else part[:, None, None] * step)).bfloat16(), scale


@torch.no_grad()
def row_scales(table: Tensor, reach: int) -> Tensor:
    """The scale of each row [rows, 1] with the least squared error, of 81 between 0.2 and 1 times absmax / reach.

    Codes are round(x / scale), limited to -reach to reach: a scale below absmax / reach cuts off a row's largest elements.
    """
    full = (table.abs().amax(1, keepdim=True) / reach).clamp(min=1e-8)
    best, least = full, torch.full_like(full, math.inf)
    for share in torch.linspace(0.2, 1, 81).tolist():
        scale = full * share
        error = ((table / scale).round().clamp(-reach, reach) * scale - table).square().sum(1, keepdim=True)
        best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    return best


def quantise(x: Tensor, gain: Tensor, part: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """RMSNorm, then (int8 codes in bfloat16, scale) of each token."""
    x = x.float()
    x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * gain
    peak = x.detach().abs().amax(-1, keepdim=True).clamp(min=EPS)
    code = x * (127 / peak)
    step = code.detach().round() - code.detach()
    return (code + (step if part is None else part * step)).bfloat16(), peak / 127


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE of adjacent pairs; x is [batch, time, heads, width]."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


class Student(nn.Module):
    """All layers' matrices of a kind are one parameter [layers, rows, columns].

    ``part``: share of the quantisation in each layer, 0 (float) to 1; None is 1 everywhere.  ``score``: logarithm of a
    factor of each layer's attention scores.  After :meth:`hold` the codes are buffers, which :meth:`settle` changes.
    ``emb_scale``: logarithm of the scale of each row of a table of planes [vocab, 1].
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.emb = nn.Parameter(torch.randn(shape.vocab, shape.dim) * 0.02)
        if shape.head_planes:
            self.emb_scale = nn.Parameter(row_scales(self.emb.detach(), shape.reach).log())
        self.norm = nn.Parameter(torch.ones(shape.dim))
        for name in LINEARS:
            setattr(self, name, nn.Parameter(torch.randn(shape.layers, *shape.matrix(name)) * 0.02))
        for name in GAINS:
            setattr(self, name, nn.Parameter(torch.ones(shape.layers, shape.ffn if name == "down_norm" else shape.dim)))
        self.score = nn.Parameter(torch.zeros(shape.layers))
        rate = THETA ** (-torch.arange(0, shape.head_dim, 2).float() / shape.head_dim)
        angle = torch.arange(shape.context).float()[:, None] * rate
        self.register_buffer("cos", angle.cos()[:, None, :], persistent=False)
        self.register_buffer("sin", angle.sin()[:, None, :], persistent=False)

    def held(self, name: str) -> Tensor | None:
        """The codes of a kind of matrix, if they are held."""
        return getattr(self, "code_" + name, None)

    @torch.no_grad()
    def hold(self) -> None:
        """Make buffers of the codes, the nearest ones at first."""
        for name in LINEARS:
            self.register_buffer("code_" + name, ternary(getattr(self, name), None)[0].to(torch.int8))

    @torch.no_grad()
    def settle(self, margin: float) -> None:
        """Change the codes whose weight is more than ``margin`` (in scales) behind the threshold to the next code."""
        for name in LINEARS:
            w, held = getattr(self, name), getattr(self, "code_" + name)
            code = (w / absmean(w)).clamp(-1, 1)
            held.copy_(torch.where((code - held).abs() > 0.5 + margin, code.round(), held))

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Take a checkpoint's weights; those of before there were gains and held codes have none."""
        if "code_wq" in state:
            self.hold()
        missing, unknown = self.load_state_dict(state, strict=False)
        if "emb_scale" in missing:
            # The weights of a float table: the best scales to begin with, and no weight where no gradient reaches it.
            scale = row_scales(self.emb, self.shape.reach)
            reach = self.shape.reach * scale
            self.emb_scale.copy_(scale.log())
            self.emb.copy_(torch.maximum(torch.minimum(self.emb, reach), -reach))
        if unknown or set(missing) - {*GAINS, "score", "emb_scale"} - {"code_" + name for name in LINEARS}:
            raise SystemExit(f"not this model's checkpoint: {sorted([*missing, *unknown])}")
        if missing and "code_wq" not in state and self.held("wq") is not None:
            self.hold()

    def codes(self) -> Tensor:
        """Codes of a table of planes [vocab, dim], whole numbers in float32; gradients as of weights / scale."""
        reach = self.shape.reach
        code = (self.emb / self.emb_scale.exp()).clamp(-reach, reach)
        return code + (code.detach().round() - code.detach())

    def table(self) -> Tensor:
        """The values of embedding and LM head."""
        return self.codes() * self.emb_scale.exp() if self.shape.head_planes else self.emb

    def hidden(self, ids: Tensor, table: Tensor, part: Tensor | None = None) -> Tensor:
        """The residual stream ahead of the last norm, for ids [batch, time]."""
        s = self.shape
        batch, time = ids.shape
        cos, sin = self.cos[:time], self.sin[:time]
        codes = {name: ternary(getattr(self, name), part, self.held(name)) for name in LINEARS}

        def linear(names: tuple[str, ...], gain: Tensor, layer: int, x: Tensor) -> list[Tensor]:
            q, scale = quantise(x, gain[layer], None if part is None else part[layer])
            w = torch.cat([codes[name][0][layer] for name in names])
            outs = F.linear(q, w).split([s.matrix(name)[0] for name in names], -1)
            return [out * (scale * codes[name][1][layer]) for name, out in zip(names, outs, strict=True)]

        x = F.embedding(ids, table)
        for layer in range(s.layers):
            q, k, v = linear(("wq", "wk", "wv"), self.attn_norm, layer, x)
            q = q * self.score[layer].exp()
            q = rotate(q.unflatten(-1, (s.heads, -1)), cos, sin).bfloat16()
            k = rotate(k.unflatten(-1, (s.kv_heads, -1)), cos, sin).bfloat16()
            v = v.unflatten(-1, (s.kv_heads, -1)).bfloat16()
            mixed = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2),
                                                   is_causal=True, enable_gqa=s.heads != s.kv_heads)
            x = x + linear(("wo",), self.o_norm, layer, mixed.transpose(1, 2).flatten(-2))[0]
            gate, up = linear(("w1", "w3"), self.ffn_norm, layer, x)
            x = x + linear(("w2",), self.down_norm, layer, F.silu(gate) * up)[0]
        return x

    def forward(self, ids: Tensor, part: Tensor | None = None) -> Tensor:
        """Logits, float32.  A table of planes sees int8 codes of the state, as on the board."""
        table = self.table()
        x = self.hidden(ids, table, part)
        if self.shape.head_planes:
            q, scale = quantise(x, self.norm)
            return F.linear(q, table.bfloat16()).float() * scale
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * self.norm
        return F.linear(x.bfloat16(), table.bfloat16()).float()

    def loss(self, ids: Tensor, targets: Tensor, part: Tensor | None = None) -> Tensor:
        """Mean nats per target that is not IGNORE."""
        return F.cross_entropy(self(ids, part).flatten(0, 1), targets.flatten(), ignore_index=IGNORE)


@torch.no_grad()
def bits_per_byte(model: Student, stories: list[list[int]], n_bytes: int, bos: int, batch: int = 64) -> float:
    """Loss on whole stories (BOS ahead, BOS as their end), each in windows of the context of its own."""
    device = model.emb.device
    size = model.shape.context
    rows = []
    for ids in stories:
        whole = [bos, *ids, bos]
        rows += [whole[at:at + size + 1] for at in range(0, len(whole) - 1, size)]
    nats = 0.0
    for at in range(0, len(rows), batch):
        part = rows[at:at + batch]
        ids = torch.full((batch, size), bos)
        targets = torch.full((batch, size), IGNORE)
        for i, row in enumerate(part):
            ids[i, :len(row) - 1] = torch.tensor(row[:-1])
            targets[i, :len(row) - 1] = torch.tensor(row[1:])
        logits = model(ids.to(device))
        nats += float(F.cross_entropy(logits.flatten(0, 1), targets.to(device).flatten(), ignore_index=IGNORE,
                                      reduction="sum"))
    return nats / math.log(2) / n_bytes
