# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What the server lets a client take (SECURITY.md): connections, seconds, bytes; and requests that made it fail."""

import json
import socket
import threading
import time
from dataclasses import replace

import httpx
import pytest

from tellme.serve.app import CHARACTERS_A_TOKEN, Settings
from tellme.serve.pool import Limits
from tellme.serve.run import CONNECTIONS, HEAD_BYTES, HEAD_SECONDS, WRITE_SECONDS
from tests.serve.servers import CHATML, golden, server, until
from tests.serve.small import small_model

MODEL = replace(small_model(), chat_template=CHATML)
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"


def connected(found):
    link = socket.create_connection(("127.0.0.1", found.port))
    link.settimeout(20)
    return link


def closed(link):
    """Whether the server has closed the connection, after what it had still to say."""
    try:
        while link.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def ask(found, path="/v1/completions", content=b"", **fields):
    body = content or json.dumps({"model": "small", "max_tokens": 1} | fields).encode()
    return httpx.post(found.url + path, content=body, headers={"Content-Type": "application/json"}, timeout=60)


@pytest.fixture(scope="module")
def running():
    with server(golden(MODEL), model=MODEL) as found:
        yield found


def test_headers_have_to_come_in_time():
    with server(golden(MODEL), model=MODEL, head_seconds=0.4) as found:
        for sent in (b"", HEALTH, HEALTH + b"\r\n" + HEALTH):
            with connected(found) as link:
                began = time.monotonic()
                link.sendall(sent)
                assert closed(link) and 0.3 < time.monotonic() - began < 15
        # A byte now and then is no way around it.
        with connected(found) as link, pytest.raises(OSError):
            for _ in range(200):
                link.sendall(b"G")
                time.sleep(0.05)
        # An answer that takes longer than headers may take is not cut off, nor is a connection that asks again.
        with httpx.Client() as client:
            for _ in range(3):
                body = {"model": "small", "prompt": "abc", "max_tokens": 100, "temperature": 0}
                answer = client.post(f"{found.url}/v1/completions", json=body, timeout=60)
                assert answer.json()["usage"]["completion_tokens"] == 100
        assert ask(found, prompt="abc").status_code == 200


def test_headers_have_a_length(running):
    with connected(running) as link:
        try:
            link.sendall(HEALTH + b"X: " + b"a" * (2 * HEAD_BYTES) + b"\r\n\r\n")
            assert link.recv(100).startswith(b"HTTP/1.1 400 ")
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert httpx.get(f"{running.url}/health").status_code == 200


def test_connections_have_a_number():
    with server(golden(MODEL), model=MODEL, limits=Limits(queue=2, reopen=None), connections=3) as found:
        held = [connected(found) for _ in range(5)]
        for link in held:
            link.sendall(HEALTH + b"\r\n")
            assert link.recv(100).startswith(b"HTTP/1.1 200 ")
        with connected(found) as link:
            assert closed(link)
        held.pop().close()
        until(lambda: _answers(found))
        for link in held:
            link.close()


def _answers(found):
    with connected(found) as link:
        try:
            link.sendall(HEALTH + b"\r\n")
            return link.recv(100).startswith(b"HTTP/1.1 200 ")
        except OSError:
            return False


def test_a_client_that_does_not_read():
    """Its connection ends; other clients hear nothing of it."""
    with server(golden(MODEL), model=MODEL, write_seconds=0.5) as found, socket.socket() as link:
        # The page is some ten thousand bytes: asked for often enough it fills all buffers.
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect(("127.0.0.1", found.port))
        link.settimeout(5)
        with pytest.raises(OSError):
            for _ in range(100000):
                link.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert httpx.get(f"{found.url}/health").status_code == 200


def test_a_client_that_reads_late():
    """What had to wait comes whole, and the connection is not cut off later."""
    count, request = 300, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with server(golden(MODEL), model=MODEL, write_seconds=2.0) as found, socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect(("127.0.0.1", found.port))
        link.settimeout(20)
        answer = httpx.get(found.url)
        sender = threading.Thread(target=link.sendall, args=(count * request,), daemon=True)
        sender.start()
        time.sleep(0.3)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        content = bytearray()
        while not content.endswith(answer.content) or content.count(b"HTTP/1.1 200 ") < count:
            content += link.recv(1 << 20)
        time.sleep(2.1)
        link.sendall(HEALTH + b"\r\n")
        assert content.count(answer.content) == count and link.recv(100).startswith(b"HTTP/1.1 200 ")


def test_the_limits_that_the_documents_name():
    assert (Settings().host, Settings().max_body, Settings().body_seconds) == ("127.0.0.1", 1 << 20, 30.0)
    assert (Limits().queue, Limits().seconds) == (64, 600.0)
    assert (CONNECTIONS, HEAD_BYTES, HEAD_SECONDS, WRITE_SECONDS) == (256, 1 << 16, 15.0, 60.0)


@pytest.mark.parametrize("fields", [
    {"temperature": 10**400}, {"top_p": -(10**400)}, {"min_p": float("nan")}, {"seed": 10**4000, "top_k": 10**400},
    {"\ud800": 1}, {"a\udfff" * 99: {}}, {"stop": ["\ud800", ""]}, {"prompt": "\ud800"}, {"model": "\ud800"},
])
def test_values_beyond_all_ranges(running, fields):
    answer = ask(running, **{"prompt": "abc"} | fields)
    assert answer.status_code in (400, 404) and set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_text_far_beyond_the_context(running):
    """Is refused before it is cut into tokens; one that is shorter is refused by its tokens."""
    most = CHARACTERS_A_TOKEN * MODEL.config.context
    for path, fields in (("/v1/completions", {"prompt": "a" * (most + 1)}),
                         ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a" * (most // 2 + 1)}] * 2})):
        answer = ask(running, path, **fields)
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "context_length_exceeded"
        assert f"up to {most} are taken" in answer.json()["error"]["message"]
    answer = ask(running, prompt="a" * most)
    assert answer.status_code == 400 and "the model's context holds 128" in answer.json()["error"]["message"]


def test_a_template_without_an_end():
    greedy = replace(MODEL, chat_template="{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}")
    with server(golden(greedy), model=greedy) as found:
        answer = ask(found, "/v1/chat/completions", messages=[{"role": "user", "content": "a"}])
        assert answer.status_code == 500 and "more work or memory" in answer.json()["error"]["message"]
        assert ask(found, prompt="abc").status_code == 200
