# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A chat with a model: turns that go on, the last of which can be edited.

Each turn's prompt is the whole chat.  The model's own answers are in it as the tokens that the model picked, so that the session
feeds only what the KV cache does not have, which is the newest turn.
"""

from dataclasses import dataclass
from typing import Any

from tellme.errors import InputError
from tellme.models.chat import ChatTemplate, chat_tokens
from tellme.models.tokenizers.tokenizer import TextStream, Tokenizer
from tellme.runtime.session import Run, Sequence, Session

__all__ = ["Chat"]


@dataclass(frozen=True)
class _Said:
    """A chat up to the end of an answer: how many messages, their text by the template, and their tokens."""

    messages: int
    text: str
    ids: tuple[int, ...]


class Chat:
    """Turns of one chat, on a session or on a sequence.  ``system`` is what the model is told ahead of them; empty: nothing."""

    def __init__(self, session: Session | Sequence, system: str = ""):
        self._session = session
        self._template = ChatTemplate(session.model, session.tokenizer)
        assert session.tokenizer is not None, "a template was made with it"
        self._tokenizer: Tokenizer = session.tokenizer
        self._system = system
        self.messages: list[dict[str, str]] = []
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.messages = [{"role": "system", "content": self._system}] if self._system else []
        self._said: list[_Said] = []
        self._text = ""
        self._run: Run | None = None

    def say(self, text: str, **settings: Any) -> Run:
        """The run that answers a text; ``settings`` are those of :meth:`Session.generate`.  Call :meth:`answered` after it.

        What the template refuses, or is longer than the context, is an InputError, and the chat is as before.
        """
        turns = [*self.messages, {"role": "user", "content": text}]
        whole = self._template.render(turns)
        ids = self._ids(whole)
        context = self._session.model.config.context
        if len(ids) > context:
            raise InputError(f"the chat has {len(ids)} tokens with this turn, the model's context holds {context}: begin a new "
                             "chat, or make the turn shorter")
        run = self._session.generate(ids, **settings)
        self.messages, self._text, self._run = turns, whole, run
        return run

    def _ids(self, text: str) -> list[int]:
        """Tokens of a chat.

        If the chat goes on behind the last answer with a control token, the tokens ahead of this one are the known ones.  Else
        the text is encoded as a whole, as tokens may reach across the end of the answer.
        """
        if self._said and text.startswith(self._said[-1].text):
            rest = chat_tokens(self._tokenizer, text[len(self._said[-1].text):])
            if rest and not self._tokenizer.piece_bytes(rest[0]):
                return [*self._said[-1].ids, *rest]
        return chat_tokens(self._tokenizer, text)

    def answered(self, text: str) -> None:
        """The answer to the last turn, which the next turn's prompt has."""
        self.messages.append({"role": "assistant", "content": text})
        if self._run is None:
            return
        run, self._run = self._run.generation, None
        picked = list(run.generated)
        while picked and picked[-1] in run.ends:
            # The template writes the end of a turn.
            picked.pop()
        stream = TextStream(self._tokenizer, before=run.prompt)
        if "".join(map(stream.push, picked)) + stream.finish() == text:
            self._said.append(_Said(len(self.messages), self._text + text, (*run.prompt, *picked)))

    def take_back(self) -> str:
        """Take the last turn and its answer back, to say it otherwise; its text.  An InputError if there is none."""
        at = max((i for i, message in enumerate(self.messages) if message["role"] == "user"), default=None)
        if at is None:
            raise InputError("there is no turn to take back")
        text = self.messages[at]["content"]
        del self.messages[at:]
        self._said = [said for said in self._said if said.messages <= at]
        self._run = None
        return text
