# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The server by the official openai package and plain HTTP: texts, streams, chats, errors, keys, limits."""

import json
import socket
import threading
from dataclasses import replace

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

import tellme
from tellme.runtime.sampling import Sampling
from tellme.serve.app import Settings, make_app
from tellme.serve.pool import Limits, Pool
from tests.serve.servers import CHAT_MODEL, MODEL, Killable, golden, killable, reference, server, until

PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def running():
    with server(golden(), golden()) as found:
        yield found


@pytest.fixture(scope="module")
def chatting():
    with server(golden(CHAT_MODEL), model=CHAT_MODEL) as found:
        yield found


def client_of(found, key="none"):
    return openai.OpenAI(base_url=f"{found.url}/v1", api_key=key, max_retries=0, timeout=60)


@pytest.fixture
def client(running):
    with client_of(running) as found:
        yield found


def complete(client, **settings):
    return client.completions.create(**{"model": "stories-1m", "prompt": PROMPT, "max_tokens": 12, "temperature": 0} | settings)


# ---------------------------------------------------------------------- texts
def test_a_completion(client):
    answer = complete(client)
    text, ids = reference(PROMPT, 12)
    assert answer.choices[0].text == text and answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == len(ids) == 12 and answer.object == "text_completion"
    assert answer.usage.prompt_tokens + 12 == answer.usage.total_tokens
    timings = answer.model_extra["timings"]
    assert timings["predicted_n"] == 12 and timings["first_token_ms"] > 0 and timings["predicted_per_second"] > 0
    assert timings["cycles"] is None and timings["drawn_by"] == "board"


def test_the_same_in_a_stream(client):
    chunks = list(complete(client, stream=True, stream_options={"include_usage": True}))
    text, ids = reference(PROMPT, 12)
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == text and len(chunks) > 10
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["length"]
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 12
    assert chunks[-2].model_extra["timings"]["predicted_n"] == 12
    assert chunks[-2].usage is None


@pytest.mark.parametrize("chat", [False, True])
def test_events_of_a_stream(chat):
    """As the standard of server-sent events has them, each as soon as its token is picked."""
    heard = threading.Event()

    class Waiting(Killable):
        """Makes no more than some tokens until the client has heard of them."""

        def events(self):
            for kind, event in super().events():
                if self.tokens_made > 6:
                    assert heard.wait(20)
                yield kind, event

    slow, model = Waiting(), CHAT_MODEL
    body = {"model": "stories-chat", "max_tokens": 20, "temperature": 0, "stream": True}
    body |= {"messages": [{"role": "user", "content": "Hello"}]} if chat else {"prompt": PROMPT}
    path = "/v1/chat/completions" if chat else "/v1/completions"
    with server(killable(slow, model), model=model) as found, httpx.stream("POST", found.url + path, json=body,
                                                                          timeout=60) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8" and answer.status_code == 200
        assert "content-length" not in answer.headers and answer.headers["cache-control"] == "no-store"
        content = ""
        for part in answer.iter_text():
            content += part
            if content.count("\n\n") > 3:
                heard.set()
    *events, done, rest = content.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "") and all(event.startswith("data: {") and "\n" not in event for event in events)
    chunks = [json.loads(event[6:]) for event in events]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk" if chat else "text_completion"}
    assert len({chunk["id"] for chunk in chunks}) == 1 and len(chunks) > 10


@pytest.mark.parametrize("prompt", [[1, 319, 378], [[1, 319, 378]]])
def test_token_ids_as_prompt(client, prompt):
    assert complete(client, prompt=prompt).choices[0].text == reference([1, 319, 378], 12)[0]


def test_sampling_by_seed(client):
    settings = {"temperature": 0.8, "top_p": 0.9, "seed": 7, "extra_body": {"top_k": 20, "min_p": 0.01, "repeat_penalty": 1.1}}
    want = reference(PROMPT, 12, Sampling(0.8, 0.01, 7, 20, 0.9, 1.1))[0]
    assert complete(client, **settings).choices[0].text == want
    assert "".join(chunk.choices[0].text for chunk in complete(client, **settings, stream=True)) == want
    # Without a seed the server draws one and says which.
    drawn = complete(client, temperature=1.0)
    seed = drawn.model_extra["timings"]["seed"]
    assert complete(client, temperature=1.0, seed=seed).choices[0].text == drawn.choices[0].text


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings(client, stream):
    settings = {"max_tokens": 40, "stop": ["girl named", "never"]}
    if stream:
        chunks = list(complete(client, stream=True, **settings))
        text, reason = "".join(chunk.choices[0].text for chunk in chunks), chunks[-1].choices[0].finish_reason
    else:
        choice = complete(client, **settings).choices[0]
        text, reason = choice.text, choice.finish_reason
    assert (text, reason) == (", there was a little ", "stop")


def test_an_end_token():
    _, ids = reference(PROMPT, 12)
    at = max(i for i in range(12) if ids[i] not in ids[:i])
    model = replace(MODEL, config=replace(MODEL.config, more_ends=(ids[at],)))
    with server(golden(model), model=model) as found, client_of(found) as client:
        answer = complete(client, max_tokens=200)
    assert answer.choices[0].finish_reason == "stop" and answer.usage.completion_tokens == at + 1 > 2
    assert answer.model_extra["timings"]["stop_reason"] == "end_token"


def test_what_the_cache_has_is_said(client):
    first = complete(client, prompt="Tom and Lily went to the park with", max_tokens=5)
    again = complete(client, prompt="Tom and Lily went to the park with" + first.choices[0].text, max_tokens=5)
    assert again.usage.prompt_tokens_details.cached_tokens > 5


def test_models(client):
    assert [model.id for model in client.models.list()] == ["stories-1m"]
    assert client.models.retrieve("stories-1m").owned_by == "tellme"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")


# ---------------------------------------------------------------------- chats
def ask(found, messages, **settings):
    with client_of(found) as client:
        return client.chat.completions.create(**{"model": "stories-chat", "messages": messages, "max_tokens": 8, "temperature": 0}
                                              | settings)


def test_a_chat(chatting):
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
    answer = ask(chatting, messages)
    text = "<|system|>\nBe kind.\n<|user|>\nHello\n<|assistant|>\n"
    from tellme.models.chat import chat_tokens
    from tellme.runtime.session import tokenizer_of
    ids = chat_tokens(tokenizer_of(CHAT_MODEL), text)
    want = reference(ids, 8)[0]
    assert answer.choices[0].message.role == "assistant" and answer.choices[0].message.content == want
    assert answer.usage.prompt_tokens == len(ids)
    with client_of(chatting) as client:
        chunks = list(client.chat.completions.create(model="stories-chat", messages=messages, max_completion_tokens=8,
                                                     temperature=0, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == want
    assert chunks[-1].choices[0].finish_reason == answer.choices[0].finish_reason


def test_a_second_turn_feeds_what_is_new(chatting):
    turns = [{"role": "user", "content": "Tell me of a cat."}]
    first = ask(chatting, turns)
    turns += [{"role": "assistant", "content": first.choices[0].message.content}, {"role": "user", "content": "And a dog?"}]
    second = ask(chatting, turns)
    assert second.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens - 1


def test_a_base_model_has_no_chat(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="stories-1m", messages=[{"role": "user", "content": "Hello"}])
    assert caught.value.code == "no_chat_template" and "/v1/completions" in caught.value.message


# ---------------------------------------------------------------------- refusals
@pytest.mark.parametrize(("settings", "param", "words"), [
    ({"temperature": -1}, None, "the temperature is -1"), ({"temperature": "hot"}, "temperature", "a number is wanted"),
    ({"max_tokens": 0}, "max_tokens", "max_tokens is 0; 1 to"), ({"max_tokens": 100000}, "max_tokens", "is wanted"),
    ({"max_tokens": 1.5}, "max_tokens", "a whole number is wanted"), ({"n": 2}, "n", "does not do that"),
    ({"logprobs": 5}, "logprobs", "does not do that"), ({"echo": True}, "echo", "does not do that"),
    ({"stop": ["a"] * 5}, "stop", "up to 4"), ({"stop": ""}, "stop", "is empty"), ({"stop": 3}, "stop", "no text"),
    ({"prompt": ["a", "b"]}, "prompt", "2 prompts"), ({"prompt": [1, 99999]}, "prompt", "outside the vocabulary"),
    ({"prompt": {"a": 1}}, "prompt", "no text"), ({"prompt": [[]]}, "prompt", "no text"),
    ({"prompt": [1] * 600}, "prompt", "context holds"), ({"prompt": [True]}, "prompt", "no text"),
    ({"extra_body": {"beam_width": 3}}, "beam_width", "not known"), ({"extra_body": {"stream": 1}}, "stream", "true or false"),
    ({"extra_body": {"stream_options": 3}}, "stream_options", "no object"), ({"seed": 1.5}, "seed", "a whole number"),
    ({"presence_penalty": 0.5}, "presence_penalty", "does not do that"),
])
def test_a_field_that_is_wrong(client, settings, param, words):
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, **settings)
    assert words in caught.value.message and caught.value.param == param and caught.value.type == "invalid_request_error"


@pytest.mark.parametrize(("messages", "param"), [
    ([], "messages"), ([{"role": "tool", "content": "x"}], "messages[0].role"), ([{"role": "user"}], "messages[0].content"),
    ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content"), (["x"], "messages[0]"),
    ([{"role": "user", "content": "x"}, {"role": ["user"], "content": "x"}], "messages[1].role"),
    ([{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}], "messages[0].tool_calls"),
])
def test_messages_that_are_wrong(chatting, messages, param):
    answer = httpx.post(f"{chatting.url}/v1/chat/completions", json={"model": "stories-chat", "messages": messages})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param


def test_what_openai_ignores_is_ignored(client):
    assert complete(client, user="me", presence_penalty=0, n=1, best_of=1, logit_bias={}).choices[0].text == reference(
        PROMPT, 12)[0]


def post(found, content, path="/v1/completions", **headers):
    return httpx.post(f"{found.url}{path}", content=content, headers={"Content-Type": "application/json"} | headers)


@pytest.mark.parametrize(("content", "words"), [
    (b"{", "no JSON"), (b"[]", "no JSON object"), (b"\xff", "no UTF-8"), (b"", "no JSON"), (b"[" * 100000, "no JSON"),
    (b'{"model":"stories-1m","prompt":"\\ud800"}', "surrogate"), (b'{"prompt":"x"}', "model is null"),
])
def test_a_body_that_is_wrong(running, content, words):
    answer = post(running, content)
    assert answer.status_code == 400 and words in answer.json()["error"]["message"]


def test_other_refusals(running):
    wrong_model = post(running, b'{"model":"gpt-9","prompt":"x"}')
    assert wrong_model.status_code == 404 and wrong_model.json()["error"]["code"] == "model_not_found"
    assert httpx.post(f"{running.url}/v1/completions", content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415
    assert httpx.get(f"{running.url}/v1/completions").status_code == 405
    nothing = httpx.get(f"{running.url}/v1/nothing")
    assert nothing.status_code == 404 and "error" in nothing.json()
    # A name of another site that was made to point to this computer.
    assert httpx.get(f"{running.url}/health", headers={"Host": "evil.example"}).status_code == 403
    assert httpx.get(f"{running.url}/health", headers={"Host": f"localhost:{running.port}"}).status_code == 200


def test_a_model_without_a_tokenizer_is_not_served():
    with pytest.raises(tellme.InputError) as caught:
        make_app(replace(MODEL, tokenizer=b""), Pool([], Limits()), Settings())
    assert str(caught.value) == ("the model stories-1m holds no tokenizer, and the server's answers are texts: a model that was "
                                 "converted with one is wanted") and caught.value.hint == "tokenizer"


def test_an_api_key():
    with server(golden(), settings=Settings(api_key="sesame")) as found:
        for key in ("none", "sesam", "Sesame"):
            with client_of(found, key) as client, pytest.raises(openai.AuthenticationError) as caught:
                complete(client)
            assert caught.value.code == "invalid_api_key"
        with client_of(found, "sesame") as client:
            assert complete(client, max_tokens=1).usage.completion_tokens == 1
        assert httpx.get(f"{found.url}/metrics").status_code == httpx.get(f"{found.url}/v1/models").status_code == 401
        assert httpx.get(f"{found.url}/health").status_code == httpx.get(found.url).status_code == 200


def test_limits():
    slow = Killable(pause=0.15)
    limits, settings = Limits(queue=1, seconds=4, reopen=None), Settings(max_body=1000, max_tokens=40)
    with server(killable(slow), limits=limits, settings=settings) as found, client_of(found) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            complete(client, prompt="x" * 1000)
        assert caught.value.status_code == 413
        # A length that is too much is refused before a byte of it comes; a body without a length is counted as it comes.
        with socket.create_connection(("127.0.0.1", found.port)) as link:
            link.settimeout(20)
            link.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                         b"Content-Length: 1001\r\n\r\n")
            assert link.recv(65536).startswith(b"HTTP/1.1 413 ")
        chunked = httpx.post(f"{found.url}/v1/completions", content=iter([b"x" * 600] * 2),
                             headers={"Content-Type": "application/json"})
        assert chunked.status_code == 413
        with pytest.raises(openai.BadRequestError):
            complete(client, max_tokens=41)
        one = complete(client, max_tokens=40, stream=True)
        two = [httpx_later(found, 40)]
        until(lambda: found.pool.waiting == 1)
        with pytest.raises(openai.RateLimitError) as refused:
            complete(client)
        assert refused.value.code == "queue_full" and refused.value.response.headers["retry-after"]
        # The time is up in mid-stream: an event says so; and in the queue: a status code does.
        with pytest.raises(openai.APIError, match="took longer"):
            for _ in one:
                pass
        assert two[0].answer()[0] == 504
        until(lambda: slow.stops > 0)
        assert complete(client, max_tokens=3).usage.completion_tokens == 3


class httpx_later:  # noqa: N801
    """A request that is sent now and answered later."""

    def __init__(self, found, tokens):
        body = json.dumps({"model": "stories-1m", "prompt": PROMPT, "max_tokens": tokens, "temperature": 0}).encode()
        self._socket = socket.create_connection(("127.0.0.1", found.port))
        self._socket.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                             b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def answer(self):
        self._socket.settimeout(20)
        content = b"".join(iter(lambda: self._socket.recv(65536), b""))
        return int(content.split()[1]), content

    def leave(self):
        self._socket.close()


def test_a_body_that_does_not_come():
    with server(golden(), settings=Settings(body_seconds=0.3)) as found:
        with socket.create_connection(("127.0.0.1", found.port)) as link:
            link.settimeout(20)
            link.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                         b"Content-Length: 100\r\n\r\n{")
            assert link.recv(65536).startswith(b"HTTP/1.1 408 ")
        # One that goes away in the middle of its body harms nothing.
        with socket.create_connection(("127.0.0.1", found.port)) as link:
            link.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                         b"Content-Length: 100\r\n\r\n{")
        until(lambda: found.pool.metrics.requests.value("/v1/completions", "499") == 1)
        with client_of(found) as client:
            assert complete(client, max_tokens=1).usage.completion_tokens == 1


# ---------------------------------------------------------------------- clients that go away
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_stops_its_run(stream):
    slow = Killable(pause=0.03)
    with server(killable(slow)) as found, client_of(found) as client:
        if stream:
            answer = complete(client, max_tokens=200, stream=True)
            next(iter(answer))
            answer.close()
        else:
            request = httpx_later(found, 200)
            until(lambda: slow.tokens_made > 2)
            request.leave()
        until(lambda: slow.stops == 1)
        assert slow.tokens_made < 60
        # The board is usable, and gives what it would have given.
        slow.pause = 0
        assert complete(client).choices[0].text == reference(PROMPT, 12)[0]
        assert found.pool.metrics.stopped.value() == 1


def test_a_client_that_leaves_the_queue_is_not_served():
    slow = Killable(pause=0.03)
    with server(killable(slow)) as found, client_of(found) as client:
        one = complete(client, max_tokens=30, stream=True)
        waiting = httpx_later(found, 200)
        until(lambda: found.pool.waiting == 1)
        waiting.leave()
        assert "".join(chunk.choices[0].text for chunk in one) == reference(PROMPT, 30)[0]
        slow.pause = 0
        assert complete(client).choices[0].text == reference(PROMPT, 12)[0]
        assert slow.tokens_made < 60


# ---------------------------------------------------------------------- health and metrics
def test_health_and_metrics():
    client = Killable()
    with server(killable(client), limits=Limits(reopen=None)) as found:
        with client_of(found) as api:
            complete(api)
        health = httpx.get(f"{found.url}/health").json()
        # Twelve tokens, of the last ten seconds.
        assert 0 <= health["boards"][0].pop("tokens_per_second") <= 1.2
        assert health == {"status": "ok", "waiting": 0, "boards": [
            {"board": "board0", "state": "idle", "error": None, "slots": 1, "busy": 0}]}
        answer = httpx.get(f"{found.url}/metrics")
        families = {family.name: family for family in text_string_to_metric_families(answer.text)}
        samples = {(sample.name, *sample.labels.values()): sample.value for family in families.values()
                   for sample in family.samples}
        assert samples["tellme_generated_tokens_total", "board0"] == 12
        assert samples["tellme_requests_total", "/v1/completions", "200"] == 1
        assert samples["tellme_boards", "idle"] == 1 and samples["tellme_queue_length",] == 0
        assert samples["tellme_first_token_seconds_count",] == 1 == samples["tellme_request_seconds_bucket", "+Inf"]
        assert samples["tellme_prompt_tokens_total",] == 5 and samples["tellme_board_failures_total", "board0"] == 0
        # Where the cycles went, by the board's counters.
        assert samples["tellme_board_cycles_total", "board0", "engine"] == 1 + list(tellme.spec.memory.COUNTERS).index(
            "engine_cycles")
        client.killed = True
        with client_of(found) as api, pytest.raises(openai.InternalServerError) as caught:
            complete(api)
        assert caught.value.status_code == 503 and caught.value.code == "no_board"
        dead = httpx.get(f"{found.url}/health")
        assert dead.status_code == 503 and dead.json()["boards"][0]["error"] == "the board was unplugged"
