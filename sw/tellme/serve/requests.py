# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Bodies of requests: OpenAI's fields, each checked, and refused by name where the server does not do what a field asks for."""

import json
import secrets
from dataclasses import dataclass
from typing import Any

from tellme.errors import InputError
from tellme.models.config import ModelConfig
from tellme.runtime.sampling import Sampling
from tellme.serve.errors import ServeError
from tellme.spec.memory import START_RANGES

__all__ = ["MAX_STOPS", "Request", "parse"]

#: Stop strings of a request at most, and their characters: as many as OpenAI takes, and a length that keeps the search short.
MAX_STOPS, MAX_STOP_LENGTH = 4, 256
#: Tokens where a request says nothing: of a completion as OpenAI has it; of a chat up to the server's limit.
DEFAULT_COMPLETION_TOKENS = 16
#: Fields that change nothing about the text.
_IGNORED = {"user", "metadata", "safety_identifier", "prompt_cache_key", "service_tier", "store", "prediction"}
#: Fields for things that the server does not do, with the values that ask for nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,), "best_of": (1,), "echo": (False,), "logprobs": (False, 0), "top_logprobs": (0,), "presence_penalty": (0,),
    "frequency_penalty": (0,), "logit_bias": ({},), "suffix": ("",), "tools": ([],), "tool_choice": ("none", "auto"),
    "functions": ([],), "parallel_tool_calls": (True, False), "response_format": ({"type": "text"},), "modalities": (["text"],),
    "reasoning_effort": ("none",),
}
_COMMON = {"model", "max_tokens", "temperature", "top_p", "top_k", "min_p", "repeat_penalty", "seed", "stop", "stream",
           "stream_options"}
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True)
class Request:
    """A request whose fields make sense.  Either ``prompt``, a text or token ids, or ``messages``."""

    prompt: str | list[int] | None
    messages: list[dict[str, str]] | None
    max_tokens: int
    sampling: Sampling
    stop: tuple[str, ...]
    stream: bool
    include_usage: bool


def _wrong(param: str, message: str) -> ServeError:
    return ServeError(400, message, param=param, code="invalid_value")


def _number(body: dict[str, Any], name: str, default: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if type(value) not in (int, float):
        raise _wrong(name, f"{name} is {_shown(value)}, and a number is wanted")
    try:
        return float(value)
    except OverflowError:
        raise _wrong(name, f"{name} is {_shown(value)}, which is beyond all ranges") from None


def _whole(body: dict[str, Any], name: str, default: int | None) -> int | None:
    value = body.get(name)
    if value is None:
        return default
    if type(value) is not int:
        raise _wrong(name, f"{name} is {_shown(value)}, and a whole number is wanted")
    return value


def _flag(fields: dict[str, Any], name: str, param: str) -> bool:
    value = fields.get(name)
    if value not in (None, True, False) or type(value) is int:
        raise _wrong(param, f"{param} is {_shown(value)}, and true or false is wanted")
    return bool(value)


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _object(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise ServeError(400, "the body is no UTF-8", code="invalid_json") from None
    except (ValueError, RecursionError) as error:
        raise ServeError(400, f"the body is no JSON: {error}", code="invalid_json") from None
    if not isinstance(body, dict):
        raise ServeError(400, "the body is no JSON object", code="invalid_json")
    return body


def _prompt(value: object, config: ModelConfig) -> str | list[int]:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], (str, list)):
        value = value[0]
    if isinstance(value, str):
        return _text(value, "prompt")
    if isinstance(value, list) and value and all(type(token) is int for token in value):
        outside = next((token for token in value if not 0 <= token < config.vocab), None)
        if outside is not None:
            raise _wrong("prompt", f"prompt token {outside} is outside the vocabulary of {config.vocab}")
        return list(value)
    if isinstance(value, list) and len(value) > 1 and all(isinstance(part, (str, list)) for part in value):
        raise _wrong("prompt", f"{len(value)} prompts in a request: one is taken")
    raise _wrong("prompt", "prompt is no text and no list of token ids")


def _text(value: str, param: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise _wrong(param, f"{param} holds half of a surrogate pair") from None
    return value


def _messages(value: object) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise _wrong("messages", "messages is no list of messages")
    out = []
    for i, message in enumerate(value):
        param = f"messages[{i}]"
        if not isinstance(message, dict):
            raise _wrong(param, f"{param} is no object")
        role = message.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            raise _wrong(f"{param}.role", f"{param}.role is {_shown(role)}; {', '.join(_ROLES)} are known")
        content = message.get("content")
        if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" and isinstance(
                part.get("text"), str) for part in content):
            content = "".join(part["text"] for part in content)
        if not isinstance(content, str):
            raise _wrong(f"{param}.content", f"{param}.content is no text")
        if message.get("tool_calls"):
            raise _wrong(f"{param}.tool_calls", "the server calls no tools")
        out.append({"role": _ROLES[role], "content": _text(content, f"{param}.content")})
    return out


def _stops(value: object) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise _wrong("stop", "stop is no text and no list of texts, or one of them is empty")
    if len(stops) > MAX_STOPS or any(len(stop) > MAX_STOP_LENGTH for stop in stops):
        raise _wrong("stop", f"up to {MAX_STOPS} stop strings of up to {MAX_STOP_LENGTH} characters are taken")
    return tuple(stops)


def _check_fields(body: dict[str, Any], known: set[str]) -> None:
    for name, value in body.items():
        if name in known or name in _IGNORED or value is None:
            continue
        if name not in _NEUTRAL:
            raise ServeError(400, f"the field {name[:60]!r} is not known", param=name[:60].encode("utf-8", "replace").decode(),
                             code="unknown_field")
        if not any(value == neutral and isinstance(value, bool) == isinstance(neutral, bool) for neutral in _NEUTRAL[name]):
            raise ServeError(400, f"{name} is {_shown(value)}: the server does not do that; leave the field out", param=name,
                             code="unsupported_value")


def parse(content: bytes, config: ModelConfig, model: str, *, chat: bool, token_limit: int) -> Request:
    """The request in a body.  ``token_limit``: the most tokens that a request may ask for.  A ServeError says what is wrong."""
    body = _object(content)
    known = _COMMON | ({"messages", "max_completion_tokens"} if chat else {"prompt"})
    _check_fields(body, known)
    name = body.get("model")
    if not isinstance(name, str):
        raise _wrong("model", f"model is {_shown(name)}: the name {model!r} is wanted")
    if name != model:
        raise ServeError(404, f"there is no model {name[:100]!r}; the model is {model!r}", param="model", code="model_not_found")
    most = min(token_limit, START_RANGES["generate"].most)
    field = "max_completion_tokens" if chat and body.get("max_completion_tokens") is not None else "max_tokens"
    wanted = _whole(body, field, None)
    if wanted is None:
        wanted = most if chat else min(DEFAULT_COMPLETION_TOKENS, most)
    if not 1 <= wanted <= most:
        raise _wrong(field, f"{field} is {wanted}; 1 to {most} is wanted")
    seed = _whole(body, "seed", None)
    try:
        sampling = Sampling(_number(body, "temperature", 1.0), _number(body, "min_p", 0.0),
                            secrets.randbits(63) if seed is None else seed, _whole(body, "top_k", 0) or 0,
                            _number(body, "top_p", 1.0), _number(body, "repeat_penalty", 1.0))
    except InputError as error:
        raise ServeError(400, str(error), code="invalid_value") from None
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise _wrong("stream_options", "stream_options is no object")
    return Request(None if chat else _prompt(body.get("prompt", ""), config), _messages(body.get("messages")) if chat else None,
                   wanted, sampling, _stops(body.get("stop")), _flag(body, "stream", "stream"),
                   _flag(options or {}, "include_usage", "stream_options.include_usage"))
