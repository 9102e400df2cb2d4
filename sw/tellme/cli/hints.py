# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The command line's words for what the library's errors hint at."""

from tellme.errors import TellmeError

__all__ = ["HINTS", "message"]

#: Hint of a :class:`tellme.errors.TellmeError` -> the options that follow it.
HINTS = {
    "act-exp": "--act-exp N",
    "auto": "--device auto",
    "bitstream": "--bitstream FILE",
    "board": "--device sim, --device PORT",
    "context": "--context N",
    "convert": "tellme-host convert SRC -o OUT.tellme",
    "device": "--device PORT",
    "draft": "tellme-host draft MODEL TEXT -o OUT",
    "golden": "--device golden",
    "head": "--head board",
    "image": "tellme-host load MODEL --save FILE",
    "interactive": "tellme-host generate --interactive",
    "method": "leave --method out",
    "no-drafts": "--no-drafts",
    "no-rotate": "leave --rotate out",
    "plot": "pip install 'tellme-host[plot]', or go without --plot",
    "prompt": "--prompt TEXT, --prompt-file FILE or --prompt-ids 1,2,3",
    "prompt-ids": "--prompt-ids 1,2,3; tellme-host convert --tokenizer FILE",
    "quantise": "tellme-host quantise SRC -o OUT.tellme",
    "shorter-context": "tellme-host convert --context N",
    "tokenizer": "tellme-host convert --tokenizer FILE",
    "tokenizer-file": "--tokenizer FILE, --no-tokenizer",
    "tokenizer-file-only": "--tokenizer FILE",
    "weight-scale": "--weight-scale multiply|divide",
}


def message(error: TellmeError) -> str:
    """An error's text with the options that help."""
    return f"{error} ({HINTS[error.hint]})" if error.hint else str(error)
