# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A chat with a model: turns that go on, the last of which can be edited.

Each turn's prompt is the whole chat.  The session feeds only what the KV cache does not have, which is the newest turn, as far as
the model's answer is encoded as the tokens that the model picked.
"""

from typing import Any

from tellme.errors import InputError
from tellme.models.chat import ChatTemplate
from tellme.runtime.session import Run, Session

__all__ = ["Chat"]


class Chat:
    """Turns of one chat.  ``system`` is what the model is told ahead of them; empty: nothing."""

    def __init__(self, session: Session, system: str = ""):
        self._session = session
        self._template = ChatTemplate(session.model, session.tokenizer)
        self._system = system
        self.messages: list[dict[str, str]] = []
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.messages = [{"role": "system", "content": self._system}] if self._system else []

    def say(self, text: str, **settings: Any) -> Run:
        """The run that answers a text; ``settings`` are those of :meth:`Session.generate`.  Call :meth:`answered` after it.

        What the template refuses, or is longer than the context, is an InputError, and the chat is as before.
        """
        turns = [*self.messages, {"role": "user", "content": text}]
        ids = self._template.tokens(turns)
        context = self._session.model.config.context
        if len(ids) > context:
            raise InputError(f"the chat has {len(ids)} tokens with this turn, the model's context holds {context}: begin a new "
                             "chat, or make the turn shorter")
        run = self._session.generate(ids, **settings)
        self.messages = turns
        return run

    def answered(self, text: str) -> None:
        """The answer to the last turn, which the next turn's prompt has."""
        self.messages.append({"role": "assistant", "content": text})

    def take_back(self) -> str:
        """Take the last turn and its answer back, to say it otherwise; its text.  An InputError if there is none."""
        at = max((i for i, message in enumerate(self.messages) if message["role"] == "user"), default=None)
        if at is None:
            raise InputError("there is no turn to take back")
        text = self.messages[at]["content"]
        del self.messages[at:]
        return text
