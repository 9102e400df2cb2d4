# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The LM head as tiles: the specification's bytes, as many planes as the codes want, and the logits of the int8 table."""

from dataclasses import replace

import numpy as np
import pytest

from tellme.compiler.head import HeadTiles, head_bytes, head_rows, pack_planes, pack_probe_tiles
from tellme.compiler.image import TooBigError, compile_model, needed_bytes, place_model
from tellme.golden.board import GoldenBoard
from tellme.golden.head import Table
from tellme.golden.scales import scales
from tellme.golden.weights import Budget, Tile
from tellme.models.source import TableRows
from tellme.spec.attention import logit
from tellme.spec.config import CoreConfig
from tellme.spec.packing import (
    HEAD_PLANES,
    RowWord,
    TileHeader,
    pack_matrix,
    pack_trits,
    plane_reach,
    planes_for,
    trits_of,
)
from tellme.spec.scale import ZERO, Scale, scale_mul, unpack16
from tests.models.random_model import model_of, random_model, with_head_codes

BOARD = CoreConfig(name="bench")


def drawn(seed, vocab, dim, most):
    """Codes of up to ``most`` in magnitude (-128 among those of int8), and stored scales, zeros among them."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-most, min(most, 127) + 1, (vocab, dim)).astype(np.int8)
    stored = rng.integers(20 << 10, 60 << 10, vocab).astype(np.uint16)
    stored[rng.integers(0, vocab, 2)] = 0
    return codes, stored


def tiled(codes, stored, most):
    """A table that comes in uneven chunks."""
    def table():
        cut = len(codes) // 3
        yield TableRows(codes[:cut], stored[:cut])
        yield TableRows(codes[cut:], stored[cut:])

    return HeadTiles(table, *codes.shape, most)


def words(part):
    return np.frombuffer(bytes(part), "<u8").tolist()


@pytest.mark.parametrize("planes", range(1, 7))
def test_each_code_in_balanced_ternary(planes):
    reach = min(plane_reach(planes), 128)
    codes = np.arange(-reach, min(reach, 127) + 1, dtype=np.int8)
    for cols in (1, 5, 19, 20, 23):
        rows = np.stack([np.roll(codes, -j) for j in range(cols)], axis=1)
        packed = pack_planes(rows, planes)
        for row, mine in zip(rows.tolist(), packed, strict=True):
            trits = [trits_of(code, planes) for code in row]
            for plane, content in enumerate(mine):
                own = [t[plane] for t in trits] + [0] * (5 * len(content) - cols)
                assert content.tolist() == [pack_trits(own[at:at + 5]) for at in range(0, len(own), 5)]


@pytest.mark.parametrize("vocab, dim, rows, most", [(203, 44, 64, 13), (128, 20, 128, 40), (77, 33, 16, 128), (2, 8, 128, 1),
                                                    (1, 4, 128, 121)])
def test_tiles_are_those_of_the_specification(vocab, dim, rows, most):
    """A tile has the planes of its largest code, and each row its stored scale and no bias."""
    codes, stored = drawn(vocab, vocab, dim, most)
    # A tile of few planes among others.
    codes[rows:2 * rows] //= 8
    head = tiled(codes, stored, rows)
    expected, planes = [], []
    for first in range(0, head_rows(vocab), rows):
        own, scales_ = codes[first:first + rows].tolist(), stored[first:first + rows].tolist()
        if len(own) % 2:
            own, scales_ = [*own, [0] * dim], [*scales_, 0]
        planes.append(planes_for(max(abs(code) for row in own for code in row)))
        expected += pack_matrix(own, ZERO, most=rows, planes=planes[-1], row_words=[RowWord(s) for s in scales_])
    assert words(head.part()) == expected
    assert [tile.header.planes for tile in head.tiles] == planes and head.planes == max(planes)
    assert head.least <= len(head.part()) <= head_bytes(vocab, dim, head.planes, rows)
    assert head.least == head_bytes(vocab, dim, 1, rows)
    assert head.trits == dim * sum(planes[row // rows] for row in range(vocab))


@pytest.mark.parametrize("code, planes", [(0, 1), (1, 1), (-2, 2), (13, 3), (-14, 4), (40, 4), (41, 5), (121, 5),
                                          (122, 6), (-128, 6)])
def test_planes_of_a_code(code, planes):
    codes = np.zeros((6, 24), np.int8)
    codes[5, 23] = code
    head = tiled(codes, np.full(6, 40 << 10, np.uint16), 128)
    assert head.planes == planes and len(head.part()) == head_bytes(6, 24, planes, 128)


@pytest.mark.parametrize("dim, most", [(44, 13), (64, 40), (100, 121), (1500, 128)])
def test_logits_are_those_of_the_int8_table(dim, most):
    """round_half_up(row . code * (d * scale)), from a golden board whose table is such tiles."""
    rng = np.random.default_rng(dim)
    model = random_model("untied")
    config = replace(model.config, dim=dim, vocab=91, ffn=20, layers=1, heads=2, kv_heads=1, head_dim=16)
    codes, stored = drawn(dim, config.vocab, dim, most)
    codes[0, :], codes[1, :] = -most, min(most, 127)
    model = model_of(config, gains=False)
    model.head, model.head_scales = codes, stored
    board = GoldenBoard(compile_model(model, replace(BOARD, max_dim=1500, max_cols=2000)))
    states = rng.integers(-128, 128, (3, dim)).astype(np.int8)
    states[2] = -128
    ds = [Scale(int(rng.integers(1024, 2048)), e) for e in (-30, -18, -8)]
    got = board._head.logits(states, scales(*ds))
    for state, d, logits in zip(states.astype(int), ds, got.tolist(), strict=True):
        assert logits == [logit(int(row @ state), scale_mul(d, unpack16(s))) for row, s in
                          zip(codes.astype(int), stored.tolist(), strict=True)]


@pytest.mark.parametrize("dim, most", [(64, 128), (100, 16), (500, 160)])
def test_the_probe_is_the_identity_in_one_plane(dim, most):
    scale = Scale(1024, -20)
    expected = pack_matrix(np.eye(dim, dtype=int).tolist(), scale, most=most)
    part = pack_probe_tiles(dim, scale, most=most)
    assert words(part) == expected and len(part) == head_bytes(dim, dim, 1, most) - 4 * dim
    assert TileHeader.unpack(expected[0]).planes == 1


def test_wider_codes_than_int8_are_exact():
    """Six planes hold up to 364; a golden board computes what a board would."""
    rng = np.random.default_rng(1)
    codes = rng.integers(-364, 365, (6, 700))
    codes[0] = 364
    packed = np.stack([(codes + 364) // 3**p % 3 for p in range(6)], axis=1).reshape(6, 6, -1, 5) @ 3 ** np.arange(5)
    planes = [np.ascontiguousarray(np.ascontiguousarray(packed[:, p].astype(np.uint8)).view("<u4").T) for p in range(5, -1, -1)]
    states = rng.integers(-128, 128, (2, 700)).astype(np.int8)
    states[0] = -128
    table = Table.of_tiles([Tile(planes)], (5, 700), scales(*[Scale(1024, -10)] * 5), Budget())
    assert table.product(states).tolist() == (states.astype(int) @ codes[:5].T).tolist()


def test_what_a_build_refuses():
    model = with_head_codes(random_model("untied"), 127)
    with pytest.raises(TooBigError, match="^the LM head has 6 planes, and the build bench can do 5$"):
        compile_model(model, replace(BOARD, planes=5))
    with pytest.raises(TooBigError, match="^the LM head has a scale for each row, and the build bench takes none: it can do 1 "):
        compile_model(model, replace(BOARD, planes=1))
    image, why = place_model(model, replace(BOARD, planes=1))
    assert image.probe is not None and "1 plane" in why


@pytest.mark.parametrize("name", ["untied", "grouped"])
def test_a_head_that_is_made_from_floats_has_five_planes(name):
    """Whatever the family's values, a code takes a byte; a token needs the bytes of the planes that there are."""
    model = random_model(name)
    c = model.config
    image = compile_model(model, BOARD)
    assert image.head_trits == HEAD_PLANES * c.vocab * c.dim
    assert needed_bytes(c, 3, head_trits=image.head_trits) == needed_bytes(c, 3)
    older = compile_model(with_head_codes(model, 127), BOARD)
    assert older.head_trits is not None and older.head_trits > image.head_trits
    assert needed_bytes(c, 3, head_trits=older.head_trits) == pytest.approx(
        needed_bytes(c, 3) + (older.head_trits - image.head_trits) / 5)
    assert compile_model(model, BOARD, head="host").head_trits is None


def test_a_tied_model_has_an_embedding_beside_its_head():
    model = random_model("grouped")
    image = compile_model(model, BOARD)
    at = 4 * image.registers["embed_base"]
    assert [base for base, _ in image.sections].index(at) == 1
    body, head = image.segments
    assert 4 * head.end <= at and 8 * head.words64 == len(HeadTiles(lambda: model.table("embedding"), model.config.vocab,
                                                                   model.config.dim, BOARD.tile_rows).part())
    assert body.end == head.address
    ids = np.arange(model.config.vocab)
    expected = model.rows("embedding", ids)
    got = GoldenBoard(image)._embedding(ids)
    value = expected.codes.astype(float) * np.array([float(unpack16(int(s)).value()) for s in expected.scales])[:, None]
    assert np.allclose(got.astype(float), value, rtol=1e-3, atol=1e-7)
