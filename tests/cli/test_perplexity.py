# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tellme-host perplexity: the same numbers on the golden model and on a board; windows; refusals."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tellme.cli import main
from tellme.golden.perplexity import Windows, golden_board, windows
from tellme.models import ModelError
from tellme.models.shipped import find_model
from tellme.models.tokenizers.tokenizer import Tokenizer
from tellme.runtime.board import Board
from tellme.runtime.device import BoardDevice, GoldenDevice
from tellme.spec.config import preset
from tellme.spec.memory import StartFlags
from tests.cli.fake_client import FakeClient

MODEL = find_model("stories-1m")
TOKENIZER = Tokenizer(MODEL.tokenizer)
STORY = "Once upon a time, there was a caf\u00e9. Lily had a red ball."
OTHER = "Tom ran to the park. He saw a dog and a big tree."


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "a text.txt"
    path.write_text(f"{STORY}\n<|endoftext|>\n{OTHER}\n", "utf-8")
    return path


def perplexity(capsys, *args):
    code = main(["perplexity", "--json", *map(str, args)])
    return code, json.loads(capsys.readouterr().out)


def test_numbers(text, capsys):
    code, found = perplexity(capsys, "--text", text, "--reference")
    ids = [1, *TOKENIZER.encode(STORY), 1, *TOKENIZER.encode(OTHER)]
    logits = golden_board(MODEL).feed(ids[:-1], 0, heads="all") / 65536
    total = sum(math.log(np.exp(row - row[target]).sum()) for row, target in zip(logits, ids[1:], strict=True))
    size = len(STORY.encode()) + len(OTHER.encode())
    assert code == 0 and found["tokens"] == len(ids) - 1 and found["bytes"] == size and found["windows"] == 1
    assert found["nats_per_token"] == pytest.approx(total / (len(ids) - 1))
    assert found["bits_per_byte"] == pytest.approx(total / math.log(2) / size)
    assert found["apart"] < 0.01
    assert found["apart"] == pytest.approx(abs(found["nats_per_token"] / found["reference_nats_per_token"] - 1))


def test_a_board_gives_the_same_number(text, capsys, monkeypatch):
    """Position by position through the packets' client, with all logits read back."""
    _, golden = perplexity(capsys, "--text", text, "--tokens", 9)
    config = preset("ulx3s-85f-l8")
    client = FakeClient(config)
    monkeypatch.setattr(Board, "open", lambda name, *, preset, baud, say: Board(BoardDevice("port", config, client, "hash"), say))
    code, found = perplexity(capsys, "--text", text, "--tokens", 9, "--device", "port")
    assert code == 0 and found.pop("device") == "port" and golden.pop("device") == "golden"
    assert found == golden and found["tokens"] == 9 and len(client.log) == 9 and client.closed


def test_a_board_with_picks_of_all_positions_takes_a_start_a_chunk(text, capsys, monkeypatch):
    """The same number, from a start for each chunk of the window."""
    _, golden = perplexity(capsys, "--text", text, "--tokens", 21)
    config = replace(preset("ulx3s-85f-l8"), head_tokens=8)
    client = FakeClient(config)
    monkeypatch.setattr(Board, "open", lambda name, *, preset, baud, say: Board(BoardDevice("port", config, client, "hash"), say))
    code, found = perplexity(capsys, "--text", text, "--tokens", 21, "--device", "port")
    assert code == 0 and found.pop("device") == "port" and golden.pop("device") == "golden" and found == golden
    dumped = StartFlags.DUMP | StartFlags.ALL
    assert [(args.position, args.feed, args.flags) for args in client.log] == [
        (0, 8, dumped | StartFlags.CLEAR), (8, 8, dumped), (16, 5, dumped)]


def test_progress_is_told_as_it_is_made(capsys, monkeypatch):
    """Progress counts token by token on a board, and on the golden model the tokens computed at once; never whole windows."""

    ids = [i % 2000 + 3 for i in range(100)]
    config = preset("ulx3s-85f-l8")
    totals = []
    for device, steps in ((GoldenDevice(), [64, 35]), (BoardDevice("port", config, FakeClient(config), "hash"), [1] * 99)):
        told = []
        totals.append(Board(device).load(MODEL).loss(Windows([ids], 1), progress=told.append).nats)
        assert told == steps
    assert totals[0] == totals[1]


def test_for_people(text, capsys):
    assert main(["perplexity", "--text", str(text), "--tokens", "5", "--reference"]) == 0
    captured = capsys.readouterr()
    assert "nats per token, " in captured.out and "bits per byte over 5 tokens" in captured.out and "% apart" in captured.out
    assert "1 windows of up to 512 positions, each from an empty cache; BOS ahead of each" in captured.err


def test_windows_cover_the_text_once():
    model = replace(MODEL, config=replace(MODEL.config, context=8))
    whole = [*TOKENIZER.encode(STORY), 1, *TOKENIZER.encode(OTHER)]
    cut = windows(model, TOKENIZER, f"{STORY}<|endoftext|> <|endoftext|>{OTHER}")
    assert all(part[0] == 1 and len(part) <= 8 for part in cut.parts)
    assert [i for part in cut.parts for i in part[1:]] == whole and cut.tokens == len(whole)
    first = len(TOKENIZER.encode(STORY))
    for limit in (1, 7, 8, first, first + 1, first + 2, len(whole), len(whole) + 9):
        cut = windows(model, TOKENIZER, f"{STORY}<|endoftext|>{OTHER}", limit)
        assert [i for part in cut.parts for i in part[1:]] == whole[:limit]
        assert cut.text_bytes == len(TOKENIZER.decode(whole[:limit][:first]).encode()) + len(
            TOKENIZER.decode(whole[:limit][first + 1:]).encode())


def test_windows_without_bos():
    """The end token stands between texts, windows overlap by an id, and each id but the first is predicted once."""
    model = replace(MODEL, config=replace(MODEL.config, context=8, add_bos=False, bos=None, eos=2))
    whole = [*TOKENIZER.encode(STORY), 2, *TOKENIZER.encode(OTHER)]
    for limit in (None, 1, 6, 7, 8, len(whole) - 1, len(whole) + 9):
        cut = windows(model, TOKENIZER, f"{STORY}<|endoftext|>{OTHER}", limit)
        wanted = whole if limit is None else whole[:limit + 1]
        assert all(2 <= len(part) <= 8 for part in cut.parts)
        assert [cut.parts[0][0], *(i for part in cut.parts for i in part[1:])] == wanted and cut.tokens == len(wanted) - 1
        assert all(a[-1] == b[0] for a, b in pairwise(cut.parts))
        first = len(TOKENIZER.encode(STORY))
        said = len(TOKENIZER.decode(wanted[:first]).encode()) + len(TOKENIZER.decode(wanted[first + 1:]).encode())
        assert cut.text_bytes == said - len(TOKENIZER.decode(wanted[:1]).encode())
    model.config = replace(model.config, eos=None)
    assert windows(model, TOKENIZER, STORY).tokens == len(TOKENIZER.encode(STORY)) - 1
    with pytest.raises(ModelError) as caught:
        windows(model, TOKENIZER, f"{STORY}<|endoftext|>{OTHER}")
    assert str(caught.value) == ("the model stories-1m has neither BOS nor an end token to put between texts, and the text has "
                                 "<|endoftext|>: give one text")


def test_a_text_that_spells_bos_out_has_one():
    ids = TOKENIZER.encode(STORY)
    model = replace(MODEL, config=replace(MODEL.config, bos=ids[0]))
    assert windows(model, TOKENIZER, STORY).parts == [ids]


@pytest.mark.parametrize(("content", "arguments", "message"), [
    (b" \n", [], "there is nothing to predict in {text}"),
    (b"A story.", ["--tokens", "0"], "there is nothing to predict in {text}"),
    (b"A story.", ["--model", "{model}"], "holds no tokenizer"),
    (b"A story.", ["--model", "nothing"], "no model is called 'nothing'"),
    (b"A story.", ["--device", "sim", "--preset", "nothing"], "no preset is called 'nothing'"),
])
def test_refusals(content, arguments, message, tmp_path, capsys):
    text, model = tmp_path / "t.txt", tmp_path / "m.tellme"
    replace(MODEL, tokenizer=b"").save(model)
    text.write_bytes(content)
    assert main(["perplexity", "--text", str(text), *[a.format(model=model) for a in arguments]]) == 2
    assert message.format(text=text) in capsys.readouterr().err


def test_an_interruption_stops_the_board(text, capsys, monkeypatch):
    config = preset("ulx3s-85f-l8")
    client = FakeClient(config, cut_after=0, error=KeyboardInterrupt())
    monkeypatch.setattr(Board, "open", lambda name, *, preset, baud, say: Board(BoardDevice("port", config, client, "hash"), say))
    assert main(["perplexity", "--text", str(text), "--device", "port"]) == 130
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.splitlines()[-1] == "tellme-host: interrupted"
    assert client.stopped and client.closed and len(client.log) == 1
