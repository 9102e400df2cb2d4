# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A board behind the device interface: what is written to it, read from it, and made of its counters."""

import errno
import io
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from tellme.cli import main
from tellme.compiler import compile_model, needed_bytes
from tellme.errors import DeviceError
from tellme.models.shipped import find_model
from tellme.runtime.board import Board
from tellme.runtime.device import BoardDevice, GoldenDevice
from tellme.spec.config import SIMULATED, preset
from tellme.spec.memory import StartArgs, StartFlags
from tellme.spec.ranges import RangeError
from tellme.spec.scale import Scale
from tests.cli.fake_client import CYCLES, FakeClient
from tests.models.random_model import random_model

CONFIG = preset(SIMULATED)
#: A board whose memory has words of eight bytes.
WIDE = replace(preset("orangecrab-85f"), sdram_bytes=1 << 25)


@pytest.fixture
def board(monkeypatch, request):
    """Generate with --device sim runs on the fake."""
    config = getattr(request, "param", CONFIG)
    client = FakeClient(config)

    opened = Board.open

    def use(name, *, preset, baud, say):
        if name == "golden":
            return opened(name, say=say)
        assert preset == SIMULATED
        return Board(BoardDevice(name, config, client, "ab" * 32), say)

    monkeypatch.setattr(Board, "open", use)
    return client


def run(capsys, *args, device="sim"):
    code = main(["generate", "--device", device, "--json", *args])
    captured = capsys.readouterr()
    return code, [json.loads(line) for line in captured.out.splitlines()], captured.err


def test_start_line(board, capsys):
    _, (start, *_), _ = run(capsys, "--max-tokens", "1")
    assert start == {"type": "start", "device": "sim", "preset": "ulx3s-85f-l2", "model": "stories-1m",
                     "core_sha256": "ab" * 32, "prompt_token_ids": [1]}


@pytest.mark.parametrize("extra", [[], ["--temperature", "0.9", "--seed", "5"], ["--temperature", "0.7", "--logits"]])
def test_same_tokens_as_golden(board, capsys, tmp_path, extra):
    if "--logits" in extra:
        extra = [*extra, str(tmp_path / "l.npy")]
    args = ("--prompt", "The dog", "--max-tokens", "12", *extra)
    _, on_board, _ = run(capsys, *args)
    rows = np.load(tmp_path / "l.npy") if "--logits" in extra else None
    _, on_golden, _ = run(capsys, *args, device="golden")
    assert on_board[1:-1] == on_golden[1:-1]
    assert on_board[-1]["token_ids"] == on_golden[-1]["token_ids"]
    if rows is not None:
        assert (rows == np.load(tmp_path / "l.npy")).all()
        assert len(rows) == on_board[-1]["prompt_tokens"] + 11


def test_greedy_is_one_start(board, capsys):
    run(capsys, "--prompt-ids", "1,319", "--max-tokens", "5")
    (args,) = board.log
    assert (args.position, args.feed, args.generate, args.ends) == (0, 2, 5, (1,))
    assert args.flags == StartFlags.CLEAR


def test_drawing_is_one_start_too(board, capsys):
    _, lines, err = run(capsys, "--prompt-ids", "1,319", "--max-tokens", "5", "--temperature", "0.9", "--top-k", "9")
    (args,) = board.log
    assert args.flags == StartFlags.CLEAR | StartFlags.SAMPLE and lines[-1]["drawn_by"] == "board" and "draws" not in err


def test_what_the_host_draws_is_said(board, capsys):
    _, lines, err = run(capsys, "--prompt-ids", "1,319", "--max-tokens", "3", "--repeat-penalty", "1.5")
    assert len(board.log) == 3 and lines[-1]["drawn_by"] == "host"
    assert err.count("the host draws the tokens: the board knows no repetition penalty\n") == 1


def test_ignoring_the_end_token(board, capsys):
    run(capsys, "--max-tokens", "2", "--ignore-eos")
    assert board.log[0].ends == ()


@pytest.mark.parametrize("extra", [[], ["--temperature", "0.001"]])
def test_a_board_is_stopped_at_the_fifth_end_token(board, capsys, tmp_path, extra):
    model = find_model("stories-1m")
    _, plain, _ = run(capsys, "--prompt-ids", "1,319", "--max-tokens", "9", *extra)
    ids = plain[-1]["token_ids"]
    assert ids[5] not in ids[:5]
    model.config = replace(model.config, more_ends=(7, 8, 9, ids[5]))
    model.save(tmp_path / "m.tellme")
    _, lines, _ = run(capsys, "--prompt-ids", "1,319", "--max-tokens", "9", "--model", str(tmp_path / "m.tellme"), *extra)
    assert lines[-1]["token_ids"] == ids[:6] and lines[-1]["stop_reason"] == "end_token"
    assert [line["id"] for line in lines[1:-1]] == ids[:6]
    assert board.stopped == (not extra) and board.closed
    _, lines, _ = run(capsys, "--prompt-ids", "1,319", "--max-tokens", "9", "--model", str(tmp_path / "m.tellme"), "--ignore-eos",
                      *extra)
    assert lines[-1]["token_ids"] == ids and lines[-1]["stop_reason"] == "length"


@pytest.mark.parametrize(("board", "word"), [(CONFIG, 4), (WIDE, 8)], indirect=["board"])
def test_counters_become_stats(board, capsys, word):
    _, lines, err = run(capsys, "--prompt-ids", "1,319,378", "--max-tokens", "4")
    stats = lines[-1]
    prefill = 3 * CYCLES + 0 + 1 + 2
    decode = 3 * CYCLES + 3 + 4 + 5
    config = find_model("stories-1m").config
    assert stats["prefill_cycles"] == prefill and stats["decode_cycles"] == decode
    assert stats["cycles_per_token"] == pytest.approx(decode / 3, abs=0.05)
    # Each tile of this LM head has three planes.
    trits = 3 * config.vocab * config.dim
    assert stats["needed_bytes"] == round(sum(needed_bytes(config, p, head_trits=trits) for p in (3, 4, 5)))
    assert stats["sdram_bytes"] == word * (3 * decode + (prefill + decode) // 10 - prefill // 10)
    assert stats["sdram_busy_fraction"] == pytest.approx(0.5, abs=0.001)
    assert stats["fabric_mhz"] == pytest.approx(200 / 3 if word == 4 else 72)
    assert stats["board_tokens_per_second"] == pytest.approx(1e6 * stats["fabric_mhz"] / (decode / 3), rel=1e-4)
    assert stats["sim_khz"] > 0
    assert "the board would make (simulated cycles)" in err


def test_counters_go_on_over_many_starts(board, capsys):
    _, one, _ = run(capsys, "--prompt-ids", "1,319,378", "--max-tokens", "4", "--temperature", "0.001")
    assert [a.flags for a in board.log] == [StartFlags.CLEAR, *[StartFlags(0)] * 3]
    assert one[-1]["prefill_cycles"] == 3 * CYCLES + 3 and one[-1]["decode_cycles"] == 3 * CYCLES + 12


def test_counters_that_wrap(board, capsys, monkeypatch):
    monkeypatch.setattr("tests.cli.fake_client.CYCLES", 2**31)
    _, lines, _ = run(capsys, "--max-tokens", "2")
    assert lines[-1]["decode_cycles"] == 2**31 + 1


def test_one_token_has_no_decode(board, capsys):
    _, lines, _ = run(capsys, "--max-tokens", "1")
    stats = lines[-1]
    assert stats["prefill_cycles"] == CYCLES and stats["decode_cycles"] == 0
    assert stats["cycles_per_token"] is None and stats["sdram_bytes"] is None and stats["needed_bytes"] is None


def test_a_link_that_goes_silent(board, capsys):
    board.cut_after, board.error = 3, DeviceError("the board at x went silent")
    code, lines, err = run(capsys, "--max-tokens", "9")
    assert code == 2 and lines[-1] == {"type": "error", "message": "the board at x went silent"}
    assert [line["type"] for line in lines] == ["start", "token", "token", "token", "error"]
    assert "Traceback" not in err and board.closed


def test_interrupted(board, capsys):
    board.cut_after, board.error = 2, KeyboardInterrupt()
    code, lines, _ = run(capsys, "--max-tokens", "9")
    assert code == 130 and lines[-1]["stop_reason"] == "interrupted" and lines[-1]["generated_tokens"] == 2
    assert board.stopped and board.closed


class FullDisk(io.StringIO):
    """A standard output with room for a number of writes."""

    def __init__(self, writes):
        super().__init__()
        self.left = writes

    def write(self, text):
        if not self.left:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.left -= 1
        return super().write(text)


@pytest.mark.parametrize("extra", [[], ["--json"], ["--temperature", "0.5"], ["--repeat-penalty", "1.5"]])
def test_a_standard_output_that_fails_stops_the_board(board, capsys, monkeypatch, extra):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", FullDisk(4))
        code = main(["generate", "--device", "sim", "--max-tokens", "9", *extra])
    assert code == 2 and board.closed
    assert board.stopped == ("--repeat-penalty" not in extra), "a start a token leaves nothing to stop"
    *_, last = capsys.readouterr().err.splitlines()
    assert last == "tellme-host: cannot write to standard output: No space left on device"
    board.stopped = board.closed = False
    code, lines, _ = run(capsys, "--max-tokens", "9")
    assert code == 0 and lines[-1]["generated_tokens"] == 9 and board.closed


@pytest.mark.parametrize(("args", "message"), [
    (StartArgs(0, 513, 1), "position + feed: 513 is outside 0 to 512"),
    (StartArgs(510, 3, 1), "position + feed: 513 is outside 0 to 512"),
])
def test_the_golden_model_and_a_board_refuse_the_same_starts(board, args, message):
    for device in loaded(board):
        with pytest.raises(RangeError, match=f"^{re.escape(message)}$"):
            list(device.start(args))
    assert not board.log


@pytest.mark.parametrize(("position", "tokens", "message"), [
    (510, [1, 2, 3], "position + tokens: 513 is outside 0 to 512"), (0, [-1], "token: -1 is outside 0 to 262143"),
    (-1, [1], "position: -1 is outside 0 to 512"),
])
def test_the_golden_model_and_a_board_refuse_the_same_tokens(board, position, tokens, message):
    for device in loaded(board):
        with pytest.raises(RangeError, match=f"^{re.escape(message)}$"):
            device.place(position, tokens)
    assert not board.tokens.any()


def loaded(client):
    """The golden model and a board, each with the shipped model."""
    model = find_model("stories-1m")
    for device in (GoldenDevice(), BoardDevice("port", CONFIG, client, "hash")):
        device.load(compile_model(model, device.config(model)), lambda done, size: None)
        yield device


def test_the_most_tokens_that_a_start_can_ask_for(board, capsys, tmp_path):
    path = tmp_path / "plain.tellme"
    random_model("plain").save(path)
    code, lines, _ = run(capsys, "--model", str(path), "--prompt-ids", "3", "--ignore-eos", "--max-tokens", "65535",
                         "--prefill-chunk", "65535")
    assert code == 0 and lines[-1]["stop_reason"] == "context"
    start, = board.log
    assert (start.generate, start.chunk) == (65535, 65535)


@pytest.mark.parametrize("device", ["golden", "sim"])
def test_a_scale_that_a_tile_cannot_hold(board, capsys, monkeypatch, tmp_path, device):
    model = random_model("plain")
    model.config = replace(model.config, act_exp=30)
    model.layers[1].scales["w2"] = Scale(1024, 98)
    path = tmp_path / "x.tellme"
    model.save(path)
    arguments = "--model", str(path), "--prompt-ids", "3"
    code, lines, _ = run(capsys, *arguments, device=device)
    assert code == 2 and not board.log
    assert lines == [{"type": "error", "message": "exponent of w2's scale times 2**act_exp: 128 is outside -128 to 127"}]
