# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Where checkpoints keep their chat template: a file of its own, tokenizer_config.json, or a key of a GGUF file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tellme.models.config import ModelError
from tellme.models.files import check_file, is_there
from tellme.models.json_files import read_json

__all__ = ["MAX_BYTES", "checked_template", "template_of_folder", "template_of_gguf"]

#: The longest template that is taken; the longest of published models have some 20 KB.
MAX_BYTES = 1 << 20


def checked_template(value: object, name: str) -> str:
    """A template as text.  ``name`` says in errors where it stands."""
    if not isinstance(value, str):
        raise ModelError(f"{name} is a {type(value).__name__}, and a text is wanted")
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise ModelError(f"{name} is no UTF-8") from error
    if size > MAX_BYTES:
        raise ModelError(f"{name} has {size} bytes, and up to {MAX_BYTES} are taken")
    return value


def template_of_folder(folder: Path) -> str:
    """Of a Hugging Face folder: chat_template.jinja, else ``chat_template`` of tokenizer_config.json; of several named ones the
    one named ``default``.  Empty where the model has none."""
    path = folder / "chat_template.jinja"
    if is_there(path):
        check_file(path)
        try:
            return checked_template(path.read_bytes().decode("utf-8"), str(path))
        except UnicodeDecodeError as error:
            raise ModelError(f"{path} is no UTF-8") from error
        except OSError as error:
            raise ModelError(f"cannot read {path}: {error.strerror}") from error
    path = folder / "tokenizer_config.json"
    value = read_json(path).get("chat_template") if is_there(path) else None
    name = f"{path}: chat_template"
    if isinstance(value, list):
        named = {entry["name"]: entry.get("template") for entry in value
                 if isinstance(entry, dict) and isinstance(entry.get("name"), str)}
        if "default" not in named:
            raise ModelError(f"{name} is a list without a template named 'default'")
        value, name = named["default"], f"{name} 'default'"
    return "" if value is None else checked_template(value, name)


def template_of_gguf(field: Callable[[str], Any], label: str) -> str:
    """Of a GGUF file: the key tokenizer.chat_template.  Empty where the model has none."""
    value = field("tokenizer.chat_template")
    return "" if value is None else checked_template(value, f"{label}: tokenizer.chat_template")
