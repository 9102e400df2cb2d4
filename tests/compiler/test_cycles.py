# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The analytic model of a pass against simulated passes, and what it is made of."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from sim.bench import NO_LAYER_GAINS, SHAPES, STORIES
from tellme.compiler.cycles import CANDIDATE, PassModel, Run, measured_list, random_list
from tellme.compiler.image import compile_model
from tellme.drafts.texts import whole_texts
from tellme.golden.board import GoldenBoard
from tellme.models.random import random_model
from tellme.models.shipped import checked_model
from tellme.runtime.session import tokenizer_of
from tellme.spec.config import preset
from tests.board.compare import ROOT

REPORTS = ROOT / "docs" / "reports"
#: Tokens of a story whose logits say how long the lists of the best 64 take.
STATES = 24


@cache
def model(name, board="ulx3s-85f", layers=None):
    core = preset(board)
    if name in SHAPES:
        shape = replace(SHAPES[name], layers=layers or SHAPES[name].layers)
        found, lists = random_model(name, shape, layer_gains=name not in NO_LAYER_GAINS), None
        image = compile_model(found, core)
    else:
        found = checked_model(name)
        image = compile_model(found, core)
        text = whole_texts(found.config, tokenizer_of(found), STORIES.read_text())[0]
        lists = measured_list(GoldenBoard(image).feed(text[:STATES], 0, heads="all"))
    return PassModel(found.config, image, core, lists)


def side_by_side(sequences, position):
    return [Run(position)] * sequences


#: Simulated passes of ulx3s-85f, core 08a3521dc0f1 and others (docs/decisions/0018-tokens-a-byte.md): model, runs, tokens for
#: which the LM head works, cycles.
PASSES = [
    *(("stories-8m", side_by_side(n, at), None, cycles) for at, row in (
        (0, (807_319, 866_724, 991_304)), (32, (818_034, 944_407, 1_143_432)), (64, (828_761, 1_029_084, 1_312_608)))
      for n, cycles in zip((1, 8, 16), row, strict=True)),
    *(("stories-1m", side_by_side(n, at), None, cycles) for at, row in (
        (0, (126_694, 215_601, 323_926)), (64, (139_836, 315_002, 525_134))) for n, cycles in zip((1, 8, 16), row, strict=True)),
    *((name, [Run(0, tokens)], headed, cycles) for name, tokens, headed, cycles in (
        ("stories-8m", 16, 0, 551_366), ("stories-8m", 16, None, 985_170), ("stories-8m", 4, None, 816_739),
        ("stories-1m", 16, 0, 106_557), ("stories-1m", 16, None, 309_111), ("stories-1m", 4, None, 155_832),
        ("trilm-99m", 16, 0, 2_720_000), ("bitllama2c-3m", 16, 1, 278_000))),
]


@pytest.mark.parametrize(("name", "runs", "headed", "cycles"), PASSES)
def test_passes_of_before_within_four_percent(name, runs, headed, cycles):
    assert model(name).cycles(runs, headed) == pytest.approx(cycles, rel=0.04)


@pytest.mark.parametrize(("name", "position", "cycles"), [
    ("bitnet-large", 0, 24.1e6), ("bitnet-large", 512, 29.1e6), ("bitnet-2b-body", 0, 54.2e6), ("bitnet-2b-body", 512, 56.7e6)])
def test_a_memory_of_64_bits(name, position, cycles):
    """README's numbers of ecpix5-85f."""
    assert model(name, "ecpix5-85f").cycles([Run(position)], int(name == "bitnet-large")) == pytest.approx(cycles, rel=0.01)


def test_prefill_on_a_memory_of_64_bits():
    """README's 1.059 x of two layers' prompt of 64 tokens."""
    found = model("bitnet-2b-body", "ecpix5-85f", 2)
    chunks = [Run(at, min(5, 64 - at)) for at in range(0, 64, 5)]
    assert sum(found.cycles([chunk], 0) for chunk in chunks) == pytest.approx(47_996_690, rel=0.01)


@pytest.mark.parametrize("name", ["stories-1m", "stories-8m"])
def test_sequences_of_the_report_within_five_percent(name):
    report = json.loads((REPORTS / "sequences.json").read_text())[f"{name}, ulx3s-85f"]
    measured = {(found["sequences"], found["position"]): found for found in report["passes"]}
    assert {n for n, _ in measured} == {1, 2, 4, 8, 16} and {at for _, at in measured} == {0, 32, 64}
    for (sequences, position), found in measured.items():
        assert model(name).cycles(side_by_side(sequences, position)) == pytest.approx(found["cycles"], rel=0.05)
        assert model(name).aggregate(position, sequences) == pytest.approx(found["tokens_per_second"], rel=0.05)


@pytest.mark.parametrize(("name", "rows", "cycles"), [("stories-8m", 3_984 / 20, 705_773), ("stories-1m", 198 / 20, 109_203)])
def test_the_head_in_two_steps(name, rows, cycles):
    """Decision 18's mean of twenty greedy tokens from position 0 on, on ulx3s-85f with two_steps and one slot."""
    core = replace(preset("ulx3s-85f"), head_tokens=1, slots=1, drafts=False, two_steps=True)
    found = checked_model(name)
    two = PassModel(found.config, compile_model(found, core), core)
    assert two.image.two_steps
    assert sum(two.cycles([Run(at)], rows_read=rows) for at in range(20)) / 20 == pytest.approx(cycles, rel=0.03)
    # A row of 512 columns that is read costs 33 cycles, by a fit of these tokens.
    row = two.cycles([Run(5)], rows_read=101) - two.cycles([Run(5)], rows_read=100)
    assert row == pytest.approx(33 if name == "stories-8m" else 17, abs=1)


def test_drafts_of_the_report_within_five_percent():
    """Cycles of the passes that were made, and tokens a second from tokens a pass."""
    reports = json.loads((REPORTS / "drafts.json").read_text())
    assert reports
    for report in reports.values():
        assert report["model_cycles"] == pytest.approx(report["cycles"], rel=0.05)
        analytic, most = model(report["model"]), report["drafted_at_most"]
        stories = report["stories_measured"]
        position = round(sum(s["first"] + s["tokens"] / 2 for s in stories) / len(stories))
        # The share of passes with drafted tokens; the others are of one token.
        share = min(1, report["drafted"] / (most * report["passes"]))
        cycles = (1 - share) * analytic.cycles([Run(position)]) + share * analytic.cycles([Run(position, 1 + most)])
        rate = analytic.tokens_per_second(cycles) * report["tokens_a_pass"]
        assert rate == pytest.approx(report["tokens_per_second"], rel=0.05)


def test_lists_of_logits_in_a_random_order():
    rng = np.random.default_rng(1)
    logits = rng.permuted(np.tile(np.arange(1500), (60, 1)), axis=1).astype(np.int32)
    assert measured_list(logits).sum() == pytest.approx(random_list(1500).sum(), rel=0.03)
    # The first 300 below all others.
    logits[:, :300] -= 1500
    assert measured_list(logits).sum() == pytest.approx(random_list(1500, 300).sum(), rel=0.03)
    assert random_list(1500, 300).sum() > 1.3 * random_list(1500).sum()


def test_a_list_by_hand():
    # Sixty-four rising logits, each above all before; then one that is too small, and one that becomes the third best.
    logits = np.array([[*range(64), 0, 61]], np.int32)
    assert measured_list(logits).tolist() == [*(CANDIDATE + i for i in range(64)), 0, CANDIDATE + 60]


def test_more_work_takes_longer():
    found = model("stories-1m")
    for runs, more in (([Run(0)], [Run(1)]), ([Run(5)], [Run(5, 2)]), ([Run(5, 2)], [Run(5)] * 3), ([Run(5)] * 8, [Run(6)] * 8)):
        assert found.cycles(runs) < found.cycles(more)
        assert found.cycles(runs, 0) < found.cycles(runs)
    assert 0 < found.draft_cost(50, 3) < 0.2
    assert found.drafted(50, 3, 1.0) < found.tokens_per_second(found.cycles([Run(50)])) < found.drafted(50, 3, 1.5)
