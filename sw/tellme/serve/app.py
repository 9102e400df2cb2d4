# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The server's routes.  Nothing here waits for a board: boards have threads of their own (:mod:`tellme.serve.pool`)."""

import asyncio
import hmac
import ipaddress
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tellme.errors import InputError, TellmeError
from tellme.models.chat import ChatTemplate, NoTemplateError
from tellme.models.model import Model
from tellme.runtime.session import Token, prompt_ids, tokenizer_of
from tellme.serve.answers import DONE, Answer, event
from tellme.serve.errors import ServeError
from tellme.serve.metrics import CONTENT_TYPE
from tellme.serve.page import page
from tellme.serve.pool import Ended, Job, Pool
from tellme.serve.requests import Request, parse

__all__ = ["CHARACTERS_A_TOKEN", "CUT_AT_A_TIME", "Settings", "make_app"]

#: Characters of a prompt for each token of the context; a longer prompt is refused before it is cut into tokens.
CHARACTERS_A_TOKEN = 64
#: Prompts that are cut into tokens at a time: the package takes some 200 bytes of memory a character.
CUT_AT_A_TIME = 4

Output = Token | Ended | ServeError
Answered = TypeVar("Answered")


@dataclass(frozen=True)
class Settings:
    """``host``: the address that the server listens at.  ``api_key``: what clients have to send; None: nothing.  ``max_body``:
    bytes of a request's body.  ``max_tokens``: tokens that a request may ask for; None: the model's context.  ``body_seconds``:
    within which a body has to come."""

    host: str = "127.0.0.1"
    api_key: str | None = None
    max_body: int = 1 << 20
    max_tokens: int | None = None
    body_seconds: float = 30.0


class _Server:
    """What the routes share."""

    def __init__(self, model: Model, pool: Pool, settings: Settings):
        self.model, self.pool, self.settings = model, pool, settings
        self.name = model.name
        self.tokenizer = tokenizer_of(model)
        if self.tokenizer is None:
            raise InputError(f"the model {model.name} holds no tokenizer, and the server's answers are texts: a model that was "
                             "converted with one is wanted", hint="tokenizer")
        self.started = int(time.time())
        self.template: ChatTemplate | None = None
        with suppress(NoTemplateError):
            self.template = ChatTemplate(model, self.tokenizer)
        self.token_limit = min(settings.max_tokens or model.config.context, model.config.context)
        self.page, self.page_policy = page()
        self._cutting = asyncio.Semaphore(CUT_AT_A_TIME)

    # ------------------------------------------------------------------ what is there
    async def index(self, request: HttpRequest) -> Response:
        return Response(self.page, media_type="text/html", headers={"Content-Security-Policy": self.page_policy,
                                                                     "X-Content-Type-Options": "nosniff"})

    async def models(self, request: HttpRequest) -> Response:
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model_of_name(self, request: HttpRequest) -> Response:
        if request.path_params["name"] != self.name:
            raise ServeError(404, f"there is no model {request.path_params['name'][:100]!r}; the model is {self.name!r}",
                             code="model_not_found")
        return JSONResponse(self._model())

    def _model(self) -> dict[str, Any]:
        return {"id": self.name, "object": "model", "created": self.started, "owned_by": "tellme",
                "context": self.model.config.context, "chat": self.template is not None}

    async def health(self, request: HttpRequest) -> Response:
        boards = self.pool.boards()
        states = {board["state"] for board in boards}
        status = "ok" if self.pool.ready else "starting" if "starting" in states else "no board"
        return JSONResponse({"status": status, "waiting": self.pool.waiting, "boards": boards},
                            200 if self.pool.ready else 503)

    async def metrics(self, request: HttpRequest) -> Response:
        return Response(self.pool.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    # ------------------------------------------------------------------ texts
    async def completions(self, request: HttpRequest) -> Response:
        return await self._generate(request, chat=False)

    async def chat_completions(self, request: HttpRequest) -> Response:
        return await self._generate(request, chat=True)

    async def _generate(self, request: HttpRequest, *, chat: bool) -> Response:
        content = await self._body(request)
        parsed = parse(content, self.model.config, self.name, chat=chat, token_limit=self.token_limit)
        # Long texts take a while to cut into tokens.
        self._check_length(parsed)
        async with self._cutting:
            prompt = await run_in_threadpool(self._prompt, parsed)
        loop, outputs = asyncio.get_running_loop(), asyncio.Queue[Output]()

        def emit(output: Output) -> None:
            # The loop is closed when the server ends before its boards do.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(outputs.put_nowait, output)

        job = Job(prompt, parsed.max_tokens, parsed.sampling, parsed.stop, emit)
        self.pool.submit(job)
        answer = Answer(self.name, chat=chat)
        outgoing = _Outgoing(job, outputs, job.arrived + self.pool.limits.seconds)
        try:
            if parsed.stream:
                # The status code waits for the first token: until then a failure has a code of its own.
                first = await _or_gone(outgoing.next(), request.receive)
                return _EventStream(_stream(answer, outgoing, first, parsed), job)
            text, ended = await _or_gone(outgoing.whole(), request.receive)
            return JSONResponse(answer.whole(text, job, ended))
        except BaseException:
            job.cancel()
            raise

    def _check_length(self, parsed: Request) -> None:
        """Refuse texts that are far beyond the context."""
        texts = [message["content"] for message in parsed.messages or []]
        if isinstance(parsed.prompt, str):
            texts.append(parsed.prompt)
        characters, most = sum(map(len, texts)), CHARACTERS_A_TOKEN * self.model.config.context
        if characters > most:
            raise ServeError(400, f"the text has {characters} characters, and with a context of {self.model.config.context} "
                             f"tokens up to {most} are taken", param="prompt" if parsed.messages is None else "messages",
                             code="context_length_exceeded")

    def _prompt(self, parsed: Request) -> list[int]:
        """Token ids of a request's prompt."""
        try:
            if parsed.messages is None:
                assert parsed.prompt is not None
                ids = prompt_ids(self.model, self.tokenizer, parsed.prompt)
            elif self.template is None:
                raise ServeError(400, f"the model {self.name} has no chat template: it is a base model; use /v1/completions",
                                 code="no_chat_template")
            else:
                ids = prompt_ids(self.model, self.tokenizer, self.template.tokens(parsed.messages))
        except InputError as error:
            code = "context_length_exceeded" if "context holds" in str(error) else "invalid_value"
            raise ServeError(400, str(error), param="prompt" if parsed.messages is None else "messages", code=code) from None
        except TellmeError as error:
            raise ServeError(500, str(error)) from None
        return ids

    async def _body(self, request: HttpRequest) -> bytes:
        """The body, if it is JSON by its type and not too long.

        The type is asked for because a page of another site can post plain text here without being asked, but no JSON.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise ServeError(415, "Content-Type: application/json is wanted", code="unsupported_media_type")
        limit = self.settings.max_body
        too_long = ServeError(413, f"the body is longer than {limit} bytes", code="body_too_large")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            raise too_long
        content = bytearray()
        try:
            async with asyncio.timeout(self.settings.body_seconds):
                async for part in request.stream():
                    content += part
                    if len(content) > limit:
                        raise too_long
        except TimeoutError:
            raise ServeError(408, f"the body did not come within {self.settings.body_seconds:g} s", code="timeout",
                             headers={"Connection": "close"}) from None
        return bytes(content)


class _GoneError(Exception):
    """The client went away."""


class _Outgoing:
    """What a board says to a request, up to the time that the request may take."""

    def __init__(self, job: Job, outputs: "asyncio.Queue[Output]", deadline: float):
        self.job, self._outputs, self._deadline = job, outputs, deadline

    async def next(self) -> Token | Ended:
        """The next token, or the end; what goes wrong is a ServeError."""
        try:
            async with asyncio.timeout(max(0.0, self._deadline - time.monotonic())):
                output = await self._outputs.get()
        except TimeoutError:
            self.job.cancel()
            raise ServeError(504, "the request took longer than the server allows", code="timeout") from None
        if isinstance(output, ServeError):
            raise output
        return output

    async def whole(self) -> tuple[str, Ended]:
        """All text, and the end."""
        pieces = []
        while isinstance(output := await self.next(), Token):
            pieces.append(output.text)
        return "".join([*pieces, output.text]), output


async def _or_gone(wanted: Coroutine[Any, Any, Answered], receive: Receive) -> Answered:
    """What is waited for, unless the client goes away first: a _GoneError."""
    output = asyncio.ensure_future(wanted)
    gone = asyncio.ensure_future(_until_gone(receive))
    try:
        await asyncio.wait((output, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        came = output.done()
        output.cancel()
        gone.cancel()
        await asyncio.gather(output, gone, return_exceptions=True)
    if not came:
        raise _GoneError
    return output.result()


async def _until_gone(receive: Receive) -> None:
    """Wait until the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _stream(answer: Answer, outgoing: _Outgoing, first: Token | Ended, parsed: Request) -> AsyncIterator[bytes]:
    """The events of a stream."""
    for body in answer.first():
        yield event(body)
    output = first
    try:
        while isinstance(output, Token):
            if output.text:
                yield event(answer.piece(output.text))
            output = await outgoing.next()
    except ServeError as error:
        # The status code is sent: an error is an event.
        yield event(error.body)
        return
    if output.text:
        yield event(answer.piece(output.text))
    for body in answer.last(outgoing.job, output, include_usage=parsed.include_usage):
        yield event(body)
    yield DONE


class _EventStream(Response):
    """Server-sent events; the run is stopped when the client goes away."""

    def __init__(self, events: AsyncIterator[bytes], job: Job):
        super().__init__(headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store",
                                  "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events, self._job = events, job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self._send(send))
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            finished = sending.done()
            # Of a run that has ended this changes nothing.
            self._job.cancel()
            for task in (sending, gone):
                task.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)
        if finished:
            sending.result()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for content in self._events:
            await send({"type": "http.response.body", "body": content, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


# ---------------------------------------------------------------------- around the routes
class _Guard:
    """Who may ask: the name of the host, the API key; and a count of the answers."""

    def __init__(self, app: ASGIApp, server: _Server):
        self._app, self._server = app, server
        self._local = _is_loopback(server.settings.host)
        self._key = server.settings.api_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        metrics = self._server.pool.metrics
        path = scope["path"] if scope["path"] in PATHS else "other"

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                metrics.requests.add(1, path, str(message["status"]))
            await send(message)

        error = self._refused(scope)
        if error is not None:
            await JSONResponse(error.body, error.status, headers=error.headers)(scope, receive, counted)
            return
        try:
            await self._app(scope, receive, counted)
        except (_GoneError, ClientDisconnect):
            # As nginx counts it: nobody hears an answer.
            metrics.requests.add(1, path, "499")

    def _refused(self, scope: Scope) -> ServeError | None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        if self._local and not _is_loopback(_host_name(headers.get(b"host", b"").decode("latin-1"))):
            # A name of another site that was made to point here.
            return ServeError(403, "this server answers to localhost alone", code="wrong_host")
        if self._key is None or scope["path"] in OPEN_PATHS:
            return None
        kind, _, key = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() != b"bearer":
            return ServeError(401, "an API key is wanted: Authorization: Bearer KEY", code="invalid_api_key",
                              headers={"WWW-Authenticate": "Bearer"})
        if not hmac.compare_digest(key.strip(), self._key.encode("utf-8")):
            return ServeError(401, "the API key is not the server's", code="invalid_api_key",
                              headers={"WWW-Authenticate": "Bearer"})
        return None


PATHS = ("/", "/health", "/metrics", "/v1/models", "/v1/completions", "/v1/chat/completions")
#: What needs no API key: the page, which asks for one, and whether the server is well.
OPEN_PATHS = ("/", "/health")


def _host_name(value: str) -> str:
    """The name in a Host header."""
    return value[1:].partition("]")[0] if value.startswith("[") else value.partition(":")[0]


def _is_loopback(name: str) -> bool:
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


async def _serve_error(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, ServeError)
    return JSONResponse(error.body, error.status, headers=error.headers)


async def _http_error(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = {404: f"there is nothing at {request.url.path[:100]}", 405: f"{request.method} is not what this path takes"}
    return await _serve_error(request, ServeError(error.status_code, text.get(error.status_code, error.detail),
                                                  headers=dict(error.headers or {})))


async def _bug(request: HttpRequest, error: Exception) -> Response:
    return await _serve_error(request, ServeError(500, "the server failed; its log says how", code="internal"))


def make_app(model: Model, pool: Pool, settings: Settings | None = None) -> Starlette:
    """The application, for any ASGI server.  The pool begins and ends with the application."""
    server = _Server(model, pool, settings or Settings())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(pool.close)

    def route(path: str, endpoint: Callable[[HttpRequest], Awaitable[Response]], method: str = "GET") -> Route:
        return Route(path, endpoint, methods=[method])

    app = Starlette(
        routes=[route("/", server.index), route("/health", server.health), route("/metrics", server.metrics),
                route("/v1/models", server.models), route("/v1/models/{name:path}", server.model_of_name),
                route("/v1/completions", server.completions, "POST"),
                route("/v1/chat/completions", server.chat_completions, "POST")],
        exception_handlers={ServeError: _serve_error, HTTPException: _http_error, Exception: _bug}, lifespan=lifespan)
    app.add_middleware(_Guard, server=server)
    return app
