# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tellme-host chat, generate --interactive, and generate --stop."""

import io
import sys
from dataclasses import replace

import pytest

import tellme
from tellme.cli import main
from tellme.runtime.device import GoldenDevice
from tests.models.test_chat import CHAT, STORIES


@pytest.fixture
def typed(monkeypatch, capsys):
    """Runs a command with lines on standard input."""
    def run(lines, *arguments):
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        code = main([*arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err
    return run


@pytest.fixture
def chat_file(tmp_path):
    path = tmp_path / "chat.tellme"
    CHAT.save(path)
    return str(path)


def answer(turns, n=6, **sampling):
    """What a fresh golden board says to a whole chat."""
    from tellme.models.chat import ChatTemplate
    session = tellme.Board(GoldenDevice()).load(CHAT)
    ids = ChatTemplate(CHAT, session.tokenizer).tokens(turns)
    return session.generate(ids, max_tokens=n, sampling=tellme.Sampling(**sampling)).text


def test_a_chat(typed, chat_file):
    code, out, err = typed("Hello\n\nAnd you?\n/edit Who is it?\n/bye\nnever\n", "chat", "--model", chat_file, "--device",
                           "golden", "--max-tokens", "6", "--system", "Be kind.")
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    first = answer(turns)
    turns += [{"role": "assistant", "content": first}, {"role": "user", "content": "And you?"}]
    second = answer(turns)
    third = answer([*turns[:-1], {"role": "user", "content": "Who is it?"}])
    assert code == 0 and out == f"{first}\n{second}\n{third}\n"
    assert "/edit TEXT" in err


def test_commands_of_a_chat(typed, chat_file):
    turn = [{"role": "user", "content": "Hello"}]
    hot = {"temperature": 0.9, "seed": 4}
    code, out, err = typed("/retry\n/what\n/edit\nHello\n/retry\n/new\nHello\n", "chat", "--model", chat_file, "--device",
                           "golden", "--max-tokens", "6", "--temperature", "0.9", "--seed", "4")
    one, two = answer(turn, **hot), answer(turn, temperature=0.9, seed=5)
    assert code == 0 and out == f"{one}\n{two}\n{one}\n"
    assert "there is no turn to take back" in err and "/what is no command" in err and "/edit wants the text" in err


def test_a_base_model_is_refused_before_a_board_is_opened(typed):
    code, out, err = typed("Hello\n", "chat", "--model", "stories-1m", "--device", "/dev/ttyNONE7")
    assert (code, out) == (2, "")
    assert err == ("tellme-host: the model stories-1m has no chat template: it is a base model, which goes on with a text and "
                   "knows no turns (tellme-host generate --interactive)\n")


def test_interactive(typed):
    code, out, _ = typed(" The dog\n", "generate", "--interactive", "--prompt", "Once upon a time", "--device", "golden",
                         "--max-tokens", "5")
    session = tellme.Board(GoldenDevice()).load(STORIES)
    first = session.generate("Once upon a time", max_tokens=5).text
    second = session.generate(f"Once upon a time{first} The dog", max_tokens=5).text
    assert code == 0 and out == f"{first}\n{second}\n"


@pytest.mark.parametrize("option", [["--json"], ["--prompt-ids", "1"], ["--prompt-file", "-"], ["--logits", "x.npy"]])
def test_interactive_with_what_it_cannot(typed, option):
    code, out, err = typed("", "generate", "--interactive", *option)
    assert code == 2 and "--interactive goes without" in err


def test_interactive_without_a_tokenizer(typed, tmp_path):
    path = tmp_path / "m.tellme"
    replace(STORIES, tokenizer=b"").save(path)
    for option in (["--interactive"], ["--stop", "x"]):
        code, _, err = typed("", "generate", "--model", str(path), *option)
        assert code == 2 and "holds no tokenizer" in err


@pytest.mark.parametrize("as_json", [False, True])
def test_stop(typed, as_json):
    code, out, _ = typed("", "generate", "--prompt", "Once upon a time", "--device", "golden", "--max-tokens", "40", "--stop",
                         "girl named", "--stop", "never", *(["--json"] if as_json else []))
    assert code == 0
    if as_json:
        import json
        lines = [json.loads(line) for line in out.splitlines()]
        assert lines[-1]["stop_reason"] == "stop_string"
        out = "".join(line["text"] for line in lines if line["type"] == "token")
    assert out == ", there was a little "
