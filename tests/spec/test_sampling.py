# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The integer draw against known answers, the exact softmax, and what each setting promises."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tellme.spec.memory import SAMPLING_REGISTERS
from tellme.spec.ranges import RangeError
from tellme.spec.sampling import (
    BOARD_SHIFTS,
    MAX_GAP,
    TOP_P_ONE,
    DrawSettings,
    board_draws,
    candidates,
    draw,
    inverse_temperature,
    max_gap,
    pack_settings,
    penalised,
    random32,
    shift_of,
    threefry2x32,
    unpack_settings,
    weight,
    weights,
)
from tellme.spec.scale import scale_from_fraction

ONE = 1 << 16


def tops(least=1):
    """Candidates, best first, ties to the lower id."""
    logit = st.integers(-(1 << 31), (1 << 31) - 1) | st.integers(-8 * ONE, 8 * ONE)
    found = st.lists(st.tuples(st.integers(0, 5000), logit), min_size=least, max_size=64, unique_by=lambda e: e[0])
    return found.map(lambda entries: sorted(entries, key=lambda e: (-e[1], e[0])))


@pytest.mark.parametrize(("counter", "key", "answer"), [
    # Known answers that the authors of Threefry publish.
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
])
def test_threefry_gives_the_known_answers(counter, key, answer):
    assert threefry2x32(counter, key) == answer


def threefry_array(position, seed):
    """First words of Threefry-2x32 for an array of positions: another form of the same function."""
    with np.errstate(over="ignore"):
        k = np.array([seed & 0xFFFFFFFF, seed >> 32, 0x1BD11BDA ^ (seed & 0xFFFFFFFF) ^ (seed >> 32)], np.uint32)
        a, b = position.astype(np.uint32) + k[0], np.full(len(position), k[1], np.uint32)
        for group in range(5):
            for r in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
                a = a + b
                b = (b << np.uint32(r) | b >> np.uint32(32 - r)) ^ a
            a, b = a + k[(group + 1) % 3], b + k[(group + 2) % 3] + np.uint32(group + 1)
    return a


TEXT = [(5, 9 * ONE), (3, 9 * ONE), (17, 8 * ONE + 4321), (2, 7 * ONE), (900, 6 * ONE - 17), (41, 5 * ONE), (40, 2 * ONE),
        (8, -ONE)]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_a_million_draws_have_the_exact_softmax(temperature):
    top = sorted(TEXT, key=lambda e: (-e[1], e[0])) + [(1000 + i, -ONE - 2000 * i) for i in range(56)]
    wanted = DrawSettings(inverse=inverse_temperature(temperature), seed=0x1234_5678_9ABC)
    shares = weights(top, wanted.inverse)
    total, edges = sum(shares), np.cumsum(shares)
    n = 1_000_000
    numbers = threefry_array(np.arange(n), wanted.seed)
    # numbers * total >> 32, in two parts that fit 64 bits.
    high, low = (numbers.astype(np.int64) * part for part in divmod(total, 1 << 16))
    drawn = np.searchsorted(edges, (high + (low >> 16)) >> 16, side="right")
    # What is counted below is what the scalar function draws.
    for at in [*range(300), n - 1]:
        assert random32(wanted.seed, at) == numbers[at]
        assert draw(top, wanted, at) == top[drawn[at]][0]
    gaps = np.array([(logit - top[0][1]) / ONE / temperature for _, logit in top])
    exact = np.exp(gaps) / np.exp(gaps).sum()
    # Pearson's statistic over the candidates that are expected ten times, the others as one; its mean is the degrees of
    # freedom, its standard deviation sqrt(2 * freedom): five of them are passed once in millions of seeds.
    counts = np.bincount(drawn, minlength=len(top))
    often = exact * n >= 10
    seen, expected = np.append(counts[often], counts[~often].sum()), np.append(exact[often], exact[~often].sum()) * n
    seen, expected = seen[expected > 0], expected[expected > 0]
    statistic, freedom = float(((seen - expected) ** 2 / expected).sum()), len(expected) - 1
    assert statistic < freedom + 5 * math.sqrt(2 * freedom), (statistic, freedom)


@given(st.integers(0, 40 * ONE), st.floats(0.05, 50))
@example(65126, 0.05)
def test_a_weight_is_the_exponential(gap, temperature):
    exact = 2.0**31 * math.exp(-gap / ONE / temperature)
    # Half a step of 1/512 octave, the temperature's 11 bits and the table's 17 bits are a share of the weight.  Behind them the
    # weight is rounded down, by less than 1, so the two errors add.
    x = gap / ONE / temperature
    share = exact * (0.0008 + x * 2**-11)
    assert exact - share - 1 < weight(gap, inverse_temperature(temperature)) <= exact + share


@settings(max_examples=200)
@given(tops(), st.integers(1, 64), st.integers(0, TOP_P_ONE), st.floats(0, 1), st.floats(1e-6, 1e5), st.integers(0, 2**64 - 1),
       st.integers(0, 70000))
def test_a_draw_is_among_the_candidates(top, top_k, top_p, min_p, temperature, seed, position):
    wanted = DrawSettings(inverse_temperature(temperature), top_k, top_p, max_gap(min_p), seed=seed)
    kept = candidates(top, wanted)
    assert kept == top[:len(kept)] and 1 <= len(kept) <= top_k
    assert draw(top, wanted, position) in {token for token, _ in kept}
    assert draw(top, wanted, position) == draw(top, wanted, position)
    best = top[0][1]
    for token, logit in top[:top_k]:
        if (token, logit) not in kept and best - logit <= wanted.max_gap:
            # Left out by top-p: those ahead of it have the share without it.
            at = top.index((token, logit))
            plain = [math.exp((logit - best) / ONE) for _, logit in top[:top_k]]
            assert sum(plain[:at]) >= top_p / TOP_P_ONE * sum(plain) * 0.998


def test_each_setting_leaves_out_what_it_says():
    top = [(i, -i * ONE) for i in range(8)]
    shares = [math.exp(-i) for i in range(8)]

    def kept(**changes):
        return len(candidates(top, DrawSettings(inverse_temperature(1.0), **changes)))
    assert kept() == 8 and kept(top_k=3) == 3 and kept(top_p=0) == 1
    for count in range(1, 8):
        share = sum(shares[:count]) / sum(shares)
        assert kept(top_p=int((share - 0.0002) * TOP_P_ONE)) == count
        assert kept(top_p=int((share + 0.0002) * TOP_P_ONE)) == count + 1
        assert kept(max_gap=max_gap(math.exp(-count) * 1.001)) == count
        assert kept(max_gap=max_gap(math.exp(-count) * 0.999)) == count + 1
    assert max_gap(0) == MAX_GAP and max_gap(1) == 0


def test_without_a_temperature_the_best_is_taken_and_ties_go_to_the_lower_id():
    assert draw([(3, 7), (5, 7), (9, 1)], DrawSettings(), 0) == 3


def test_a_draw_depends_on_seed_and_position_alone():
    top = [(i, 0) for i in range(64)]
    wanted = DrawSettings(inverse_temperature(1.0), seed=7)
    forward = [draw(top, wanted, at) for at in range(100)]
    assert forward == [draw(top, wanted, at) for at in reversed(range(100))][::-1]
    assert len(set(forward)) > 30
    for other in (8, 7 + (1 << 32), 7 + (1 << 63)):
        assert forward != [draw(top, DrawSettings(inverse_temperature(1.0), seed=other), at) for at in range(100)]


@given(tops(), st.data(), st.floats(0.1, 10))
def test_the_penalty_is_the_float_one(top, data, penalty):
    seen = set(data.draw(st.lists(st.sampled_from([token for token, _ in top]))))
    got = penalised(top, seen, scale_from_fraction(penalty))
    assert got == sorted(got, key=lambda e: (-e[1], e[0]))
    assert {token for token, _ in got} == {token for token, _ in top}
    before = dict(top)
    for token, logit in got:
        was = before[token]
        exact = was if token not in seen else was / penalty if was > 0 else was * penalty
        exact = max(-(2.0**31), min(2.0**31 - 1, exact))
        assert logit == pytest.approx(exact, rel=2**-10, abs=1)


def test_a_penalised_token_loses_its_place():
    top = [(1, 4 * ONE), (2, 3 * ONE), (3, -ONE)]
    wanted = DrawSettings(penalty=scale_from_fraction(2.0))
    assert draw(top, wanted, 0) == 1
    assert draw(top, wanted, 0, {1}) == 2
    assert draw(top, wanted, 0, {1, 2, 3}) == 1


@pytest.mark.parametrize(("changes", "message"), [
    ({"top_k": 0}, "top_k: 0 is outside 1 to 64"), ({"top_k": 65}, "top_k: 65 is outside 1 to 64"),
    ({"top_p": 65537}, "top_p: 65537 is outside 0 to 65536"), ({"max_gap": -1}, "max_gap: -1 is outside 0 to 4294967295"),
    ({"seed": 1 << 64}, "seed: 18446744073709551616 is outside 0 to 18446744073709551615"),
])
def test_settings_outside_their_ranges(changes, message):
    with pytest.raises(RangeError) as caught:
        DrawSettings(**changes)
    assert str(caught.value) == message


@given(st.floats(0.0113, 1e6, exclude_max=True), st.integers(1, 64), st.integers(0, TOP_P_ONE), st.integers(0, MAX_GAP),
       st.integers(0, 2**64 - 1))
def test_settings_become_registers_and_back(temperature, top_k, top_p, gap, seed):
    wanted = DrawSettings(inverse_temperature(temperature), top_k, top_p, gap, None, seed)
    assert board_draws(wanted)
    registers = pack_settings(wanted)
    assert tuple(registers) == SAMPLING_REGISTERS and all(0 <= value < 2**32 for value in registers.values())
    assert unpack_settings(registers) == wanted


@pytest.mark.parametrize("wanted", [
    DrawSettings(), DrawSettings(inverse_temperature(1.0), penalty=scale_from_fraction(2)),
    DrawSettings(inverse_temperature(0.0112)),
])
def test_what_no_board_draws_has_no_registers(wanted):
    assert not board_draws(wanted)
    with pytest.raises(ValueError, match="a board draws at a temperature of 0.0113 or more, and without a repetition penalty"):
        pack_settings(wanted)


def test_the_lowest_temperature_of_a_board():
    """0.0113 is the documented limit: log2(e) / 2**7, rounded up."""
    assert shift_of(inverse_temperature(math.log2(math.e) / 2**7 * 1.001).exp) == BOARD_SHIFTS.least
    assert shift_of(inverse_temperature(math.log2(math.e) / 2**7 * 0.999).exp) == BOARD_SHIFTS.least - 1


def test_registers_outside_their_ranges_are_refused():
    registers = pack_settings(DrawSettings(inverse_temperature(1.0)))
    for name, value in (("sample_top_k", 0), ("sample_top_k", 65), ("sample_top_p", TOP_P_ONE + 1)):
        with pytest.raises(RangeError, match=name.removeprefix("sample_")):
            unpack_settings(registers | {name: value})
