# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Texts written together are those that the golden model writes one by one."""

from tellme.golden.perplexity import golden_board
from tellme.runtime.sampling import Sampling
from tellme.spec.sampling import draw
from tests.golden.batch import write
from tests.models.random_model import random_model


def alone(model, prompt, limit, settings):
    board = golden_board(model)
    ids, fed = list(prompt), 0
    while len(ids) - len(prompt) < limit and len(ids) < model.config.context:
        board.feed(ids[fed:], fed)
        fed = len(ids)
        ids.append(draw(board.top(), settings, fed))
        if ids[-1] in model.config.ends:
            break
    return ids


def test_texts_of_a_batch_are_those_written_alone():
    model = random_model("grouped")
    prompts = [[1, 5, 9], [1, 7], [1, 30, 31, 32, 33], [1]]
    settings = [Sampling(temperature=t, seed=seed).settings() for seed, t in enumerate((0.0, 1.0, 0.7, 0.0))]
    # The last text ends at the context's end, the others at their length.
    for limit in (9, 40):
        texts = write(model, prompts, limit, settings, states=True)
        assert [t.ids for t in texts] == [alone(model, p, limit, s) for p, s in zip(prompts, settings, strict=True)]
        assert [len(t.states) for t in texts] == [len(t.written) for t in texts]
