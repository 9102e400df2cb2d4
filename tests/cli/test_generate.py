# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tellme-host generate on the golden model: what comes out where, exit codes, refusals."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tellme.cli import main
from tellme.golden.perplexity import golden_board
from tellme.models.shipped import find_model
from tellme.models.tokenizers.tokenizer import Tokenizer
from tellme.runtime.sampling import Sampler, Sampling
from tests.models.random_model import random_model

ROOT = Path(__file__).resolve().parent.parent.parent
ENV = {**os.environ, "PYTHONPATH": str(ROOT / "sw"), "PYTHONIOENCODING": "utf-8"}
COMMAND = [sys.executable, "-m", "tellme.cli"]
MODEL = find_model("stories-1m")
TOKENIZER = Tokenizer(MODEL.tokenizer)


def run(capsys, *args):
    """(exit code, standard output, standard error) of a generate on golden."""
    code = main(["generate", "--device", "golden", *args])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def greedy(prompt, n):
    board, ids = golden_board(MODEL), []
    logits = board.feed(prompt, 0)
    while len(ids) < n:
        ids.append(int(logits[-1].argmax()))
        logits = board.feed(ids[-1:], len(prompt) + len(ids) - 1)
    return ids


def test_text_alone_on_standard_output(capsys):
    code, out, err = run(capsys, "--max-tokens", "12")
    assert code == 0
    assert out == TOKENIZER.decode(greedy([1], 12))
    assert "golden" in err and "12 generated" in err and "stopped by: length" in err


def test_json_lines(capsys):
    code, out, _ = run(capsys, "--max-tokens", "7", "--prompt", "Lily had", "--json")
    start, *tokens, stats = lines(out)
    prompt = [1, *TOKENIZER.encode("Lily had")]
    assert code == 0
    assert start == {"type": "start", "device": "golden", "preset": None, "model": "stories-1m", "core_sha256": None,
                     "prompt_token_ids": prompt}
    assert [t["type"] for t in tokens] == ["token"] * 7
    assert [t["id"] for t in tokens] == stats["token_ids"] == greedy(prompt, 7)
    whole = TOKENIZER.decode(prompt + stats["token_ids"])
    assert TOKENIZER.decode(prompt) + "".join(t["text"] for t in tokens) == whole
    assert list(stats) == ["type", "prompt_tokens", "cached_tokens", "generated_tokens", "token_ids", "stop_reason", "drawn_by",
                           "checked_tokens", "prefill_cycles", "decode_cycles", "cycles_per_token", "needed_bytes", "sdram_bytes",
                           "sdram_busy_fraction", "fabric_mhz", "board_tokens_per_second", "passes", "accepted_tokens",
                           "tokens_per_pass", "wall_seconds", "sim_khz"]
    assert stats["prompt_tokens"] == len(prompt) and stats["generated_tokens"] == 7
    assert stats["stop_reason"] == "length" and stats["wall_seconds"] > 0
    assert all(stats[n] is None for n in ("prefill_cycles", "decode_cycles", "cycles_per_token", "sdram_bytes",
                                          "sdram_busy_fraction", "fabric_mhz", "board_tokens_per_second", "sim_khz", "passes",
                                          "accepted_tokens", "tokens_per_pass"))


def test_prompt_ids_and_file_and_text_agree(capsys, tmp_path):
    ids = [1, *TOKENIZER.encode("Tom saw")]
    path = tmp_path / "a prompt.txt"
    path.write_text("Tom saw", "utf-8")
    given = (["--prompt", "Tom saw"], ["--prompt-file", str(path)], ["--prompt-ids", ",".join(map(str, ids))])
    outputs = {run(capsys, "--max-tokens", "5", *args)[1] for args in given}
    assert len(outputs) == 1


def test_prompt_ids_get_no_bos(capsys):
    _, out, _ = run(capsys, "--max-tokens", "1", "--prompt-ids", "5", "--json")
    assert lines(out)[0]["prompt_token_ids"] == [5]


def test_logits_have_a_row_for_each_position_fed(capsys, tmp_path):
    path = tmp_path / "logits.npy"
    code, out, _ = run(capsys, "--max-tokens", "4", "--prompt-ids", "1,319,378", "--logits", str(path), "--json")
    ids = [1, 319, 378, *lines(out)[-1]["token_ids"]]
    logits = np.load(path)
    assert code == 0 and logits.dtype == np.int32
    assert (logits == golden_board(MODEL).feed(ids[:-1], 0, heads="all")).all()
    assert [int(row.argmax()) for row in logits[2:]] == ids[3:]
    assert [p.name for p in tmp_path.iterdir()] == ["logits.npy"]


def test_logits_change_no_token(capsys, tmp_path):
    plain = lines(run(capsys, "--max-tokens", "9", "--json")[1])[-1]["token_ids"]
    with_logits = run(capsys, "--max-tokens", "9", "--json", "--logits", str(tmp_path / "l.npy"))[1]
    assert lines(with_logits)[-1]["token_ids"] == plain


def test_sampling_repeats_with_its_seed(capsys):
    def sampled(seed):
        out = run(capsys, "--max-tokens", "20", "--temperature", "1", "--seed", seed, "--json")[1]
        return lines(out)[-1]["token_ids"]
    assert sampled("3") == sampled("3") != sampled("4")


def test_min_p_leaves_out_the_improbable(capsys):
    # Logits in Q15.16: e, 1 and 1/e times the middle one.
    top = [(7, 2 << 16), (8, 1 << 16), (9, 0)]

    def picked(min_p):
        sampler = Sampler(Sampling(temperature=1.0, min_p=min_p))
        return {sampler.pick(top, position) for position in range(200)}
    assert picked(0) == picked(0.13) == {7, 8, 9}
    assert picked(0.14) == picked(0.36) == {7, 8}
    assert picked(0.37) == picked(1) == {7}
    # From the likeliest token alone, sampling is greedy at any temperature.
    hot = run(capsys, "--max-tokens", "12", "--temperature", "30", "--min-p", "1", "--json")[1]
    assert lines(hot)[-1]["token_ids"] == lines(run(capsys, "--max-tokens", "12", "--json")[1])[-1]["token_ids"]


def test_top_k_top_p_and_the_penalty(capsys):
    def sampled(*args):
        return lines(run(capsys, "--max-tokens", "12", "--json", *args)[1])[-1]["token_ids"]
    greedy, hot = sampled(), ("--temperature", "30", "--seed", "2")
    assert sampled(*hot) != greedy
    # Of the likeliest alone, sampling is greedy at any temperature.
    assert sampled(*hot, "--top-k", "1") == sampled(*hot, "--top-p", "0") == greedy
    # The strongest penalty leaves a text without the repetitions that a greedy one has, and needs no temperature.
    long = lines(run(capsys, "--max-tokens", "60", "--json")[1])[-1]["token_ids"]
    once = lines(run(capsys, "--max-tokens", "60", "--json", "--repeat-penalty", "10")[1])[-1]["token_ids"]
    assert len(set(long)) < len(long) and len(set(once)) > len(set(long))


def begun(capsys, tmp_path, *args, **conventions):
    """The prompt's ids with a model of other conventions, or the message that refuses it."""
    path = tmp_path / "m.tellme"
    replace(MODEL, config=replace(MODEL.config, **conventions)).save(path)
    code, out, err = run(capsys, "--model", str(path), "--max-tokens", "1", "--json", *args)
    return lines(out)[0]["prompt_token_ids"] if code == 0 else err.splitlines()[-1]


def test_bos_goes_ahead_where_the_model_puts_it(capsys, tmp_path):
    ids = TOKENIZER.encode("Tom saw")
    assert begun(capsys, tmp_path, "--prompt", "Tom saw", bos=3) == [3, *ids]
    assert begun(capsys, tmp_path, "--prompt", "Tom saw", add_bos=False) == ids
    assert begun(capsys, tmp_path, "--prompt", "Tom saw", bos=None, add_bos=False) == ids
    # A text that spells BOS out has one.
    assert begun(capsys, tmp_path, "--prompt", "Tom saw", bos=ids[0]) == ids
    assert begun(capsys, tmp_path, add_bos=False) == [1]
    assert begun(capsys, tmp_path, bos=None, add_bos=False) == (
        "tellme-host: the model stories-1m has no BOS token to begin a text with: a prompt is wanted (--prompt TEXT, "
        "--prompt-file FILE or --prompt-ids 1,2,3)")


def test_text_ends_at_each_end_token(capsys, tmp_path):
    ids = greedy([1], 12)
    at = max(i for i in range(11) if ids[i] not in ids[:i])
    assert at > 2
    path = tmp_path / "m.tellme"
    replace(MODEL, config=replace(MODEL.config, more_ends=(9, ids[at]))).save(path)
    for extra in ([], ["--temperature", "0.001"], ["--logits", str(tmp_path / "l.npy")]):
        stats = lines(run(capsys, "--model", str(path), "--max-tokens", "12", "--json", *extra)[1])[-1]
        assert stats["token_ids"] == ids[:at + 1] and stats["stop_reason"] == "end_token"
    path = tmp_path / "n.tellme"
    replace(MODEL, config=replace(MODEL.config, eos=None)).save(path)
    assert lines(run(capsys, "--model", str(path), "--max-tokens", "12", "--json")[1])[-1]["token_ids"] == ids


def test_end_token_and_ignoring_it(capsys):
    story = (ROOT / "tests" / "data" / "stories.txt").read_text().split("<|endoftext|>")[1].strip()
    args = ("--prompt", story, "--max-tokens", "60", "--json")
    ended = lines(run(capsys, *args)[1])[-1]
    ignored = lines(run(capsys, *args, "--ignore-eos")[1])[-1]
    assert ended["stop_reason"] == "end_token" and ended["token_ids"][-1] == MODEL.config.eos
    assert ignored["generated_tokens"] > ended["generated_tokens"]
    assert ignored["token_ids"][:ended["generated_tokens"]] == ended["token_ids"]


@pytest.mark.parametrize("extra", [[], ["--temperature", "0.5"]])
def test_context_fills_up(capsys, tmp_path, extra):
    path = tmp_path / "plain.tellme"
    random_model("plain").save(path)
    code, out, _ = run(capsys, "--model", str(path), "--prompt-ids", "3", "--ignore-eos", "--json", *extra)
    stats = lines(out)[-1]
    assert code == 0 and stats["stop_reason"] == "context" and stats["generated_tokens"] == 32


def test_a_model_without_tokenizer_takes_and_gives_ids(capsys, tmp_path):
    path = tmp_path / "plain.tellme"
    random_model("plain").save(path)
    code, out, _ = run(capsys, "--model", str(path), "--prompt-ids", "3,4", "--max-tokens", "3", "--ignore-eos")
    assert code == 0 and len([int(t) for t in out.split()]) == 3
    code, out, err = run(capsys, "--model", str(path), "--prompt", "hello")
    assert code == 2 and out == "" and "holds no tokenizer" in err


def test_a_character_of_several_tokens_stays_whole(capsys):
    # The prompt does not matter: each line must be valid text, and the lines must join to the decoded ids.
    _, out, _ = run(capsys, "--temperature", "30", "--seed", "2", "--max-tokens", "200", "--ignore-eos", "--json")
    *tokens, stats = lines(out)[1:]
    assert "".join(t["text"] for t in tokens) == TOKENIZER.decode(stats["token_ids"])
    assert [t["id"] for t in tokens] == stats["token_ids"]


def test_no_tokens_asked_for(capsys, tmp_path):
    path = tmp_path / "l.npy"
    code, out, _ = run(capsys, "--prompt-ids", "1,5,6", "--max-tokens", "0", "--logits", str(path), "--json")
    assert code == 0 and lines(out)[-1]["generated_tokens"] == 0 and np.load(path).shape == (3, 2048)


@pytest.mark.parametrize(("args", "message"), [
    (["--model", "no-such"], "no model is called 'no-such' and there is no such file; shipped models: stories-1m"),
    (["--model", "/no/such.tellme"], "there is no model file /no/such.tellme"),
    (["--prompt-file", "/no/such.txt"], "cannot read the prompt from /no/such.txt: No such file or directory"),
    (["--prompt-ids", "2048"], "prompt token 2048 is outside the vocabulary of 2048"),
    (["--prompt-ids", "-1"], "prompt token -1 is outside"),
    (["--prompt", "word " * 600], "the model's context holds 512"),
    (["--logits", "/no/such/l.npy"], "cannot write /no/such/l.npy: there is no folder /no/such"),
])
def test_refusals(capsys, args, message):
    code, out, err = run(capsys, *args)
    assert code == 2 and out == "" and message in err and "Traceback" not in err
    code, out, _ = run(capsys, *args, "--json")
    error, = lines(out)
    assert code == 2 and error["type"] == "error" and message in error["message"]


def test_damaged_models(capsys, tmp_path):
    whole = (ROOT / "sw" / "tellme" / "data" / "stories-1m.tellme").read_bytes()
    for content in (b"", whole[:1000], whole[:-1], bytes(5000)):
        path = tmp_path / "x.tellme"
        path.write_bytes(content)
        code, out, err = run(capsys, "--model", str(path))
        assert code == 2 and out == "" and str(path) in err


def test_nonfinite_is_an_error_with_its_step(capsys, tmp_path):
    model = random_model("plain")
    model.layers[1].scales["w2"] = model.layers[1].scales["w2"]._replace(exp=30)
    path = tmp_path / "x.tellme"
    model.save(path)
    code, out, err = run(capsys, "--model", str(path), "--prompt-ids", "1", "--json")
    assert code == 2 and "step 10 (down of layer 1) gave an infinity or NaN at position 0" in err
    assert lines(out)[-1]["type"] == "error"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_gives_stats_and_130(tmp_path, number):
    process = subprocess.Popen([*COMMAND, "generate", "--device", "golden", "--max-tokens", "200", "--ignore-eos",
                                "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV, cwd=tmp_path,
                               # A shell's background jobs ignore signals, and children inherit that.
                               preexec_fn=lambda: signal.signal(
                                   number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL))
    for _ in range(4):
        process.stdout.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    last = json.loads(out.splitlines()[-1])
    assert process.returncode == 130 and b"Traceback" not in err
    assert last["type"] == "stats" and last["stop_reason"] == "interrupted" and 3 <= last["generated_tokens"] < 200


def test_closed_pipe_is_no_traceback(tmp_path):
    process = subprocess.Popen([*COMMAND, "generate", "--device", "golden", "--max-tokens", "250", "--ignore-eos"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV, cwd=tmp_path)
    process.stdout.read(10)
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(60) == 2
    assert err.splitlines()[-1] == b"tellme-host: standard output was closed; stopped" and b"Traceback" not in err


def test_tokens_come_one_by_one(tmp_path):
    process = subprocess.Popen([*COMMAND, "generate", "--device", "golden", "--max-tokens", "250", "--ignore-eos",
                                "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENV, cwd=tmp_path)
    process.stdout.readline()
    process.stdout.readline()
    first = time.monotonic()
    process.communicate(timeout=60)
    assert time.monotonic() - first > 0.2
