# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tests.ref.make_reference``: writes what transformers computes for every shape to tests/ref/logits.npz.

Runs in the environment of ``make test-ref``.  The file holds the logits of each shape as float32, and as JSON the versions of
torch and transformers and each model's hash and class.  Models and prompts are drawn from their names (tests.ref.shapes).
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.ref.shapes import SHAPES, digest, prompt, shape_model, write_folder

__all__ = ["FILE", "MOST_BYTES", "main"]

FILE = Path(__file__).parent / "logits.npz"
#: Of the file.
MOST_BYTES = 1_000_000


def main() -> int:
    from tests.ref.with_transformers import VERSIONS, Loaded

    arrays, models = {}, {}
    for name, shape in SHAPES.items():
        model = shape_model(name)
        with tempfile.TemporaryDirectory() as scratch:
            loaded = Loaded(write_folder(model, shape.linear, Path(scratch) / name))
            arrays[name] = loaded.logits(prompt(name))
        models[name] = {"digest": digest(model), "class": loaded.name, "linear": loaded.linear}
        print(f"{name}: {loaded.name}, {loaded.linear}, {arrays[name].shape}", flush=True)
    np.savez(FILE, about=np.array(json.dumps({"versions": VERSIONS, "models": models})), **arrays)
    size = FILE.stat().st_size
    print(f"{FILE.name}: {size} bytes, {VERSIONS}")
    return 0 if size <= MOST_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
