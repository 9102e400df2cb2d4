# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The models that the package ships, and models by name or file."""

from importlib import resources
from pathlib import Path

from tellme.models.container import Container
from tellme.models.files import check_file
from tellme.models.model import Model, ModelError

__all__ = ["checked_model", "find_model", "model_path", "open_model", "shipped"]

SUFFIX = ".tellme"


def shipped() -> dict[str, Path]:
    """Names and files of the models in the package."""
    folder = Path(str(resources.files("tellme"))) / "data"
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def model_path(name: str) -> Path:
    """The file of a shipped model by its name, or a file."""
    models = shipped()
    if name in models:
        return models[name]
    path = Path(name)
    check_file(path)
    if not path.exists() and path.suffix != SUFFIX and path.name == name:
        raise ModelError(f"no model is called {name!r} and there is no such file; shipped models: {', '.join(models)}")
    return path


def find_model(name: str) -> Model:
    """A shipped model by its name, or a file, in memory."""
    return Model.load(model_path(name))


def open_model(name: str) -> Container:
    """The same, to be read part by part: what is wrong with a part is found when the part is read."""
    return Container(model_path(name))


def checked_model(name: str) -> Container:
    """The same, after all parts have been read and checked once."""
    model = open_model(name)
    model.check()
    return model
