# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Logits of a Hugging Face folder by transformers, on the CPU in float32."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Unpacking of weights, which transformers would compile first, for minutes.
os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")

import torch  # noqa: E402
import transformers  # noqa: E402

__all__ = ["VERSIONS", "Loaded"]

VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__}


class Loaded:
    """A model; ``linear`` is the class of its ternary linears."""

    def __init__(self, folder: Path):
        self._model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.linear = type(self._model.model.layers[0].mlp.up_proj).__name__.lower()
        self.name = type(self._model).__name__

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Logits (positions, vocab)."""
        with torch.no_grad():
            return self._model(torch.tensor([list(ids)])).logits[0].numpy().astype(np.float32)
