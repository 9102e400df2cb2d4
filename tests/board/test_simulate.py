# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The simulated board at a pseudo terminal: the code path of a serial port, with tellme-host and with a foreign host."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tellme.cli import main
from tellme.compiler.image import compile_model
from tellme.compiler.image_file import save_image
from tellme.link.client import REGION
from tellme.models.model import Model
from tellme.runtime.board import Board
from tellme.spec.config import preset
from tests.cli.hosts import INTERRUPTED, Host, needs_proc
from tests.models.random_model import random_model

pytestmark = [pytest.mark.rtl, pytest.mark.nightly, needs_proc]

PRESET = "sim-tiny"
EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "plain_host.py"
PROMPT = [5, 17, 101]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.tellme"
    random_model("grouped").save(path)
    return path


@pytest.fixture(scope="module")
def simulate(tmp_path_factory):
    """A simulate that serves, with its terminal's name as ``name``."""
    folder = tmp_path_factory.mktemp("simulate")
    host = Host(folder, ["simulate", "--preset", PRESET, "--pty", "--link", str(folder / "board")])
    host.name = host.line().decode().rstrip("\n")
    assert os.readlink(folder / "board") == host.name, host.errors()
    yield host
    if host.process.poll() is None:
        host.end("ctrl-c", random.Random(0))


def on(device, model, count, **options):
    """(ids of a run, bytes sent and bytes that were there already)."""
    with Board.open(device) as board:
        session = board.load(Model.load(model))
        ids = [token.id for token in session.generate(PROMPT, max_tokens=count, ignore_end=True, **options)]
        return ids, board.device.sent, board.device.skipped


def test_twice_and_loaded_once(simulate, model):
    golden, *_ = on("golden", model, 6)
    ids, sent, skipped = on(simulate.name, model, 6)
    assert ids == golden and sent > 10_000 and sent > 4 * skipped
    again, sent_again, skipped = on(simulate.name, model, 6)
    assert again == golden and sent_again + skipped == sent and 0 < sent_again < 4096


@pytest.mark.parametrize("kind", ["ctrl-c", "SIGKILL"])
def test_a_host_that_ends_in_the_middle(kind, simulate, model, tmp_path):
    golden, *_ = on("golden", model, 4)
    other = Host(tmp_path, ["generate", "--device", simulate.name, "--model", str(model), "--prompt-ids", "1", "--ignore-eos",
                            "--json"])
    for wanted in ("start", "token"):
        assert json.loads(other.line())["type"] == wanted
    other.send(getattr(signal, {"ctrl-c": "SIGINT"}.get(kind, kind)))
    rest = other.process.stdout.read()
    assert other.process.wait(60) == {"ctrl-c": 130, "SIGKILL": -9}[kind], other.errors()
    if kind == "ctrl-c":
        assert json.loads(rest.splitlines()[-1])["stop_reason"] == "interrupted"
    other.process.stdout.close()
    ids, sent, skipped = on(simulate.name, model, 4)
    assert ids == golden and sent < 4096 < skipped


def test_a_preloaded_model(model, tmp_path):
    """The first host finds the model by its checksums: it sends the region that the training wrote to, and the tables."""
    host = Host(tmp_path, ["simulate", "--preset", "sim-ddr3", "--preload", str(model)])
    try:
        name = host.line().decode().rstrip("\n")
        golden, *_ = on("golden", model, 4)
        ids, sent, skipped = on(name, model, 4)
        assert ids == golden and 0 < sent < REGION + 4096
        image = compile_model(Model.load(model), preset("sim-ddr3"))
        assert skipped == sum(len(part) for _, part in image.sections) - min(REGION, len(image.sections[0][1]))
        # The next host finds all of it.
        ids, sent, _ = on(name, model, 4)
        assert ids == golden and sent < 4096
    finally:
        host.end("ctrl-c", random.Random(0))


def test_a_foreign_host(simulate, model, tmp_path, capsys):
    """docs/examples/plain_host.py, twice; between its runs tellme-host loads another model."""
    save_image(tmp_path / "image", Model.load(model), preset(PRESET))
    golden, *_ = on("golden", model, 5)
    for _ in range(2):
        done = subprocess.run([sys.executable, "-I", str(EXAMPLE), simulate.name, str(tmp_path / "image"),
                               ",".join(map(str, PROMPT)), "5"], capture_output=True, text=True, timeout=600)
        assert (done.returncode, done.stderr) == (0, "")
        assert [int(line) for line in done.stdout.split()] == golden
        assert main(["generate", "--device", simulate.name, "--prompt-ids", "1", "--max-tokens", "1", "--model",
                     str(other_model(tmp_path))]) == 0
        capsys.readouterr()


def other_model(folder):
    path = folder / "other.tellme"
    random_model("plain").save(path)
    return path


def test_the_end(simulate):
    """Ctrl-C; within a second no process is left, and the terminal and its link are gone."""
    began = time.monotonic()
    simulate.send(signal.SIGINT)
    simulate.gone(began)
    assert simulate.process.returncode == 130 and simulate.lines()[-1] == INTERRUPTED
    assert not os.path.exists(simulate.name)
