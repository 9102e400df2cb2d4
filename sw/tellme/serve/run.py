# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The ASGI server that runs the application."""

import asyncio
import threading
from types import FrameType
from typing import Any, ClassVar

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from tellme.serve.pool import Pool

__all__ = ["CONNECTIONS", "GRACE", "HEAD_BYTES", "HEAD_SECONDS", "WRITE_SECONDS", "Server"]

#: Seconds that open requests may take to hear that the server is stopping.
GRACE = 5
#: Connections beside those of requests that wait; a further one is closed at once.
CONNECTIONS = 256
#: Bytes of a request's line and headers, and seconds within which they have to come, from the connection or the answer before.
HEAD_BYTES, HEAD_SECONDS = 1 << 16, 15.0
#: Seconds that a client may take no bytes of an answer while more wait.
WRITE_SECONDS = 60.0


class _Protocol(H11Protocol):
    """uvicorn's protocol with the limits that it has not: connections, and seconds of headers and of clients that do not read."""

    most: ClassVar[int] = CONNECTIONS
    head_seconds: ClassVar[float] = HEAD_SECONDS
    write_seconds: ClassVar[float] = WRITE_SECONDS
    _head: asyncio.TimerHandle | None = None
    _write: asyncio.TimerHandle | None = None

    def _watch(self) -> None:
        """A timer runs exactly while a request's headers are waited for."""
        waiting = (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing()
        if waiting and self._head is None:
            self._head = self.loop.call_later(self.head_seconds, self.transport.abort)
        elif not waiting:
            self._end(self._head)
            self._head = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write = self.loop.call_later(self.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._end(self._write)
        self._write = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(self._head)
        self._end(self._write)
        self._head = self._write = None
        super().connection_lost(exc)

    @staticmethod
    def _end(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()


class Server(uvicorn.Server):
    """uvicorn, which stops the boards' runs when it is asked to end, so that open requests end too."""

    def __init__(self, app: ASGIApp, pool: Pool, *, head_seconds: float = HEAD_SECONDS, write_seconds: float = WRITE_SECONDS,
                 connections: int = CONNECTIONS, **settings: object):
        protocol = type("Protocol", (_Protocol,), {"most": connections + pool.limits.queue, "head_seconds": head_seconds,
                                                   "write_seconds": write_seconds})
        super().__init__(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, http=protocol, ws="none",
                                        h11_max_incomplete_event_size=HEAD_BYTES, timeout_graceful_shutdown=GRACE,
                                        **settings))  # type: ignore[arg-type]
        self._pool = pool

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        threading.Thread(target=self._pool.close, daemon=True).start()
