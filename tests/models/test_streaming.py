# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Conversion of a checkpoint of 300 MB in a process of its own, whose peak memory is measured."""

import json
import subprocess
import sys

import numpy as np
import pytest

MB = 1 << 20
#: 32,000 x 1,024 float16: the largest tensor.
VOCAB, DIM, FFN, LAYERS = 32_000, 1024, 4096, 6
PROJECTIONS = {"self_attn.q_proj": (DIM, DIM), "self_attn.k_proj": (DIM, DIM), "self_attn.v_proj": (DIM, DIM),
               "self_attn.o_proj": (DIM, DIM), "mlp.gate_proj": (FFN, DIM), "mlp.up_proj": (FFN, DIM),
               "mlp.down_proj": (DIM, FFN)}


def write_big(path):
    """A TriLM of 300 MB; its rows repeat."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "hidden_size": DIM, "intermediate_size": FFN, "num_hidden_layers": LAYERS,
        "num_attention_heads": 16, "vocab_size": VOCAB, "max_position_embeddings": 2048, "hidden_act": "silu",
        "bos_token_id": 0, "eos_token_id": 0}))
    shapes = {"model.embed_tokens.weight": (VOCAB, DIM), "lm_head.weight": (VOCAB, DIM), "model.norm.weight": (DIM,)}
    for i in range(LAYERS):
        shapes |= {f"model.layers.{i}.{name}.weight": shape for name, shape in PROJECTIONS.items()}
        shapes |= {f"model.layers.{i}.{name}.weight": (DIM,) for name in ("input_layernorm", "post_attention_layernorm")}
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    rng = np.random.default_rng(1)
    ternary = (rng.integers(-1, 2, 64 * FFN) * 0.03).astype(np.float16)
    table = rng.normal(size=64 * DIM).astype(np.float16)
    with (path / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            if len(shape) == 1:
                file.write(np.full(shape, 1.5, np.float16).tobytes())
                continue
            part = ternary if "proj" in name else table
            for _ in range(int(np.prod(shape)) // part.size):
                file.write(part.tobytes())
    return path


PROGRAM = """
import resource, sys
from tellme.cli import main
code = main(sys.argv[1:])
print()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


#: The loss of a text by the float pass, over the checkpoint as it is read.
PROBE = """
import resource, sys
from pathlib import Path
from tellme.models.checkpoints import open_checkpoint
from tellme.models.importing import Options
from tellme.models.probing import nats_per_token
print(nats_per_token(open_checkpoint(Path(sys.argv[1]), Options(no_tokenizer=True), print), range(1, 20)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    return write_big(tmp_path_factory.mktemp("big") / "hf")


def peak_kib(*arguments, program=PROGRAM):
    """Peak memory of a command.  A process inherits the peak of the one that started it, so a shell stands between."""
    run = subprocess.run(["/bin/sh", "-c", '"$0" "$@"; exit $?', sys.executable, "-c", program, *map(str, arguments)],
                         capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return int(run.stdout.split()[-1])


def test_peak_memory(big, tmp_path):
    size = (big / "model.safetensors").stat().st_size
    largest = 2 * VOCAB * DIM
    assert size > 290 * MB
    out = tmp_path / "out.tellme"
    peak = 1024 * peak_kib("convert", big, "-o", out, "--no-tokenizer")
    assert peak <= 2 * largest + 200 * MB, f"{peak / MB:.0f} MB for a largest tensor of {largest / MB:.0f} MB"
    # 1.6 bits a weight, columns padded to slices of 20, and int8 tables.
    assert out.stat().st_size < 0.3 * size


def test_peak_memory_of_the_way_back(big, tmp_path):
    """The same through GGUF, whose largest tensor is the embedding in float32."""
    model, out, again = tmp_path / "m.tellme", tmp_path / "m.gguf", tmp_path / "again.tellme"
    peak_kib("convert", big, "-o", model, "--no-tokenizer")
    limit = 2 * 4 * VOCAB * DIM + 200 * MB
    assert 1024 * peak_kib("export", model, "--format", "gguf-f16", "-o", out) <= limit
    assert out.stat().st_size > 290 * MB
    assert 1024 * peak_kib("convert", out, "-o", again, "--no-tokenizer") <= limit


def test_peak_memory_of_the_float_pass(big):
    assert 1024 * peak_kib(big, program=PROBE) <= 2 * 2 * VOCAB * DIM + 200 * MB
