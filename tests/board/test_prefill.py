# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Prompts whose tokens share each weight, on the simulated board: the same bits as token by token, and the words that move."""

from dataclasses import replace

import numpy as np
import pytest

from boards.ulx3s import DEVICES
from hw.verilog import core_sha256, core_verilog
from tellme.compiler.image import compile_model
from tellme.golden.board import GoldenBoard
from tellme.models import ModelConfig
from tellme.spec.attention import chunk_read_words
from tellme.spec.config import preset
from tellme.spec.memory import CRC_BASE, DoneReason, EventType, StartArgs, StartFlags
from tellme.spec.scale import Scale
from tests.board.compare import client, needed_kv_bytes
from tests.models.random_model import BOARD_FAMILY, model_of, random_model

pytestmark = pytest.mark.rtl

PRESET = "ulx3s-85f"
BOARD = preset(PRESET)
LANES = BOARD.chunk
#: Two chunks and eight tokens of context; two query heads share a KV head.
SHAPE = ModelConfig(dim=96, ffn=84, layers=2, heads=4, kv_heads=2, head_dim=32, vocab=150, context=2 * LANES + 8)

#: The largest shapes that the build is for, with two layers and fewer tokens than the real ones: groups of three, and none.
REAL_SHAPES = {
    "SmolLM2-135M": ModelConfig(dim=576, ffn=1536, layers=2, heads=9, kv_heads=3, head_dim=64, vocab=512, context=64),
    "TriLM-99M": ModelConfig(dim=512, ffn=1280, layers=2, heads=8, kv_heads=8, head_dim=64, vocab=512, context=64, tied=False),
}


def load(device, model, lanes=LANES):
    """The model on the board, and a golden board of the same image."""
    image = compile_model(model, device.config(model))
    device.load(image, lambda done, total: None)
    return image, GoldenBoard(image, lanes=lanes)


def prompt_of(model, length):
    return [int(t) for t in np.random.default_rng(length).integers(0, model.config.vocab, length)]


def check(device, image, golden, prompt, *, generate=1, chunk=0):
    """Run a prompt, and picks behind it; picks, the CRCs of all steps and the last logits equal the golden's.  The logits."""
    device.place(0, prompt)
    golden.tokens[:len(prompt)] = prompt
    args = StartArgs(0, len(prompt), generate, StartFlags.CLEAR | StartFlags.DUMP, chunk=chunk)
    got = [(k, e.position, e.id) for k, e in device.start(args)]
    assert got[:-1] == [(k, e.position, e.id) for k, e in golden.start(args)][:-1]
    assert len(got) == generate + 1
    crcs = np.frombuffer(client(device).read(CRC_BASE, 4 * len(image.program)), "<u4")
    assert [int(c) for c in crcs[:-2]] == golden.crcs[:-2]
    logits = device.logits()
    assert np.array_equal(logits, golden.logits)
    return logits


def test_core_is_the_one_that_the_bitstream_is_built_from(device):
    built, _ = DEVICES["85f"]
    assert device.core_sha256 == core_sha256(core_verilog(built))


@pytest.mark.parametrize("length", [1, LANES - 1, LANES, LANES + 1, 2 * LANES + 3, SHAPE.context - 3])
def test_a_prompt_gives_the_bits_of_decode(device, length):
    """All logits after n tokens in chunks equal the logits token by token, and the text continues from there."""
    model = model_of(SHAPE, gains=True, seed=length)
    image, golden = load(device, model)
    prompt = prompt_of(model, length)
    by_chunks = check(device, image, golden, prompt)
    assert np.array_equal(by_chunks, check(device, image, golden, prompt, chunk=1))
    check(device, image, golden, prompt, generate=3)


@pytest.mark.parametrize("name", BOARD_FAMILY)
def test_random_models(device, name):
    """The models that decode is tested with: all of the context but four tokens as a prompt, then three picks."""
    model = random_model(name)
    image, golden = load(device, model)
    prompt = prompt_of(model, model.config.context - 4)
    check(device, image, golden, prompt, generate=3)
    check(device, image, golden, prompt[:7], chunk=5)


@pytest.mark.nightly
@pytest.mark.parametrize("name", REAL_SHAPES)
def test_two_layers_of_a_real_shape(device, name):
    """A prompt in chunks, the last of them not full, and decode behind it; then the same prompt token by token.

    Nightly: some 15 times the weights of the other models, and as many in the golden board.
    """
    model = model_of(REAL_SHAPES[name], gains=True)
    image, golden = load(device, model)
    prompt = prompt_of(model, 2 * LANES + 3)
    by_chunks = check(device, image, golden, prompt)
    assert np.array_equal(by_chunks, check(device, image, golden, prompt, chunk=1))
    check(device, image, golden, prompt, generate=3)


@pytest.mark.parametrize("heads", [2, 4, 6, 8])
def test_bytes_that_attention_reads_and_writes(device, heads):
    """Words that move, exactly: each slot of PEs reads each K and V row that one of its queries sees once; K and V rows are
    written once.

    Two naive orders read more: in one each query reads its own keys, in the other each slot reads all keys up to the chunk's end.
    """
    shape = replace(SHAPE, heads=heads)
    model = model_of(shape, gains=False)
    load(device, model)
    length, group = 2 * LANES + 3, heads // shape.kv_heads
    device.place(0, prompt_of(model, length))
    pair = 2 * shape.head_dim // 4  # words of a K and a V row
    alone = sum((t + 1) * (1 + pair) for t in range(length)) * group
    for chunk in (LANES, LANES // 2):
        list(device.start(StartArgs(0, length, 0, StartFlags.CLEAR, chunk=chunk)))
        count = device.counters()
        chunks = [(first, min(chunk, length - first)) for first in range(0, length, chunk)]
        words = sum(chunk_read_words(*part, group=group, pes=BOARD.pes, head_dim=shape.head_dim) for part in chunks)
        assert count["attention_read_words"] == shape.layers * shape.kv_heads * words
        # A token's embedding row with the word of its scale, and its position's row of cosines and sines.
        assert count["embedding_rows_words"] == length * (shape.dim // 4 + 1)
        assert count["rope_rows_words"] == length * shape.head_dim // 2
        slots = [-(-tokens * group // BOARD.pes) for _, tokens in chunks]
        unmasked = sum((first + tokens) * (1 + n * pair) for (first, tokens), n in zip(chunks, slots, strict=True))
        assert words < unmasked if max(slots) > 1 else words == unmasked
        assert alone > 4 * words
        print(f"{heads} heads, chunks of {chunk}: {words} words a KV head, {alone} each query alone, {unmasked} unmasked")
        assert 4 * count["attention_write_words"] == length * needed_kv_bytes(model)
        assert count["logits_words"] == count["host_write_words"] == count["host_read_words"] == 0


def test_overflow_stops_at_the_chunks_step(device):
    """The run ends at the first step in which any token of a chunk overflows; the first token alone would stop elsewhere."""
    model = model_of(SHAPE, gains=True)
    layer = model.layers[1]
    model.layers[1] = replace(layer, scales={**layer.scales, "w2": Scale(2047, 100)})
    _, golden = load(device, model)
    prompt = prompt_of(model, LANES + 2)
    device.place(0, prompt)
    golden.tokens[:len(prompt)] = prompt
    args = StartArgs(0, len(prompt), 1, StartFlags.CLEAR)
    (kind, event), = list(device.start(args))
    (_, want), = list(golden.start(args))
    assert (kind, event.logit, event.id) == (EventType.DONE, DoneReason.NONFINITE, want.id)
    assert client(device).status()[0] & 0b100
