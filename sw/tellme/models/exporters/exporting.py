# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Export of a model to what transformers and llama.cpp run; the ternary values stay exactly what they are."""

from pathlib import Path

from tellme.models.exporters.gguf import export_gguf
from tellme.models.exporters.huggingface import export_folder
from tellme.models.exporters.parts import Progress
from tellme.models.importers.importing import Say
from tellme.models.source import Source

__all__ = ["FORMATS", "export"]

#: Format -> the gguf package's name of the weights' type; None for a Hugging Face folder.
FORMATS = {"gguf-tq1": "TQ1_0", "gguf-tq2": "TQ2_0", "gguf-f16": "F16", "hf": None}


def export(source: Source, target: Path, form: str, progress: Progress, say: Say = lambda text: None) -> None:
    """Write a model as one of FORMATS, whole or not at all; ``progress`` is called once for each layer.

    A model that the other program would compute differently is refused by the name of the difference.  ``say`` is called if the
    other program ends texts at more tokens than the model.
    """
    kind = FORMATS[form]
    if kind is None:
        export_folder(source, target, progress)
    else:
        export_gguf(source, target, kind, progress, say)
