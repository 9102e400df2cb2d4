# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Step 4: a training checkpoint as a safetensors file that ``tellme-host convert`` reads.

int8 codes -1, 0, 1 and a float32 scale for each matrix, the gains in float16.  The embedding is float16, or, of a model
that was trained with ``--head-planes``, int8 codes within the planes' reach and a float32 scale a row.

The board holds attention scores (base 2) within -256 to 256.  Muon lets them grow far beyond; ``--scores`` multiplies
the query scale of each layer, which brings them back.  Choose the factors by the loss on sampled text.
"""

import argparse
from pathlib import Path

import torch
from model import GAINS, LINEARS, Shape, Student, ternary
from safetensors.torch import save_file
from torch import Tensor

__all__ = ["load", "tensors"]


def load(path: Path) -> Student:
    """The student of a checkpoint, on the CPU."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    model = Student(Shape(**state["shape"]))
    model.restore(state["model"])
    return model


@torch.no_grad()
def tensors(model: Student) -> dict[str, Tensor]:
    """What the file holds, by name."""
    out = {"emb": model.emb.half(), "norm": model.norm.half()}
    if model.shape.head_planes:
        out |= {"emb": model.codes().round().to(torch.int8), "emb.scale": model.emb_scale.exp().flatten()}
    for name in LINEARS:
        codes, scales = ternary(getattr(model, name), None, model.held(name))
        if name == "wq":
            scales = scales * model.score.exp()[:, None, None]
        for i in range(model.shape.layers):
            out[f"layers.{i}.{name}.weight"] = codes[i].to(torch.int8).contiguous()
            out[f"layers.{i}.{name}.scale"] = scales[i].reshape(1).clone()
    if any((getattr(model, name) != 1).any() for name in GAINS):
        for name in GAINS:
            for i in range(model.shape.layers):
                out[f"layers.{i}.{name}"] = getattr(model, name)[i].half()
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--license", default="", help="SPDX name of the weights' licence (default: not given)")
    parser.add_argument("--scores", help="a factor for the attention scores of each layer, with commas between")
    args = parser.parse_args()
    model = load(args.checkpoint)
    s = model.shape
    found = tensors(model)
    gains = "layers.0.attn_norm" in found
    metadata = {
        "dim": s.dim, "hidden": s.ffn, "layers": s.layers, "heads": s.heads, "kv_heads": s.kv_heads, "vocab": s.vocab,
        "context": s.context, "act": "silu", "tied": "true", "license": args.license, "rope": "interleaved pairs, theta 10000",
        "norm": f"RMSNorm {'with' if gains else 'without'} gain before every linear, eps 1e-5; learned gain before the head"}
    if args.scores:
        factors = [float(part) for part in args.scores.split(",")]
        if len(factors) != s.layers:
            parser.error(f"{len(factors)} factors for {s.layers} layers")
        for i, factor in enumerate(factors):
            found[f"layers.{i}.wq.scale"] *= factor
    save_file(found, args.out, {key: str(value) for key, value in metadata.items()})
    zeros = torch.cat([t.flatten() for name, t in found.items() if name.endswith("weight")]).eq(0).float().mean()
    print(f"{args.out}: {s.ternary_weights} ternary weights, {100 * zeros:.0f} % zero")


if __name__ == "__main__":
    main()
