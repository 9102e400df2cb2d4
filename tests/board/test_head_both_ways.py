# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Embedding and head on the host, through the RTL: the logits of one model both ways, and a model that fits no other way."""

from dataclasses import replace

import numpy as np
import pytest

from sim.bench import SHAPES
from sim.bench import random_model as model_of_shape
from tellme.golden.perplexity import golden_board
from tellme.runtime.generation import Generation
from tellme.runtime.head_on_host import HeadOnHost, place_head
from tests.board.compare import open_sim, shipped
from tests.models.random_model import random_model

pytestmark = pytest.mark.rtl


def logits(device, model, head, prompt, tokens):
    """(tokens, logits of all positions fed, messages) of a run."""
    said = []
    device, image = place_head(device, model, head, said.append)
    device.load(image, lambda done, total: None)
    rows = []
    run = Generation(device=device, image=image, config=model.config, prompt=prompt, max_tokens=tokens, on_logits=rows.append)
    return list(run.tokens()), np.array(rows), said


@pytest.mark.parametrize("model", [pytest.param(shipped(), marks=pytest.mark.nightly), random_model("wide-heads")],
                         ids=lambda m: m.name)
def test_all_logits_both_ways(device, model):
    """Tied and untied; with and without gains before the head."""
    prompt = [int(t) for t in np.random.default_rng(7).integers(0, model.config.vocab, 3)]
    on_board = logits(device, model, "board", prompt, 3)
    on_host = logits(device, model, "host", prompt, 3)
    assert on_board[0] == on_host[0] and on_board[1].shape == (5, model.config.vocab)
    assert np.array_equal(on_board[1], on_host[1])
    assert np.array_equal(on_host[1], golden_board(model).feed([*prompt, *on_host[0][:2]], 0, heads="all"))
    assert (on_board[2], on_host[2]) == ([], ["head: on the host, as it was asked for"])


def test_a_prompt_by_chunks():
    """Sixteen lanes: a prompt of 17 tokens in one start, then three tokens; picks and the last logits are the golden's."""
    model = random_model("untied")
    prompt = [int(t) for t in np.random.default_rng(8).integers(0, model.config.vocab, 17)]
    wide = open_sim("ulx3s-85f")
    try:
        host, image = place_head(wide, model, "host", lambda text: None)
        host.load(image, lambda done, total: None)
        ids = list(Generation(device=host, image=image, config=model.config, prompt=prompt, max_tokens=3).tokens())
        last = host.logits()
    finally:
        wide.close()
    golden = golden_board(model)
    want = golden.feed(prompt, 0)
    for position, token in enumerate(ids, len(prompt)):
        assert token == int(want[-1].argmax())
        if position < len(prompt) + 2:
            want = golden.feed([token], position)
    assert np.array_equal(last, want[-1])


@pytest.mark.nightly
def test_trilm_99m(device):
    """TriLM-99M's shape on 32 MB, where embedding and LM head would take 52 MB: two prompt tokens in one start, two generated."""
    config = replace(SHAPES["trilm-99m"], vocab=50304)
    model = model_of_shape("trilm-99m", config)
    said = []
    host, image = place_head(device, model, None, said.append)
    assert isinstance(host, HeadOnHost) and "head: on the host, as the model needs 70.4" in said[0]
    host.load(image, lambda done, total: None)
    prompt = [1, 50303]
    run = Generation(device=host, image=image, config=config, prompt=prompt, max_tokens=2)
    ids = list(run.tokens())
    golden = golden_board(model)
    want = golden.feed(prompt, 0)[-1]
    assert ids[0] == int(want.argmax())
    want = golden.feed(ids[:1], 2)[-1]
    assert ids[1] == int(want.argmax()) and np.array_equal(host.logits(), want)
