# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Options that several commands have: each means the same in all of them."""

import argparse
from pathlib import Path

from tellme.cli.errors import UserError
from tellme.cli.numbers import fraction, whole
from tellme.runtime.sampling import MAX_PENALTY
from tellme.spec.config import PRESETS, SIMULATED
from tellme.spec.memory import TOP_ENTRIES
from tellme.spec.ranges import COUNT16, Range

__all__ = ["add_adapter", "add_check", "add_device", "add_drafts", "add_head", "add_json", "add_model",
           "add_own_text", "add_preset", "add_sampling", "file_name"]

#: What --device is called in usages.
DEVICES = "auto|sim|golden|PORT"


def file_name(text: str) -> Path:
    """The name of a file to write; "-" is refused, because the content is binary and does not go to standard output."""
    if text == "-":
        raise UserError("cannot write to standard output: what is written is no text; give the name of a file")
    return Path(text)


def _completed(action: argparse.Action, values: tuple[str, ...]) -> None:
    """Values that a shell offers for an option, which takes others too."""
    action.completer = lambda **_: values  # type: ignore[attr-defined]


def _ports(**_: object) -> list[str]:
    """Boards that a shell offers: the kinds, and the serial ports that there are now."""
    from serial.tools import list_ports

    return ["auto", "sim", "golden", *(port.device for port in list_ports.comports())]


def _models(prefix: str, **_: object) -> list[str]:
    """Models that a shell offers: the shipped ones, and files."""
    from argcomplete.completers import FilesCompleter

    from tellme.models.shipped import shipped

    return [*shipped(), *FilesCompleter(("tellme",))(prefix)]


def add_device(command: argparse.ArgumentParser, default: str = "auto", *, several: bool = False) -> None:
    """What runs the model, and the rate of a port: the same words and the same ``auto`` in every command."""
    what = ("auto: the board on USB if there is one, else the simulated one; sim: the simulated board; golden: the golden model; "
            f"PORT: the board at this serial port (default: {default})")
    if several:
        action = command.add_argument("--device", action="append", metavar=DEVICES, help=f"{what}; may be given several times: "
                                      "requests go to the boards as these are free")
    else:
        action = command.add_argument("--device", default=default, metavar=DEVICES, help=what)
    action.completer = _ports  # type: ignore[attr-defined]
    command.add_argument("--baud", type=whole("--baud", least=1), metavar="N", help="rate of a PORT (default: that of the board "
                         "that its USB id names, or 3000000)")


def add_preset(command: argparse.ArgumentParser) -> None:
    """The simulated board's core."""
    _completed(command.add_argument(
        "--preset", default=SIMULATED, metavar="NAME", help=f"configuration of the simulated board (default: {SIMULATED}; "
        "ulx3s-85f works on sixteen tokens of a prompt at once, and takes twice as long to simulate)"), tuple(sorted(PRESETS)))


def add_model(command: argparse.ArgumentParser, name: str = "--model", *, default: str | None = None, what: str = "a .tellme "
              "file, or the name of a shipped model") -> None:
    """The model, as an option or (``name`` without dashes) as an argument; without a default it must be given."""
    text = what if default is None else f"{what} (default: {default})"
    if name.startswith("-"):
        action = command.add_argument(name, default=default, required=default is None, metavar="FILE|NAME", help=text)
    else:
        action = command.add_argument(name, default=default, nargs=None if default is None else "?", metavar="FILE|NAME",
                                      help=text)
    action.completer = _models  # type: ignore[attr-defined]


def add_adapter(command: argparse.ArgumentParser) -> None:
    """An adapter on the model."""
    command.add_argument("--adapter", type=Path, metavar="FILE", help="a LoRA adapter of the peft package (its folder, or its "
                         "adapter_model.safetensors): merged on this computer; the board keeps the model's own weights beside it")


def add_drafts(command: argparse.ArgumentParser) -> None:
    """From what the board drafts tokens."""
    which = command.add_mutually_exclusive_group()
    which.add_argument("--drafts", type=Path, metavar="FILE", help="a table of tellme-host draft, from which the board drafts "
                       "tokens; the text is the same (default: the file beside the model with its name and .drafts, on boards "
                       "that draft)")
    which.add_argument("--no-drafts", action="store_true", help="draft no tokens")


def add_own_text(command: argparse.ArgumentParser) -> None:
    """Whether the host guesses tokens from the text itself."""
    command.add_argument("--draft-own-text", action="store_true", help="guess tokens from the text itself, what followed the "
                         "last occurrence of its last tokens, and let the board verify the guesses; the text is the same, and "
                         "comes in fewer passes where it repeats itself (code, lists)")


def add_check(command: argparse.ArgumentParser, when: str) -> None:
    """What is compared with the golden model and with the file, and when the memory is."""
    command.add_argument("--check", type=whole("--check", COUNT16), metavar="N", help="compare the board's picks and "
                         "step CRCs with the golden model every N tokens, and show no token before it was compared (default: "
                         "compare nothing)")
    command.add_argument("--check-weights", action="store_true", help=f"compare the board's memory with the model's file {when}")


def add_json(command: argparse.ArgumentParser) -> None:
    """The result for programs."""
    command.add_argument("--json", action="store_true", help="print one JSON object")


def add_head(command: argparse.ArgumentParser) -> None:
    """Where embedding and head are."""
    command.add_argument("--head", choices=("board", "host"), help="where embedding and head are; the logits are the same bits "
                         "(default: on the board if they fit its memory)")


def add_sampling(run: argparse.ArgumentParser) -> None:
    """How tokens are drawn."""
    run.add_argument("--temperature", type=fraction("--temperature", 0, 1000000), default=0.0, metavar="X",
                     help="0 (default): greedy")
    run.add_argument("--min-p", type=fraction("--min-p", 0, 1), default=0.0, metavar="P",
                     help="sample only among tokens that are at least P times as probable as the likeliest (default: 0, among "
                     "the best 64)")
    run.add_argument("--top-k", type=whole("--top-k", Range(0, TOP_ENTRIES)), default=0, metavar="N",
                     help=f"sample only among the likeliest N tokens, up to {TOP_ENTRIES} (default: 0, all {TOP_ENTRIES})")
    run.add_argument("--top-p", type=fraction("--top-p", 0, 1), default=1.0, metavar="P",
                     help="sample only among the likeliest tokens that have a share of P together (default: 1, all)")
    run.add_argument("--repeat-penalty", type=fraction("--repeat-penalty", 1 / MAX_PENALTY, MAX_PENALTY), default=1.0,
                     metavar="X", help="divide the logits of tokens that the text has already by X, or multiply logits below 0 "
                     "(default: 1, none)")
    run.add_argument("--seed", type=whole("--seed"), default=0, metavar="N", help="of the sampling (default: 0)")
