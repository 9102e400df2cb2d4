# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""--check and --check-weights of generate and chat: what is printed, exit codes, and refusals."""

import io
import json
import re
import sys
from dataclasses import replace

import pytest

from tellme.cli import main
from tellme.link.errors import StuckError
from tellme.runtime.board import Board
from tellme.runtime.device import BoardDevice
from tellme.spec.config import preset
from tests.runtime.test_checking import Client
from tests.serve.small import small_model

CONFIG = preset("sim-tiny")


@pytest.fixture
def use(monkeypatch):
    """A board behind the command."""
    def with_client(client):
        opened = Board.open

        def open_board(name, *, preset, baud, say):
            return opened(name, say=say) if name == "golden" else Board(BoardDevice("port", CONFIG, client, "ab" * 32), say)

        monkeypatch.setattr(Board, "open", open_board)
        return client
    return with_client


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The file of a small model with a tokenizer."""
    path = tmp_path_factory.mktemp("model") / "small.tellme"
    small_model().save(path)
    return str(path)


def generate(capsys, model, *options, device="port"):
    code = main(["generate", "--model", model, "--device", device, "--prompt", "Once", "--max-tokens", "16", *options])
    heard = capsys.readouterr()
    return code, heard.out, heard.err


def test_a_board_that_is_well(use, capsys, model):
    use(Client(CONFIG))
    text = generate(capsys, model)[1]
    code, out, err = generate(capsys, model, "--check", "8", "--check-weights")
    assert (code, out) == (0, text)
    assert "check: 16 tokens, and step CRCs every 8, are the golden model's" in err.splitlines()
    assert re.search(r"^memory: \d{4,5} bytes are what was loaded$", err, re.M)


def flipped(board, number):
    """A bit of a value of the prompt flips ahead of token 10."""
    if number == 10:
        board._caches[0][0].values[0, 0, 3] ^= 0x40


def test_a_flipped_bit(use, capsys, model):
    """The tokens of the first comparison are shown, and no more; with --json the error is a line of JSON."""
    use(Client(CONFIG))
    text = generate(capsys, model, "--max-tokens", "8")[1]
    use(Client(CONFIG, before=flipped))
    code, out, err = generate(capsys, model, "--check", "8")
    assert (code, out) == (1, text)
    assert err.splitlines()[-1].startswith("tellme-host: port computes otherwise than the golden model: ")
    use(Client(CONFIG, before=flipped))
    code, out, _ = generate(capsys, model, "--check", "8", "--json")
    last = json.loads(out.splitlines()[-1])
    assert code == 1 and last["type"] == "error" and "step 2 (attention of layer 0) is the first of the steps" in last["message"]


def forgetful(number):
    """A board in whose memory a bit flips with pick ``number``."""
    client = Client(CONFIG)

    def tell(kind, event):
        client.memory[700] ^= client.picked == number
        return event

    client._tell = tell
    return client


def test_flipped_memory(use, capsys, model):
    use(forgetful(9))
    code, _, err = generate(capsys, model, "--check-weights")
    last = err.splitlines()[-1]
    assert code == 1 and re.search("the board's memory does not hold what was loaded: [0-9]+ bytes at 0x0 have another", last)


@pytest.fixture(scope="module")
def talking(tmp_path_factory):
    """The file of a small model with a chat template."""
    path = tmp_path_factory.mktemp("model") / "chat.tellme"
    replace(small_model(), chat_template="{% for m in messages %}{{ m.content }} {% endfor %}").save(path)
    return str(path)


def chat(capsys, monkeypatch, model, lines, *options):
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    code = main(["chat", "--model", model, "--device", "port", "--max-tokens", "6", *options])
    heard = capsys.readouterr()
    return code, heard.out, heard.err


def test_a_chat(use, capsys, monkeypatch, talking):
    """Each answer is compared, and the memory behind each answer; the first difference ends the chat."""
    use(Client(CONFIG))
    code, text, _ = chat(capsys, monkeypatch, talking, "Hello\nAnd you?\n")
    assert code == 0 and text.count("\n") == 2
    use(Client(CONFIG))
    assert chat(capsys, monkeypatch, talking, "Hello\nAnd you?\n", "--check", "2", "--check-weights")[:2] == (0, text)
    use(Client(CONFIG, before=flipped))
    code, out, err = chat(capsys, monkeypatch, talking, "Hello\nAnd you?\n", "--check", "2")
    assert code == 1 and len(out) < len(text) and text.startswith(out)
    assert err.splitlines()[-1].startswith("tellme-host: port computes otherwise than the golden model: ")
    use(forgetful(3))
    code, out, err = chat(capsys, monkeypatch, talking, "Hello\nAnd you?\n", "--check-weights")
    assert (code, out) == (1, text.splitlines()[0] + "\n")
    assert "the board's memory does not hold what was loaded" in err.splitlines()[-1]


def test_a_run_without_progress(use, capsys, model):
    def hang(board, number):
        if number == 5:
            raise StuckError("port made no progress for 9 cycles, in step 7 of the layer program: the run was stopped")

    use(Client(CONFIG, before=hang))
    code, _, err = generate(capsys, model)
    assert code == 2 and err.splitlines()[-1].startswith("tellme-host: port made no progress for 9 cycles, in step 7 ")


@pytest.mark.parametrize(("options", "said"), [
    (("--check", "0"), "--check"), (("--check", "65536"), "--check"), (("--check", "x"), "--check"),
    (("--check", "4", "--drafts", "x.drafts"), "draft no tokens: leave the table of drafts out, or the check")])
def test_refusals(use, capsys, model, options, said):
    use(Client(CONFIG))
    code, out, err = generate(capsys, model, *options)
    assert code == 2 and not out and said in err.splitlines()[-1]


@pytest.mark.parametrize(("options", "said"), [
    (("--check", "4"), "the golden model is what boards are compared with: check a board's runs (--device sim, --device PORT)"),
    (("--check-weights",), "golden has no memory whose checksums could be taken: use it with a board (--device sim, --device "
                           "PORT)")])
def test_the_golden_model(capsys, model, options, said):
    code, _, err = generate(capsys, model, *options, device="golden")
    assert code == 2 and err.splitlines()[-1] == f"tellme-host: {said}"
