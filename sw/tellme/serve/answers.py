# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Answers in OpenAI's form: whole ones, and the chunks of a stream."""

import json
import secrets
import time
from typing import Any

from tellme.serve.pool import Ended, Job

__all__ = ["DONE", "Answer", "event"]

#: The last event of a stream.
DONE = b"data: [DONE]\n\n"


def event(body: dict[str, Any]) -> bytes:
    """A server-sent event with a JSON object."""
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n\n"


class Answer:
    """The answer to a request; ``chat`` says in which of the two forms."""

    def __init__(self, model: str, *, chat: bool):
        self._chat = chat
        self._id = f"{'chatcmpl' if chat else 'cmpl'}-{secrets.token_hex(12)}"
        self._model, self._created = model, int(time.time())

    def _body(self, choices: list[dict[str, Any]], *, chunk: bool, **more: Any) -> dict[str, Any]:
        kind = ("chat.completion.chunk" if chunk else "chat.completion") if self._chat else "text_completion"
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model, "choices": choices, **more}

    def _choice(self, text: str | None, finish: str | None, *, chunk: bool, role: bool = False) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish}
        if not self._chat:
            return choice | {"text": text or ""}
        message = ({"role": "assistant"} if role else {}) | ({} if text is None else {"content": text})
        return choice | {"delta" if chunk else "message": message}

    def whole(self, text: str, job: Job, ended: Ended) -> dict[str, Any]:
        """The answer without a stream."""
        return self._body([self._choice(text, finish_reason(ended), chunk=False, role=True)], chunk=False, usage=usage(job),
                          timings=timings(job, ended))

    def first(self) -> list[dict[str, Any]]:
        """What a stream begins with: of a chat, who speaks."""
        return [self._body([self._choice("", None, chunk=True, role=True)], chunk=True)] if self._chat else []

    def piece(self, text: str) -> dict[str, Any]:
        """A piece of the text."""
        return self._body([self._choice(text, None, chunk=True)], chunk=True)

    def last(self, job: Job, ended: Ended, *, include_usage: bool) -> list[dict[str, Any]]:
        """What a stream ends with: why the text ended, the timings, and the usage if that was asked for."""
        out = [self._body([self._choice(None, finish_reason(ended), chunk=True)], chunk=True, timings=timings(job, ended))]
        return [*out, self._body([], chunk=True, usage=usage(job))] if include_usage else out


def finish_reason(ended: Ended) -> str:
    """OpenAI's word: ``stop`` at an end token or a stop string, ``length`` at the limit or the end of the context."""
    return "stop" if ended.stop_reason in ("end_token", "stop_string") else "length"


def usage(job: Job) -> dict[str, Any]:
    """Numbers of tokens."""
    return {"prompt_tokens": len(job.prompt), "completion_tokens": len(job.ids), "total_tokens": len(job.prompt) + len(job.ids),
            "prompt_tokens_details": {"cached_tokens": job.cached}}


def timings(job: Job, ended: Ended) -> dict[str, Any]:
    """What the request took: milliseconds as the server saw them, and what the board counted; None where nothing counts.

    ``cycles`` says where the cycles of the run went, by the names of :data:`tellme.spec.memory.ACCOUNT`.
    """
    started, first = job.started or job.arrived, job.first_token or job.arrived
    end = job.ended or first
    decoded = len(job.ids) - 1
    stats = ended.stats
    return {"board": ended.board, "stop_reason": ended.stop_reason, "seed": job.sampling.seed,
            "drawn_by": stats["drawn_by"], "prompt_n": len(job.prompt),
            "cached_n": job.cached, "predicted_n": len(job.ids), "queued_ms": _ms(started - job.arrived),
            "first_token_ms": _ms(first - job.arrived), "prompt_ms": _ms(first - started), "predicted_ms": _ms(end - first),
            "predicted_per_second": round(decoded / (end - first), 2) if decoded > 0 and end > first else None,
            "board_tokens_per_second": stats["board_tokens_per_second"], "prefill_cycles": stats["prefill_cycles"],
            "decode_cycles": stats["decode_cycles"], "fabric_mhz": stats["fabric_mhz"],
            "sdram_busy_fraction": stats["sdram_busy_fraction"], "passes": stats["passes"],
            "accepted_n": stats["accepted_tokens"], "tokens_per_pass": stats["tokens_per_pass"], "cycles": ended.cycles}


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
