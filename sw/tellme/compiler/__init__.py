# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Compiles a model for a board: memory image, layer program, registers."""

from tellme.compiler.image import CompileError, Image, compile_model, needed_bytes

__all__ = ["CompileError", "Image", "compile_model", "needed_bytes"]
