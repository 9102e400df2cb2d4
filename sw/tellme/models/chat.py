# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Turns of a chat as the text and the tokens that a model was trained on, by the model's own Jinja template.

A template sees what transformers gives it: ``messages``, ``add_generation_prompt``, ``bos_token``, ``eos_token``, and the
functions ``raise_exception`` and ``strftime_now``.  It runs in Jinja's immutable sandbox, which has no way to files, processes or
Python's own objects, and with a limit of its work and memory (:mod:`tellme.models.template_limits`).
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from tellme.errors import InputError
from tellme.models.config import ModelError
from tellme.models.importers.chat_template import checked_template
from tellme.models.source import Source
from tellme.models.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from jinja2.parser import Parser

    from tellme.models.template_limits import LimitedEnvironment

__all__ = ["ChatTemplate", "Message", "NoTemplateError", "chat_tokens"]

#: ``role`` and ``content``.
Message = Mapping[str, str]


class NoTemplateError(InputError):
    """A base model, which was not trained on turns of a chat."""


class _RefusedError(Exception):
    """What a template says by raise_exception."""


class ChatTemplate:
    """The chat template of a model.  A model without one is a NoTemplateError, a template that is none a ModelError."""

    def __init__(self, model: Source, tokenizer: Tokenizer | None):
        if not model.chat_template or tokenizer is None:
            raise NoTemplateError(f"the model {model.name} has no chat template: it is a base model, which goes on with a text "
                                  "and knows no turns", hint="interactive")
        c = model.config
        self._name = f"the chat template of {model.name}"
        self._tokenizer = tokenizer
        self._tokens = {"bos_token": "" if c.bos is None else tokenizer.text(c.bos),
                        "eos_token": "" if c.eos is None else tokenizer.text(c.eos)}
        environment = _environment()
        source = checked_template(model.chat_template, self._name)
        try:
            self._template = environment.template(source)
        # Beside Jinja's own errors those of Python's compiler, such as too many nested blocks, and of numbers with many digits.
        except Exception as error:
            raise ModelError(f"{self._name} is no Jinja template: {error or type(error).__name__}") from error

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The text of a chat; with ``add_generation_prompt`` the text ends where the assistant's turn begins.

        An InputError says what the template refuses, a ModelError how the template fails.
        """
        from tellme.models.template_limits import limited

        turns = [dict(message) for message in messages]
        characters = sum(len(text) for turn in turns for text in turn.values())
        try:
            return limited(lambda: str(self._template.render(messages=turns, tools=None, documents=None, **self._tokens,
                                                             add_generation_prompt=add_generation_prompt)), characters)
        except _RefusedError as error:
            raise InputError(f"{self._name} refuses these messages: {error}") from error
        except Exception as error:  # a template is a program that the model's maker wrote
            raise ModelError(f"{self._name} fails: {type(error).__name__}: {error}") from error

    def tokens(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
        """The token ids of a chat.  No BOS is added: a template writes BOS where the model wants it."""
        return chat_tokens(self._tokenizer, self.render(messages, add_generation_prompt=add_generation_prompt))


def chat_tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text in which control tokens are spelled out.

    A tokenizer.json finds them by itself.  SentencePiece does not: the text is cut at them, and each part is encoded by itself.
    """
    if tokenizer.kind != "SentencePiece":
        return tokenizer.encode(text)
    control = {tokenizer.text(i): i for i in range(tokenizer.size)
               if not tokenizer.is_byte(i) and tokenizer.text(i) and not tokenizer.piece_bytes(i)}
    ids: list[int] = []
    pattern = "|".join(re.escape(name) for name in sorted(control, key=len, reverse=True))
    for part in re.split(f"({pattern})", text) if control else [text]:
        if part in control:
            ids.append(control[part])
        elif part:
            ids += tokenizer.encode(part)
    return ids


def _raise_exception(message: object) -> NoReturn:
    raise _RefusedError(str(message))


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None,
            sort_keys: bool = False) -> str:
    """JSON as it is: Jinja's own filter escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _environment() -> "LimitedEnvironment":
    """Jinja as transformers sets it up."""
    try:
        from jinja2 import nodes
        from jinja2.ext import Extension, loopcontrols

        from tellme.models.template_limits import LimitedEnvironment
    except ImportError as error:
        raise InputError("chat templates need the package jinja2, which this Python does not have: "
                         "pip install '.[chat]' in tellme's folder") \
            from error

    class Generation(Extension):
        """``{% generation %}...{% endgeneration %}``: marks the assistant's part for training; the text is what is inside."""

        tags = {"generation"}

        def parse(self, parser: "Parser") -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    environment = LimitedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.add_filter("tojson", _tojson)
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment
