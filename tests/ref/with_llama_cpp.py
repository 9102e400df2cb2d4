# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Logits and ids of a GGUF file by llama.cpp, through the prebuilt wheel cyllama."""

import json
from collections.abc import Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path

import numpy as np
from cyllama.llama import llama_cpp
from numpy.typing import NDArray

__all__ = ["VERSIONS", "logits", "token_ids"]

_BUILD = json.loads((resources.files("cyllama") / "build_config.json").read_text())
VERSIONS = {"cyllama": version("cyllama"), "llama.cpp": _BUILD["versions"]["llama_cpp_version"]}
llama_cpp.disable_logging()


class _Model(llama_cpp.LlamaModel):
    @property
    def n_vocab(self) -> int:
        """What a context's get_logits_ith asks its model for; this version's model has it in its vocabulary."""
        return self.get_vocab().n_vocab


def logits(path: Path, ids: Sequence[int]) -> NDArray[np.float32]:
    """Logits (positions, vocab)."""
    model = _Model(path_model=str(path), params=llama_cpp.LlamaModelParams(), verbose=False)
    params = llama_cpp.LlamaContextParams()
    params.n_ctx, params.n_batch, params.n_ubatch = max(64, len(ids)), len(ids), len(ids)
    # More would wait for one another by spinning, on a machine that is busy.
    params.n_threads = params.n_threads_batch = 1
    context = llama_cpp.LlamaContext(model=model, params=params, verbose=False)
    batch = llama_cpp.LlamaBatch(n_tokens=len(ids), embd=0, n_seq_max=1, verbose=False)
    for position, token in enumerate(ids):
        batch.add(token, position, [0], True)
    context.decode(batch)
    return np.array([context.get_logits_ith(i) for i in range(len(ids))], np.float32)


def token_ids(path: Path, texts: Sequence[str], *, special: bool) -> list[list[int]]:
    """Ids of texts, without BOS; ``special``: special tokens that a text spells out are tokens."""
    model = _Model(path_model=str(path), params=llama_cpp.LlamaModelParams(), verbose=False)
    # An empty text has no ids; the wheel raises an error for it.
    return [list(model.get_vocab().tokenize(text, False, special)) if text else [] for text in texts]


def greedy(path: Path, prompt: str, tokens: int) -> tuple[list[int], str]:
    """Ids of a prompt and of the tokens that follow, each the likeliest, and the text of all; an end token ends them."""
    # The vocabulary is the model's, which must live as long.
    model = _Model(path_model=str(path), params=llama_cpp.LlamaModelParams(), verbose=False)
    vocab = model.get_vocab()
    ids = list(vocab.tokenize(prompt, vocab.get_add_bos(), True))
    for _ in range(tokens):
        ids.append(int(logits(path, ids)[-1].argmax()))
        if vocab.is_eog(ids[-1]):
            break
    return ids, str(vocab.detokenize(ids))
