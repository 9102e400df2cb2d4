# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The LM head's function against the specification; and the probe: the state that it shows is exact."""

from fractions import Fraction

import numpy as np
import pytest

from tellme.compiler.image import compile_model
from tellme.golden.board import GoldenBoard
from tellme.golden.head import head_logits, probed_state
from tellme.golden.perplexity import unlimited_config
from tellme.golden.scales import pack16, scales, unpack16
from tellme.spec.attention import LOGIT_FRAC, logit
from tellme.spec.probe import PROBE_LEAST, probe_power, probed_scale
from tellme.spec.program import Op
from tellme.spec.scale import Scale, scale_from_fraction, scale_mul
from tellme.spec.scale import unpack16 as unpack_one
from tests.models.random_model import FAMILY, random_model


def probe_logits(codes, d, k):
    """The logits that the LM head computes with a probe's table."""
    row = np.full(codes.shape[1], pack16(scales(scale_from_fraction(Fraction(2) ** k)))[0], np.uint16)
    return head_logits(codes, scales(d), np.eye(codes.shape[1], dtype=np.float32), unpack16(row))[0]


@pytest.mark.parametrize(("vocab", "dim"), [(9, 40), (30, 2048)])
def test_logits_as_specified(vocab, dim):
    rng = np.random.default_rng(dim)
    table, codes = rng.integers(-128, 128, (vocab, dim)), rng.integers(-128, 128, (3, dim)).astype(np.int8)
    stored = rng.integers(1 << 14, 1 << 15, vocab).astype(np.uint16)
    d = [Scale(int(rng.integers(1024, 2048)), int(e)) for e in (-30, -20, -10)]
    got = head_logits(codes, scales(*d), table.astype(np.float32), unpack16(stored))
    want = [[logit(int(row.astype(np.int64) @ c), scale_mul(s, unpack_one(int(b)))) for row, b in zip(table, stored, strict=True)]
            for c, s in zip(codes, d, strict=True)]
    assert got.tolist() == want


@pytest.mark.parametrize("k", [-43, -3, 9, 19])
def test_every_scale_of_the_range_comes_back(k):
    """All significands at both ends, and in the middle, with the largest code at either sign."""
    rng = np.random.default_rng(k + 50)
    for e in (-5, -4, 0, 7, 13):
        for sig in range(1024, 2048):
            codes = rng.integers(-127, 128, (1, 24)).astype(np.int8)
            codes[0, 5] = 127 if sig & 1 else -127
            d = Scale(sig, e - k - LOGIT_FRAC)
            got, scale = probed_state(probe_logits(codes, d, k), k)
            assert np.array_equal(got, codes) and (int(scale.sig[0]), int(scale.exp[0])) == d


def test_a_state_of_zeros():
    codes, scale = probed_state(np.zeros(7, np.int32), 3)
    assert not codes.any() and (int(scale.sig[0]), int(scale.exp[0])) == (0, 0)


def test_what_is_outside_the_range_is_refused():
    for top in (1, PROBE_LEAST - 1, 2**31 - 1):
        with pytest.raises(ValueError, match=f"a largest logit of {top} is outside the probe's range"):
            probed_state(np.array([0, top], np.int32), 0)
    with pytest.raises(ValueError, match="not those of a probe"):
        probed_state(np.array([127 * 5000, 12345], np.int32), 0)


def test_the_power_leaves_room_for_every_state():
    """The largest state of a width, all of it in one element after the largest gain, reaches the range's upper octaves."""
    for dim in (16, 100, 512, 4096):
        for gain in (2.0**-6, 1.0, 3.7, 60000.0):
            k = probe_power(dim, gain)
            d = scale_from_fraction(Fraction(dim**0.5) * Fraction(gain) / 127)
            top = int(np.abs(probe_logits(np.array([[127, 0, -127]], np.int8), d, k)).max())
            assert 2**29 < top < 2**31 - 1 and probed_scale(top, k) == d
    # With smaller gains the range is not used to its end, because a stored scale cannot be larger.
    assert probe_power(16, 2.0**-20) == probe_power(16, 0) == 19


@pytest.mark.parametrize("name", FAMILY)
def test_a_models_state(name):
    """Probe and head of one model on the golden board: the state that the probe shows gives the head's own logits."""
    model = random_model(name)
    ids = np.random.default_rng(5).integers(0, model.config.vocab, 6)
    own = GoldenBoard(compile_model(model, unlimited_config(model)))
    want = own.feed(ids.tolist(), 0, heads="all")
    image = compile_model(model, unlimited_config(model), head="host")
    board = GoldenBoard(image)
    assert image.registers["vocab"] == model.config.dim
    table, stored = (model.embedding, model.embedding_scales) if model.config.tied else (model.head, model.head_scales)
    # The rows as they lie in a board's own table, so that the ids stay the same.
    board._memory = np.concatenate([board._memory, own._memory])
    board.registers["embed_base"] = (image.end + 4 * own.registers["embed_base"]) // 4
    probes = board.feed(ids.tolist(), 0, heads="all")
    for probe, row in zip(probes, want, strict=True):
        codes, d = probed_state(probe, image.probe)
        assert np.array_equal(head_logits(codes, d, table.astype(np.float32), unpack16(stored))[0], row)
    # All steps but the head are the same.
    same = [a == b for a, b, step in zip(board.crcs, own.crcs, image.program, strict=True) if step.op != Op.HEAD]
    assert all(same)
