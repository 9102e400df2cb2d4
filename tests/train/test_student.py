# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The student that ternarise.py trains, where torch is installed: its file computes what it computes, and its text is its
model's."""

import json
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import ternarise  # noqa: E402
from gate import gate_codes_plain  # noqa: E402
from network import Student, Teacher, compare, distil  # noqa: E402
from own_text import OwnText, choose  # noqa: E402
from states import pack, unpack  # noqa: E402
from ternary_model import read_learned, ternary_model  # noqa: E402

from tellme.golden.perplexity import golden_board  # noqa: E402
from tellme.models.config import LINEARS  # noqa: E402
from tellme.models.importers.checkpoints import open_floats  # noqa: E402
from tests.models.float_folders import CONFIGS, float_folder  # noqa: E402


def _silent(_text):
    pass


def drawn_student(tmp_path, arch, method="absmean", planes=1):
    """(float model, teacher, a student whose learned values are drawn)."""
    torch.manual_seed(3)
    source = open_floats(float_folder(tmp_path / "hf", arch), _silent)
    teacher = Teacher(source, "cpu", torch.float32)
    student = Student(source, teacher, 48, method=method, planes=planes, biases=method == "absmean")
    sizes = []
    teacher.states(torch.randint(300, (4, 48)), sizes)
    student.calibrate(sizes)
    with torch.no_grad():
        for name, p in student.named_parameters():
            if name not in LINEARS:
                p += torch.randn_like(p) * (0.3 if name.startswith("pair") else 0.05)
            else:
                p += torch.randn_like(p) * 0.05
    student.settle(0.1)
    return source, teacher, student


def logits_of(student, ids):
    codes, scale = student.head()
    q, size = student(ids)
    return torch.nn.functional.linear(q, codes.float()) * size * scale


@torch.no_grad()
@pytest.mark.parametrize("arch, method, planes", [("LlamaForCausalLM", "absmean", 1), ("Qwen2ForCausalLM", "tequila", 1),
                                                  ("Qwen3ForCausalLM", "absmean", 2), ("MistralForCausalLM", "ttq", 1),
                                                  ("Olmo2ForCausalLM", "absmean", 1), ("Olmo2ForCausalLM", "absmean", 3)])
def test_a_file_computes_what_the_student_does(arch, method, planes, tmp_path):
    source, teacher, student = drawn_student(tmp_path, arch, method, planes)
    pack(student, tmp_path, 2, {"context": 48})
    paths = sorted(tmp_path.glob("weights-*"))
    model = ternary_model(source, read_learned(paths))
    ids = torch.randint(300, (1, 40))
    wanted = logits_of(student, ids)[0].numpy()
    golden = golden_board(model).feed(ids[0].tolist(), 0, heads="all") / 2.0**16
    # The board rounds to binary16 and scales to 11 bits; another code or a bias that is missing makes more than ten times this.
    assert np.sqrt(((golden - wanted) ** 2).mean() / (wanted**2).mean()) < 0.04
    # And another run begins there.
    again = Student(source, teacher, 48, method=method, planes=planes, biases=True)
    unpack(again, paths)
    if method == "tequila":
        for name in ("wq", "wk", "wv", "w1", "w3"):
            getattr(again, "lambda_" + name).zero_()
    assert np.allclose(logits_of(again, ids)[0], wanted, rtol=0, atol=0.02 * np.abs(wanted).max())


@torch.no_grad()
@pytest.mark.parametrize("arch", CONFIGS)
def test_drawn_rows_have_the_states_of_the_model(arch, tmp_path):
    source = open_floats(float_folder(tmp_path / "hf", arch), _silent)
    teacher = Teacher(source, "cpu", torch.float32)
    text = OwnText(teacher, [[5, 6, 7], [8]], 6, 30, temperature=1.0, min_p=0.0, seed=1)
    rows = text.rows(torch.Generator().manual_seed(2), 2)
    assert rows.ids[0, :3].tolist() == [5, 6, 7] and rows.ids[1, 0] == 8 and rows.given.tolist() == [3, 1] * 3
    assert rows.weights[0].tolist() == [0.0, 0.0] + [1.0] * 28 and rows.weights[1].tolist() == [1.0] * 30
    assert torch.allclose(rows.states, teacher.states(rows.ids.long()), atol=1e-3)
    # The rows that were held out have luck of their own, and the others do not see that.
    again = OwnText(teacher, [[5, 6, 7], [8]], 6, 30, temperature=1.0, min_p=0.0, seed=1)
    other = again.rows(torch.Generator().manual_seed(9), 2)
    assert torch.equal(rows.ids[:4], other.ids[:4]) and not torch.equal(rows.ids[4:], other.ids[4:])


def test_choices_are_drawn_by_their_probability():
    torch.manual_seed(0)
    logits, n = torch.randn(3, 700) * 2, 5000
    likely = (logits / 0.9).softmax(-1)
    likely = torch.where(likely < 0.02 * likely.amax(-1, keepdim=True), 0.0, likely)
    likely /= likely.sum(-1, keepdim=True)
    for row, wanted in zip(logits, likely, strict=True):
        found = choose(row.expand(n, -1), (torch.arange(n) + 0.5) / n, 0.9, 0.02)
        assert (torch.bincount(found, minlength=700) / n - wanted).abs().max() < 2 / n
        for luck in (0.0, 1.0):
            assert wanted[choose(row[None], torch.tensor([luck]), 0.9, 0.02)] > 0


def test_gradients_of_the_loss(tmp_path):
    """Made by hand ahead of the backward pass: the same as torch makes from the formula."""
    _, teacher, student = drawn_student(tmp_path, "LlamaForCausalLM")
    ids = torch.randint(300, (2, 20))
    states, (codes, scale) = teacher.states(ids).flatten(0, 1), student.head()
    weight = torch.rand(40)
    found = []
    for by_hand in (True, False):
        student.zero_grad()
        q, size = (x.flatten(0, 1) for x in student(ids, 0.5))
        if by_hand:
            loss, same = distil(q, size, weight, codes.float(), scale, states, teacher.head, chunk=16)
        else:
            kl, alike, _ = compare(q @ codes.float().T, states @ teacher.head.T, size, scale, weight)
            loss, same = (kl * weight).sum(), (alike * weight).sum()
        loss.backward()
        found.append((loss.detach(), same, [p.grad.clone() for p in student.parameters()]))
    assert torch.allclose(found[0][0], found[1][0]) and torch.allclose(found[0][1], found[1][1])
    for one, other in zip(found[0][2], found[1][2], strict=True):
        assert torch.allclose(one, other, atol=1e-5 * float(other.abs().max()) + 1e-9)


def test_a_code_changes_behind_the_margin(tmp_path):
    _, _, student = drawn_student(tmp_path, "LlamaForCausalLM")
    before = student.codes_wq.clone()
    with torch.no_grad():
        student.wq[0, 0, :4] = student.steps(student.wq[0])[0, 0] * torch.tensor([0.55, 0.65, -0.55, -0.65])
    student.codes_wq[0, 0, :4] = 0
    student.settle(0.1)
    # The row's step moves a little with its weights, less than 0.04 steps.
    assert student.codes_wq[0, 0, :4].tolist() == [0, 1, 0, -1]
    assert torch.equal(student.codes_wq[1], before[1])


def test_rows_of_sums_without_bias_or_part():
    sums = torch.tensor([[1.0, -2.0, 3.0, 4.0]])
    codes, size = gate_codes_plain(sums, torch.ones(1, 1), torch.ones(4), torch.zeros(4), torch.tensor([1.0, 2.0]), 1.0, 0.0)
    a = torch.nn.functional.silu(sums[0, :2]) * sums[0, 2:]
    n = a / a.square().mean().sqrt() * torch.tensor([1.0, 2.0])
    assert codes.tolist() == [(n * 127 / n.abs().max()).round().tolist()] and torch.allclose(size[0, 0] * 127, n.abs().max())


def test_a_run(tmp_path, monkeypatch):
    """Forty steps bring the loss down, and the files begin another run where they stopped."""
    source = float_folder(tmp_path / "hf", "Qwen2ForCausalLM")

    def run(out, *more):
        monkeypatch.setattr(sys, "argv", [
            "ternarise.py", str(source), "--out", str(tmp_path / out), "--device", "cpu", "--context", "24", "--draw-batch", "24",
            "--draw-seconds", "0", "--held", "8", "--batch", "8", "--every", "10", "--look", "1000", *more])
        ternarise.main()
        lines = (tmp_path / out / "log.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    first = run("a", "--steps", "40", "--parts", "2")
    trained = [line["kl"] for line in first if "kl" in line]
    assert trained[-1] < 0.7 * max(trained) and first[-1]["done"] == "yes" and first[-1]["held_same"] > 0.5
    files = [str(path) for path in sorted((tmp_path / "a").glob("weights-*-of-2.safetensors"))]
    again = run("b", "--steps", "1", "--init", *files, "--biases", "--lr", "0", "--rest-lr", "0", "--ramp", "0")
    assert again[-1]["held_kl"] == pytest.approx(first[-1]["held_kl"], rel=0.2)
