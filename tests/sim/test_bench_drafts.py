# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Drafted tokens: what a story gives, that each token is compared, and the numbers of the report."""

from dataclasses import replace

import numpy as np
import pytest

from sim import bench
from sim.drafted import Drafter, as_json, settings_word, summary
from tellme.compiler.cycles import PassModel, Run
from tellme.compiler.image import compile_model, with_drafts
from tellme.drafts.table import DraftTable
from tellme.errors import DeviceError
from tellme.runtime.sampling import Sampling
from tellme.spec.config import preset
from tellme.spec.drafts import SETTINGS_FIELDS
from tellme.spec.words import unpack_word
from tests.models.random_model import even_model
from tests.sim.golden_client import PASS, TOLD, GoldenClient

CORE = replace(preset("sim-slots"), drafts=True)
MODEL = even_model(67, 64)
PLAIN_IMAGE = compile_model(MODEL, CORE)
ANALYTIC = PassModel(MODEL.config, PLAIN_IMAGE, CORE)
PROMPT = [3, 1, 4, 1, 5]
TOKENS, MOST = 30, 3


def text_of(sampling):
    """What the model writes behind the prompt."""
    client = GoldenClient(PLAIN_IMAGE, CORE, slots=CORE.slots)
    drafter = Drafter(replace(PLAIN_IMAGE, draft_base=0), CORE, ANALYTIC, (), 0, sampling)
    return [*PROMPT, *drafter.text(client.golden, TOKENS, sampling, PROMPT)]


def parts(table, sampling, **how):
    image = with_drafts(PLAIN_IMAGE, table, CORE)
    settings = settings_word(ANALYTIC, MOST, 20)
    return (Drafter(image, CORE, ANALYTIC, (), settings, sampling),
            GoldenClient(image, CORE, slots=CORE.slots, drafts=True, **how))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_story(temperature):
    """A table of the text itself: most drafted tokens are accepted, and cycles are those of the passes."""
    sampling = Sampling(temperature=temperature, seed=2)
    text = text_of(sampling)
    drafter, client = parts(DraftTable.of_texts([text], 67), sampling)
    story = drafter.story(client, 2, PROMPT, TOKENS, 3)
    assert (story.number, story.prompt, story.first, story.tokens) == (2, 5, 5, TOKENS - 1)
    assert story.passes + story.accepted == story.tokens and story.accepted > story.passes / 2
    assert story.accepted <= story.drafted <= MOST * story.passes
    assert story.cycles == PASS * story.passes + TOLD * story.tokens
    # Tokens that plain decode fed, spread over the story.
    assert len(story.plain) == 3 and {cycles for _, cycles in story.plain} == {PASS + TOLD}
    assert [position for position, _ in story.plain] == sorted(position for position, _ in story.plain)
    assert 5 < story.plain[0][0] < story.plain[-1][0] < 5 + TOKENS - 1


def test_a_story_is_computed_without_a_board():
    """The same tokens and passes as on a board, with the analytic model's cycles."""
    table = DraftTable.of_texts([text_of(Sampling())], 67)
    drafter, client = parts(table, Sampling())
    simulated, computed = drafter.story(client, 0, PROMPT, TOKENS, 3), drafter.story(None, 0, PROMPT, TOKENS, 3)
    assert computed == replace(simulated, cycles=simulated.model, plain=tuple(
        (position, round(ANALYTIC.cycles([Run(position)]))) for position, _ in simulated.plain))


def test_drafts_that_fail_are_turned_off():
    """The model's passes are those that were made, with as many drafted tokens."""
    sampling = Sampling()
    text = text_of(sampling)
    wrong = [(token + 1) % 67 for token in range(67)]
    table = DraftTable.of_texts([[before, after] for before, after in enumerate(wrong)], 67)
    drafter, client = parts(table, sampling)
    story = drafter.story(client, 0, PROMPT, TOKENS, 0)
    assert story.plain == () and len(text) == 5 + TOKENS
    assert story.drafted < MOST * story.passes
    assert story.model >= ANALYTIC.cycles([Run(5)]) * story.passes


@pytest.mark.parametrize(("wrong", "message"), [(7, "story 0: the board tells"), (TOKENS + 1, "plain decode at position")])
def test_another_token_is_told(wrong, message):
    table = DraftTable.of_texts([text_of(Sampling())], 67)
    drafter, client = parts(table, Sampling(), wrong=wrong)
    with pytest.raises(DeviceError, match=message):
        drafter.story(client, 0, PROMPT, TOKENS, 3)


def test_numbers_together():
    def story(number, tokens, passes, cycles, plain):
        return {"number": number, "prompt": 10, "tokens": tokens, "passes": passes, "drafted": 3 * passes,
                "accepted": tokens - passes, "cycles": cycles, "model": cycles, "first": 10, "plain": plain}

    core = preset("ulx3s-85f")
    stories = [story(0, 30, 20, 20_000, [[10, 1_000], [30, 1_200]]), story(1, 10, 10, 10_000, [[20, 1_100]])]
    found = summary(stories, core)
    assert (found["stories"], found["tokens"], found["passes"], found["drafted"], found["accepted"]) == (2, 40, 30, 90, 10)
    assert (found["tokens_a_pass"], found["acceptance"]) == (1.3333, 0.1111)
    # 1,000 cycles at position 10 and 10 a position more.
    plain = sum(900 + 10 * (10 + n) for n in range(30)) + sum(900 + 10 * (10 + n) for n in range(10))
    assert (found["plain_cycles"], found["plain_off_at_most"], found["x_plain"]) == (plain, 0, round(plain / 30_000, 4))
    assert found["tokens_per_second"] == pytest.approx(40 * core.fabric_mhz * 1e6 / 30_000, abs=0.01)
    assert "x_plain" not in summary([story(0, 30, 20, 20_000, [])], core)


def test_settings():
    found = unpack_word(SETTINGS_FIELDS, settings_word(ANALYTIC, MOST, 20))
    assert found["most"] == MOST and found["cost"] == min(round(256 * ANALYTIC.draft_cost(20, MOST)), 255)


def test_a_story_is_kept_as_it_is():
    drafter, client = parts(DraftTable.of_texts([text_of(Sampling())], 67), Sampling())
    found = as_json(drafter.story(client, 1, PROMPT, 8, 2))
    assert found["number"] == 1 and all(isinstance(sample, list) for sample in found["plain"])
    assert np.array(found["plain"]).shape == (2, 2)


@pytest.mark.parametrize(("arguments", "message"), [
    (["--sequences", "2"], "measured apart"), (["--preset", "ulx3s-85f-l2"], "ulx3s-85f-l2 drafts no tokens")])
def test_refusals(arguments, message, capsys):
    assert bench.main(["--drafts", "none.drafts", *arguments]) == 2
    assert message in capsys.readouterr().err
