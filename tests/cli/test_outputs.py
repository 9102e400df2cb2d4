# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Outputs that fail: one line on standard error, exit code 2, and nothing half-written."""

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tellme import __version__
from tellme.cli import main, output
from tellme.models import Model
from tellme.models.shipped import shipped
from tests.models.folders import folder, kind_model, tensors_of
from tests.models.random_model import random_model

ROOT = Path(__file__).resolve().parent.parent.parent
ENV = {**os.environ, "PYTHONPATH": str(ROOT / "sw"), "PYTHONIOENCODING": "utf-8"}
COMMAND = [sys.executable, "-m", "tellme.cli"]
GENERATE = ["generate", "--device", "golden", "--max-tokens", "3", "--prompt", "Lily"]
STORIES = str(ROOT / "tests" / "data" / "stories.txt")
COMMANDS = {
    "generate": GENERATE, "generate --json": [*GENERATE, "--json"],
    "inspect": ["inspect"], "inspect --json": ["inspect", "--json"],
    "perplexity": ["perplexity", "--text", STORIES, "--tokens", "3"],
    "perplexity --json": ["perplexity", "--text", STORIES, "--tokens", "3", "--json"],
    "--help": ["--help"], "generate --help": ["generate", "--help"], "--version": ["--version"],
}


def shell(arguments, redirection, **named):
    """A command with a redirection, run by a shell."""
    return subprocess.run(["bash", "-c", f'exec "$@" {redirection}', "bash", *COMMAND, *map(str, arguments)],
                          capture_output=True, text=True, env=ENV, **named)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("redirection", "why"), [(">/dev/full", "No space left on device"), (">&-", "it is closed")])
def test_standard_output_that_fails(command, redirection, why):
    done = shell(COMMANDS[command], redirection)
    *before, last = done.stderr.splitlines()
    assert done.returncode == 2 and last == f"tellme-host: cannot write to standard output: {why}"
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    # A closed output is noticed before any work is done.
    opened = why != "it is closed" and ("generate" in command or "perplexity" in command) and "help" not in command
    assert any(line.startswith("device: the golden model") for line in before) == opened


@pytest.mark.parametrize("command", ["inspect", "generate --json"])
def test_a_reader_that_went_away(command):
    read, written = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, *COMMANDS[command]], stdout=written, stderr=subprocess.PIPE, text=True, env=ENV)
    os.close(written)
    assert done.returncode == 2 and done.stderr.splitlines()[-1] == "tellme-host: standard output was closed; stopped"
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


@pytest.mark.parametrize("command", ["generate --json", "inspect"])
def test_standard_error_that_fails_loses_nothing(command):
    right = shell(COMMANDS[command], "")
    for redirection in ("2>/dev/full", "2>&-"):
        done = shell(COMMANDS[command], redirection)
        assert done.returncode == right.returncode == 0 and done.stderr == ""
        if "json" in command:
            want, got = ([json.loads(line) for line in found.stdout.splitlines()] for found in (right, done))
            assert want[-1].pop("wall_seconds") > 0 and got[-1].pop("wall_seconds") > 0
            assert got == want
        else:
            assert done.stdout == right.stdout != ""


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_an_error_that_nobody_hears_is_no_result(redirection):
    """Without standard error the lines do not go to standard output, where Python's print would put them."""
    done = shell(["inspect", "nothing"], redirection)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")
    done = shell(["inspect", "nothing", "--json"], redirection)
    assert done.returncode == 2 and json.loads(done.stdout)["message"] == (
        f"no model is called 'nothing' and there is no such file; shipped models: {', '.join(shipped())}")


def test_no_output_at_all():
    done = shell(GENERATE, ">/dev/full 2>/dev/full")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")
    done = shell(GENERATE, "<&- >&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_a_slow_reader_of_a_pipe_that_does_not_block():
    """A pipe that is full for a while is no failure."""
    read, written = os.pipe()
    os.set_blocking(written, False)
    # Fill it.
    filler = 0
    try:
        while True:
            filler += os.write(written, bytes(1 << 12))
    except BlockingIOError:
        pass
    process = subprocess.Popen([*COMMAND, "inspect"], stdout=written, stderr=subprocess.PIPE, text=True, env=ENV)
    os.close(written)
    content = bytearray()
    threading.Event().wait(3)
    while part := os.read(read, 1 << 16):
        content += part
    os.close(read)
    assert process.communicate()[1] == "" and process.returncode == 0
    assert bytes(content[filler:]).decode() == shell(["inspect"], "").stdout


def test_an_interruption_before_the_streams_are_there(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("tellme.cli.parse_and_run", interrupted)
    assert main(["boards"]) == 130 and capsys.readouterr().err == "tellme-host: interrupted\n"
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["boards"]) == 130


def test_an_output_that_is_closed_has_no_descriptor():
    with pytest.raises(io.UnsupportedOperation):
        output._Raw(None, must=True).fileno()


def test_help_and_version_still_work(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0 and capsys.readouterr().out == f"tellme-host {__version__}\n"
    done = shell(["--help"], "")
    assert done.returncode == 0 and done.stdout.startswith("usage: tellme-host [-h] [--version] COMMAND ...\n")


# Files


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.tellme"
    random_model("plain").save(path)
    return path


@pytest.fixture
def source(tmp_path):
    return folder(tmp_path / "trilm", "trilm", tensors_of("trilm", kind_model("trilm"))[0])


#: The command with a limit on the size of each file that it writes.  Counts of coverage are written behind it.
LIMITED = """
import atexit
import resource
import signal
import sys
from tellme.cli import main
before = resource.getrlimit(resource.RLIMIT_FSIZE)
atexit.register(resource.setrlimit, resource.RLIMIT_FSIZE, before)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, before[1]))
sys.exit(main())
"""


@pytest.mark.parametrize("arguments", [
    ["convert", "{source}", "-o", "{out}"],
    ["export", "stories-1m", "-o", "{out}", "--format", "gguf-f16"],
    ["export", "stories-1m", "-o", "{out}", "--format", "hf"],
    ["generate", "--device", "golden", "--max-tokens", "3", "--logits", "{out}"],
])
def test_a_disk_that_fills_up(arguments, source, tmp_path):
    """A full disk, simulated by the limit on a file's size: a write comes back short."""
    out = tmp_path / "out"
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run([sys.executable, "-c", LIMITED, *(a.format(source=source, out=out) for a in arguments)],
                          capture_output=True, text=True, env={**ENV, "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 2 and done.stderr.splitlines()[-1] == f"tellme-host: cannot write {out}: File too large"
    assert "Traceback" not in done.stderr and sorted(tmp_path.rglob("*")) == before


OUTPUTS = {"convert": ["convert", "{source}", "-o", "{out}"],
           "export": ["export", "{model}", "-o", "{out}", "--format", "gguf-f16"],
           "generate": ["generate", "--device", "golden", "--model", "{model}", "--prompt-ids", "3", "--max-tokens", "2",
                        "--logits", "{out}"]}


def run(command, out, source, model, capsys):
    code = main([a.format(source=source, model=model, out=out) for a in OUTPUTS[command]])
    captured = capsys.readouterr()
    return code, captured.out, captured.err.splitlines()


@pytest.mark.parametrize("command", ["convert", "export"])
@pytest.mark.parametrize(("make", "text"), [
    (os.mkfifo, "it is a FIFO, and no regular file"),
    (lambda path: path.symlink_to("/dev/null"), "it is a character device, and no regular file"),
])
def test_models_go_to_regular_files_alone(command, make, text, source, model, tmp_path, capsys):
    out = tmp_path / "out"
    make(out)

    def lasting():
        """What is known of the name, but for the time of the last look at it: following a link is such a look."""
        found = out.lstat()
        return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    before = lasting()
    assert run(command, out, source, model, capsys) == (2, "", [f"tellme-host: cannot write {out}: {text}"])
    assert lasting() == before


def test_a_hugging_face_folder_is_a_new_one(model, tmp_path, capsys):
    out = tmp_path / "out"
    out.symlink_to("nowhere")
    assert main(["export", str(model), "-o", str(out), "--format", "hf"]) == 2
    assert capsys.readouterr().err == f"tellme-host: cannot write {out}: it exists; give the name of a new folder\n"
    assert out.is_symlink()


@pytest.mark.parametrize("command", OUTPUTS)
def test_a_name_that_is_too_long(command, source, model, tmp_path, capsys):
    out = tmp_path / ("a" * 256)
    assert run(command, out, source, model, capsys) == (2, "", [f"tellme-host: cannot write {out}: File name too long"])


@pytest.mark.parametrize("command", OUTPUTS)
def test_a_name_as_long_as_it_can_be(command, source, model, tmp_path, capsys):
    out = tmp_path / ("a" * 255)
    assert run(command, out, source, model, capsys)[0] == 0 and out.is_file()


@pytest.mark.parametrize("arguments", [["inspect"], ["generate", "--model"], ["perplexity", "--text", STORIES, "--model"]])
def test_the_name_of_a_model_that_is_too_long(arguments, capsys):
    name = f"/{'a' * 256}.tellme"
    assert main([*arguments, name]) == 2
    assert capsys.readouterr().err == f"tellme-host: cannot read {name}: File name too long\n"


def test_names_that_are_no_utf8(source, tmp_path):
    """Such files are read and written.  A message shows the byte; a model's name has a replacement character in its place."""
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.tellme")
    shown = f"{tmp_path}/caf\\udce9"
    done = subprocess.run([*COMMAND, "convert", source, "-o", name], capture_output=True, text=True, env=ENV)
    assert done.returncode == 0 and done.stderr.splitlines()[-1].startswith(f"{shown}.tellme: ")
    assert Model.load(Path(name)).name == "caf\ufffd"
    for form in ("gguf-f16", "hf"):
        out = os.fsdecode(os.fsencode(tmp_path) + b"/out\xe9" + form.encode())
        done = subprocess.run([*COMMAND, "export", name, "-o", out, "--format", form], capture_output=True, text=True, env=ENV)
        assert done.returncode == 0 and done.stderr.startswith(f"{tmp_path}/out\\udce9{form}: {form}, ")
        assert os.path.exists(out)
    done = subprocess.run([*COMMAND, "convert", source, "-o", f"{name}/x"], capture_output=True, text=True, env=ENV)
    assert done.returncode == 2 and done.stderr == f"tellme-host: cannot write {shown}.tellme/x: Not a directory\n"
    done = subprocess.run([*COMMAND, "inspect", name, "--json"], capture_output=True, text=True, env=ENV)
    assert done.returncode == 0 and json.loads(done.stdout)["name"] == "caf\ufffd"


@pytest.mark.parametrize("form", ["gguf-f16", "hf"])
def test_a_model_without_a_name_in_a_file_of_bytes(form, tmp_path, capsys):
    """The model's name comes from its file's name, which the export's metadata cannot hold unchanged."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.tellme"))
    model = random_model("plain")
    model.name = ""
    model.save(path)
    assert main(["export", str(path), "-o", str(tmp_path / form), "--format", form]) == 0
    assert main(["convert", str(tmp_path / form), "-o", str(tmp_path / "again.tellme"), "--no-tokenizer"]) == 0
    if form == "gguf-f16":
        import gguf

        assert gguf.GGUFReader(tmp_path / form).get_field("general.name").contents() == "caf\ufffd"


@pytest.mark.parametrize("command", ["convert", "export"])
def test_ctrl_c_leaves_nothing(command, source, model, tmp_path, capsys, monkeypatch):
    from tqdm import tqdm

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(tqdm, "update", interrupt)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(command, tmp_path / "out", source, model, capsys)
    assert (code, out, err[-1]) == (130, "", "tellme-host: interrupted")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_error_of_the_system_that_nothing_else_names(capsys, monkeypatch):
    def fail(args):
        raise PermissionError(13, "Permission denied", "/a/file")

    monkeypatch.setattr("tellme.cli.run_command", fail)
    assert main(["inspect"]) == 2
    assert capsys.readouterr().err == "tellme-host: /a/file: Permission denied\n"


# Logits


def logits(*arguments):
    return ["generate", "--device", "golden", "--max-tokens", "2", *arguments, "--logits"]


def test_logits_go_into_a_fifo(tmp_path, capsys):
    fifo, path = tmp_path / "fifo", tmp_path / "file"
    os.mkfifo(fifo)
    got = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    assert main([*logits(), str(fifo)]) == 0
    reader.join()
    assert fifo.is_fifo() and main([*logits(), str(path)]) == 0
    assert got == [path.read_bytes()] and np.load(path).shape == (2, 2048)


def test_logits_go_into_a_pipe_of_the_shell(tmp_path):
    """As with >(COMMAND) of bash."""
    path = tmp_path / "file"
    done = shell([*logits(), "/dev/fd/9"], f"9> >(cat > {path}) && wait")
    assert done.returncode == 0 and np.load(path).shape == (2, 2048)


@pytest.mark.parametrize(("path", "code", "message"), [
    ("/dev/null", 0, None), ("/dev/full", 2, "cannot write /dev/full: No space left on device"),
])
def test_logits_go_into_a_device(path, code, message, capsys):
    assert main([*logits(), path]) == code
    last = capsys.readouterr().err.splitlines()[-1]
    assert Path(path).is_char_device() and (message is None or last == f"tellme-host: {message}")


def test_a_reader_of_logits_that_goes_away(tmp_path, capsys):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: fifo.open("rb").close())
    reader.start()
    # More than a pipe holds, so that the end of the reader is seen.
    assert main(["generate", "--device", "golden", "--max-tokens", "9", "--logits", str(fifo)]) == 2
    reader.join()
    assert capsys.readouterr().err.splitlines()[-1] == f"tellme-host: cannot write {fifo}: Broken pipe"


@pytest.mark.parametrize(("place", "text"), [
    (".", "it is a folder; give the name of a file"), ("no/l.npy", "there is no folder {folder}/no"),
])
def test_places_that_take_no_logits(place, text, tmp_path, capsys):
    path = tmp_path / place
    assert main([*logits(), str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == f"tellme-host: cannot write {path}: {text.format(folder=tmp_path)}\n"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("command", OUTPUTS)
def test_a_place_that_not_even_root_can_write_to(command, source, model, capsys):
    """Noticed before any work is done."""
    code, out, (line,) = run(command, "/sys/out", source, model, capsys)
    assert (code, out) == (2, "")
    assert line in [f"tellme-host: cannot write /sys/out: {why}" for why in ("Permission denied", "Read-only file system")]


def test_logits_and_text_do_not_share_a_file(tmp_path):
    path = tmp_path / "out"
    done = shell([*logits(), path], f">{path}")
    assert done.returncode == 2 and path.read_bytes() == b""
    assert done.stderr == f"tellme-host: cannot write {path}: standard output goes to this file; give another name\n"
