# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A checkpoint for ``train.py --init`` from a .tellme file, where the float weights are lost.

Every weight becomes its code times one magnitude a matrix, chosen so that the mean absolute value is the file's scale:
codes and scales are then the file's own (0 and 1 / (share that is not zero) are both far behind the threshold).  Score
factors lie in the scale of wq and stay there.  A table whose codes fit five planes or fewer is a table of planes.  Needs the
tellme package besides torch.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from model import GAINS, LINEARS, Shape, Student, ternary
from torch import Tensor

from tellme.models.int8 import float_rows, stored_values
from tellme.models.model import Model
from tellme.spec.scale import Scale

__all__ = ["restore"]


def magnitudes(codes: np.ndarray, scale: Scale) -> Tensor:
    """Float weights with these codes, and the scale as their mean absolute value."""
    return torch.from_numpy(codes).float() * (float(scale.value()) / float(np.mean(codes != 0)))


@torch.no_grad()
def restore(model: Model) -> Student:
    """The student that computes what the file does, its codes held."""
    c = model.config
    planes = next((n for n in range(1, 6) if int(np.abs(model.embedding.astype(int)).max()) <= (3**n - 1) // 2), 0)
    student = Student(Shape(c.dim, c.ffn, c.layers, c.heads, c.kv_heads, c.vocab, c.context, planes))
    student.emb.copy_(torch.from_numpy(float_rows(model.embedding, model.embedding_scales)))
    if planes:
        student.emb_scale.copy_(torch.from_numpy(stored_values(model.embedding_scales))[:, None].clamp(min=1e-8).log())
    if model.final_gain is not None:
        student.norm.copy_(torch.from_numpy(model.final_gain))
    for i, layer in enumerate(model.layers):
        for name in LINEARS:
            scale = layer.scales[name]
            if not isinstance(scale, Scale):
                raise SystemExit(f"layers.{i}.{name} has several scales")
            getattr(student, name)[i] = magnitudes(layer.weights[name], scale)
        for name in GAINS:
            if name in layer.gains:
                getattr(student, name)[i] = torch.from_numpy(layer.gains[name])
    student.hold()
    for i, layer in enumerate(model.layers):
        for name in LINEARS:
            codes, scales = ternary(getattr(student, name), None)
            if not np.array_equal(codes[i].float().numpy(), layer.weights[name]):
                raise SystemExit(f"layers.{i}.{name}: other codes")
            if abs(float(scales[i]) / float(layer.scales[name].value()) - 1) > 1e-4:
                raise SystemExit(f"layers.{i}.{name}: another scale")
    return student


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="a .tellme file")
    parser.add_argument("out", type=Path, help="checkpoint")
    parser.add_argument("--tokenizer", type=Path, help="write the file's SentencePiece model here")
    args = parser.parse_args()
    model = Model.load(args.model)
    student = restore(model)
    torch.save({"shape": student.shape.asdict(), "model": student.state_dict()}, args.out)
    if args.tokenizer:
        args.tokenizer.write_bytes(model.tokenizer)
    print(f"{args.out}: {student.shape.ternary_weights} ternary weights, codes and scales as in {args.model}")


if __name__ == "__main__":
    main()
