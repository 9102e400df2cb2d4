# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Numbers and other options of the command line: one line that names the option and its limits, before a model is read."""

import json
from dataclasses import replace

import pytest

from tellme.cli import main
from tellme.compiler import image
from tellme.link.client import CHECKSUM_MAX, BoardClient
from tellme.models import ModelError
from tellme.spec.memory import START_RANGES
from tellme.spec.program import ACT_EXP_RANGE
from tellme.spec.ranges import RangeError
from tests.models.random_model import random_model

MOST_TOKENS, MOST_CHUNK = START_RANGES["generate"].most, START_RANGES["chunk"].most
HELP = "(tellme-host generate --help lists the options)"
REFUSED = [
    (["--max-tokens", str(MOST_TOKENS + 1)], "--max-tokens: 65536 is outside 0 to 65535"),
    (["--max-tokens", "100000"], "--max-tokens: 100000 is outside 0 to 65535"),
    (["--max-tokens", "-3"], "--max-tokens: -3 is outside 0 to 65535"),
    (["--max-tokens", "many"], "--max-tokens 'many': a whole number from 0 to 65535 is wanted"),
    (["--max-tokens", "1.5"], "--max-tokens '1.5': a whole number from 0 to 65535 is wanted"),
    (["--max-tokens", ""], "--max-tokens '': a whole number from 0 to 65535 is wanted"),
    (["--max-tokens", "9" * 5000], f"--max-tokens '{'9' * 40}...': a whole number from 0 to 65535 is wanted"),
    (["--prefill-chunk", str(MOST_CHUNK + 1)], "--prefill-chunk: 65536 is outside 0 to 65535"),
    (["--prefill-chunk", "-1"], "--prefill-chunk: -1 is outside 0 to 65535"),
    (["--temperature", "-1"], "--temperature: -1 is outside 0 to 1000000"),
    (["--temperature", "nan"], "--temperature: nan is outside 0 to 1000000"),
    (["--temperature", "inf"], "--temperature: inf is outside 0 to 1000000"),
    (["--temperature", "hot"], "--temperature 'hot': a number from 0 to 1000000 is wanted"),
    (["--min-p", "1.5"], "--min-p: 1.5 is outside 0 to 1"),
    (["--min-p", "nan"], "--min-p: nan is outside 0 to 1"),
    (["--min-p", "x"], "--min-p 'x': a number from 0 to 1 is wanted"),
    (["--seed", "x"], "--seed 'x': a whole number is wanted"),
    (["--prompt-ids", "1,x"], "--prompt-ids '1,x': token ids like 1,2,3 are wanted"),
    (["--prompt-ids", ""], "--prompt-ids '': token ids like 1,2,3 are wanted"),
    (["--prompt", "a", "--prompt-ids", "1"], f"--prompt-ids: not allowed with argument --prompt {HELP}"),
    (["--max-tokens"], f"--max-tokens: expected one argument {HELP}"),
    (["--no-such-option"], "unrecognized arguments: --no-such-option (tellme-host --help lists the options)"),
    (["--logits", "-"], "cannot write to standard output: what is written is no text; give the name of a file"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
@pytest.mark.parametrize("device", ["golden", "sim"])
def test_options_of_generate(device, arguments, message, capsys, monkeypatch):
    """The same on every device, and before a model is read or a device opened."""
    def never(*arguments):
        raise AssertionError("a model was read")

    monkeypatch.setattr("tellme.cli.run_command", never)
    command = ["generate", "--device", device, *arguments]
    assert main(command) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == f"tellme-host: {message}\n"
    assert main([*command[:3], "--json", *command[3:]]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"type": "error", "message": message} and captured.err == f"tellme-host: {message}\n"


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "the following arguments are required: COMMAND (tellme-host --help lists the options)"),
    (["convert", "x"], "the following arguments are required: -o/--output (tellme-host convert --help lists the options)"),
    (["convert", "x", "-o", "y", "--act-exp", "31"], "--act-exp: 31 is outside -30 to 30"),
    (["convert", "x", "-o", "y", "--act-exp", "-31"], "--act-exp: -31 is outside -30 to 30"),
    (["convert", "x", "-o", "y", "--act-exp", "x"], "--act-exp 'x': a whole number from -30 to 30 is wanted"),
    (["convert", "x", "-o", "y", "--context", "0"], "--context: 0 is below 1"),
    (["convert", "x", "-o", "y", "--context", "all"], "--context 'all': a whole number from 1 on is wanted"),
    (["convert", "x", "-o", "-"], "cannot write to standard output: what is written is no text; give the name of a file"),
    (["export", "x", "-o", "-", "--format", "hf"],
     "cannot write to standard output: what is written is no text; give the name of a file"),
    (["perplexity", "--text", "x", "--tokens", "-1"], "--tokens: -1 is below 0"),
    (["perplexity", "--text", "x", "--tokens", "x"], "--tokens 'x': a whole number from 0 on is wanted"),
])
def test_options_of_other_commands(arguments, message, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == f"tellme-host: {message}\n"


@pytest.mark.parametrize(("arguments", "message"), [
    (["--prompt-ids", "2048"], "prompt token 2048 is outside the vocabulary of 2048"),
    (["--prompt-ids", "-1"], "prompt token -1 is outside the vocabulary of 2048"),
    (["--prompt-ids", f"1,{10**30}"], f"prompt token {10**30} is outside the vocabulary of 2048"),
    (["--prompt-ids", ",".join(["5"] * 513)], "the prompt has 513 tokens, the model's context holds 512"),
])
def test_token_ids(arguments, message, capsys):
    assert main(["generate", "--device", "golden", *arguments]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last == f"tellme-host: {message}"


def test_any_whole_number_is_a_seed(capsys):
    for seed in ("-1", str(10**40)):
        assert main(["generate", "--device", "golden", "--max-tokens", "1", "--temperature", "1", "--seed", seed]) == 0
        assert capsys.readouterr().out


def test_a_number_that_only_the_model_shows_to_be_wrong(capsys, monkeypatch):
    """What a packet cannot hold is one line, wherever it is found."""
    def run(args):
        raise RangeError("position", 65536, 0, 65535)

    monkeypatch.setattr("tellme.cli.run_command", run)
    assert main(["generate"]) == 2
    assert capsys.readouterr().err == "tellme-host: position: 65536 is outside 0 to 65535\n"


def test_a_configuration_has_the_same_limits():
    config = random_model("plain").config
    for value in ACT_EXP_RANGE:
        replace(config, act_exp=value).check()
    for value in (-31, 31):
        with pytest.raises(ModelError, match=f"^act_exp is {value}; -30 to 30 make sense$"):
            replace(config, act_exp=value).check()


def test_registers_of_a_model(monkeypatch):
    """An address that no register holds is refused at compilation, for the golden model too."""
    from tellme.golden.perplexity import golden_board

    real = image.lay_out

    def far(*arguments):
        layout = real(*arguments)
        layout.logits = 1 << 34
        return layout

    monkeypatch.setattr(image, "lay_out", far)
    with pytest.raises(RangeError, match="^register logits_base: 4294967296 is outside 0 to 4294967295$"):
        golden_board(random_model("plain"))


class Wire:
    """A transport that keeps what is sent."""

    name = "a wire"

    def __init__(self):
        self.sent = b""

    def write(self, content):
        self.sent += content


@pytest.mark.parametrize(("call", "message"), [
    (lambda c: c.write(-4, bytes(4)), "address: -4 is outside 0 to 4294967295"),
    (lambda c: c.write(1 << 32, b""), "address: 4294967296 is outside 0 to 4294967295"),
    (lambda c: c.write(0xFFFF_FFFC, bytes(5)), "address + bytes: 4294967300 is outside 0 to 4294967296"),
    (lambda c: c.write(6, bytes(4)), "address 0x6 is no multiple of 4"),
    (lambda c: c.read(0xFFFF_FFFC, 8), "address + bytes: 4294967300 is outside 0 to 4294967296"),
    (lambda c: c.read(0, -1), "bytes of a READ: -1 is outside 0 to 4294967295"),
    (lambda c: c.checksum(0, CHECKSUM_MAX + 1), "bytes of a CHECKSUM: 2097153 is outside 0 to 2097152"),
    (lambda c: c.checksum(2, 4), "address 0x2 is no multiple of 4"),
])
def test_addresses_and_sizes_of_packets(call, message):
    wire = Wire()
    client = BoardClient(wire)
    sent = wire.sent
    with pytest.raises(ValueError) as caught:
        call(client)
    assert str(caught.value) == message and wire.sent == sent
