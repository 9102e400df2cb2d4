# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A float model with its residual stream turned: the same model, whose stream has no columns that stand out.

With an orthogonal Q the stream x becomes x Q.  RMSNorm without gains turns with the stream, so each norm's gain g goes into the
matrices behind it: W diag(g) Q for q, k, v, gate and up, Q^T W for o and down, E Q for the embedding, and H diag(g) Q for the LM
head.  So the head is not the embedding any more.  (Ashkboos et al., arXiv 2404.00456.)

A norm with gains between a matrix and the stream stands in the way: behind it Q would be a matrix of its own.  So a model with
the norms of OLMo 2 is not turned.

Whether this pays is measured: columns that stand out are what it helps with, and not every model has any.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tellme.quantise.layers import RESIDUAL, FloatModel

__all__ = ["PAYS", "Choice", "Rotated", "rotation"]

Floats = NDArray[np.float32]

#: A rotation pays where the KL of the model that is rounded plainly becomes less than this share: docs/quantise.md has the
#: numbers that this one follows from.
PAYS = 0.9
#: The matrices behind each norm.
_BEHIND = {"wq": "attn_norm", "wk": "attn_norm", "wv": "attn_norm", "w1": "ffn_norm", "w3": "ffn_norm"}


def rotation(dim: int) -> Floats:
    """An orthogonal matrix (dim, dim), the same for each call: Q of the QR decomposition of normal numbers, the diagonal of R
    positive."""
    q, r = np.linalg.qr(np.random.default_rng(dim).normal(size=(dim, dim)))
    return (q * np.sign(np.diag(r))).astype(np.float32)


@dataclass(frozen=True)
class Choice:
    """Whether the residual stream is turned.

    ``measured``: where this was measured, the KL in nats a token of the model that is rounded plainly, as it is and turned.
    """

    turned: bool
    measured: tuple[float, float] | None = None

    @classmethod
    def by(cls, as_it_is: float, turned: float) -> "Choice":
        """The choice that follows from what was measured."""
        return cls(turned < PAYS * as_it_is, (as_it_is, turned))

    def as_json(self) -> dict[str, object]:
        """For ``--json``."""
        names = ("as_it_is", "turned")
        return {"rotate": {"turned": self.turned, "kl": self.measured and dict(zip(names, self.measured, strict=True))}}


class Rotated:
    """A float model with its residual stream turned.

    The model has none of the norms behind the attention or the activation, nor those of OLMo 2.
    """

    def __init__(self, model: FloatModel):
        assert not model.config.vector_norms, "a norm stands between matrices and the residual stream"
        self._model = model
        self.config = replace(model.config, tied=False)
        self.name, self.license = model.name, model.license
        self.tokenizer, self.chat_template = model.tokenizer, model.chat_template
        self._turn = rotation(model.config.dim)

    def matrix(self, layer: int, name: str) -> Floats:
        weights = self._model.matrix(layer, name)
        if name in RESIDUAL:
            return self._turn.T @ weights
        gain = self._model.gain(layer, _BEHIND[name])
        return (weights if gain is None else weights * gain.astype(np.float32)) @ self._turn

    def bias(self, layer: int, name: str) -> NDArray[np.float16] | None:
        bias = self._model.bias(layer, name)
        return bias if bias is None or name not in RESIDUAL else (bias.astype(np.float32) @ self._turn).astype(np.float16)

    def gain(self, layer: int, name: str) -> NDArray[np.float16] | None:
        """The norms on heads keep their gains."""
        return self._model.gain(layer, name) if name in ("q_norm", "k_norm") else None

    def final_norm(self) -> NDArray[np.float16] | None:
        return None

    def floats(self, name: str) -> Iterator[Floats]:
        gain = self._model.final_norm() if name == "head" else None
        for part in self._model.floats("embedding" if self._model.config.tied else name):
            yield (part if gain is None else part * gain.astype(np.float32)) @ self._turn
