# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A model with a tokenizer of 64 characters, which a simulated board runs in some thousand cycles a token."""

import string

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from tellme.models import Model, ModelConfig
from tests.models.random_model import model_of

__all__ = ["small_model"]

#: Characters of the vocabulary, each a token.  The byte-level alphabet writes a space as U+0120.
CHARACTERS = string.ascii_letters + string.digits[:6] + ".,!?\u0120"


def small_model() -> Model:
    """One layer of 32 channels with random weights; texts are characters in no order."""
    tokens = {character: i for i, character in enumerate(["<s>", *CHARACTERS])}
    made = tokenizers.Tokenizer(models.BPE(tokens, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    config = ModelConfig(dim=32, ffn=32, layers=1, heads=2, kv_heads=2, head_dim=16, vocab=len(tokens), context=128, tied=False,
                         bos=0, eos=None)
    model = model_of(config, gains=False, name="small")
    model.tokenizer = made.to_str().encode()
    return model
