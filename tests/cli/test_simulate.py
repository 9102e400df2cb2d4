# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tellme-host simulate with a board that is none: its terminal, its hosts, its link, and its end.

tests/board/test_simulate.py does the same with the simulated board itself.
"""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tellme.cli import main
from tellme.compiler.image_file import save_image, stored_pieces
from tellme.models.model import Model
from tellme.runtime import simulated
from tellme.spec.config import preset
from tests.cli.fake_board import READY
from tests.cli.hosts import INTERRUPTED, Host, needs_proc, tries
from tests.models.random_model import random_model

pytestmark = needs_proc

#: tellme-host with tests/cli/fake_board.py as the simulated board; before its arguments: how that board is.
FAKE_BOARD = """
import sys
from tellme.cli import main, simulate
how = sys.argv.pop(1).split()
simulate.build = lambda *_: [sys.executable, "-m", "tests.cli.fake_board", *how]
simulate.AS_REAL = ()
sys.exit(main())
"""
#: Seconds that an end may take where the time is not what is tested.
PATIENT = 20.0
#: A run that is long enough to be ended in its middle.
LONG = ("--json", "--ignore-eos", "--max-tokens", "400")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model that is loaded at once."""
    path = tmp_path_factory.mktemp("model") / "small.tellme"
    random_model("plain").save(path)
    return path


def serving(folder, *arguments, how="quick"):
    """A simulate that serves, and the terminal's name."""
    host = Host(folder, [how, "simulate", *arguments], program=("-c", FAKE_BOARD))
    name = host.line().decode().rstrip("\n")
    assert name.startswith("/dev/"), host.errors()
    host.until(lambda: READY in host.errors())
    return host, name


def generate(capsys, name, model):
    """The ids of generate at a port."""
    assert main(["generate", "--device", name, "--json", "--model", str(model), "--prompt-ids", "1,2,3", "--ignore-eos",
                 "--max-tokens", "6"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["token_ids"]
    assert len(found) == 6
    return found


def test_hosts_one_after_another(small, tmp_path, capsys):
    host, name = serving(tmp_path, "--pty")
    golden = generate(capsys, "golden", small)
    assert generate(capsys, name, small) == golden == generate(capsys, name, small)
    host.end("ctrl-c", random.Random(0), PATIENT)
    said = host.lines()
    assert said[0] == f"the simulated board (ulx3s-85f-l2) is at {name}; in another terminal:"
    assert said[1] == f"  tellme-host generate --device {name}"
    assert said[-1] == INTERRUPTED and not os.path.exists(name)


@pytest.mark.parametrize("kind", ["ctrl-c", "SIGKILL"])
def test_a_host_that_ends_in_the_middle(kind, small, tmp_path, capsys):
    """The board goes on, and the next host finds it as if nothing had been."""
    host, name = serving(tmp_path)
    for _ in range(tries(1)):
        other = Host(tmp_path, ["generate", "--device", name, *LONG])
        for wanted in ("start", "token", "token"):
            assert json.loads(other.line())["type"] == wanted
        other.end(kind, random.Random(1), PATIENT)
        assert generate(capsys, name, small) == generate(capsys, "golden", small)
    host.end("SIGTERM", random.Random(0), PATIENT)


@pytest.mark.parametrize("kind", ["ctrl-c twice", "SIGHUP"])
def test_no_process_is_left(kind, tmp_path):
    """The other ends are those of the other tests."""
    rng = random.Random(kind)
    for _ in range(tries(1)):
        host, _ = serving(tmp_path)
        host.end(kind, rng)


def test_a_host_hears_that_the_board_is_gone(tmp_path):
    host, name = serving(tmp_path)
    other = Host(tmp_path, ["generate", "--device", name, *LONG])
    assert json.loads(other.line())["type"] == "start"
    host.end("ctrl-c", random.Random(0), PATIENT)
    assert other.process.wait(60) == 2
    assert f"tellme-host: {name} went away while the host was " in other.errors()
    other.gone(time.monotonic(), PATIENT)


@pytest.mark.parametrize(("number", "message"), [
    (signal.SIGKILL, "the simulated board was ended by SIGKILL; if nobody ended it, the memory may have run out: close other "
                     "programs, and start again"),
    (signal.SIGSEGV, "the simulated board ended unexpectedly (SIGSEGV): its last words are above; start again, and report it if "
                     "it ends again"),
])
def test_a_board_that_ends(number, message, tmp_path):
    host, _ = serving(tmp_path)
    os.kill(host.board("fake_board"), number)
    host.gone(time.monotonic(), PATIENT)
    assert host.process.returncode == 2 and host.lines()[-1] == f"tellme-host: {message}"


def test_a_link(small, tmp_path, capsys):
    link = tmp_path / "the board"
    for _ in range(2):
        host, name = serving(tmp_path, "--link", str(link))
        assert os.readlink(link) == name and f"  tellme-host generate --device '{link}'" in host.lines()
        assert generate(capsys, str(link), small) == generate(capsys, "golden", small)
        host.end("SIGTERM", random.Random(0), PATIENT)
        assert not os.path.lexists(link)


def test_a_link_that_was_left(tmp_path):
    link = tmp_path / "board"
    host, name = serving(tmp_path, "--link", str(link))
    host.end("SIGKILL", random.Random(0), PATIENT)
    assert os.readlink(link) == name
    host, name = serving(tmp_path, "--link", str(link))
    assert os.readlink(link) == name
    # What has taken the link's place since is not removed.
    link.unlink()
    link.symlink_to(tmp_path)
    host.end("ctrl-c", random.Random(0), PATIENT)
    assert os.readlink(link) == str(tmp_path)


@pytest.fixture
def no_build(monkeypatch):
    def build(*_):
        raise AssertionError("built")
    monkeypatch.setattr("tellme.cli.simulate.build", build)


@pytest.mark.parametrize("made", ["file", "folder", "link"])
def test_a_name_that_is_taken(made, no_build, tmp_path, capsys):
    path = tmp_path / "x"
    if made == "file":
        path.touch()
    elif made == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nothing")
    assert main(["simulate", "--link", str(path)]) == 2
    assert capsys.readouterr().err == (
        f"tellme-host: --link {path}: there is something with this name already; remove it, or give another name\n")
    assert os.path.lexists(path)


def test_a_folder_that_is_not_there(no_build, tmp_path, capsys):
    assert main(["simulate", "--link", str(tmp_path / "no" / "board")]) == 2
    assert capsys.readouterr().err == f"tellme-host: --link {tmp_path}/no/board: there is no folder {tmp_path}/no\n"


def test_an_unknown_preset(no_build, capsys):
    assert main(["simulate", "--preset", "nexys"]) == 2
    assert "no preset is called 'nexys'; there are: ecp5-25f, ecpix5-85f" in capsys.readouterr().err


class Built(Exception):
    """The board would be built now."""


@pytest.fixture
def builds(monkeypatch):
    """What the board would be built with: the bytes of the image, and its path."""
    seen = []

    def build(command, root, env):
        at = Path(command[command.index("--preload") + 1])
        seen.append((at, at.read_bytes(), command))
        raise Built

    monkeypatch.setattr("tellme.cli.simulate.build", build)
    return seen


@pytest.mark.parametrize("head", ["", "board", "host"])
def test_an_image_is_preloaded(head, small, builds, tmp_path, capsys):
    """What load --save writes, and what simulate --preload takes; the text of both is the golden model's (tests/board)."""
    path = tmp_path / "image"
    assert main(["load", str(small), "--save", str(path), "--preset", "sim-tiny", *(["--head", head] if head else [])]) == 0
    size = path.stat().st_size
    assert capsys.readouterr().out == f"{path}: plain for sim-tiny, {size} bytes\n"
    save_image(tmp_path / "same", Model.load(small), preset("sim-tiny"), head=head or "board")
    assert path.read_bytes() == (tmp_path / "same").read_bytes()
    with pytest.raises(Built):
        main(["simulate", "--preset", "sim-tiny", "--preload", str(path)])
    (used, content, command), = builds
    assert used == path and content == path.read_bytes() and command[command.index("--preset") + 1] == "sim-tiny"


def test_norms_of_olmo_2_want_a_build_that_has_them(tmp_path, capsys):
    model, path = tmp_path / "olmo2.tellme", tmp_path / "image"
    random_model("vector-norms").save(model)
    assert main(["load", str(model), "--save", str(path), "--preset", "sim-tiny"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(
        "the model has the norms of OLMo 2, on the whole of q and of k and behind attention and feed-forward, and the build "
        "sim-tiny does none: use the golden model (--device golden)")
    assert not path.exists()
    assert main(["load", str(model), "--save", str(path), "--preset", "sim-norms"]) == 0
    assert capsys.readouterr().out == f"{path}: vector-norms for sim-norms, {path.stat().st_size} bytes\n"


def test_a_model_is_preloaded(small, builds, tmp_path):
    """Its image is there while the board is built and runs, and gone behind that."""
    with pytest.raises(Built):
        main(["simulate", "--preset", "sim-tiny", "--preload", str(small)])
    (used, content, _), = builds
    save_image(tmp_path / "image", Model.load(small), preset("sim-tiny"))
    assert content == (tmp_path / "image").read_bytes() and not used.exists()


def test_what_a_save_says_to_programs(small, tmp_path, capsys):
    path = tmp_path / "image"
    assert main(["load", str(small), "--save", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"model": "plain", "file": str(path), "preset": "ulx3s-85f-l2",
                                                   "bytes": path.stat().st_size}


AGAIN = "write it again (tellme-host load MODEL --save FILE)"


@pytest.mark.parametrize(("change", "message"), [
    (lambda content: content[:20], "{path} is cut short: {again}"),
    (lambda content: content[:-4], "{path} is cut short: {again}"),
    (lambda content: content + bytes(4), "{path} has 4 bytes behind its last piece: {again}"),
    (lambda content: content[:4] + bytes(2) + content[6:],
     "{path} has version 0 of the format, and 3 is wanted: {again}"),
    (lambda content: content[:8] + b"ulx3s-85f".ljust(16, b"\0") + content[24:],
     "{path} was written for the preset ulx3s-85f, and the board is sim-tiny"),
    (lambda content: content[:24] + (1 << 25).to_bytes(4, "little") + content[28:],
     "{path} has {size} bytes at 33554432, and the memory of sim-tiny ends at 33554432"),
    (lambda content: content[:24] + (2).to_bytes(4, "little") + content[28:],
     "{path} is damaged: {size} bytes at 0x2 are no whole words: {again}"),
])
def test_an_image_that_cannot_be_preloaded(change, message, small, no_build, tmp_path, capsys):
    path = tmp_path / "image"
    save_image(path, Model.load(small), preset("sim-tiny"))
    size = stored_pieces(path, preset("sim-tiny"))[0].size
    path.write_bytes(change(path.read_bytes()))
    assert main(["simulate", "--preset", "sim-tiny", "--preload", str(path)]) == 2
    assert capsys.readouterr().err == f"tellme-host: {message.format(path=path, size=size, again=AGAIN)}\n"


@pytest.mark.parametrize(("name", "message"), [
    ("nobody", "no model is called 'nobody' and there is no such file"),
    ("stories-1m", "dim is 192, and the build sim-tiny can do"),
])
def test_a_model_that_cannot_be_preloaded(name, message, no_build, capsys):
    assert main(["simulate", "--preset", "sim-tiny", "--preload", name]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "message"), [
    (["--device", "sim"], "--save writes a file and opens no board: leave --device out, and name the board's core with --preset"),
    (["--preset", "nexys"], "no preset is called 'nexys'"),
    (["--preset", "sim-tiny"], "dim is 192, and the build sim-tiny can do"),
])
def test_an_image_that_cannot_be_saved(arguments, message, tmp_path, capsys):
    assert main(["load", "stories-1m", "--save", str(tmp_path / "image"), *arguments]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert main(["load", "stories-1m", "--save", str(tmp_path / "no" / "image")]) == 2
    assert f"there is no folder {tmp_path}/no" in capsys.readouterr().err


def test_outside_a_checkout(no_build, monkeypatch, capsys):
    monkeypatch.setattr(simulated, "checkout", lambda: None)
    assert main(["simulate"]) == 2
    assert "make demo" in capsys.readouterr().err


def test_a_system_without_pseudo_terminals(no_build, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["simulate"]) == 2
    assert capsys.readouterr().err == "tellme-host: simulate needs pseudo terminals, which this system does not have\n"


def test_a_standard_output_that_is_closed(tmp_path):
    """The board's process ends with the command."""
    host = Host(tmp_path, ["quick", "simulate"], program=("-c", FAKE_BOARD))
    host.process.stdout.close()
    host.gone(time.monotonic(), PATIENT)
    assert host.process.returncode == 2 and host.lines()[-1] == "tellme-host: standard output was closed; stopped"
