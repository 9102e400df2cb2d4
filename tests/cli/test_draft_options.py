# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""--drafts, --no-drafts, --draft-own-text: which table goes to a board, what a person and a program hear of it, refusals."""

import json
import re
from dataclasses import replace

import pytest

from tellme.cli import main
from tellme.compiler.image import compile_model
from tellme.compiler.image_file import stored_pieces
from tellme.models.shipped import find_model, model_path
from tellme.runtime.board import Board
from tellme.runtime.device import BoardDevice
from tellme.spec.config import preset
from tellme.spec.memory import COUNTER_BASE, COUNTERS, register_address
from tests.cli.fake_client import SlottedClient

WIDE = preset("ulx3s-85f")
TABLE = str(model_path("stories-1m").with_suffix(".drafts"))
OTHER = str(model_path("stories-8m").with_suffix(".drafts"))


class Counting(SlottedClient):
    """A board with several slots whose counters count the passes' cycles, all of them idle."""

    def read(self, address, size):
        if COUNTER_BASE <= address < COUNTER_BASE + 4 * len(COUNTERS):
            values = dict.fromkeys(COUNTERS, 0) | {"cycles": self.cycles, "idle_cycles": self.cycles}
            return b"".join(value.to_bytes(4, "little") for value in values.values())[address - COUNTER_BASE:][:size]
        return super().read(address, size)


@pytest.fixture
def use(monkeypatch):
    """A board of a configuration behind all commands; gives the client."""
    def with_config(config=WIDE):
        client, opened = Counting(config), Board.open

        def open_board(name, *, preset, baud, say):
            return opened(name, say=say) if name == "golden" else Board(BoardDevice("port", config, client, "ab" * 32), say)

        monkeypatch.setattr(Board, "open", open_board)
        return client
    return with_config


def generate(capsys, *options):
    code = main(["generate", "--device", "port", "--prompt", "Once upon a time, there was", "--max-tokens", "30", *options])
    heard = capsys.readouterr()
    return code, heard.out, heard.err


def test_what_a_person_hears(use, capsys):
    texts = {}
    for options in ((), ("--no-drafts",), ("--drafts", TABLE)):
        client = use()
        code, texts[options], err = generate(capsys, *options)
        assert code == 0
        if options == ("--no-drafts",):
            assert "drafts" not in err and client.board.drafts_told[1] == 0
            continue
        passes, _, right = client.board.drafts_told
        assert right > 5 and passes + right == 29
        assert "drafts: up to 3 tokens a pass, from stories-1m.drafts of 63.6 KB\n" in err
        assert f"drafts: {29 / passes:.2f} tokens a pass, {right} drafted tokens were right in {passes} passes\n" in err
    assert len(set(texts.values())) == 1


def test_what_a_program_hears(use, capsys):
    client = use()
    _, out, _ = generate(capsys, "--json")
    stats = json.loads(out.splitlines()[-1])
    passes, _, right = client.board.drafts_told
    assert (stats["passes"], stats["accepted_tokens"]) == (passes, right)
    assert stats["tokens_per_pass"] == round(29 / passes, 3)
    use()
    _, out, _ = generate(capsys, "--json", "--no-drafts")
    assert {json.loads(out.splitlines()[-1])[name] for name in ("passes", "accepted_tokens", "tokens_per_pass")} == {None}


def test_golden_drafts_where_a_table_is_named(capsys):
    said = []
    for options in ([], ["--drafts", TABLE]):
        assert main(["generate", "--device", "golden", "--max-tokens", "20", *options]) == 0
        heard = capsys.readouterr()
        assert ("tokens a pass" in heard.err) == bool(options)
        said.append(heard.out)
    assert said[0] == said[1]


@pytest.mark.parametrize(("config", "options", "why"), [
    (preset("sim-all"), ["--drafts", TABLE], "the core sim-all drafts no tokens: leave the table of drafts out"),
    (WIDE, ["--drafts", OTHER], "stories-8m.drafts was made for another model's tokens: make it again, for this model "
     "(tellme-host draft MODEL TEXT -o OUT)"),
    (WIDE, ["--drafts", "none.drafts"], "cannot read none.drafts: No such file or directory"),
    (WIDE, ["--drafts", TABLE, "--head", "host"], "no tokens are drafted where the LM head is on the host"),
    (WIDE, ["--drafts", TABLE, "--no-drafts"], "--no-drafts: not allowed with argument --drafts"),
    (replace(WIDE, sdram_bytes=compile_model(find_model("stories-1m"), WIDE).end + 1000), ["--drafts", TABLE],
     "the table of drafts needs 0.064 MB, and the memory of")])
def test_refusals(use, capsys, config, options, why):
    client = use(config)
    code, out, err = generate(capsys, *options)
    assert code == 2 and why in err and out == "" and not client.pages


def test_an_image_has_the_table_and_its_registers(tmp_path, capsys):
    table = model_path("stories-1m").with_suffix(".drafts").read_bytes()
    found = {}
    for name, options in (("with", []), ("named", ["--drafts", TABLE]), ("without", ["--no-drafts"])):
        path = tmp_path / name
        assert main(["load", "stories-1m", "--save", str(path), "--preset", "sim-slots", *options]) == 0
        assert ("drafts: up to 1 token a pass, from stories-1m.drafts" in capsys.readouterr().err) == (name != "without")
        found[name] = path.read_bytes()
        pieces = {piece.address: found[name][piece.offset:piece.offset + piece.size]
                  for piece in stored_pieces(path, preset("sim-slots"))}
        base, settings = (int.from_bytes(pieces[register_address("draft_base")][at:at + 4], "little") for at in (0, 4))
        if name == "without":
            assert base == settings == 0
        else:
            assert table.endswith(pieces[4 * base]) and len(pieces[4 * base]) == 63648 and settings & 15 == 1
    assert found["with"] == found["named"] and len(found["with"]) - len(found["without"]) == 63648 + 8
    assert main(["load", "stories-1m", "--save", str(tmp_path / "x"), "--preset", "sim-all", "--drafts", TABLE]) == 2
    assert "the core sim-all drafts no tokens" in capsys.readouterr().err and not (tmp_path / "x").exists()
    for preload in ([], ["--preload", str(tmp_path / "with")]):
        assert main(["simulate", "--preset", "sim-slots", "--drafts", TABLE, *preload]) == 2
        assert "--drafts goes with --preload and a model: an image has its table" in capsys.readouterr().err


def test_bench_measures_plain_decode_and_drafts(use, capsys):
    found = {}
    for options in ([], ["--no-drafts"]):
        client = use()
        assert main(["bench", "--device", "port", "--positions", "0,2", "--prompt-tokens", "3", "--json", *options]) == 0
        found[bool(options)] = json.loads(capsys.readouterr().out)
    drafts = found[False].pop("drafts")
    assert found[False] == found[True] and "drafts" not in found[True]
    assert drafts["tokens"] == 48 and drafts["passes"] + drafts["accepted_tokens"] == 48 and drafts["accepted_tokens"] > 5
    assert drafts["tokens_per_pass"] == round(48 / drafts["passes"], 3) and drafts["cycles"] > 0
    assert drafts["tokens_per_second"] == pytest.approx(48 * WIDE.fabric_mhz * 1e6 / drafts["cycles"], rel=1e-3)
    client = use()
    assert main(["bench", "--device", "port", "--positions", "0", "--prompt-tokens", "1"]) == 0
    assert f"drafts: {drafts['tokens_per_pass']:.2f} tokens a pass" in capsys.readouterr().out and client.board.drafts_told[1]


def test_guesses_from_the_text_itself(use, capsys):
    """The same text, and what it was worth; refused where a board cannot verify guesses."""
    prompt = ["--no-drafts", "--prompt", "The dog", "--max-tokens", "60"]
    client = use()
    code, text, _ = generate(capsys, *prompt)
    passes = len(client.log)
    client = use()
    code, out, err = generate(capsys, *prompt, "--draft-own-text")
    assert (code, out) == (0, text) and len(client.log) > passes
    assert re.search(r"^drafts: 1\.\d\d tokens a pass, [1-9]\d* drafted tokens were right in \d+ passes$", err, re.M)
    client = use(preset("ulx3s-85f-l2"))
    code, out, err = generate(capsys, "--draft-own-text")
    # Before the model goes over the link.
    assert (code, out) == (2, "") and not client.pages
    assert "port picks one token a pass: drafted tokens from the host want a core with picks of all positions" in err
