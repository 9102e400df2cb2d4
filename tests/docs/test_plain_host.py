# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The host in plain Python of docs/examples: what it needs, and what it does with a board on good and bad wires."""

import ast
import importlib.util
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tellme.compiler.image_file import save_image
from tellme.models.shipped import find_model
from tellme.runtime.board import Board
from tellme.spec.config import preset
from tellme.spec.image_file import HEADER, MAGIC, PIECE
from tellme.spec.memory import NO_END, PROGRAM_BASE, SDRAM_BASE, TOKEN_BASE, StartArgs
from tellme.spec.program import FORMAT_VERSION
from tests.cli.fake_port import Port
from tests.link.plain_board import PlainBoard, event_of
from tests.link.pty_board import PtyBoard
from tests.models.random_model import random_model

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "plain_host.py"
NAME = b"plain"


def image(path, *, name=NAME, version=FORMAT_VERSION, seed=0):
    """An image with random pieces; the pieces."""
    rng = random.Random(seed)
    pieces = {SDRAM_BASE + 4096: rng.randbytes(5000), SDRAM_BASE: bytes(1028), PROGRAM_BASE: rng.randbytes(32)}
    content = HEADER.pack(MAGIC, version, len(pieces), name)
    content += b"".join(PIECE.pack(at, len(piece)) + piece for at, piece in pieces.items())
    path.write_bytes(content)
    return pieces


def run(port, path, *arguments):
    """The example as a process of its own, in which nothing of tellme can be imported."""
    return subprocess.run([sys.executable, "-I", str(EXAMPLE), port, str(path), *arguments], capture_output=True, text=True,
                          timeout=60)


def holds(board, pieces):
    for at, piece in pieces.items():
        assert board.read(at, len(piece)) == piece


def test_needs_nothing_but_python():
    text = EXAMPLE.read_text("utf-8")
    assert len(text.splitlines()) < 150
    imported = {name.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
    assert imported <= set(sys.stdlib_module_names)


def test_loads_and_generates(tmp_path):
    board = PlainBoard()
    pieces = image(tmp_path / "image")
    with PtyBoard(board) as port:
        done = run(port.path, tmp_path / "image", "7,8,9", "100", "5,6")
        assert (done.returncode, done.stderr) == (0, "")
        # A second time: the session of before is open, and its last events may be in the ring.
        again = run(port.path, tmp_path / "image", "1")
        assert (again.returncode, again.stderr) == (0, "")
    first, second = board.starts
    assert (first.position, first.feed, first.generate, first.ends) == (0, 3, 100, (5, 6))
    assert (second.feed, second.generate, second.ends) == (1, 8, ())
    for args, output in ((first, done.stdout), (second, again.stdout)):
        assert list(map(int, output.split())) == [event_of(args, number).id for number in range(args.generate)]
    holds(board, pieces)
    assert (TOKEN_BASE, b"\7\0\0\0\10\0\0\0\11\0\0\0") in board.writes and NO_END not in first.ends


def test_the_golden_models_ids(tmp_path):
    """An image of a model, at a board that knows of the model only what comes over the link."""
    model = random_model("grouped")
    save_image(tmp_path / "image", model, preset("ulx3s-85f-l8"))
    with Board.open("golden") as golden:
        wanted = [token.id for token in golden.load(model).generate([5, 17, 101], max_tokens=12, ignore_end=True)]
    port = Port()
    try:
        for ends, count in (("", 12), (str(wanted[4]), wanted.index(wanted[4]) + 1)):
            done = run(port.path, tmp_path / "image", "5,17,101", "12", ends)
            assert (done.returncode, done.stderr) == (0, "")
            assert [int(line) for line in done.stdout.split()] == wanted[:count]
    finally:
        port.close()


def test_the_pages_way_to_an_image(tmp_path, monkeypatch):
    """What docs/protocol.md says to type gives the image of the shipped model."""
    page = (EXAMPLE.parents[1] / "protocol.md").read_text("utf-8")
    program = page.partition("## Another host")[2].partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    save_image(tmp_path / "same", find_model("stories-1m"), preset("ulx3s-85f-l2"))
    assert (tmp_path / "stories.image").read_bytes() == (tmp_path / "same").read_bytes()


def test_a_run_that_goes_on_is_ended(tmp_path):
    board = PlainBoard()
    image(tmp_path / "image")
    board.starts.append(StartArgs(0, 1, 40000))
    board.running = True
    with PtyBoard(board) as port:
        done = run(port.path, tmp_path / "image", "1", "3")
        assert (done.returncode, done.stderr) == (0, "")
    assert board.stopped is False and len(board.starts) == 2
    assert list(map(int, done.stdout.split())) == [event_of(board.starts[1], number).id for number in range(3)]


@pytest.fixture
def example():
    """The example as a module, with less patience."""
    spec = importlib.util.spec_from_file_location("plain_host", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.RETRY = 0.01
    return module


@pytest.mark.parametrize("seed", range(4))
def test_bad_wires(seed, example, tmp_path, capsys):
    """Bytes that are lost or changed, in both directions, of every kind of packet: the same memory, the same ids."""
    board = PlainBoard()
    pieces = image(tmp_path / "image", seed=seed)
    with PtyBoard(board, loss=0.2, seed=seed) as port:
        host = example.Board(port.path)
        host.load(tmp_path / "image", *host.open())
        host.generate(list(range(100)), 150, [])
        assert port.faults > 20
    assert len(board.starts) == 1
    args = board.starts[0]
    assert list(map(int, capsys.readouterr().out.split())) == [event_of(args, number).id for number in range(150)]
    holds(board, pieces)


@pytest.mark.parametrize(("options", "made", "says"), [
    ({"version": 2}, {}, "this is no board that speaks protocol 3"),
    ({"program_format": 77}, {}, "the image is not for this board"),
    ({}, {"name": b"other"}, "the image is not for this board"),
    ({}, {"version": 77}, "the image is not for this board"),
])
def test_refusals(options, made, says, tmp_path):
    board = PlainBoard(**options)
    image(tmp_path / "image", **made)
    with PtyBoard(board) as port:
        done = run(port.path, tmp_path / "image", "1")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{says}\n")
    assert not board.writes and not board.starts


def test_a_board_that_refuses(tmp_path):
    """A piece where the board has no memory."""
    (tmp_path / "image").write_bytes(HEADER.pack(MAGIC, FORMAT_VERSION, 1, NAME) + PIECE.pack(0x7000_0000, 4) + bytes(4))
    with PtyBoard(PlainBoard()) as port:
        done = run(port.path, tmp_path / "image", "1")
    assert done.returncode == 1 and done.stderr == "the board refused a packet of type 2: reason 5\n"
