# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Writes what a host sends to a board before a run into a file (:mod:`tellme.spec.image_file`)."""

from pathlib import Path

from tellme.compiler.image import Head, Image, compile_model
from tellme.compiler.part import Part
from tellme.models.source import StoredSource
from tellme.models.writing import whole_file
from tellme.spec.config import CoreConfig
from tellme.spec.image_file import HEADER, MAGIC, PIECE
from tellme.spec.memory import PROGRAM_BASE, REGISTER_BASE, SDRAM_BASE, SEGMENT_BASE
from tellme.spec.program import FORMAT_VERSION

__all__ = ["image_pieces", "save_image"]


def image_pieces(image: Image) -> tuple[tuple[int, Part], ...]:
    """(address, content) of all that a host writes before a run: memory, layer program, segments, registers; whole words."""
    pieces = [(SDRAM_BASE + base, part) for base, part in image.sections]
    pieces += [(PROGRAM_BASE, Part.of(image.program_bytes)), (SEGMENT_BASE, Part.of(image.segment_bytes)),
               (REGISTER_BASE, Part.of(image.register_bytes))]
    return tuple((base, part + Part.of(bytes(-len(part) % 4))) for base, part in pieces)


def save_image(path: Path, model: StoredSource, board: CoreConfig, *, head: Head = "board") -> None:
    """Compile a model for a board and write the file, which is there whole or not at all.

    A model that does not fit is a CompileError; one that is damaged, or a file that cannot be written, a ModelError.
    """
    model.check()
    pieces = image_pieces(compile_model(model, board, head=head))
    with whole_file(path) as scratch, scratch.open("wb") as out:
        out.write(HEADER.pack(MAGIC, FORMAT_VERSION, len(pieces), board.name.encode("ascii")))
        for base, part in pieces:
            out.write(PIECE.pack(base, len(part)))
            for content in part.chunks():
                out.write(content)
