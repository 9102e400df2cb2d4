# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tellme-host bench: what it measures, against a board whose cycles are known; the plot."""

import importlib.util
import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from tellme.cli import main
from tellme.compiler import needed_bytes
from tellme.errors import InputError
from tellme.models.shipped import find_model
from tellme.runtime import bench_plot
from tellme.runtime.bench import BenchReport, Decode, bench, check_positions, default_positions, prefill_bytes
from tellme.runtime.board import Board
from tellme.runtime.device import BoardDevice
from tellme.spec.config import preset
from tellme.spec.memory import ACCOUNT, COUNTER_BASE, COUNTERS
from tests.cli.fake_client import CYCLES, FakeClient

CONFIG = preset("ulx3s-85f-l2")
MODEL = find_model("stories-1m").config
#: Of its LM head: each tile has three planes, for codes of up to 13.
HEAD_TRITS = 3 * MODEL.vocab * MODEL.dim


class CountingClient(FakeClient):
    """A fake whose counters are its cycles, which went to the engine and to the LM head alike."""

    def read(self, address, size):
        if address == COUNTER_BASE:
            half = self.cycles // 2
            values = {"cycles": self.cycles, "engine_cycles": half, "lm_head_cycles": self.cycles - half}
            return b"".join(values.get(name, 0).to_bytes(4, "little") for name in COUNTERS)[:size]
        return super().read(address, size)

    def write(self, address, content, progress=None):
        # K and V that are written into the memory are not the golden model's: it need not forget the model for them.
        board = self.board
        super().write(address, content, progress)
        self.board = board


@pytest.fixture
def client(monkeypatch):
    made = CountingClient(CONFIG)
    monkeypatch.setattr(Board, "open", lambda name, **named: Board(BoardDevice("/dev/ttyX", CONFIG, made, "ab" * 32)))
    return made


def run(capsys, *arguments):
    code = main(["bench", *arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def test_cycles_of_tokens_and_prompts(client, capsys):
    """The fake takes CYCLES and the position for each token that it feeds."""
    code, out, _ = run(capsys, "--positions", "9,0", "--prompt-tokens", "5,3", "--json")
    found = json.loads(out)
    assert code == 0 and (found["model"], found["device"], found["preset"]) == ("stories-1m", "/dev/ttyX", CONFIG.name)
    assert found["measured_by"] == "the board's cycles" and found["core_sha256"] == "ab" * 32
    assert [(d["position"], d["cycles_per_token"]) for d in found["decode"]] == [(0, CYCLES), (9, CYCLES + 9)]
    for d in found["decode"]:
        cycles = d["cycles_per_token"]
        assert d["tokens_per_second"] == pytest.approx(CONFIG.fabric_mhz * 1e6 / cycles, rel=1e-4)
        needed = needed_bytes(MODEL, d["position"], head_trits=HEAD_TRITS)
        assert d["needed_bytes"] == round(needed)
        assert d["peak_share"] == pytest.approx(needed / 4 / cycles, rel=1e-3)
        assert tuple(d["decode_account"]) == ACCOUNT and sum(d["decode_account"].values()) == cycles
    assert [p["prompt_tokens"] for p in found["prefill"]] == [3, 5]
    for p in found["prefill"]:
        n = p["prompt_tokens"]
        assert p["cycles"] == n * CYCLES + n * (n - 1) // 2
        assert p["ttft_ms"] == pytest.approx(p["cycles"] / CONFIG.fabric_mhz / 1e3, abs=1e-3)
        assert p["tokens_per_second"] == pytest.approx(n / p["ttft_ms"] * 1e3, rel=1e-2)


def test_the_table(client, capsys):
    code, out, _ = run(capsys, "--positions", "0", "--prompt-tokens", "3")
    lines = out.splitlines()
    assert code == 0 and lines[0] == f"stories-1m on /dev/ttyX: preset {CONFIG.name}, 66.67 MHz"
    assert lines[1].split() == ["prompt", "tokens/s", "to", "first,", "ms", "cycles", "of", "the", "peak"]
    assert lines[2].split()[:1] == ["3"] and lines[2].endswith("lm_head 50 %, engine 50 %")
    assert lines[4].split()[0] == "0" and lines[4].split()[3] == str(CYCLES)


def test_the_golden_model_is_measured_by_the_clock(capsys):
    code, out, _ = run(capsys, "--device", "golden", "--positions", "0,3", "--prompt-tokens", "2", "--json")
    found = json.loads(out)
    assert code == 0 and found["preset"] is None and found["measured_by"] == "the host's clock"
    assert [d["cycles_per_token"] for d in found["decode"]] == [None, None] and found["decode"][0]["tokens_per_second"] > 0
    assert "of the peak" in run(capsys, "--device", "golden", "--positions", "0", "--prompt-tokens", "2")[1]


def test_a_core_without_an_account(monkeypatch):
    """A small core counts cycles, and not what they were spent on."""
    core = replace(CONFIG, accounts=False)
    with Board(BoardDevice("/dev/ttyX", core, CountingClient(core), "ab" * 32)) as board:
        report = bench(board.load(find_model("stories-1m")), core, positions=[0], prompts=[2])
    assert report.decode[0].cycles == CYCLES and report.decode[0].account is None and report.prefill[0].account is None


@pytest.mark.parametrize(("arguments", "text"), [
    (["--positions", "511"], "position 511 wants a context of 513, and stories-1m has 512"),
    (["--prompt-tokens", "600"], "a prompt of 600 wants a context of 602, and stories-1m has 512"),
    (["--positions", "a"], "--positions 'a': numbers like 1,2,3 are wanted"),
    (["--positions=-1"], "--positions: -1 is below 0"), (["--prompt-tokens", "0"], "--prompt-tokens: 0 is below 1"),
    (["--model", "nobody"], "no model is called 'nobody'"),
    (["--plot", "/no/such/folder/x.svg"], "there is no folder /no/such/folder"),
])
def test_refusals_before_a_board_is_opened(arguments, text, monkeypatch, capsys):
    def never(*_, **__):
        raise AssertionError("opened")

    monkeypatch.setattr(Board, "open", never)
    code, out, err = run(capsys, *arguments)
    assert code == 2 and out == "" and text in err and err.count("\n") == 1


def test_positions():
    assert default_positions(512) == [0, 127, 255, 382, 510] and default_positions(2) == [0] and default_positions(4) == [0, 1, 2]
    check_positions("m", 16, [14], [14])
    for positions, prompts in (([15], []), ([], [15]), ([-1], []), ([], [0])):
        with pytest.raises(InputError):
            check_positions("m", 16, positions, prompts)


def test_needed_bytes_of_a_prompt():
    """Two chunks read the weights twice; one token needs what a token at position 0 needs, without LM head and embedding row,
    and writes its K and V."""
    c = MODEL
    rows = c.layers * c.kv_heads * (2 * c.head_dim + 4)
    ternary = c.ternary_weights / 5
    assert needed_bytes(c, 0) == ternary + c.vocab * c.dim + c.dim + rows
    assert prefill_bytes(c, 1, 16) == ternary + 2 * rows
    assert prefill_bytes(c, 32, 16) == 2 * ternary + (16 + 32 + 32) * rows
    assert prefill_bytes(c, 32, 1) == 32 * ternary + (sum(range(1, 33)) + 32) * rows
    assert prefill_bytes(c, 32, 16, multipliers=7) == prefill_bytes(c, 32, 16) + 2 * 7


# The plot


def test_an_account_that_is_not_of_all_cycles(client, monkeypatch, capsys):
    read = client.read

    def one_more(address, size):
        content, at = bytearray(read(address, size)), 4 * [*COUNTERS].index("cycles")
        if address == COUNTER_BASE:
            content[at] ^= 1
        return bytes(content)

    monkeypatch.setattr(client, "read", one_more)
    code, out, err = run(capsys, "--positions", "0", "--prompt-tokens", "2")
    assert code == 2 and out == "" and "the account's sum is " in err.splitlines()[-1] and err.endswith(" cycles\n")


def test_a_run_that_does_not_end_at_its_length(client, monkeypatch, capsys):
    start = client.start
    monkeypatch.setattr(client, "start", lambda args: (start(args), client.stop()))
    code, out, err = run(capsys, "--positions", "0", "--prompt-tokens", "2")
    assert code == 2 and out == "" and "a run at position 0 ended with Event(" in err.splitlines()[-1]


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib draws the plots")
def test_the_plot(client, capsys, tmp_path):
    path = tmp_path / "bench.svg"
    code, _, err = run(capsys, "--positions", "0,9", "--prompt-tokens", "3", "--plot", str(path))
    assert code == 0 and f"{path}: tokens/s over position, and the roofline" in err
    root = ElementTree.parse(path).getroot()
    assert root.tag.endswith("}svg")
    comments = path.read_text()
    for text in ("position", "tokens/s", "tokens per needed MB", "measured", "decode", "prompts", f"stories-1m on {CONFIG.name}",
                 "the memory's peak, 267 MB/s"):
        assert f"<!-- {text}" in comments, text
    first = path.read_bytes()
    assert run(capsys, "--positions", "0,9", "--prompt-tokens", "3", "--plot", str(path))[0] == 0
    assert path.read_bytes() == first


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib draws the plots")
def test_the_plot_of_the_golden_model(tmp_path):
    """No peak of a memory, and no prompts where none were measured."""
    decode = (Decode(0, 1000.0, 0.01), Decode(9, 2000.0, 0.02))
    path = tmp_path / "bench.svg"
    bench_plot.plot_bench(BenchReport("stories-1m", "golden", None, None, decode, ()), path)
    drawn = path.read_text()
    assert "<!-- stories-1m on golden -->" in drawn and "<!-- decode -->" in drawn and "<!-- measured -->" in drawn
    assert "peak" not in drawn and "<!-- prompts -->" not in drawn


def test_without_matplotlib(client, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(bench_plot.importlib.util, "find_spec", lambda name: None)
    code, out, err = run(capsys, "--plot", str(tmp_path / "x.svg"))
    assert code == 2 and out == "" and err == (
        "tellme-host: plots are drawn by the package matplotlib, which this Python does not have (pip install "
        "'tellme-host[plot]', or go without --plot)\n")
    assert client.log == []
