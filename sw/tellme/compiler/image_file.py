# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Writes what a host sends to a board before a run into a file, and reads such a file (:mod:`tellme.spec.image_file`)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tellme.compiler.image import Head, Image, place_model
from tellme.compiler.part import Part
from tellme.drafts.placing import Drafts, place_drafts
from tellme.errors import InputError
from tellme.models.source import StoredSource
from tellme.models.writing import whole_file
from tellme.spec.config import CoreConfig
from tellme.spec.image_file import HEADER, MAGIC, PIECE
from tellme.spec.memory import PROGRAM_BASE, SDRAM_BASE
from tellme.spec.program import FORMAT_VERSION

__all__ = ["StoredPiece", "image_pieces", "is_image", "memory_pieces", "save_image", "save_pieces", "stored_pieces"]


class StoredPiece(NamedTuple):
    """A piece of a file: where its bytes begin in the file, how many there are, and the address that they are for."""

    offset: int
    size: int
    address: int


def image_pieces(image: Image) -> tuple[tuple[int, Part], ...]:
    """(address, content) of all that a host writes before a run: memory, layer program, segments, registers; whole words."""
    pieces = [(SDRAM_BASE + base, part) for base, part in image.sections]
    pieces += [(base, Part.of(table)) for base, table in image.tables]
    return tuple((base, part + Part.of(bytes(-len(part) % 4))) for base, part in pieces)


def save_pieces(path: Path, pieces: Sequence[tuple[int, Part]], board: CoreConfig) -> int:
    """Write pieces of whole words into a file, which is there whole or not at all; the bytes of the file.

    A file that cannot be written is a ModelError.
    """
    with whole_file(path) as scratch, scratch.open("wb") as out:
        out.write(HEADER.pack(MAGIC, FORMAT_VERSION, len(pieces), board.name.encode("ascii")))
        for base, part in pieces:
            out.write(PIECE.pack(base, len(part)))
            for content in part.chunks():
                out.write(content)
        return out.tell()


def save_image(path: Path, model: StoredSource, board: CoreConfig, *, head: Head | None = "board", drafts: Drafts = None,
               say: Callable[[str], None] = lambda text: None) -> int:
    """Compile a model for a board and write the file, which is there whole or not at all; the bytes of the file.

    With ``head`` None the LM head is on the board if it fits.  ``drafts``: the table of drafted tokens, of which ``say`` hears
    (:func:`tellme.drafts.placing.place_drafts`).  A model that does not fit is a CompileError; one that is damaged, or a file
    that cannot be written, a ModelError.
    """
    model.check()
    image = place_drafts(place_model(model, board, head)[0], model, board, drafts, say)
    return save_pieces(path, image_pieces(image), board)


def is_image(path: Path) -> bool:
    """Whether a file begins as an image does; False where there is no file that can be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def stored_pieces(path: Path, board: CoreConfig) -> tuple[StoredPiece, ...]:
    """The pieces of a file that was written for a board.

    A file that is no image, is damaged, or was written for another preset or with another format is an InputError.
    """
    try:
        with path.open("rb") as file:
            header = file.read(HEADER.size)
            if header[:len(MAGIC)] != MAGIC:
                raise InputError(f"{path} is no image of a board's memory", hint="image")
            cut = InputError(f"{path} is cut short: write it again", hint="image")
            if len(header) < HEADER.size:
                raise cut
            _, version, count, name = HEADER.unpack(header)
            preset = name.rstrip(b"\0").decode("ascii", "replace")
            if version != FORMAT_VERSION:
                raise InputError(f"{path} has version {version} of the format, and {FORMAT_VERSION} is wanted: write it again",
                                 hint="image")
            if preset != board.name:
                raise InputError(f"{path} was written for the preset {preset}, and the board is {board.name}")
            end = path.stat().st_size
            pieces, at = [], HEADER.size
            for _ in range(count):
                file.seek(at)
                head = file.read(PIECE.size)
                if len(head) < PIECE.size:
                    raise cut
                address, size = PIECE.unpack(head)
                at += PIECE.size
                if at + size > end:
                    raise cut
                if address % 4 or size % 4:
                    raise InputError(f"{path} is damaged: {size} bytes at {address:#x} are no whole words: write it again",
                                     hint="image")
                pieces.append(StoredPiece(at, size, address))
                at += size
            if at != end:
                raise InputError(f"{path} has {end - at} bytes behind its last piece: write it again", hint="image")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    return tuple(pieces)


def memory_pieces(path: Path, board: CoreConfig) -> tuple[StoredPiece, ...]:
    """The pieces of a file that lie in a board's memory, with addresses from its first byte on.

    Errors as of :func:`stored_pieces`; an InputError too for what is larger than the memory.
    """
    pieces = []
    for piece in stored_pieces(path, board):
        if piece.address >= PROGRAM_BASE:
            continue
        at = piece.address - SDRAM_BASE
        if at + piece.size > board.sdram_bytes:
            raise InputError(f"{path} has {piece.size} bytes at {at}, and the memory of {board.name} ends at {board.sdram_bytes}")
        pieces.append(piece._replace(address=at))
    return tuple(pieces)
