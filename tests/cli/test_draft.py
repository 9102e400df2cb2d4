# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tellme-host draft: the table, what is told of it, and refusals."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from tellme.cli import main
from tellme.drafts.table import open_table
from tellme.models.shipped import find_model
from tellme.models.tokenizers.tokenizer import Tokenizer
from tellme.spec.ranges import Range

MODEL = find_model("stories-1m")
STORIES = [f"Once upon a time, {name} had a {color} ball. {name} was happy." for name in ("Tom", "Lily", "Mia")
           for color in ("red", "blue", "big", "new")]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n<|endoftext|>\n".join(STORIES) + "\n<|endoftext|>\n", "utf-8")
    return path


def test_a_table_of_a_text(text, tmp_path, capsys):
    out = tmp_path / "a.drafts"
    assert main(["draft", "stories-1m", str(text), "-o", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    table = open_table(out, MODEL.config.vocab, MODEL.tokenizer)
    # BOS ends a story, too.
    ids = [[1, *Tokenizer(MODEL.tokenizer).encode(story), 1] for story in STORIES]
    assert found["texts"] == len(STORIES) and found["tokens"] == sum(map(len, ids))
    assert found["known_tokens"] == table.known == len({last for story in ids for last, _ in pairwise(story)})
    assert (found["pairs"], found["memory_bytes"], found["file_bytes"]) == (
        table.entries, 4 * len(table.words), out.stat().st_size)
    # All begin alike, and the tenth texts begin so too.
    assert table.draft(ids[0][:2], 3) == ids[0][2:5]
    worth = [found["tokens_a_pass"][count] for count in "1235"]
    assert 1 < worth[0] < worth[1] < worth[2] < worth[3] <= 6


def test_what_is_said(text, tmp_path, capsys):
    out = tmp_path / "a.drafts"
    assert main(["draft", "stories-1m", str(text), "-o", str(out), "--entries", "1"]) == 0
    heard = capsys.readouterr()
    assert "tokens have a next token" in heard.out and "tokens a pass with 1, 2, 3, 5 drafted tokens" in heard.out
    assert heard.err == ""
    short = tmp_path / "short.txt"
    short.write_text(STORIES[0], "utf-8")
    assert main(["draft", "stories-1m", str(short), "-o", str(out)]) == 0
    heard = capsys.readouterr()
    assert "tokens a pass" not in heard.out
    assert "what the table is worth is told from 10 texts on" in heard.err


def test_refusals_leave_nothing(text, tmp_path, monkeypatch, capsys):
    out = tmp_path / "a.drafts"
    empty, bad = tmp_path / "empty.txt", tmp_path / "bad.txt"
    empty.write_text("\n<|endoftext|>\n", "utf-8")
    bad.write_bytes(b"\xff")
    silent = tmp_path / "silent.tellme"
    replace(MODEL, tokenizer=b"").save(silent)
    for model, texts, why in (
            ("stories-1m", [empty], "there is nothing to learn in "), ("stories-1m", [bad], "is not UTF-8"),
            ("stories-1m", [text, tmp_path / "none.txt"], "No such file or directory"),
            (silent, [text], "holds no tokenizer"), (tmp_path / "none.tellme", [text], "none.tellme")):
        assert main(["draft", str(model), *map(str, texts), "-o", str(out)]) == 2
        heard = capsys.readouterr()
        assert why in heard.err and heard.err.count("\n") <= 2 and heard.out == ""
        assert not out.exists()
    with monkeypatch.context() as patch:
        patch.setattr("tellme.cli.draft.DRAFT_VOCAB", Range(1, 2047))
        assert main(["draft", "stories-1m", str(text), "-o", str(out)]) == 2
    assert "stories-1m has 2048 tokens, and a table of drafts knows 2047 at most" in capsys.readouterr().err and not out.exists()
    out.write_text("kept")
    assert main(["draft", "stories-1m", str(empty), "-o", str(out)]) == 2
    assert out.read_text() == "kept"
    assert main(["draft", "stories-1m", str(text), "-o", str(out), "--entries", "0"]) == 2
    assert "--entries: 0 is outside 1 to 1023" in capsys.readouterr().err
