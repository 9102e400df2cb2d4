# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A student of ternarise.py as files: its codes, where its weights lie between codes, and all else that it learned.

OUT/weights-K-of-N.safetensors holds some of the layers.  One plane: ``layers.I.NAME.state``, uint8 [rows, columns / 2], two
weights a byte, the even column low: 5 * (code + 1) + bucket, where the bucket says how far the weight lies from its code
(PLACES).  Several planes: ``.codes`` int8 and ``.weight`` float16, in steps.  With ``.scale`` float32 a row, ``.bias`` float32 a
row, ``.pair`` int8 a row (TTQ), and the gains float32.  The metadata's ``about`` is a JSON object.  The tables are the float
model's and not repeated.
"""

import json
from pathlib import Path

import torch
from network import BIASED, WORTH, Student
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tellme.models.config import LINEARS

__all__ = ["pack", "unpack"]

#: weight / step - code at the middle of each bucket, for the code 0, and (times the code) for 1 and -1.
PLACES = ((-0.45, -0.22, 0.0, 0.22, 0.45), (-0.45, -0.2, 0.15, 0.6, 1.6))


def state_of(code: Tensor, w: Tensor) -> Tensor:
    """The bytes of codes and weights [rows, columns], weights in steps."""
    code = code.float()
    off = torch.where(code == 0, w, (w - code) * code.sign())
    places = torch.tensor(PLACES, device=w.device)
    edges = (places[:, 1:] + places[:, :-1]) / 2
    bucket = torch.where(code == 0, torch.bucketize(off, edges[0]), torch.bucketize(off, edges[1]))
    state = (5 * (code + 1).to(torch.uint8) + bucket.to(torch.uint8))
    return state[:, ::2] | state[:, 1::2] << 4


def of_state(state: Tensor) -> tuple[Tensor, Tensor]:
    """(codes int8, weights in steps) of bytes."""
    both = torch.stack((state & 15, state >> 4), -1).flatten(-2).long()
    code = both // 5 - 1
    places = torch.tensor(PLACES)[(code != 0).long(), both % 5]
    return code.to(torch.int8), torch.where(code == 0, places, code + code.sign() * places)


@torch.no_grad()
def pack(student: Student, out: Path, parts: int, about: dict[str, float | str]) -> None:
    """Write the files; each in place of the one before only when it is whole."""
    c = student.config
    about = about | {"method": student.method, "planes": student.planes}
    layers = student.parts()
    for k in range(parts):
        found: dict[str, Tensor] = {"norm": student.base_final * (1 + student.final)} if k == 0 else {}
        for i in range(k * c.layers // parts, (k + 1) * c.layers // parts):
            p, head = layers[i], f"layers.{i}."
            for name in LINEARS:
                _, scale, bias = student.row(p, name, 1.0, torch.float32)
                w = p[name] / student.steps(p[name])
                if student.planes == 1:
                    found[head + name + ".state"] = state_of(p["codes_" + name], w)
                else:
                    found |= {head + name + ".codes": p["codes_" + name], head + name + ".weight": w.half()}
                if student.method == "ttq":
                    found[head + name + ".pair"] = (p["pair_" + name].clamp(-0.99, 0.99) * WORTH).round().to(torch.int8)
                    scale = scale * WORTH
                found[head + name + ".scale"] = scale
                if bias is not None:
                    found[head + name + ".bias"] = bias
            for norm in student.norms:
                found[head + norm] = p["base_" + norm] * (1 + p[norm])
        path, scratch = out / f"weights-{k + 1}-of-{parts}.safetensors", out / "partial"
        save_file({name: t.cpu().contiguous() for name, t in found.items()}, scratch, {"about": json.dumps(about)})
        scratch.replace(path)


@torch.no_grad()
def unpack(student: Student, paths: list[Path]) -> None:
    """Make a student go on from files.  What Tequila's weights gave stays as a bias, so its student needs ``--biases``."""
    found: dict[str, Tensor] = {}
    for path in paths:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            found |= {name: file.get_tensor(name) for name in file.keys()}
        if (about.get("method"), about.get("planes")) != (student.method, student.planes):
            raise SystemExit(f"{path}: {about.get('method')} of {about.get('planes')} planes")
    student.base_final.copy_(found["norm"])
    for i in range(student.config.layers):
        head = f"layers.{i}."
        for name in LINEARS:
            w = getattr(student, name)[i]
            if student.planes == 1:
                codes, steps = of_state(found[head + name + ".state"])
            else:
                codes, steps = found[head + name + ".codes"], found[head + name + ".weight"].float()
            size = steps.abs().mean(-1, keepdim=True)
            w.copy_(steps * (w.abs().mean() / size))
            getattr(student, "codes_" + name)[i] = codes
            getattr(student, "base_" + name)[i] = found[head + name + ".scale"] / student.steps(w).squeeze(-1)
            if name in student.biased:
                bias = getattr(student, "bias_" + name)[i]
                bias.copy_(found.get(head + name + ".bias", torch.zeros_like(bias)))
            elif head + name + ".bias" in found and not (student.method == "tequila" and name in BIASED):
                raise SystemExit(f"{head}{name} has a bias, and the student has none: give --biases")
            if student.method == "ttq":
                getattr(student, "pair_" + name)[i] = found[head + name + ".pair"].float() / WORTH
        for norm in student.norms:
            getattr(student, "base_" + norm)[i] = found[head + norm]
