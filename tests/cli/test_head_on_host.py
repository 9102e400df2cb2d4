# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""--head: embedding and LM head on the host give the same results as on the board.  The default depends on the memory's size, and
the choice is printed."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tellme.cli import main
from tellme.compiler import CompileError, compile_model, needed_bytes
from tellme.compiler.image import place_model
from tellme.models.shipped import find_model
from tellme.runtime.board import Board
from tellme.runtime.device import BoardDevice
from tellme.runtime.head_on_host import HeadOnHost, place_head
from tellme.spec.config import preset
from tellme.spec.memory import StartArgs, StartFlags
from tests.cli.fake_client import SlottedClient
from tests.models.random_model import BOARD_FAMILY, random_model, with_biases

MODEL = find_model("stories-1m")
CONFIG = preset("ulx3s-85f")
#: Room for stories-1m with its embedding and head on the host, and no more.
SMALL = replace(CONFIG, sdram_bytes=compile_model(MODEL, CONFIG, head="host").end)


@pytest.fixture
def use(monkeypatch):
    """Boards of a configuration behind both commands; gives the client."""
    def with_config(config):
        client = SlottedClient(config)
        monkeypatch.setattr(Board, "open",
                            lambda name, *, preset, baud, say: Board(BoardDevice("port", config, client, "ab" * 32), say))
        return client
    return with_config


def generate(capsys, *args):
    code = main(["generate", "--device", "port", "--json", *map(str, args)])
    captured = capsys.readouterr()
    return code, [json.loads(line) for line in captured.out.splitlines()], captured.err


@pytest.mark.parametrize("extra", [
    [], ["--prefill-chunk", "1"], ["--temperature", "0.9", "--seed", "5"], ["--logits"], ["--temperature", "0.7", "--logits"]])
def test_same_tokens_and_logits_both_ways(extra, use, capsys, tmp_path):
    found = {}
    for head in ("board", "host"):
        use(CONFIG)
        path = tmp_path / f"{head}.npy"
        code, lines, err = generate(capsys, "--head", head, "--prompt", "The dog saw a", "--max-tokens", 9, *extra,
                                    *([path] if "--logits" in extra else []))
        assert code == 0 and ("head: on the host, as it was asked for" in err) == (head == "host")
        found[head] = lines[:-1], lines[-1]["token_ids"], np.load(path) if path.exists() else None
    board, host = found["board"], found["host"]
    assert board[:2] == host[:2] and (("--logits" in extra) == (board[2] is not None))
    if board[2] is not None:
        assert board[2].shape[1] == 2048 and np.array_equal(board[2], host[2])


def test_the_memory_that_is_left_chooses(use, capsys):
    client = use(SMALL)
    code, lines, err = generate(capsys, "--prompt-ids", "1,319,378", "--max-tokens", 4)
    assert code == 0 and "weights and head 0.3" in err
    assert "head: on the host, as the model with an LM head of one plane needs" in err
    # Prompt tokens together, then one by one.  The probe writes its logits, and the board gets no end token.
    assert [(a.position, a.feed, a.generate, a.ends) for a in client.log] == [
        (0, 3, 1, ()), *[(p, 1, 1, ()) for p in (3, 4, 5)]]
    assert [a.flags for a in client.log] == [StartFlags.CLEAR | StartFlags.DUMP, *[StartFlags.DUMP] * 3]
    stats = lines[-1]
    assert stats["needed_bytes"] == round(sum(needed_bytes(MODEL.config, p, "host") for p in (3, 4, 5)))
    assert stats["decode_cycles"] > 0 and "without the host's head and the link, " in err
    use(CONFIG)
    _, on_board, err = generate(capsys, "--prompt-ids", "1,319,378", "--max-tokens", 4)
    assert "head:" not in err and on_board[-1]["token_ids"] == stats["token_ids"]


def test_too_small_for_either(use, capsys):
    use(replace(CONFIG, sdram_bytes=SMALL.sdram_bytes - 1024))
    code, lines, _ = generate(capsys)
    assert code == 2 and "weights and probe" in lines[-1]["message"] and "embedding rows" in lines[-1]["message"]
    use(SMALL)
    code, lines, _ = generate(capsys, "--head", "board")
    assert code == 2 and "weights and head" in lines[-1]["message"]


def test_ends_as_on_the_board(use, capsys, tmp_path):
    """The end token, the context's end, and no token at all."""
    path = tmp_path / "m.tellme"
    random_model("untied").save(path)
    story = "Lily saw a bird. The bird was sad. Lily helped the bird. The bird was happy and flew away. The end."
    for args in (["--prompt", story, "--max-tokens", 60], ["--model", path, "--prompt-ids", "3", "--ignore-eos"],
                 ["--prompt-ids", "1,5,6", "--max-tokens", 0, "--logits", tmp_path / "l.npy"]):
        stats = []
        for head in ("board", "host"):
            use(CONFIG)
            code, lines, _ = generate(capsys, *args, "--head", head)
            assert code == 0
            stats.append({k: lines[-1][k] for k in ("token_ids", "stop_reason", "generated_tokens")})
        assert stats[0] == stats[1]


def test_perplexity(use, capsys, tmp_path):
    text = tmp_path / "t.txt"
    text.write_text("Once upon a time, there was a dog. <|endoftext|> Tom ran to the park.", "utf-8")
    found = {}
    for config in (CONFIG, SMALL):
        use(config)
        assert main(["perplexity", "--json", "--text", str(text), "--device", "port", "--tokens", "11"]) == 0
        captured = capsys.readouterr()
        assert ("head: on the host" in captured.err) == (config is SMALL)
        found[config is SMALL] = json.loads(captured.out)
    assert found[True] == found[False]


def test_nonfinite_names_the_step(use, capsys, tmp_path):
    model = random_model("plain")
    model.layers[1].scales["w2"] = model.layers[1].scales["w2"]._replace(exp=30)
    path = tmp_path / "x.tellme"
    model.save(path)
    use(CONFIG)
    code, lines, _ = generate(capsys, "--model", path, "--prompt-ids", "1", "--head", "host")
    assert code == 2 and "step 10 (down of layer 1) gave an infinity or NaN at position 0" in lines[-1]["message"]


def test_a_state_that_is_no_probes(use, capsys):
    """A board with damaged memory: an error, and no wrong result."""
    client = use(SMALL)
    boot = client._boot

    def damaged():
        boot()
        client.board._head.scales.sig[3] = 1500
    client._boot = damaged
    code, lines, _ = generate(capsys, "--max-tokens", 1)
    assert code == 2 and "the final state that port gave cannot be read" in lines[-1]["message"]


def test_vocabularies_beyond_the_boards_head():
    model = random_model("plain")
    model.config = replace(model.config, vocab=1 << 18)
    rows = np.zeros(model.config.vocab, int)
    model.embedding, model.embedding_scales = model.embedding[rows], model.embedding_scales[rows]
    with pytest.raises(CompileError, match="vocabulary is 262144, and the build ulx3s-85f can do 262143"):
        compile_model(model, CONFIG)
    image, why = place_model(model, CONFIG)
    assert image.probe is not None and "vocabulary is 262144" in why


def test_a_bias_stays_refused():
    with pytest.raises(CompileError, match="has a bias"):
        place_model(with_biases(random_model("plain")), CONFIG)


@pytest.mark.parametrize("name", BOARD_FAMILY)
def test_the_device_is_like_any(name):
    """The events are those of a board with the LM head, position by position."""
    model = random_model(name)
    prompt = [int(t) for t in np.random.default_rng(3).integers(0, model.config.vocab, 5)]
    runs = []
    for head in ("board", "host"):
        device, image = place_head(BoardDevice("port", CONFIG, SlottedClient(CONFIG), "ab" * 32), model, head, lambda text: None)
        assert isinstance(device, HeadOnHost) == (head == "host")
        device.load(image, lambda done, total: None)
        device.place(0, prompt)
        events = list(device.start(StartArgs(0, len(prompt), 4)))
        runs.append(([(kind, e.position, e.id, e.logit) for kind, e in events[:-1]], events[-1][1].logit, device.top()))
    assert runs[0] == runs[1]
