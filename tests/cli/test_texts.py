# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Texts from files, from standard input and from the command line: their bytes as they are, or a line that says what is wrong."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tellme.cli import main
from tellme.models.shipped import find_model
from tellme.models.tokenizers.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parent.parent.parent
ENV = {**os.environ, "PYTHONPATH": str(ROOT / "sw"), "PYTHONIOENCODING": "utf-8"}
COMMAND = [sys.executable, "-m", "tellme.cli"]
MODEL = find_model("stories-1m")
TOKENIZER = Tokenizer(MODEL.tokenizer)
GENERATE = ["generate", "--device", "golden", "--max-tokens", "0", "--json"]
PERPLEXITY = ["perplexity", "--json", "--text"]

#: What editors and systems put into files.
TEXTS = {
    "last newline": "Tom saw\n", "no last newline": "Tom saw", "two last newlines": "Tom saw\n\n", "CR LF": "Tom\r\nsaw\r\n",
    "CR": "Tom\rsaw\r", "byte order mark": "\ufeffTom saw", "NUL": "Tom\0saw", "spaces": "  Tom  saw ", "tab": "\tTom",
    "other line ends": "Tom\u2028saw\x0b\x0c\x85", "letters": "caf\u00e9 \u2603 \U0001f642",
}


def ids(capsys, *arguments):
    """Token ids of a prompt as generate reports them."""
    assert main([*GENERATE, *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[0])["prompt_token_ids"]


def right(text):
    return [MODEL.config.bos, *TOKENIZER.encode(text)]


@pytest.mark.parametrize("name", TEXTS)
def test_a_prompt_file_is_its_bytes(name, capsys, tmp_path):
    path = tmp_path / "prompt.txt"
    path.write_bytes(TEXTS[name].encode())
    assert ids(capsys, "--prompt-file", path) == right(TEXTS[name])


def test_line_ends_are_tokens():
    """The cases above really differ: they do not give the same ids by chance."""
    assert len({tuple(right(TEXTS[name])) for name in ("last newline", "no last newline", "two last newlines")}) == 3
    assert right("Tom\r\nsaw") != right("Tom\nsaw") != right("Tom\rsaw")


@pytest.mark.parametrize("name", ["CR LF", "NUL", "byte order mark"])
def test_standard_input(name):
    for option in ("-", "/dev/stdin"):
        done = subprocess.run([*COMMAND, *GENERATE, "--prompt-file", option], input=TEXTS[name].encode(), capture_output=True,
                              env=ENV)
        assert done.returncode == 0 and json.loads(done.stdout.splitlines()[0])["prompt_token_ids"] == right(TEXTS[name])


def test_the_text_of_perplexity(capsys, tmp_path):
    text = "Tom saw\r\na cat.\r\n"
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode())
    assert main([*PERPLEXITY, str(path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tokens"] == len(TOKENIZER.encode("Tom saw\r\na cat.")) and found["bytes"] == len(b"Tom saw\r\na cat.")
    done = subprocess.run([*COMMAND, *PERPLEXITY, "-"], input=text.encode(), capture_output=True, env=ENV)
    assert done.returncode == 0 and json.loads(done.stdout) == found


@pytest.mark.parametrize("content", [b"Tom saw\r\n", b""])
def test_a_fifo(content, capsys, tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(content))
    writer.start()
    assert ids(capsys, "--prompt-file", path) == right(content.decode())
    writer.join()


WRONG = [
    (b"caf\xe9", "is not UTF-8: byte 3 is 0xe9"), (b"\xff\xfe\x00", "is not UTF-8: byte 0 is 0xff"),
    (b"Tom saw \xf0\x9f\x99", "is not UTF-8: byte 8 is 0xf0"), (b"\xed\xa0\x80", "is not UTF-8: byte 0 is 0xed"),
]


@pytest.mark.parametrize(("content", "text"), WRONG)
@pytest.mark.parametrize(("command", "what"), [([*GENERATE, "--prompt-file"], "the prompt"), (PERPLEXITY, "the text")],
                         ids=["prompt", "text"])
def test_bytes_that_are_no_utf8(command, what, content, text, capsys, tmp_path):
    path = tmp_path / "noise"
    path.write_bytes(content)
    assert main([*command, str(path)]) == 2
    assert capsys.readouterr().err == f"tellme-host: {what} from {path} {text}\n"


@pytest.mark.parametrize(("command", "what"), [([*GENERATE, "--prompt-file"], "the prompt"), (PERPLEXITY, "the text")],
                         ids=["prompt", "text"])
@pytest.mark.parametrize(("where", "text"), [
    ("{folder}", "Is a directory"), ("{folder}/no", "No such file or directory"), ("{folder}/file/x", "Not a directory"),
    ("/" + "a" * 256, "File name too long"), ("/proc/self/mem", "Input/output error"),
])
def test_files_that_cannot_be_read(command, what, where, text, capsys, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    path = where.format(folder=tmp_path)
    assert main([*command, path]) == 2
    captured = capsys.readouterr()
    message = f"cannot read {what} from {path}: {text}"
    assert captured.err == f"tellme-host: {message}\n" and json.loads(captured.out) == {"type": "error", "message": message}


@pytest.mark.parametrize(("command", "what"), [([*GENERATE, "--prompt-file", "-"], "the prompt"),
                                               ([*PERPLEXITY, "-"], "the text")], ids=["prompt", "text"])
def test_standard_input_that_cannot_be_read(command, what):
    def error(redirection):
        done = subprocess.run(["bash", "-c", f'exec "$@" {redirection}', "bash", *COMMAND, *command], capture_output=True,
                              text=True, env=ENV)
        assert done.returncode == 2
        return done.stderr

    assert error("<&-") == f"tellme-host: cannot read {what} from standard input: it is closed\n"
    # Opened for writing alone.
    assert error("0>/dev/null") == f"tellme-host: cannot read {what} from standard input: Bad file descriptor\n"
    assert error("< <(printf 'caf\\351')") == f"tellme-host: {what} from standard input is not UTF-8: byte 3 is 0xe9\n"


@pytest.mark.parametrize(("prompt", "text"), [
    (b"caf\xe9", "after 3 characters comes the byte 0xe9"), (b"\xff", "after 0 characters comes the byte 0xff"),
    ("caf\u00e9 ".encode() + b"\x80", "after 5 characters comes the byte 0x80"),
])
def test_a_prompt_of_the_command_line_that_is_no_utf8(prompt, text):
    done = subprocess.run([*map(os.fsencode, [*COMMAND, *GENERATE, "--prompt"]), prompt], capture_output=True, text=True, env=ENV)
    assert done.returncode == 2 and done.stderr == f"tellme-host: the prompt is not UTF-8: {text}\n"
    assert json.loads(done.stdout) == {"type": "error", "message": f"the prompt is not UTF-8: {text}"}


def test_a_surrogate_in_a_prompt(capsys):
    assert main([*GENERATE, "--prompt", "a\ud800"]) == 2
    assert capsys.readouterr().err == "tellme-host: the prompt is not UTF-8: after 1 characters comes the surrogate U+D800\n"


def test_the_help_says_what_a_prompt_file_is(capsys):
    with pytest.raises(SystemExit):
        main(["generate", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert ("the same from a UTF-8 file, or from standard input with -; its text is taken as it is: line ends, the last one too, "
            "and a byte order mark are part of the prompt") in words
