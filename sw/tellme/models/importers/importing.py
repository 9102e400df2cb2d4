# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What the importers of Hugging Face folders and GGUF files share: names, shapes, tables, and the user's options."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import LINEARS, NORMS, ModelConfig, ModelError
from tellme.models.files import check_file
from tellme.models.importers.grouped import Part
from tellme.models.importers.levels import group_parts
from tellme.models.importers.tensors import Tensors, without_ones
from tellme.models.importers.ternary import halves_to_pairs
from tellme.models.int8 import int8_rows, table_code
from tellme.models.source import Linear, Source, TableRows, row_chunks
from tellme.models.tokenizers.tokenizer import Tokenizer

__all__ = ["Imported", "Options", "Say", "act_exp_of", "checked_context", "checked_tokenizer", "read_tokenizer"]

#: Takes a line for the user.
Say = Callable[[str], None]
#: Activations of ReLU squared models are divided by this power of two, unless the user gives another: their products pass
#: binary16's 65504.  The next norm, or the scale of the next matrix, cancels the division exactly.
RELU2_EXP = 8


@dataclass(frozen=True)
class Options:
    """The user's options for a checkpoint."""

    tokenizer: Path | None = None
    #: Convert without a tokenizer.
    no_tokenizer: bool = False
    #: Positions to keep of the model's context.
    context: int | None = None
    act_exp: int | None = None
    #: "multiply" or "divide" instead of what the configuration says.
    weight_scale: str | None = None
    #: The weights are taken as floats, of any values (:meth:`Imported.matrix`), and not as ternary ones.
    floats: bool = False
    #: How a model makes its weights of the floats in the file, where no file says so (tellme.models.importers.fairy).
    method: str | None = None


def read_tokenizer(path: Path) -> bytes:
    """The bytes of a tokenizer file, checked."""
    check_file(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read the tokenizer {path}: {error.strerror}") from error
    Tokenizer(content, name=str(path))
    return content


def checked_tokenizer(content: bytes, name: str, vocab: int, say: Say) -> bytes:
    """Check that the model has all ids of a tokenizer.  ``say`` hears of a tokenizer with fewer ids than the model has rows."""
    tokenizer = Tokenizer(content, name)
    if tokenizer.size > vocab:
        raise ModelError(f"{name} has {tokenizer.size} tokens, the model a vocabulary of {vocab}")
    rest = "" if tokenizer.size == vocab else f"; {vocab - tokenizer.size} of the model's {vocab} ids have no token"
    late = "; it decodes whole texts only: generated text comes at the end" if tokenizer.late else ""
    say(f"tokenizer: {tokenizer.kind}, {tokenizer.size} tokens{rest}{late}")
    return content


def act_exp_of(options: Options, act: str) -> int:
    """The power of two that activations are divided by."""
    if options.act_exp is not None:
        return options.act_exp
    return RELU2_EXP if act == "relu2" else 0


def checked_context(wanted: int, there: int) -> int:
    """A context to keep, of the positions that a model has."""
    if not 0 < wanted <= there:
        raise ModelError(f"a context of {wanted}: the model has positions 1 to {there}", hint="context")
    return wanted


class Imported(Source):
    """A checkpoint with tensors of known names.

    A subclass sets ``tensors``, ``config`` and ``tensor_names``, and then calls :meth:`check_names`.  ``tensor_names`` maps each
    part that a model may have (``wq`` to ``w2``, the norms, ``embedding``, ``head``, ``final_norm``) to the part's name in the
    checkpoint.  ``{i}`` stands for the layer's number.  A matrix's name is written without ``.weight``.
    """

    tensors: Tensors
    tensor_names: dict[str, str]
    #: Whether RoPE turns (t, t + head_dim / 2), so that rows of Wq and Wk, their biases, and gains of q's and k's heads have to
    #: be put in another order.
    halves: bool

    @abstractmethod
    def weights(self, layer: int, name: str, bias: NDArray[np.float16] | None) -> Linear:
        """A matrix, whose tensor is there and has the right shape."""

    def group_width(self, layer: int, name: str) -> int | None:
        """The widest column groups in which the rows of a matrix have one magnitude each; None: it has no such groups."""
        return None

    def group_parts(self, layer: int, name: str, width: int) -> Iterator[Part]:
        """The trits of a matrix with such groups, and what they are worth."""
        return group_parts(self.tensors, f"{self.base(layer, name)}.weight", width, head_dim=self.head_dim_of(name))

    def tensor_name(self, part: str, layer: int = 0) -> str:
        """What a part is called."""
        return self.tensor_names[part].format(i=layer)

    def base(self, layer: int, name: str) -> str:
        """A matrix's name without ``.weight``."""
        return self.tensor_name(name, layer)

    def head_dim_of(self, name: str) -> int:
        """Rows that are put in another order at a time, 0 for none."""
        return self.config.head_dim if self.halves and name in ("wq", "wk") else 0

    def stored_shape(self, layer: int, name: str) -> tuple[int, ...]:
        """The shape that a matrix's tensor has to have."""
        return self.config.shape(name)

    def check_names(self, also: Callable[[int, str], set[str]], ignored: set[str]) -> None:
        """Check that every needed tensor is there with the right shape, and that there is no other tensor.

        ``also`` gives the names of tensors that may stand beside a matrix.
        """
        c, have = self.config, self.tensors.names()
        known: set[str] = set(ignored)

        def need(name: str, shape: tuple[int, ...]) -> None:
            known.add(name)
            if name not in have:
                raise ModelError(f"{self.tensors.label} lacks the tensor {name}")
            stored = self.tensors.shape(name)
            if (without_ones(stored) if len(shape) == 1 else stored) != shape:
                raise ModelError(f"{name} has shape {self.tensors.shape(name)}, the configuration says {shape}")

        need(self.tensor_name("embedding"), (c.vocab, c.dim))
        if not c.tied:
            need(self.tensor_name("head"), (c.vocab, c.dim))
        need(self.tensor_name("final_norm"), (c.dim,))
        # The first layer without a tensor ends the loop, however many layers the configuration says.
        for i in range(c.layers):
            for name in LINEARS:
                need(f"{self.base(i, name)}.weight", self.stored_shape(i, name))
                known |= {f"{self.base(i, name)}.bias"} | also(i, name)
            for name in NORMS:
                if c.has_norm(name):
                    need(self.tensor_name(name, i), (c.norm_width(name),))
        unknown = sorted(have - known)
        if unknown:
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            raise ModelError(f"{self.tensors.label} has the unknown tensor {unknown[0]}{more}: this model computes something "
                             "that the engine does not")

    def vector(self, name: str, width: int) -> NDArray[np.float16]:
        """A gain or bias as binary16."""
        if without_ones(self.tensors.shape(name)) != (width,):
            raise ModelError(f"{name} has shape {self.tensors.shape(name)}, the configuration says {(width,)}")
        values = self.tensors.whole(name).reshape(-1)
        with np.errstate(over="ignore"):
            rounded = values.astype(np.float16)
        if not np.isfinite(rounded).all():
            raise ModelError(f"{name} holds an infinity, a NaN, or a number beyond binary16")
        return rounded

    def bias(self, layer: int, name: str) -> NDArray[np.float16] | None:
        """The bias of a matrix, if it has one."""
        bias_name = f"{self.base(layer, name)}.bias"
        if bias_name not in self.tensors.names():
            return None
        bias = self.vector(bias_name, self.config.shape(name)[0])
        return halves_to_pairs(bias, self.config.head_dim) if self.head_dim_of(name) else bias

    def linear(self, layer: int, name: str) -> Linear:
        return self.weights(layer, name, self.bias(layer, name))

    def matrix(self, layer: int, name: str) -> NDArray[np.float32]:
        """A whole matrix as floats, the rows of q and k in the order of RoPE's adjacent pairs."""
        what = f"{self.base(layer, name)}.weight"
        values = self.tensors.whole(what).astype(np.float32)
        if not np.isfinite(values).all():
            raise ModelError(f"{what} holds an infinity or NaN")
        return halves_to_pairs(values, self.config.head_dim) if self.head_dim_of(name) else values

    def floats(self, name: str) -> Iterator[NDArray[np.float32]]:
        """Rows of ``embedding`` or ``head`` as floats, in chunks."""
        what = self.tensor_name(name)
        for first, end in row_chunks(self.config.vocab, self.config.dim):
            part = self.tensors.rows(what, first, end)
            if not np.isfinite(part).all():
                raise ModelError(f"{what} holds an infinity or NaN")
            yield part

    def gain(self, layer: int, name: str) -> NDArray[np.float16] | None:
        if not self.config.has_norm(name):
            return None
        gain = self.vector(self.tensor_name(name, layer), self.config.norm_width(name))
        if self.halves and name in ("q_norm", "k_norm"):
            # In the order of the rows that it multiplies.
            gain = halves_to_pairs(gain, self.config.head_dim)
        return _unless_ones(gain)

    def final_norm(self) -> NDArray[np.float16] | None:
        return _unless_ones(self.vector(self.tensor_name("final_norm"), self.config.dim))

    def table(self, name: str) -> Iterator[TableRows]:
        for part in self.floats(name):
            yield TableRows(*int8_rows(part, table_code(self.config, name)))

    def cut_context(self, config: ModelConfig, options: Options) -> int:
        """The context to keep."""
        if options.context is None:
            return config.context
        return checked_context(options.context, config.context)


def _unless_ones(gain: NDArray[np.float16]) -> NDArray[np.float16] | None:
    """The gain, or None for a gain of ones: multiplying by one changes no bit."""
    return None if (gain == 1).all() else gain
