# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A model file as large as wanted, and what compiling the model takes: ``python -m tests.models.big_model 30`` measures 500 MB.

The weights are drawn and written some rows at a time.  The measurement runs in a process of its own, which compiles the file for
the golden model's configuration and writes the bytes of all sections to /dev/null.  Each millisecond and at each chunk it samples
RssAnon, its memory that no file backs.  Pages of the mapped model file are RssFile, and not counted.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from tellme.models.config import ModelConfig
from tellme.models.container import write
from tellme.models.int8 import table_code
from tellme.models.source import Block, Linear, StoredSource, TableRows, check_parts, row_chunks
from tellme.models.trits import packed_cols
from tellme.spec.packing import SLICE, TRITS, ZERO_BYTE
from tellme.spec.scale import Scale
from tests.memory import run_measured

__all__ = ["LARGE", "DrawnModel", "measured"]

#: The shape of BitNet b1.58 2B, with a smaller vocabulary; a layer is 14 MB.
LARGE = ModelConfig(dim=2560, ffn=6912, layers=30, heads=20, kv_heads=5, head_dim=128, vocab=32_000, context=4096, o_norm=True,
                    down_norm=True, act="relu2", act_exp=8)


class DrawnModel(StoredSource):
    """Random packed weights, drawn anew at each reading; each matrix has the same scale."""

    def __init__(self, config):
        self.config, self.name = config, "drawn"

    def linear(self, layer, name):
        rows, cols = self.config.shape(name)

        def stored():
            rng = np.random.default_rng([layer, *name.encode()])
            for first, end in row_chunks(rows, packed_cols(cols)):
                part = rng.integers(0, 243, (end - first, packed_cols(cols)), dtype=np.uint8)
                if cols % SLICE:
                    # A byte of the last weights and zeros, and bytes of zeros.
                    whole, values = cols // TRITS, 3 ** (cols % TRITS)
                    part[:, whole] = part[:, whole] % values + (3**TRITS - values) // 2
                    part[:, whole + 1:] = ZERO_BYTE
                yield part

        def chunks():
            raise AssertionError("codes are asked for")

        return Linear((rows, cols), chunks, lambda: (Block(rows, Scale(1500, -16)),), None, stored)

    def gain(self, layer, name):
        return np.full(self.config.norm_width(name), 1.5, np.float16) if self.config.has_norm(name) else None

    def final_norm(self):
        return None

    def table(self, name):
        c, rng, most = self.config, np.random.default_rng(len(name)), table_code(self.config, name)
        for first, end in row_chunks(c.vocab, c.dim):
            yield TableRows(rng.integers(-most, most + 1, (end - first, c.dim), dtype=np.int8),
                            np.full(end - first, 40 << 10, np.uint16))

    def rows(self, name, ids):
        raise NotImplementedError

    def check(self):
        check_parts(self)


#: Runs in the process that is measured.
PROGRAM = """
import json, sys, time
from pathlib import Path
from tellme.compiler.image import compile_model
from tellme.golden.perplexity import unlimited_config
from tellme.models.container import Container
from tests.memory import Peak, memory_bytes

before = memory_bytes(), memory_bytes("VmHWM")
began = time.process_time()
path = Path(sys.argv[1])
total = 0
with Peak() as peak, open("/dev/null", "wb") as sink:
    model = Container(path)
    model.check()
    image = compile_model(model, unlimited_config(model))
    for _, part in image.sections:
        for chunk in part.chunks():
            sink.write(chunk)
            total += len(chunk)
            peak.sample()
print(json.dumps({"anon_bytes": peak.bytes - before[0], "hwm_bytes": memory_bytes("VmHWM") - before[1], "section_bytes": total,
                  "file_bytes": path.stat().st_size, "cpu_seconds": time.process_time() - began}))
"""


def measured(path):
    """What compiling a file takes."""
    return run_measured(PROGRAM, path)[0]


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.tellme"
        write(DrawnModel(ModelConfig(**vars(LARGE) | {"layers": int(sys.argv[1])})), path)
        print(json.dumps(measured(path)))


if __name__ == "__main__":
    main()
