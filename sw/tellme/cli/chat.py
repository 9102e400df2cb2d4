# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``tellme-host chat``."""

import argparse

from tellme.cli.boards import drafts_of, open_board
from tellme.cli.errors import ExitCode
from tellme.cli.files import checked_text
from tellme.cli.generate import adapted, drafter_of, load, sampling_of
from tellme.cli.hints import message
from tellme.cli.output import say
from tellme.cli.terminal import next_line, shown_text
from tellme.errors import InputError
from tellme.models.chat import ChatTemplate
from tellme.models.shipped import find_model
from tellme.runtime.chat import Chat
from tellme.runtime.session import tokenizer_of

__all__ = ["chat"]

COMMANDS = "/edit TEXT: say the last turn otherwise; /retry: another answer; /new: begin anew; /bye: end"


def chat(args: argparse.Namespace) -> int:
    """The command."""
    model = adapted(find_model(args.model), args)
    # A base model is refused before a board is opened.
    ChatTemplate(model, tokenizer_of(model))
    system = checked_text(args.system, "--system")
    seed = args.seed
    with open_board(args) as board:
        session = load(board, model, args.head, drafts_of(args), args.check, guesses=args.draft_own_text)
        talk = Chat(session, system)
        say(f"{model.name}; {COMMANDS}")
        while (line := next_line("> ")) is not None:
            text = line.strip()
            if text == "/bye":
                break
            try:
                if text == "/new":
                    talk.reset()
                    continue
                if text == "/retry":
                    # The same seed would give the same answer.
                    args.seed += 1
                    text = talk.take_back()
                elif text.split(maxsplit=1)[:1] == ["/edit"]:
                    text = text.removeprefix("/edit").strip()
                    if not text:
                        raise InputError("/edit wants the text that the last turn shall have")
                    talk.take_back()
                elif text.startswith("/"):
                    raise InputError(f"{text.split()[0]} is no command. {COMMANDS}")
                else:
                    args.seed = seed
                if not text:
                    continue
                run = talk.say(text, max_tokens=args.max_tokens, sampling=sampling_of(args), stop=args.stop,
                               drafter=drafter_of(args))
            except InputError as error:
                say(f"tellme-host: {message(error)}")
                continue
            talk.answered(shown_text(run))
            if args.check_weights:
                session.check_weights()
    return ExitCode.DONE
