# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Two layers of bitnet_b1_58-large and of BitNet b1.58 2B-4T on the simulated board of ecpix5-85f: the bits of the golden model.

The memory holds the model when power comes.  ``TELLME_LAYERS=all`` takes all layers and the whole vocabulary; a token of the
whole body of 2B-4T takes 52 million cycles, some minutes.
"""

import os
from dataclasses import replace

import numpy as np
import pytest

from sim.bench import SHAPES
from tellme.compiler.image import compile_model
from tellme.compiler.image_file import image_pieces, save_pieces
from tellme.golden.board import GoldenBoard
from tellme.models.random import random_model
from tellme.runtime.simulated import SimDevice
from tellme.spec.config import preset
from tellme.spec.memory import EventType, StartArgs, StartFlags

pytestmark = [pytest.mark.rtl, pytest.mark.nightly]

BOARD = preset("ecpix5-85f")
WHOLE = os.environ.get("TELLME_LAYERS") == "all"
#: As many rows of the LM head as take no time, where the whole vocabulary is not asked for.
VOCAB = 256


@pytest.fixture(params=["bitnet-large", "bitnet-2b-body"])
def shape(request):
    config = SHAPES[request.param]
    return request.param, config if WHOLE else replace(config, layers=2, vocab=VOCAB, context=512)


def test_a_chunk_and_two_tokens(shape, tmp_path):
    """A prompt of a chunk and a token, then two picks: all logits of each pick, and the CRCs of all steps."""
    name, config = shape
    model = random_model(name, config)
    image = compile_model(model, BOARD)
    save_pieces(tmp_path / "image", image_pieces(image), BOARD)
    golden = GoldenBoard(image, lanes=BOARD.chunk)
    device = SimDevice("sim", BOARD, preload=tmp_path / "image", trusted=True)
    try:
        device.connect()
        device.load(image, lambda done, total: None)
        tokens = [int(t) for t in np.random.default_rng(1).integers(0, config.vocab, BOARD.chunk + 1)]
        first, feed = 0, len(tokens)
        for _ in range(2):
            device.place(first, tokens[first:])
            golden.tokens[:len(tokens)] = tokens
            args = StartArgs(first, feed, 1, StartFlags.CLEAR | StartFlags.DUMP)
            got, wanted = list(device.start(args)), list(golden.start(args))
            assert [kind for kind, _ in got] == [EventType.TOKEN, EventType.DONE]
            assert got[0][1].id == wanted[0][1].id
            assert device.crcs() == golden.crcs[:-1]
            assert np.array_equal(device.logits(), golden.logits)
            assert len(set(golden.logits.tolist())) > VOCAB // 2
            tokens.append(got[0][1].id)
            first, feed = len(tokens) - 1, 1
    finally:
        device.close()
