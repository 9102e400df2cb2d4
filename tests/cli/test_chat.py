# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tellme-host chat, generate --interactive, and generate --stop."""

import io
import os
import signal
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

import tellme
from tellme.cli import interrupts, main
from tellme.cli.errors import UserError
from tellme.cli.terminal import next_line, shown_text
from tellme.runtime.device import GoldenDevice
from tellme.runtime.session import Session
from tests.models.test_chat import CHAT, STORIES, TURNS


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


@pytest.fixture
def runs(monkeypatch):
    """The runs of a command, as they begin."""
    found, generate = [], Session.generate

    def spy(self, *arguments, **settings):
        found.append(generate(self, *arguments, **settings))
        return found[-1]

    monkeypatch.setattr(Session, "generate", spy)
    return found


def test_a_chat_feeds_only_what_is_new(typed, tmp_path, runs):
    """The newest turn: the model's answers are in the prompt as the tokens that the model picked."""
    path = tmp_path / "chat.tellme"
    TURNS.save(path)
    typed("Hello\nAnd you?\n/edit Who is it?\n/retry\n", "chat", "--model", str(path), "--device", "golden", "--max-tokens", "6",
          "--system", "Be kind.", "--temperature", "1")
    first, second, third, fourth = (run.generation for run in runs)
    said = [*first.prompt, *first.generated]
    assert first.cached == 0 and second.prompt[:len(said)] == said and second.cached == len(said) - 1
    # The last turn otherwise: all of the first one is kept, and what both turns begin with.
    assert third.prompt[:len(said)] == said and third.cached >= len(said)
    assert fourth.prompt == third.prompt and fourth.cached == len(third.prompt) - 1


def test_interactive_feeds_only_what_is_new(typed, runs):
    typed(" The dog\n ran\n", "generate", "--interactive", "--prompt", "Once upon a time", "--device", "golden",
          "--max-tokens", "5")
    first, second, third = (run.generation for run in runs)
    # The text so far is encoded as it was picked: all but the last token of it lies in the cache.
    assert second.cached >= len(first.prompt) + 3 and third.cached >= len(second.prompt) + 3
    assert second.prompt[:second.cached] == [*first.prompt, *first.generated][:second.cached]


def test_ctrl_c_ends_an_answer_and_not_the_chat(typed, chat_file, monkeypatch):
    """The text up to there counts, and the next turn's prompt has it."""
    pieces = []

    def write(text):
        pieces.append(text)
        if len(pieces) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        sys.stdout.write(text)

    monkeypatch.setattr("tellme.cli.terminal.write", write)
    code, out, _ = typed("Hello\nAnd you?\n", "chat", "--model", chat_file, "--device", "golden", "--max-tokens", "6")
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "".join(pieces[:3])},
             {"role": "user", "content": "And you?"}]
    assert code == 0 and out == f"{''.join(pieces[:3])}\n{answer(turns)}\n"
    assert answer(turns[:1]).startswith("".join(pieces[:3])) and answer(turns[:1]) != "".join(pieces[:3])


def test_lines_of_a_terminal(monkeypatch, capsys):
    """A mark asks for each line; a closed standard input has none to give."""
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("Hello\n"))
    assert [next_line("> "), next_line("> ")] == ["Hello", None] and capsys.readouterr().out == "> > "
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UserError, match="^cannot read from standard input: it is closed$"):
        next_line("> ")


def test_tokens_that_came_before_an_interruption_are_shown(capsys):
    """The board had picked them, and the loop had not got them."""
    class Interrupted:
        stopped = False

        def __iter__(self):
            yield SimpleNamespace(text="one")
            raise KeyboardInterrupt

        def interrupt(self):
            self.stopped = True

        def since(self, taken):
            assert self.stopped
            return [SimpleNamespace(text=text) for text in ("one", " two", " three")[taken:]]

        def finish(self):
            return "."

    try:
        assert shown_text(Interrupted()) == "one two three."
    finally:
        interrupts.restore()
    assert capsys.readouterr().out == "one two three.\n"


def test_a_turn_that_is_too_long_leaves_the_chat_as_it_was(typed, chat_file):
    code, out, err = typed(f"Hello\n{'cat ' * 600}\nAnd you?\n", "chat", "--model", chat_file, "--device", "golden",
                           "--max-tokens", "6")
    first = answer([{"role": "user", "content": "Hello"}])
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": first},
             {"role": "user", "content": "And you?"}]
    assert code == 0 and out == f"{first}\n{answer(turns)}\n" and "begin a new chat" in err


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
