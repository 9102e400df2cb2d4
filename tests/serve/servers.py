# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Servers in this process, on a free port, over golden boards and boards behind packets that fail when they are told to."""

import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace

import tellme
from tellme.link.errors import LinkError
from tellme.runtime.device import BoardDevice, GoldenDevice
from tellme.serve.app import Settings, make_app
from tellme.serve.pool import Limits, Pool
from tellme.serve.run import Server
from tellme.spec.config import SIMULATED, preset
from tests.cli.fake_client import FakeClient

__all__ = ["CHAT_MODEL", "CHATML", "MODEL", "Killable", "golden", "killable", "reference", "server", "until"]

CONFIG = preset(SIMULATED)
MODEL = tellme.find_model("stories-1m")
#: The form of turns that many models use, with texts in place of control tokens.
CHATML = ("{% for message in messages %}{% if message['role'] not in ['system', 'user', 'assistant'] %}"
          "{{ raise_exception('a role that is not known') }}{% endif %}"
          "{{ '<|' + message['role'] + '|>\n' + message['content'] + '\n' }}{% endfor %}"
          "{% if add_generation_prompt %}<|assistant|>\n{% endif %}")
CHAT_MODEL = replace(MODEL, chat_template=CHATML, name="stories-chat")


def golden(model=MODEL):
    """Opens a golden board."""
    def open_board():
        board = tellme.Board(GoldenDevice())
        return board, board.load(model)
    return open_board


class Killable(FakeClient):
    """A board behind packets, with the golden model in it, that takes ``pause`` seconds a token and can be killed."""

    def __init__(self, pause=0.0, config=CONFIG):
        super().__init__(config)
        self.pause = pause
        self.killed = False
        self.tokens_made = self.stops = 0
        self.on_start = lambda: None

    def start(self, args):
        super().start(args)
        self.on_start()

    def events(self):
        for kind, event in self._run:
            if self.killed:
                raise LinkError("the board was unplugged")
            time.sleep(self.pause)
            self.tokens_made += 1
            yield kind, event

    def write(self, address, content, progress=None):
        if self.killed:
            raise LinkError("the board was unplugged")
        super().write(address, content, progress)

    def read(self, address, size):
        # Of counters: each its number.
        from tellme.spec.memory import COUNTER_BASE, COUNTERS
        if COUNTER_BASE <= address < COUNTER_BASE + 4 * len(COUNTERS):
            return b"".join(i.to_bytes(4, "little") for i in range(1, len(COUNTERS) + 1))[address - COUNTER_BASE:][:size]
        return super().read(address, size)

    def stop(self):
        self.stops += 1
        super().stop()


def killable(client, model=MODEL):
    """Opens a board behind a client; a killed one does not open."""
    def open_board():
        if client.killed:
            raise LinkError("the board was unplugged")
        board = tellme.Board(BoardDevice("port", client.config, client, "ab" * 32))
        return board, board.load(model)
    return open_board


_REFERENCE = {}


def reference(prompt, n, sampling=None):
    """Text and ids of a golden board by itself."""
    key = (str(prompt), n, sampling)
    if key not in _REFERENCE:
        run = tellme.Board(GoldenDevice()).load(MODEL).generate(prompt, max_tokens=n, sampling=sampling)
        tokens = list(run)
        _REFERENCE[key] = "".join(token.text for token in tokens) + run.finish(), [token.id for token in tokens]
    return _REFERENCE[key]


def until(condition, seconds=60.0):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


class Running:
    """A server that listens: ``url``, its pool, and the paths that it knows."""

    def __init__(self, url, port, pool, paths):
        self.url, self.port, self.pool, self.paths = url, port, pool, paths


@contextmanager
def server(*boards, model=MODEL, limits=None, settings=None, patience=60, **more):
    """A server over boards, one of which is ready within ``patience`` seconds, for the time of the block.  ``more``: settings of
    tellme.serve.run.Server."""
    pool = Pool([(f"board{i}", opened) for i, opened in enumerate(boards)], limits or Limits(reopen=None))
    app = make_app(model, pool, settings or Settings())
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
        running = Server(app, pool, **more)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [found]}, daemon=True)
        pool.start()
        assert pool.wait_until_ready(patience)
        thread.start()
        until(lambda: running.started)
        try:
            yield Running(f"http://127.0.0.1:{port}", port, pool, [route.path for route in app.routes])
        finally:
            with suppress(Exception):
                running.handle_exit(2, None)
            thread.join(60)
            assert not thread.is_alive()
