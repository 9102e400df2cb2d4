# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Texts as sequences of token ids: what is calibrated on, and what is measured on."""

from collections.abc import Iterable
from importlib import resources

from tellme.errors import InputError
from tellme.golden.perplexity import SEPARATOR
from tellme.models.config import ModelConfig
from tellme.models.tokenizers.tokenizer import Tokenizer

__all__ = ["POSITIONS", "cut", "own_text", "sequences"]

#: Positions of a sequence at most.
POSITIONS = 512


def own_text(name: str) -> str:
    """A text of the package: ``calibration`` or ``evaluation``."""
    return (resources.files("tellme") / "data" / f"{name}.txt").read_text("utf-8")


def sequences(config: ModelConfig, tokenizer: Tokenizer, text: str) -> list[list[int]]:
    """The texts of a file, with SEPARATOR between them, as sequences of up to POSITIONS positions and the model's context.

    Each text begins as the model's texts begin, and ends with the first end token, if the model has one.  A text that is longer
    is cut; its parts begin like texts.  White space at the ends of a text is left out.
    """
    found = []
    step = min(POSITIONS, config.context)
    for part in text.split(SEPARATOR):
        if part.strip():
            ids = config.with_bos(tokenizer.encode(part.strip())) + [*config.ends[:1]]
            while len(ids) > 1:
                found.append(ids[:step])
                ids = config.with_bos(ids[step:]) if len(ids) > step else []
    if not found:
        raise InputError("the text has nothing to predict: a text of some thousand words is wanted")
    return found


def cut(parts: Iterable[list[int]], tokens: int) -> list[list[int]]:
    """The first sequences, of so many tokens together; the last one may be cut."""
    found: list[list[int]] = []
    for ids in parts:
        room = tokens - sum(map(len, found))
        if room < 2:
            break
        found.append(ids[:room])
    return found
