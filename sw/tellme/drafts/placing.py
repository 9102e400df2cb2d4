# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Which table of drafted tokens goes to a board with a model, and the image with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from tellme.compiler.image import Image, TooBigError, check_drafts, with_drafts
from tellme.drafts.settings import draft_settings
from tellme.drafts.table import DraftTable, open_table
from tellme.errors import InputError
from tellme.models.source import StoredSource
from tellme.spec.config import CoreConfig
from tellme.spec.drafts import SETTINGS_FIELDS
from tellme.spec.words import unpack_word

__all__ = ["SUFFIX", "Drafts", "place_drafts", "table_beside"]

#: Of files of tables.
SUFFIX = ".drafts"
#: A table, or the file of one; None: nothing is drafted; "auto": the table beside the model's file, where the core drafts.
Drafts = DraftTable | Path | Literal["auto"] | None


def table_beside(model: StoredSource) -> Path | None:
    """The file of a model's own table: in the folder of the model's file, with the same name and SUFFIX for .tellme; None: there
    is none, or the model is of no file."""
    if model.path is None:
        return None
    path = model.path.with_suffix(SUFFIX)
    return path if path.exists() else None


def place_drafts(image: Image, model: StoredSource, core: CoreConfig, drafts: Drafts,
                 say: Callable[[str], None] = lambda text: None) -> Image:
    """The image with the table that ``drafts`` says, if it says one; ``say`` hears how many tokens a pass drafts, and why none.

    A table that was given has to do: on a core that drafts no tokens, with the LM head on the host, with a model of other tokens,
    and in a memory without room it is a CompileError or an InputError.  With "auto" a core that drafts nothing goes without a
    table, and so does the golden model, which drafts gain nothing; an LM head on the host and a memory without room are told and
    no error.  A file that is damaged or of other tokens is an InputError then, too.
    """
    if drafts is None or drafts == "auto" and (not core.drafts or core.unlimited):
        return image
    path = table_beside(model) if drafts == "auto" else drafts if isinstance(drafts, Path) else None
    if drafts == "auto":
        if path is None:
            return image
        if image.probe is not None:
            say("drafts: none, as the LM head is on the host")
            return image
    check_drafts(image, core)
    if isinstance(drafts, DraftTable):
        table = drafts
    else:
        assert path is not None
        try:
            table = open_table(path, model.config.vocab, model.tokenizer)
        except InputError as error:
            if drafts != "auto":
                raise
            raise InputError(f"{error}; or remove it, or go without drafts", hint="no-drafts") from error
    settings = draft_settings(model.config, image, core)
    try:
        found = with_drafts(image, table, core, settings)
    except TooBigError as error:
        if drafts != "auto":
            raise
        say(f"drafts: none, as {error}")
        return image
    most = unpack_word(SETTINGS_FIELDS, settings)["most"]
    say(f"drafts: up to {most} token{'s' * (most != 1)} a pass, from {'a table' if path is None else path.name} of "
        f"{4 * len(table.words) / 1e3:.1f} KB")
    return found
