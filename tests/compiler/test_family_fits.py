# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Which builds the real families and sizes fit, where their LM heads are, and which limit is named where they do not fit.

The builds are fixed here, so that the sentences stay when presets grow.
"""

from dataclasses import replace

import pytest

from tellme.compiler import inspect as module
from tellme.compiler.image import CompileError, compile_model, needed_bytes, place_model
from tellme.compiler.inspect import model_fits
from tellme.spec.config import PRESETS, CoreConfig
from tests.models.families import FAMILIES, drawn_model, model_config

MB = 1 << 20
#: A board with 512 MB of DDR3, and one with 32 MB of SDR memory.
LARGE = CoreConfig(name="large", lanes=8, chunk=4, tile_rows=240, max_dim=2560, max_cols=6912, max_head_dim=128, max_kv_heads=16,
                   max_group=4, max_context=4096, ddr3_chip="MT41K256M16", sdram_bytes=512 * MB, fabric_mhz=75.0)
SMALL = CoreConfig(name="small", lanes=16, chunk=16, float_lanes=2, pes=16, exp_units=2, tile_rows=160)
_SMALL_2048 = "dim is 2048, and the build small can do 512"
#: Family -> what the two say: "board" or "host" where the model fits, a context where a shorter one would fit, else the reason.
SAID = {
    "bitnet_b1_58-large": ("board", "dim is 1536, and the build small can do 512"),
    "bitnet_b1_58-xl": ("KV heads is 32, and the build large can do 16", _SMALL_2048),
    "bitnet_b1_58-3B": ("dim is 3200, and the build large can do 2560", "dim is 3200, and the build small can do 512"),
    "bitnet-b1.58-2B-4T": (2752, "dim is 2560, and the build small can do 512"),
    "bitnet-b1.58-2B-4T-bf16": (2752, "dim is 2560, and the build small can do 512"),
    "Falcon3-1B-Instruct-1.58bit": ("ffn is 8192, and the build large can do 6912", _SMALL_2048),
    "Falcon3-3B-Base-1.58bit": ("dim is 3072, and the build large can do 2560", "dim is 3072, and the build small can do 512"),
    "Falcon-E-3B": ("ffn is 13312, and the build large can do 6912", _SMALL_2048),
    "TriLM-99M": ("board", 1024),
    "TriLM-190M": ("board", "dim is 768, and the build small can do 512"),
    "TriLM-390M": ("board", "dim is 1024, and the build small can do 512"),
    "TriLM-560M": ("KV heads is 20, and the build large can do 16", "dim is 1280, and the build small can do 512"),
    "TriLM-830M": ("KV heads is 24, and the build large can do 16", "dim is 1536, and the build small can do 512"),
    "TriLM-1.1B": ("KV heads is 28, and the build large can do 16", "dim is 1792, and the build small can do 512"),
    "TriLM-1.5B": ("KV heads is 32, and the build large can do 16", _SMALL_2048),
    "TriLM-2.4B": ("ffn is 7680, and the build large can do 6912", "dim is 2304, and the build small can do 512"),
    "TriLM-3.9B": ("dim is 3072, and the build large can do 2560", "dim is 3072, and the build small can do 512"),
    "Llama3-8B-1.58": ("dim is 4096, and the build large can do 2560", "dim is 4096, and the build small can do 512"),
}


@pytest.fixture(autouse=True)
def _two_builds(monkeypatch):
    monkeypatch.setattr(module, "PRESETS", {board.name: board for board in (LARGE, SMALL)})


@pytest.mark.parametrize("name", FAMILIES)
def test_what_the_builds_say(name):
    for fit, said in zip(model_fits(drawn_model(FAMILIES[name])), SAID[name], strict=True):
        if isinstance(said, int):
            host = fit.placements["host"]
            assert fit.head is None and host.context == said and fit.placements["board"].context == 0
            assert host.reason.endswith(f"; a context of {said} would fit") or "context is" in host.reason
        elif said in ("board", "host"):
            assert (fit.head, fit.reason) == (said, "")
        else:
            assert fit.head is None and not fit.tokens_per_second
            assert {(place.reason, place.context) for place in fit.placements.values()} == {(said, 0)}


def test_the_longest_context_fits_and_64_more_do_not():
    """BitNet 2B-4T on 512 MB; the LM head has no place there at all."""
    model = drawn_model(FAMILIES["bitnet-b1.58-2B-4T"])
    context = model_fits(model)[0].placements["host"].context
    whole = model.config
    model.config = replace(whole, context=context)
    assert place_model(model, LARGE)[0].end <= LARGE.sdram_bytes
    assert [fit.head for fit in model_fits(model)] == ["host", None]
    model.config = replace(whole, context=context + 64)
    with pytest.raises(CompileError, match=f"a context of {context} would fit"):
        compile_model(model, LARGE, head="host")


def test_speed_of_the_two_large_models():
    """Tokens per second at the memory's peak, beside bytes by hand."""
    large, = (fit for fit in model_fits(drawn_model(FAMILIES["bitnet_b1_58-large"])) if fit.preset == "large")
    body = 24 * (4 * 1536 * 1536 + 3 * 1536 * 4096) / 5
    kv = 2 * 24 * (1536 + 16 * 2)
    assert large.tokens_per_second[0] == pytest.approx(600e6 / (body + 32002 * 1536 + 1536 + kv))
    assert large.tokens_per_second[512] == pytest.approx(600e6 / (body + 32002 * 1536 + 1536 + 513 * kv))
    assert list(large.tokens_per_second) == [0, 512, 2047]
    host = model_fits(drawn_model(FAMILIES["bitnet-b1.58-2B-4T"]))[0].placements["host"]
    assert host.rates[0].peak == pytest.approx(600e6 / needed_bytes(model_config(FAMILIES["bitnet-b1.58-2B-4T"]), 0, "host"))
    assert [rate.position for rate in host.rates] == [0, 512, 2751]


def test_the_preset_for_large_models(monkeypatch):
    """The shipped build runs bitnet_b1_58-large with its head, and 2B-4T with its head on the host and a shorter context."""
    monkeypatch.setattr(module, "PRESETS", {"ecpix5-85f": PRESETS["ecpix5-85f"]})
    fit, = model_fits(drawn_model(FAMILIES["bitnet_b1_58-large"]))
    assert fit.head == "board"
    fit, = model_fits(drawn_model(FAMILIES["bitnet-b1.58-2B-4T"]))
    assert fit.placements["host"].context >= 2048 and not fit.placements["board"].context
