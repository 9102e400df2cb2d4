# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tellme: a ternary language model on a small FPGA; host software, specification and golden model.

A program uses :class:`Board`, :class:`Session`, :class:`Sampling`, :func:`find_model`, and the errors.  Each part is imported
when the part is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tellme.compiler.image import CompileError
    from tellme.compiler.inspect import Inspection, inspect_model
    from tellme.errors import CheckError, DeviceError, InputError, TellmeError
    from tellme.link.errors import LinkError
    from tellme.models.config import ModelConfig, ModelError
    from tellme.models.model import Model
    from tellme.models.shipped import find_model, open_model
    from tellme.runtime.board import Board
    from tellme.runtime.sampling import Sampling
    from tellme.runtime.session import Loss, Run, Sequence, Sequences, Session, Token, interleave

__all__ = ["Board", "CheckError", "CompileError", "DeviceError", "InputError", "Inspection", "LinkError", "Loss", "Model",
           "ModelConfig", "ModelError", "Run", "Sampling", "Sequence", "Sequences", "Session", "TellmeError", "Token",
           "__version__", "find_model", "inspect_model", "interleave", "open_model"]

__version__ = "0.1.0"

_HOMES = {
    "Board": "runtime.board", "CheckError": "errors", "CompileError": "compiler.image", "DeviceError": "errors",
    "InputError": "errors", "Inspection": "compiler.inspect", "LinkError": "link.errors",
    "Loss": "runtime.session", "Model": "models.model",
    "ModelConfig": "models.config", "ModelError": "models.config", "Run": "runtime.session", "Sampling": "runtime.sampling",
    "Sequence": "runtime.session", "Sequences": "runtime.session", "Session": "runtime.session", "TellmeError": "errors",
    "Token": "runtime.session", "find_model": "models.shipped", "inspect_model": "compiler.inspect",
    "interleave": "runtime.session", "open_model": "models.shipped",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tellme' has no attribute {name!r}")
    value = getattr(import_module(f"tellme.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
