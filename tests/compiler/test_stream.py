# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Compiling in a stream: the bytes are those of the specification and of the compiler before, and no weight is unpacked."""

import hashlib
import json
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellme.compiler.image import CompileError, compile_model, matrices, tiling
from tellme.compiler.pack import Tiling, pack_head, pack_linear, tiles
from tellme.compiler.part import CHUNK_BYTES, Part
from tellme.golden.perplexity import unlimited_config
from tellme.models import Model, ModelError
from tellme.models.container import Container, write
from tellme.models.shipped import find_model, open_model
from tellme.models.source import regroup
from tellme.models.trits import unpack_rows
from tellme.runtime.board import Board
from tellme.runtime.device import BoardDevice
from tellme.spec import packing
from tellme.spec.config import PRESETS
from tellme.spec.scale import pack16, scale_from_fraction, unpack16
from tests.cli.fake_client import FakeClient
from tests.models.big_model import LARGE, DrawnModel, measured
from tests.models.random_model import (
    FAMILY,
    random_model,
    rows_of,
    with_biases,
    with_planes,
    with_row_scales,
    with_several_scales,
)
from tests.models.test_container import edit

#: SHA-256 of each section, from the compiler that made int8 codes and packed them again, and put the LM head, or its probe,
#: as an int8 table behind the layers.
DIGESTS = json.loads((Path(__file__).parent / "sections.json").read_text())
BOARD = PRESETS["ulx3s-85f"]


def before(image, dim):
    """The sections as they were when the LM head was an int8 table: a tied model had it once, the embedding."""
    weights, *tables = (bytes(part) for _, part in image.sections)
    layers = weights[:8 * image.segments[0].words64]
    if image.probe is None:
        return [layers + tables[0], *tables[1:]]
    scale = pack16(scale_from_fraction(Fraction(2) ** image.probe))
    return [layers + pack_head(np.eye(dim, dtype=np.int8), np.full(dim, scale)), *tables]


def digests(model):
    assert model.config.tied
    found = {}
    for build in ("ulx3s-85f", "ulx3s-85f-l2", "ecp5-25f", "golden"):
        for head in ("board", "host"):
            try:
                image = compile_model(model, unlimited_config(model) if build == "golden" else PRESETS[build], head=head)
            except CompileError:
                continue
            found[f"{build} {head}"] = [hashlib.sha256(part).hexdigest() for part in before(image, model.config.dim)]
    return found


@pytest.mark.parametrize("name", DIGESTS)
def test_sections_of_the_shipped_models_are_what_they_were(name):
    """Layers, embedding and RoPE table bit by bit; tests/compiler/test_head.py has the LM head's tiles."""
    assert digests(open_model(name)) == DIGESTS[name] == digests(find_model(name))


@pytest.mark.parametrize("build", ["ulx3s-85f", "ulx3s-85f-l2"])
@pytest.mark.parametrize("name", FAMILY)
def test_tiles_are_those_of_the_specification(name, build):
    """Each tile of each matrix, with scales that change anywhere, against spec.packing weight by weight."""
    model, board = with_several_scales(random_model(name)), PRESETS[build]
    c = model.config
    for i, layer in enumerate(model.layers):
        w = layer.weights
        gate_up = np.stack([w["w1"], w["w3"]], axis=1).reshape(2 * c.ffn, c.dim)
        rows = {"qkv": np.concatenate([w["wq"], w["wk"], w["wv"]]), "q": w["wq"], "k": w["wk"], "v": w["wv"], "o": w["wo"],
                "gate_up": gate_up, "down": w["w2"]}
        for what, matrix in matrices(model, i).items():
            want = []
            for run in matrix.runs:
                last = run is matrix.runs[-1]
                for first, count in packing.tile_rows(run.end - run.first, run.unit, most=board.tile_rows,
                                                      least=board.least_rows if last else 0):
                    codes = rows[what][run.first + first:run.first + first + count]
                    want += packing.pack_matrix(codes.tolist(), run.even, run.odd, most=count)
            part = pack_linear(matrix, Tiling(board.tile_rows, board.least_rows))
            assert np.frombuffer(bytes(part), "<u8").tolist() == want and len(part) == 8 * len(want)


CHANGES = {"planes": lambda m, seed: with_planes(m, seed), "row scales": with_row_scales,
           "several": lambda m, seed: with_planes(with_several_scales(m, seed), seed),
           "all": lambda m, seed: with_biases(with_planes(with_row_scales(m, seed), seed), seed)}


@pytest.mark.parametrize("build", ["golden", "ulx3s-85f", "ecpix5-85f"])
@pytest.mark.parametrize(("name", "change"), [("plain", "row scales"), ("grouped", "several"), ("relu2", "all"),
                                              ("plain", "planes"), ("untied", "all"),
                                              ("vector-norms", "all")])
def test_tiles_of_planes_and_row_words_are_those_of_the_specification(name, change, build):
    """Each row's weights, scale and bias, tile by tile, through spec.packing; and no tiling that ends with scales costs less."""
    seed = len(name + change + build)
    model = CHANGES[change](random_model(name), seed)
    board = unlimited_config(model) if build == "golden" else replace(PRESETS[build], planes=5)
    most, least, changed = board.tile_rows, board.least_rows, 0
    for layer in (len(change) % model.config.layers,):
        expected = rows_of(model, layer)
        for what, matrix in matrices(model, layer).items():
            weights, scales, biases, planes = expected[what]
            biased = (model.config.vector_norms or what in ("qkv", "gate_up")) and any(bias is not None for bias in biases)
            want, at, costs, together = [], 0, 0, 0
            for tile in tiles(matrix, tiling(board)):
                header, end = tile.header, at + tile.header.rows
                assert set(planes[at:end]) == {header.planes}
                pairs = set(zip(scales[at:end:2], scales[at + 1:end:2], strict=True))
                assert header.row_words == (biased or len(pairs) > 1)
                together += header.row_words
                words = None
                if header.row_words:
                    words = [packing.RowWord(pack16(scale), bias if biased and bias is not None else packing.NO_BIAS)
                             for scale, bias in zip(scales[at:end], biases[at:end], strict=True)]
                    assert [unpack16(word.scale) for word in words] == scales[at:end]
                else:
                    assert (header.scale, header.odd_scale) == pairs.pop()
                want += packing.pack_matrix(weights[at:end], header.scale, header.odd_scale, most=header.rows,
                                            planes=header.planes, row_words=words)
                costs += 8 + 4 * header.row_words * header.rows + header.planes * packing.slices(matrix.cols) * 4 * max(
                    header.rows, board.built_rows)
                at = end
            part = pack_linear(matrix, tiling(board))
            assert np.frombuffer(bytes(part), "<u8").tolist() == want and len(part) == 8 * len(want)
            ending = tiles(matrix, Tiling(most, least))
            assert biased or costs <= sum(8 + tile.header.planes * packing.slices(matrix.cols) * 4 * max(
                tile.header.rows, board.built_rows) for tile in ending)
            # Where a linear has one scale, its tiles are those of a build without row words.
            if not biased and len(matrix.runs) == len({run.part for run in matrix.runs}):
                assert not together and tiles(matrix, tiling(board)) == ending
            changed += together
    assert changed or change == "planes"


def forbidden(*args):
    raise AssertionError("weights are packed or unpacked")


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("name", FAMILY)
def test_from_a_file_as_from_memory_and_never_unpacked(name, planes, tmp_path, monkeypatch):
    model = with_biases(with_several_scales(random_model(name)))
    if planes:
        model = with_planes(model)
    path = tmp_path / "m.tellme"
    model.save(path)
    image = compile_model(model, unlimited_config(model))
    sections = [(at, bytes(part)) for at, part in image.sections]
    monkeypatch.setattr("tellme.models.container.unpack_rows", forbidden)
    monkeypatch.setattr("tellme.models.source.pack_rows", forbidden)
    container = Container(path)
    container.check()
    streamed = compile_model(container, unlimited_config(container))
    assert [(at, bytes(part)) for at, part in streamed.sections] == sections
    # As often as wanted.
    assert [(at, bytes(part)) for at, part in streamed.sections] == sections
    assert (streamed.program, streamed.registers, streamed.end, streamed.whole_heads) == (
        image.program, image.registers, image.end, image.whole_heads)
    assert streamed.residual_biases.keys() == image.residual_biases.keys()
    assert all((streamed.residual_biases[n] == image.residual_biases[n]).all() for n in image.residual_biases)


def test_sizes_are_known_before_a_weight_is_read(tmp_path):
    """The same sections' sizes from a source that has no weights at all."""
    class Bare(Model):
        def linear(self, layer, name):
            return replace(super().linear(layer, name), chunks=forbidden)

        def table(self, name):
            if name != "head":
                forbidden()
            return super().table(name)

    model = with_several_scales(random_model("untied"))
    bare = Bare(**vars(model))
    image, full = (compile_model(m, BOARD) for m in (bare, model))
    assert [(at, len(part)) for at, part in image.sections] == [(at, len(bytes(part))) for at, part in full.sections]
    assert (image.program, image.registers) == (full.program, full.registers)
    with pytest.raises(AssertionError, match="weights are packed"):
        bytes(image.sections[0][1])


@settings(deadline=None)
@given(rows=st.lists(st.integers(1, 9), max_size=8), data=st.data())
def test_rows_are_regrouped(rows, data):
    whole = np.arange(3 * sum(rows)).reshape(-1, 3)
    chunks = np.split(whole, np.cumsum(rows)[:-1]) if rows else []
    counts, remaining = [], sum(rows)
    while remaining:
        counts.append(data.draw(st.integers(1, remaining)))
        remaining -= counts[-1]
    parts = list(regroup(iter(chunks), counts))
    assert [len(part) for part in parts] == counts
    assert not parts or (np.concatenate(parts) == whole).all()
    with pytest.raises(ValueError, match="0 rows are left where 1 are wanted"):
        list(regroup(iter(chunks), [*counts, 1]))
    if counts:
        with pytest.raises(ValueError, match="more rows are left than are wanted"):
            list(regroup(iter(chunks), counts[:-1]))


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 3, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
@pytest.mark.parametrize("piece", [5000, 3 * CHUNK_BYTES])
def test_chunks_of_a_part(size, piece):
    content = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    part = Part(size, lambda: (content[at:at + piece] for at in range(0, size, piece))) + Part.of(b"end")
    for _ in range(2):
        chunks = list(part.chunks())
        assert b"".join(chunks) == content.tobytes() + b"end" and len(part) == size + 3
        assert [len(c) for c in chunks[:-1]] == [CHUNK_BYTES] * ((size + 2) // CHUNK_BYTES)


@pytest.mark.parametrize(("size", "message"), [(3, "a part of 3 bytes has more of them"), (5, "a part of 5 bytes has 4")])
def test_a_part_of_another_size(size, message):
    with pytest.raises(ValueError, match=message):
        bytes(Part(size, lambda: (b"ab", np.zeros(1, np.float16))))


def test_loading_writes_and_verifies_all_chunks():
    model, client = open_model("stories-8m"), FakeClient(BOARD)
    image = compile_model(model, BOARD)
    assert max(len(part) for _, part in image.sections) > CHUNK_BYTES
    seen = []
    BoardDevice("port", BOARD, client, "ab" * 32, verify=True).load(image, lambda done, total: seen.append((done, total)))
    for base, part in image.sections:
        assert client.memory[base:base + len(part)] == bytes(part)
    size = sum(len(part) for _, part in image.sections)
    assert client.verified == size
    size += sum(len(table) for _, table in image.tables)
    assert seen == sorted(seen) and seen[-1] == (size, size)


def test_a_damaged_file_is_found_before_a_byte_is_sent(tmp_path):
    path = tmp_path / "m.tellme"
    model = random_model("plain")
    model.save(path)
    bad = np.full((64, 16), 121, np.uint8)
    bad[63, 0] = 250
    edit(path, tensors={"layers.1.w2": bad})
    client = FakeClient(BOARD)
    board = Board(BoardDevice("port", BOARD, client, "ab" * 32))
    with pytest.raises(ModelError, match=rf"^{path}: layers.1.w2 holds byte 250, which is no base-3 code$"):
        board.load(Container(path))
    assert not any(client.memory) and not any(client.program)
    # Bytes that are read later are checked again.
    with pytest.raises(ModelError, match=rf"^{path}: layers.1.w2 holds byte 250"):
        bytes(compile_model(Container(path), BOARD).sections[0][1])


def test_drawn_weights_are_a_model(tmp_path):
    """The large model of the measurement, small: its bytes are those of its codes."""
    config = replace(LARGE, dim=64, ffn=92, layers=1, heads=4, kv_heads=2, head_dim=16, vocab=50, context=16)
    model, path = DrawnModel(config), tmp_path / "m.tellme"
    write(model, path)
    packed = np.concatenate(list(model.linear(0, "w2").packed("w2")))
    assert (Model.load(path).layers[0].weights["w2"] == unpack_rows("w2", packed, config.shape("w2"))).all()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_compiling(tmp_path):
    """A file of 40 MB in less memory than its own size; the compiler that made codes took six times its size.

    The sections have an LM head of five planes beside the embedding.
    """
    path, c = tmp_path / "m.tellme", replace(LARGE, dim=1280, ffn=3456, layers=8, heads=10, vocab=8000, context=512)
    write(DrawnModel(c), path)
    found = measured(path)
    head = c.vocab * c.dim
    assert c.tied and 36e6 < found["file_bytes"] <= found["section_bytes"] - head < 42e6
    assert found["anon_bytes"] < 40e6, f"{found['anon_bytes'] / 1e6:.0f} MB beside the file"
