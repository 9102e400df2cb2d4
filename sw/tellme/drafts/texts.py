# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Texts as whole sequences of token ids."""

from tellme.golden.perplexity import SEPARATOR
from tellme.models.config import ModelConfig
from tellme.models.tokenizers.tokenizer import Tokenizer

__all__ = ["whole_texts"]


def whole_texts(config: ModelConfig, tokenizer: Tokenizer, text: str) -> list[list[int]]:
    """The texts of a file, with SEPARATOR between them, as ids: each from BOS to the first end token, as far as the model has
    these two.  White space at the ends of a text is left out, and so are texts without anything else."""
    parts = (part.strip() for part in text.split(SEPARATOR))
    return [config.with_bos(tokenizer.encode(part)) + [*config.ends[:1]] for part in parts if part]
