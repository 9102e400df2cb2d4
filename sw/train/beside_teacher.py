# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A ternary .tellme file beside the float model that it was made of: its loss on the golden model, and answers.

``--held``: rows that ternarise.py held out (OUT/held.pt); of the first ``--rows`` of them, the first ``--tokens`` tokens.
Prints a line of JSON: KL(float model, golden model) in nats and the share of the same first choice, over the places that
predict what was drawn; with ``--weights`` the same of the student in float32 sums, and the mean difference of both KLs with
its standard error.

``--answers N``: the first answers of up to N tokens, greedy, of both models to PROMPTS, as Markdown.
"""

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from network import Student, Teacher
from own_text import OwnText
from states import unpack
from ternary_model import read_learned
from torch import Tensor

from tellme.golden.board import GoldenBoard
from tellme.golden.perplexity import golden_board
from tellme.models.chat import ChatTemplate
from tellme.models.importers.checkpoints import open_floats
from tellme.models.model import Model
from tellme.models.tokenizers.tokenizer import Tokenizer
from tellme.spec.attention import LOGIT_FRAC

__all__ = ["PROMPTS", "answers", "losses"]

#: Written before any answer was seen.
PROMPTS = (
    "What is the capital of France?", "Explain why the sky is blue.", "Write a short poem about the sea.",
    "Give me three tips for a good night's sleep.", "What is 17 plus 25?", "Write a Python function that reverses a string.",
    "Tell me a story about a dragon that is afraid of fire.", "How do I make a cup of tea?",
    "Translate \"good morning\" into French.", "What is the difference between a planet and a star?")
#: So sharp that the likeliest token is drawn.
GREEDY = 1e-3


def apart(teacher: Tensor, other: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """(KL in nats, same first choice) at the places that are counted, of logits [rows, time, vocab]."""
    a, b = teacher.double().log_softmax(-1), other.double().log_softmax(-1)
    return (a.exp() * (a - b)).sum(-1)[counted], (a.argmax(-1) == b.argmax(-1))[counted].double()


@torch.no_grad()
def losses(teacher: Teacher, board: GoldenBoard, held: dict[str, Tensor], rows: int, tokens: int,
           student: Student | None) -> dict[str, float]:
    """What the module's text says of ``--held``."""
    ids, given = held["ids"][:rows, :tokens].long(), held["given"][:rows]
    counted = torch.arange(ids.shape[1]) >= given[:, None] - 1
    wanted = F.linear(teacher.states(ids), teacher.head)
    golden = torch.stack([torch.from_numpy(board.feed(row, 0, heads="all")) for row in ids.tolist()]) / 2.0**LOGIT_FRAC
    kl, same = apart(wanted, golden, counted)
    out = {"places": float(counted.sum()), "golden_kl": float(kl.mean()), "golden_same": float(same.mean())}
    if student is not None:
        q, size = student(ids)
        codes, scale = student.head()
        own_kl, own_same = apart(wanted, F.linear(q, codes.float()) * size * scale, counted)
        more = kl - own_kl
        out |= {"student_kl": float(own_kl.mean()), "student_same": float(own_same.mean()), "more_kl": float(more.mean()),
                "its_error": float(more.std() / len(more) ** 0.5)}
    return {key: round(value, 5) for key, value in out.items()}


def cut(ids: list[int], ends: tuple[int, ...]) -> list[int]:
    """Up to the first token that ends a text."""
    return next((ids[:at] for at, token in enumerate(ids) if token in ends), ids)


def answers(teacher: Teacher, model: Model, board: GoldenBoard, count: int) -> list[tuple[str, str, str]]:
    """(prompt, the float model's answer, the ternary model's) of each prompt, greedy."""
    tokenizer, ends = Tokenizer(model.tokenizer), model.config.ends
    template = ChatTemplate(model, tokenizer)
    begins = [template.tokens([{"role": "user", "content": prompt}]) for prompt in PROMPTS]
    text = OwnText(teacher, begins, len(begins), max(map(len, begins)) + count, temperature=GREEDY, min_p=0.0, seed=0)
    floats = [row[len(begin):len(begin) + count] for row, begin in zip(text.rows().ids.tolist(), begins, strict=True)]
    out = []
    for prompt, begin, other in zip(PROMPTS, begins, floats, strict=True):
        own, fed = [int(board.feed(begin, 0)[-1].argmax())], len(begin)
        while own[-1] not in ends and len(own) < count:
            own.append(int(board.feed(own[-1:], fed)[-1].argmax()))
            fed += 1
        out.append((prompt, tokenizer.decode(cut(other, ends)), tokenizer.decode(cut(own, ends))))
    return out


def shown(found: list[tuple[str, str, str]]) -> str:
    """Markdown, with the answers as they are."""
    def part(name: str, text: str) -> str:
        return f"{name}:\n\n````text\n{text.strip()}\n````\n"

    return "\n".join(f"### {prompt}\n{part('Float model', other)}\n{part('This model', own)}" for prompt, other, own in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the float model")
    parser.add_argument("model", type=Path, help="the .tellme file")
    parser.add_argument("--held", type=Path)
    parser.add_argument("--rows", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--weights", type=Path, nargs="+", help="weights-K-of-N.safetensors of the same student, all N")
    parser.add_argument("--answers", type=int, metavar="N")
    args = parser.parse_args()
    source = open_floats(args.source, print)
    teacher, model = Teacher(source, "cpu", torch.float32), Model.load(args.model)
    board = golden_board(model)
    if args.held:
        student = None
        if args.weights:
            about = read_learned(args.weights).about
            student = Student(source, teacher, args.tokens, method=about["method"], planes=about["planes"], biases=True)
            unpack(student, args.weights)
        held = torch.load(args.held, weights_only=True)
        print(json.dumps(losses(teacher, board, held, args.rows, args.tokens, student)), flush=True)
    if args.answers:
        print(shown(answers(teacher, model, board, args.answers)))


if __name__ == "__main__":
    main()
