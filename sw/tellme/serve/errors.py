# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What the server refuses, with the status code and the body that OpenAI's clients understand."""

from typing import Any

__all__ = ["ServeError"]

_TYPES = {400: "invalid_request_error", 401: "invalid_request_error", 403: "invalid_request_error", 404: "invalid_request_error",
          405: "invalid_request_error", 413: "invalid_request_error", 415: "invalid_request_error", 429: "rate_limit_error"}


class ServeError(Exception):
    """A request that is not answered.  ``param``: the field of the request that was wrong; ``code``: a word for programs."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None,
                 headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.code, self.param = status, code, param
        self.headers = headers or {}

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object of the answer."""
        return {"error": {"message": str(self), "type": _TYPES.get(self.status, "server_error"), "param": self.param,
                          "code": self.code}}
