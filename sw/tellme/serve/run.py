# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The ASGI server that runs the application."""

import threading
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from tellme.serve.pool import Pool

__all__ = ["GRACE", "Server"]

#: Seconds that open requests may take to hear that the server is stopping.
GRACE = 5


class Server(uvicorn.Server):
    """uvicorn, which stops the boards' runs when it is asked to end, so that open requests end too."""

    def __init__(self, app: ASGIApp, pool: Pool, **settings: object):
        super().__init__(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False,
                                        timeout_graceful_shutdown=GRACE, **settings))  # type: ignore[arg-type]
        self._pool = pool

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        threading.Thread(target=self._pool.close, daemon=True).start()
