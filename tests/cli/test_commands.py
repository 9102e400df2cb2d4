# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""All commands: their help, their examples, the shells' completion, and what a terminal gets that a pipe does not."""

import fcntl
import io
import json
import os
import pty
import re
import select
import shlex
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tellme.cli import build_parser, main
from tellme.cli.options import COMMANDS
from tellme.cli.options.boards import SHELLS
from tellme.cli.output import write
from tellme.spec.config import PRESETS

ROOT = Path(__file__).resolve().parents[2]
ENV = {**os.environ, "PYTHONPATH": str(ROOT / "sw")}
COMMAND = [sys.executable, "-m", "tellme.cli"]
EXAMPLES = [(command.name, example) for command in COMMANDS for example in command.examples]


def help_of(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--help"])
    assert caught.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[example.arguments for _, example in EXAMPLES])
def test_each_example_parses(name, example):
    # What the shell takes for itself ends the command's own arguments.
    words = shlex.split(re.split(r" >>? ", example.arguments)[0])
    args = build_parser().parse_args(words)
    assert args.command == name and example.what


@pytest.mark.parametrize("command", COMMANDS, ids=[command.name for command in COMMANDS])
def test_help_ends_with_examples(command, capsys):
    text = help_of(capsys, command.name)
    assert len(command.examples) >= 2 or command.name == "simulate"
    wanted = "".join(f"  # {e.what}\n  tellme-host {e.arguments}\n" for e in command.examples)
    assert text.endswith(f"\nexamples:\n{wanted}")
    assert command.summary and command.summary in " ".join(help_of(capsys).split())


def test_what_the_issue_names_is_there():
    assert {"generate", "chat", "serve", "info", "load", "selftest", "bench", "convert", "export", "inspect", "perplexity",
            "flash"} <= {command.name for command in COMMANDS}


def test_device_means_the_same_everywhere():
    """One help text, but for the default; and one preset."""
    parsers = build_parser()._subparsers._group_actions[0].choices
    found = {name: action for name, parser in parsers.items() for action in parser._actions
             if "--device" in action.option_strings}
    assert {"generate", "chat", "serve", "perplexity", "info", "load", "selftest", "bench"} <= set(found)
    texts = {re.sub(r" \(default: \w+\).*", "", action.help) for action in found.values()}
    assert len(texts) == 1 and {action.metavar for action in found.values()} == {"auto|sim|golden|PORT"}
    assert {name for name, action in found.items() if "(default: golden)" in action.help} == {"perplexity"}
    for name in found:
        assert {"--preset", "--baud"} <= {option for action in parsers[name]._actions for option in action.option_strings}, name


def test_help_is_quick():
    """No library that takes long is imported for the help, nor for a completion."""
    code = ("import sys\nfrom tellme.cli import build_parser\nbuild_parser().format_help()\n"
            "sys.exit(any(name in sys.modules for name in ('numpy', 'safetensors', 'serial', 'tqdm', 'tokenizers')))")
    assert subprocess.run([sys.executable, "-c", code], env=ENV).returncode == 0


def test_a_command_that_is_none(capsys):
    assert main(["fly"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("tellme-host: COMMAND: invalid choice: 'fly'") and err.count("\n") == 1


# Completion


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_for_each_shell(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "tellme-host" in script and script.endswith("\n")
    program = shutil.which(shell)
    if program is not None:
        done = subprocess.run([program, "-n"], input=script, text=True, capture_output=True)
        assert (done.returncode, done.stderr) == (0, "")


def completed(line, tmp_path):
    """What bash offers at the end of a line, by the script and the program as a user has them."""
    program = tmp_path / "bin" / "tellme-host"
    if not program.exists():
        program.parent.mkdir()
        program.write_text(f"#!{sys.executable}\nimport sys\nfrom tellme.cli import main\nsys.exit(main())\n")
        program.chmod(0o755)
    script = subprocess.run([*COMMAND, "completion", "bash"], env=ENV, capture_output=True, text=True, check=True).stdout
    ask = (f"{script}\nCOMP_LINE={shlex.quote(line)}; COMP_POINT=${{#COMP_LINE}}; COMP_TYPE=9\n"
           "read -ra COMP_WORDS <<< \"$COMP_LINE\"; [[ $COMP_LINE == *' ' ]] && COMP_WORDS+=('')\n"
           "COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n"
           "_python_argcomplete tellme-host\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n")
    done = subprocess.run(["bash", "-c", ask], env={**ENV, "PATH": f"{program.parent}:{os.environ['PATH']}"}, capture_output=True,
                          text=True, cwd=tmp_path)
    return {word.rstrip() for word in done.stdout.splitlines()}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes(tmp_path):
    (tmp_path / "mine.tellme").write_bytes(b"")
    (tmp_path / "other.txt").write_bytes(b"")
    assert completed("tellme-host self", tmp_path) == {"selftest"}
    assert {command.name for command in COMMANDS} <= completed("tellme-host ", tmp_path)
    assert completed("tellme-host generate --max", tmp_path) == {"--max-tokens"}
    assert completed("tellme-host bench --preset sim", tmp_path) == {name for name in PRESETS if name.startswith("sim")}
    assert {"auto", "sim", "golden"} <= completed("tellme-host info --device ", tmp_path)
    models = completed("tellme-host load ", tmp_path)
    assert {"stories-1m", "mine.tellme"} <= models and "other.txt" not in models
    assert completed("tellme-host flash ulx", tmp_path) == {"ulx3s"}
    assert completed("tellme-host completion ", tmp_path) >= set(SHELLS)


# A terminal, and a pipe


#: tellme-host on boards that tests make: one that loads slowly, and one whose memory is bad.
FAKES = """
import sys, time
from dataclasses import replace
from tellme.cli import main
from tellme.runtime import device
from tellme.runtime.board import Board
from tellme.spec.config import preset
from tests.runtime.faulty_board import Faults, board_of
real = device.GoldenDevice.load
def slow(self, image, progress):
    for i in range(12):
        progress(i, 12)
        time.sleep(0.15)
    real(self, image, progress)
device.GoldenDevice.load = slow
opened = Board.open
def use(name, **named):
    if name != "bad":
        return opened(name, **named)
    config = replace(preset("ulx3s-85f-l2"), sdram_bytes=1 << 19)
    return board_of(config, Faults(stuck={(1 << 19) - 512: (1, 0)}))
Board.open = use
sys.exit(main())
"""


FAKES_ENV = {name: value for name, value in ENV.items() if name not in ("NO_COLOR", "FORCE_COLOR")} | {
    "PYTHONPATH": f"{ROOT / 'sw'}:{ROOT}", "TERM": "xterm"}


def on_a_terminal(arguments, **env):
    """(exit code, what a terminal got) with standard output and standard error both there."""
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", FAKES, *arguments], stdin=subprocess.DEVNULL, stdout=terminal,
                               stderr=terminal, cwd=ROOT, env={**FAKES_ENV, **env})
    os.close(terminal)
    heard = b""
    while True:
        assert select.select([master], [], [], 60)[0]
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        if not part:
            break
        heard += part
    os.close(master)
    return process.wait(), heard.decode()


def in_a_pipe(arguments, **env):
    done = subprocess.run([sys.executable, "-c", FAKES, *arguments], capture_output=True, text=True, cwd=ROOT,
                          env={**FAKES_ENV, **env})
    return done.returncode, done.stdout, done.stderr


LOADING = ["generate", "--device", "golden", "--max-tokens", "1"]


HOSTILE = "a\x1b]0;title\x07\x9b2J\r\u202eb"
ESCAPED = r"a\x1b]0;title\x07\x9b2J\r\u202eb".replace(r"\r", r"\x0d")


def test_a_terminal_gets_the_control_characters_of_a_file_as_escapes(tmp_path):
    arguments = ["inspect", str(tmp_path / HOSTILE)]
    code, heard = on_a_terminal(arguments)
    assert code == 2 and ESCAPED in heard and not set(heard.replace("\r\n", "\n")) & set(HOSTILE) - set(ESCAPED)
    code, _, err = in_a_pipe(arguments)
    assert code == 2 and "a\x1b]0;title\x07\x9b2J" in err


@pytest.mark.parametrize("terminal", [True, False])
def test_a_models_text_on_a_terminal(terminal, monkeypatch):
    class Stream(io.StringIO):
        def isatty(self):
            return terminal

    monkeypatch.setattr(sys, "stdout", Stream())
    write(f"one\ttwo\n{HOSTILE}")
    write(" tail", mark="\x1b[31mred\x1b[0m")
    assert sys.stdout.getvalue() == f"one\ttwo\n{ESCAPED if terminal else HOSTILE}\x1b[31mred\x1b[0m tail"


def test_progress_is_for_a_terminal_alone():
    code, heard = on_a_terminal(LOADING)
    assert code == 0 and "loading" in heard and "%|" in heard
    # The bar is gone at the end: the last line is the statistics, and begins at the left.
    assert "stopped by: length" in heard.splitlines()[-1]
    code, out, err = in_a_pipe(LOADING)
    assert code == 0 and "loading" not in err and "\r" not in out + err
    assert [line.split()[0] for line in err.splitlines()] == ["device:", "1"]


def test_colours_are_for_a_terminal_alone():
    arguments = ["selftest", "--device", "bad"]
    code, heard = on_a_terminal(arguments)
    assert code == 2 and "\x1b[32mok    \x1b[0m" in heard and "\x1b[31mFAILED\x1b[0m" in heard
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        code, heard = on_a_terminal(arguments, **env)
        assert code == 2 and "\x1b[3" not in heard and "ok     link" in heard and "FAILED memory march" in heard
    code, out, err = in_a_pipe(arguments)
    assert code == 2 and "\x1b" not in out + err and "FAILED memory march" in out


def test_the_json_of_a_board_that_fails():
    code, out, err = in_a_pipe(["selftest", "--device", "bad", "--json"])
    found = json.loads(out)
    assert code == 2 and err == "" and found["ok"] is False
    assert [check["name"] for check in found["checks"] if not check["ok"]] == ["memory march"]
