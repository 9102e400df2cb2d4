# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tellme-host serve as a process: what it says, what it refuses, and how it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from tellme.cli import main
from tellme.cli.serve import opener
from tellme.link.errors import LinkError

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def served(*arguments, **environment):
    """A server as a process, its address, and what it said until it listened."""
    process = subprocess.Popen([sys.executable, "-m", "tellme.cli", "serve", "--device", "golden", "--port", "0", *arguments],
                               cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ | environment)
    lines = []
    try:
        while not (lines and lines[-1].startswith("serving")):
            line = process.stderr.readline()
            assert line, lines
            lines.append(line)
        yield process, re.search(r"http://[^;]+", lines[-1]).group(), lines
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture
def serving():
    """A server on two golden boards."""
    with served("--device", "golden", "--max-tokens", "500") as found:
        yield found


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_serves_and_ends_with_a_request_under_way(serving, how):
    process, url, lines = serving
    assert lines[-1] == f"serving stories-1m at {url}; Ctrl-C ends the server\n"
    body = {"model": "stories-1m", "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
    answer = httpx.post(f"{url}/v1/completions", json=body, timeout=60)
    assert answer.json()["choices"][0]["text"] == ", there was a little girl named Lily"
    assert [board["board"] for board in httpx.get(f"{url}/health").json()["boards"]] == ["golden-0", "golden-1"]
    with httpx.stream("POST", f"{url}/v1/completions", json=body | {"max_tokens": 450, "stream": True, "temperature": 1},
                      timeout=60) as stream:
        events = stream.iter_lines()
        next(events)
        process.send_signal(how)
        rest = [json.loads(line[6:]) for line in events if line.startswith("data: {")]
    # The stream ends by itself, with an error, or whole if the signal came late.
    assert rest[-1].get("error", {}).get("code") == "stopped" or rest[-1].get("timings")
    assert process.wait(20) == 130
    assert "Traceback" not in process.stderr.read()


def reachable(port):
    """Whether another address than the one that is called localhost reaches a port."""
    with socket.socket() as link:
        link.settimeout(5)
        return link.connect_ex(("127.0.0.2", port)) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is this computer on Linux alone")
def test_localhost_alone_unless_told_otherwise_and_a_key():
    with served() as (_, url, lines):
        assert url.startswith("http://127.0.0.1:") and "--api-key" not in "".join(lines)
        assert not reachable(int(url.rpartition(":")[2]))
        assert httpx.get(f"{url}/v1/models").status_code == 200
    with served("--host", "0.0.0.0", TELLME_API_KEY="sesame") as (process, url, _):
        port = int(url.rpartition(":")[2])
        assert reachable(port)
        models = f"http://127.0.0.2:{port}/v1/models"
        assert httpx.get(models).status_code == 401
        # Whoever is reached by the network is called by names of it.
        assert httpx.get(models, headers={"Authorization": "Bearer sesame", "Host": "board.example"}).status_code == 200
        process.send_signal(signal.SIGINT)
        assert "anybody" not in process.stderr.read()
    with served("--host", "0.0.0.0", TELLME_API_KEY="") as (process, url, _):
        assert process.stderr.readline() == ("anybody who reaches this computer can use the server: --api-key KEY asks for a "
                                             "key\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


def test_a_board_that_was_plugged_in_is_not_replaced_by_the_simulated_board(monkeypatch):
    """--device auto after an unplug: the board is looked for, at whatever port it comes back."""
    opened = []

    class Opened:
        def __init__(self, name):
            self.device = SimpleNamespace(name="sim" if ports[0] is None else ports[0])
            opened.append(self.device.name)

        def load(self, model, head, drafts, check):
            return "session"

    ports = ["/dev/ttyUSB0"]
    monkeypatch.setattr("tellme.cli.serve.find_board", lambda: ports[0])
    monkeypatch.setattr("tellme.cli.serve.Board.open", lambda name, preset, baud, say: Opened(name))
    open_board = opener("auto", None, SimpleNamespace(preset="", baud=None, head=None, drafts=None, no_drafts=False, check=None))
    open_board()
    ports[0] = None
    with pytest.raises(LinkError, match="no board is plugged in"):
        open_board()
    ports[0] = "/dev/ttyUSB1"
    open_board()
    assert opened == ["/dev/ttyUSB0", "/dev/ttyUSB1"]
    # The simulated board that was there from the start may be opened again.
    ports[0] = None
    again = opener("auto", None, SimpleNamespace(preset="", baud=None, head=None, drafts=None, no_drafts=False, check=None))
    again()
    again()
    assert opened[2:] == ["sim", "sim"]


def test_a_board_that_is_not_there(capsys):
    assert main(["serve", "--device", "/dev/ttyNONE7", "--port", "0"]) == 2
    err = capsys.readouterr().err
    assert "tellme-host: no board is ready: /dev/ttyNONE7: cannot open /dev/ttyNONE7: there is no such port" in err


def test_a_port_that_is_taken(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", "--device", "golden", "--port", str(port)]) == 2
    assert (f"cannot listen at 127.0.0.1, port {port}: Address already in use (--host ADDRESS, --port N)"
            in capsys.readouterr().err)


@pytest.mark.parametrize(("arguments", "message"), [
    (["--device", "/dev/ttyX", "--device", "/dev/ttyX"], "--device: a board is named twice"),
    (["--api-key", " "], "--api-key: ASCII characters are wanted"), (["--port", "70000"], "--port"),
    (["--host", "no.such.host.invalid"], "cannot listen at no.such.host.invalid"),
    (["--timeout", "0"], "--timeout"), (["--model", "nothing"], "no model is called 'nothing'"),
])
def test_refusals(arguments, message, capsys):
    assert main(["serve", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_without_the_extra(monkeypatch, capsys, package):
    import importlib.util
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else real(name, *rest))
    assert main(["serve"]) == 2
    assert capsys.readouterr().err == (f"tellme-host: serve needs the package {package}, which this Python does not have: "
                                       "pip install '.[serve]' in tellme's folder\n")
