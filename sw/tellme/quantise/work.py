# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The folder of a run: the layers that are solved, and the streams behind them, so that a run goes on where it stopped."""

import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import LINEARS, ModelError
from tellme.models.writing import whole_file
from tellme.quantise.layers import Matrix, Streams
from tellme.quantise.solve import Solved

__all__ = ["Work"]

#: Content of a .npz file.
Arrays = dict[str, NDArray[Any]]


class Work:
    """The folder beside an output, ``OUT.quantise``, for a run that depends on ``run``, an object that JSON holds.

    ``layers`` are solved already.  A folder of another run, or one that is damaged, is emptied.
    """

    def __init__(self, target: Path, run: Mapping[str, object]):
        self.folder = target.with_name(f"{target.name}.quantise")
        self.layers = 0
        text = json.dumps(run, indent=1, sort_keys=True)
        try:
            if self.folder.is_symlink() or self.folder.exists() and not self.folder.is_dir():
                raise ModelError(f"{self.folder}, the folder for the run's state, is no folder: remove it")
            marker = self.folder / "run.json"
            if marker.is_file() and marker.read_text("utf-8") == text:
                self.layers = self._solved()
                return
            if self.folder.exists() and not marker.is_file() and any(self.folder.iterdir()):
                raise ModelError(f"{self.folder}, the folder for the run's state, holds something else: remove it")
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir()
            marker.write_text(text, "utf-8")
        except OSError as error:
            raise ModelError(f"cannot write {self.folder}: {error.strerror}") from error

    def _solved(self) -> int:
        """Layers of the state, where the state and the layers' files are whole."""
        try:
            number = int(_read(self.folder / "state.npz")["layers"])
            for layer in range(number):
                self.layer(layer)
            return number
        except (OSError, KeyError, ValueError, zipfile.BadZipFile):
            return 0

    def layer(self, number: int) -> dict[str, Matrix]:
        """A layer's matrices."""
        arrays = _read(self.folder / f"layer-{number}.npz")
        found = {}
        for name in LINEARS:
            solved = Solved(arrays[f"{name}.codes"], arrays[f"{name}.scales"], arrays[f"{name}.error"],
                            int(arrays[f"{name}.group"]), arrays.get(f"{name}.multipliers"))
            found[name] = Matrix(solved, int(arrays[f"{name}.planes"]), arrays.get(f"{name}.bias"))
        return found

    def save(self, number: int, matrices: Mapping[str, Matrix], streams: Streams) -> None:
        """Keep a layer, and the streams behind it."""
        arrays: Arrays = {}
        for name, (solved, planes, bias) in matrices.items():
            arrays |= {f"{name}.codes": solved.codes, f"{name}.scales": solved.scales, f"{name}.error": solved.error,
                       f"{name}.group": np.array(solved.group), f"{name}.planes": np.array(planes)}
            if solved.multipliers is not None:
                arrays[f"{name}.multipliers"] = solved.multipliers
            if bias is not None:
                arrays[f"{name}.bias"] = bias
        _write(self.folder / f"layer-{number}.npz", arrays)
        _write(self.folder / "state.npz", {"layers": np.array(number + 1), "exact": streams.exact,
                                           "quantised": streams.quantised, "rounded": streams.rounded})
        self.layers = number + 1

    def note(self, name: str, value: object) -> None:
        """Keep an object that JSON holds."""
        with whole_file(self.folder / f"{name}.json") as scratch:
            scratch.write_text(json.dumps(value), "utf-8")

    def noted(self, name: str) -> Any:
        """What was kept under a name; None if nothing was, or if that is damaged."""
        try:
            return json.loads((self.folder / f"{name}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None

    def restore(self, streams: Streams) -> None:
        """Set the streams to what they were behind the layers that are solved."""
        if self.layers:
            state = _read(self.folder / "state.npz")
            streams.exact, streams.quantised, streams.rounded = state["exact"], state["quantised"], state["rounded"]

    def remove(self) -> None:
        """The run is over."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _read(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _write(path: Path, arrays: Arrays) -> None:
    with whole_file(path) as scratch, scratch.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
