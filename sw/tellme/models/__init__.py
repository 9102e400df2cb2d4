# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Models: the .tellme container, and importers of checkpoints."""

from tellme.models.model import FORMAT_VERSION, LINEARS, Layer, Model, ModelConfig, ModelError, Multipliers, int8_rows

__all__ = ["FORMAT_VERSION", "LINEARS", "Layer", "Model", "ModelConfig", "ModelError", "Multipliers", "int8_rows"]
