# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The whole golden model, against the float32 reference, against itself with other chunks, and against single steps."""

import math
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellme.compiler import compile_model
from tellme.compiler.part import Part
from tellme.golden import GoldenBoard, NonfiniteError, elementwise
from tellme.golden import board as board_module
from tellme.golden.perplexity import golden_board, losses, nats_per_token, unlimited_config
from tellme.golden.weights import Budget, TernaryMatrix, Tile
from tellme.models import LINEARS, Model, ModelConfig, ModelError
from tellme.models.random import random_model as drawn_model
from tellme.models.shipped import find_model
from tellme.spec.activation import rope
from tellme.spec.config import preset
from tellme.spec.formats import BINARY16
from tellme.spec.memory import END_TOKENS, SAMPLING_REGISTERS, DoneReason, EventType, StartArgs, StartFlags
from tellme.spec.packing import NO_BIAS, RowWord, pack_matrix, pack_planes, slices
from tellme.spec.program import Descriptor, Epilogue, FormatError, Op, QkvPart, Segment
from tellme.spec.quantise import NORM_FRAC, dequantise, quantise, square
from tellme.spec.ranges import RangeError
from tellme.spec.sampling import DrawSettings, draw, inverse_temperature, pack_settings
from tellme.spec.scale import (
    C127,
    Scale,
    from_float,
    inv_rms,
    quantise_scales,
    recip127,
    scale_from_fraction,
    scale_mul,
    unpack16,
)
from tests import bounds, reference
from tests.models.random_model import (
    FAMILY,
    even_model,
    random_model,
    rows_of,
    with_biases,
    with_groups,
    with_planes,
    with_row_scales,
    with_several_scales,
)

STORIES = Path(__file__).parent.parent / "data" / "stories.txt"


@pytest.fixture(scope="module")
def stories():
    return find_model("stories-1m")


def test_loss_is_the_float_reference(stories):
    golden, float32, count = bounds.measure(stories, bounds.DATA / "stories-1m.tellme", STORIES.read_text(), 600)
    assert count == 600
    assert golden == pytest.approx(float32, rel=bounds.LIMIT)


def test_a_loss_is_the_same_with_and_without_a_listener():
    model, parts, told = random_model("plain"), [[3, 9, 50], [7] * 20], []
    wanted = [loss for ids in parts for loss in losses(golden_board(model).feed(ids[:-1], 0, heads="all"), ids[1:])]
    assert nats_per_token(model, parts) == math.fsum(wanted) / len(wanted) == nats_per_token(model, parts, told.append)
    assert told == [2, 19]


@pytest.mark.parametrize("name", FAMILY)
def test_family_is_near_the_float_reference(name, tmp_path):
    model = random_model(name)
    path = tmp_path / f"{name}.tellme"
    model.save(path)
    ids = [int(i) for i in np.random.default_rng(1).integers(0, model.config.vocab, model.config.context)]
    golden = golden_board(model).feed(ids, 0, heads="all") / 65536
    expected = reference.forward(reference.read(path), ids)
    # Random weights amplify roundings; a wrong gain, scale or rotation would be off by more than the whole spread.
    assert np.abs(golden - expected).mean() < 0.03 * expected.std()


@pytest.mark.parametrize("name", ["grouped", "relu2", "untied", "vector-norms"])
@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("change", [with_several_scales, lambda model: with_planes(with_row_scales(model))],
                         ids=["several scales", "planes"])
def test_several_scales_planes_and_biases_are_near_the_float_reference(name, biases, change, tmp_path):
    model = change(random_model(name))
    if biases:
        model = with_biases(model)
    path = tmp_path / f"{name}.tellme"
    model.save(path)
    ids = [int(i) for i in np.random.default_rng(1).integers(0, model.config.vocab, model.config.context)]
    golden = golden_board(Model.load(path)).feed(ids, 0, heads="all") / 65536
    expected = reference.forward(reference.read(path), ids)
    assert np.abs(golden - expected).mean() < 0.03 * expected.std()
    # If scales or biases were left out, the difference would show.
    plain = reference.forward(reference.read(path, plain=True), ids)
    assert np.abs(plain - expected).mean() > 0.1 * expected.std()


def test_a_bias_is_added_with_a_rounding_of_its_own():
    model = random_model("plain")
    before = golden_board(model)
    first = before.feed([3], 0)
    model.layers[1].biases["w2"] = np.full(64, -0.0, np.float16)
    # Of q, k and v in words of their rows.
    model.layers[0].biases["wk"] = np.full(64, -0.0, np.float16)
    after = golden_board(model)
    assert (after.feed([3], 0) == first).all() and after.crcs == before.crcs
    # The step that is changed is the last down projection, also with a bias that is less than half an ulp of 1.  A larger bias
    # changes the codes of the state, too, and with them the LM head's logits.
    for bias, logits_stay in ((2.0**-12, True), (0.25, False)):
        model.layers[1].biases["w2"] = np.full(64, bias, np.float16)
        board = golden_board(model)
        board.feed([3], 0)
        assert [a == b for a, b in zip(board.crcs, before.crcs, strict=True)] == [True] * 10 + [False, logits_stay, True]


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("planes", [False, True])
def test_no_chunking_changes_a_bit(name, planes):
    model = random_model(name)
    if planes:
        model = with_biases(with_planes(with_row_scales(model)))
    ids = [int(i) for i in np.random.default_rng(2).integers(0, model.config.vocab, 12)]
    whole, pieces = golden_board(model), golden_board(model)
    at_once = whole.feed(ids, 0, heads="all")
    one_by_one = np.concatenate([pieces.feed([t], i) for i, t in enumerate(ids)])
    assert (at_once == one_by_one).all()
    assert whole.crcs == pieces.crcs
    assert (whole.feed(ids[:3], 12) == pieces.feed(ids[:3], 12)).all()


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("planes", [False, True])
def test_what_is_kept_unpacked_changes_no_bit(name, planes):
    """No matrix, some, or all of them, and the head."""
    model = with_several_scales(random_model(name))
    if planes:
        model = with_planes(model)
    image = compile_model(model, unlimited_config(model))
    ids = [int(i) for i in np.random.default_rng(2).integers(0, model.config.vocab, 12)]
    whole = GoldenBoard(image)
    expected = whole.feed(ids, 0, heads="all"), whole.feed([3], 12)
    for kept in (0, 4 * model.config.dim * (model.config.q_dim + model.config.ffn), 1 << 30):
        board = GoldenBoard(image, kept_bytes=kept)
        assert (board.feed(ids, 0, heads="all") == expected[0]).all() and (board.feed([3], 12) == expected[1]).all()
        assert board.crcs == whole.crcs
        sizes = [step.weights.kept_bytes for step in board.steps if step.weights is not None] + [board._head.kept_bytes]
        assert sum(sizes) <= kept and (kept == 0) == (not any(sizes)) and (kept == 1 << 30) == all(sizes)


@pytest.mark.parametrize("cols", [1, 20, 43, 140])
def test_a_ternary_matrix_is_the_specification(cols):
    """Tiles of several heights, unpacked each time and once."""
    rng = np.random.default_rng(cols)
    rows = rng.integers(-1, 2, (34, cols))
    codes = rng.integers(-127, 128, (3, cols)).astype(np.int8)
    tiles = [Tile([np.array(pack_matrix(rows[at:end].tolist(), Scale(1024, 0))[1:], "<u8").view("<u4").reshape(-1, end - at)])
             for at, end in ((0, 2), (2, 30), (30, 34))]
    for budget in (0, 1 << 20):
        matrix = TernaryMatrix(tiles, cols, Budget(budget))
        for _ in range(2):
            assert (matrix.product(codes) == codes.astype(int) @ rows.T).all()


@pytest.mark.parametrize("name", FAMILY)
def test_every_linear_is_integers_a_scale_and_a_bias(name):
    check_elements(with_biases(with_planes(with_row_scales(random_model(name)))), 1 << 28)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", FAMILY)
def test_every_linear_with_column_groups_is_integers_too(name, seed):
    """Groups of other sizes, or none, on q, k and v and on gate and up, of one plane and of several."""
    model = random_model(name) if seed == 2 else with_planes(with_several_scales(random_model(name)), seed)
    model = with_groups(model, seed)
    for layer in model.layers[:1]:
        # Matrices that share tiles: gate in groups and up tied, or the other way around, or of other sizes.
        for each in ((), ("w1",), ("w3",))[seed]:
            layer.multipliers.pop(each, None)
    check_elements(with_biases(model), (1 << 28) * (seed % 2))


#: Vectors of no whole slices, and heads that a tile of 128 rows does not end with.
TINY = ModelConfig(dim=44, ffn=68, layers=1, heads=3, kv_heads=1, head_dim=24, vocab=40, context=16, o_norm=True, act="relu2",
                   act_exp=2)


@settings(max_examples=15, deadline=None)
@given(st.fixed_dictionaries({}, optional={name: st.integers(1, 5) for name in LINEARS}), st.booleans(),
       st.sets(st.sampled_from(LINEARS)), st.sampled_from([0, 1 << 13, 1 << 20]), st.booleans())
def test_any_planes_scales_and_biases(planes, row_scales, biases, kept, qk_norm):
    """Drawn models: each linear's elements are what they should be, and token by token gives what a chunk gives."""
    model = drawn_model("tiny", replace(TINY, qk_norm=qk_norm), planes=planes, row_scales=row_scales, biases=biases)
    check_elements(Model.read(model), kept)
    image = compile_model(model, unlimited_config(model))
    ids = [3, 9, 39, 0, 7]
    whole, pieces = GoldenBoard(image, kept_bytes=kept), GoldenBoard(image, kept_bytes=kept)
    at_once = whole.feed(ids, 0, heads="all")
    assert (at_once == np.concatenate([pieces.feed([t], i) for i, t in enumerate(ids)])).all() and whole.crcs == pieces.crcs


def check_elements(model, kept):
    """Each element of each linear of two tokens: integer weights times codes, one rounding with the scale, one with the bias."""
    board = GoldenBoard(compile_model(model, unlimited_config(model)), kept_bytes=kept)
    codes, elements = {}, []
    quantise, heads = board._quantise, board._heads

    def recorded_quantise(number, d, x, gains):
        codes[number] = quantise(number, d, x, gains)
        if d.op == Op.NORM:
            # What the linear ahead of it has stored.
            elements.append(x)
        return codes[number]

    def recorded_heads(number, y, *args):
        if board.steps[number].descriptor.op == Op.LINEAR:
            elements.append(y)
        return heads(number, y, *args)

    def recorded_activation(gate, up, **args):
        elements.append(np.stack([gate, up], axis=-1).reshape(len(gate), -1))
        return elementwise.activation(gate, up, **args)

    def recorded_add(a, b):
        # The residual's second operand has a row a token, a bias has none.
        if b.ndim == 2 and not model.config.vector_norms:
            elements.append(b)
        return elementwise.add(a, b)

    board._quantise, board._heads = recorded_quantise, recorded_heads
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(board_module, "activation", recorded_activation)
        patch.setattr(board_module, "add", recorded_add)
        board.feed([3, 9], 0)
    numbers = [n for n, step in enumerate(board.steps) if step.descriptor.op == Op.LINEAR]
    assert len(elements) == len(numbers) == (6 if model.config.vector_norms else 4) * model.config.layers
    expected = [part for layer in range(model.config.layers) for part in rows_of(model, layer).values()]
    for number, got, (weights, row_scales, biases, _) in zip(numbers, elements, expected, strict=True):
        q, d = codes[number]
        acc = q.astype(object) @ np.array(weights, object).T
        for token in range(2):
            own = Scale(int(d.sig[token]), int(d.exp[token]))
            want = [dequantise(int(a), scale_mul(own, scale)) for a, scale in zip(acc[token], row_scales, strict=True)]
            want = [y if bias is None else BINARY16.add(y, bias) for y, bias in zip(want, biases, strict=True)]
            assert got[token].view(np.uint16).tolist() == want


def with_stream(image, words):
    """The image with other tiles and gains, which lie behind all else."""
    _, head = image.segments
    content = np.array(words, "<u8").tobytes()
    return replace(image, sections=(*image.sections, (image.end, Part.of(content))), end=image.end + len(content),
                   segments=(Segment(image.end // 4, len(words)), head))


def test_free_planes_and_multipliers_of_a_stream():
    """Tiles of each kind by the specification: products, row scales and biases are what was put in."""
    model = random_model("plain")
    image = compile_model(model, unlimited_config(model))
    rng = np.random.default_rng(8)
    words, expected, program = [], [], list(image.program)
    for number, d in enumerate(program):
        if d.op != Op.LINEAR:
            continue
        planes, free, group = 1 + number % 6, number % 2 == 0, number % 3
        trits = rng.integers(-1, 2, (planes, d.rows, d.cols))
        groups = -(-slices(d.cols) // group) if group else 1
        m = rng.integers(-128, 128, (planes, groups, d.rows)) if group else np.ones((planes, 1, d.rows), int)
        biased = d.epilogue != Epilogue.RESIDUAL and number > 5
        rows = [RowWord(int(rng.integers(1, 1 << 16)), int(rng.integers(0, 0x7C00)) if biased else NO_BIAS)
                for _ in range(d.rows)]
        words += pack_planes(trits.tolist(), Scale(1024, 0), most=48, row_words=rows, free=free, group_slices=group,
                             multipliers=m.tolist())
        program[number] = replace(d, bias=biased)
        of_column = [c // (20 * group) if group else 0 for c in range(d.cols)]
        factors = [1 if free else 3**p for p in range(planes)]
        expected.append((sum(factors[p] * m[p][of_column].T * trits[p] for p in range(planes)), rows, biased))
    changed = replace(with_stream(image, words), program=tuple(program))
    board = GoldenBoard(changed)
    linears = [step for step in board.steps if step.weights is not None]
    for step, (weights, rows, biased) in zip(linears, expected, strict=True):
        codes = rng.integers(-128, 128, (2, weights.shape[1])).astype(np.int8)
        assert (step.weights.product(codes) == codes.astype(int) @ weights.T).all()
        stored = [Scale(int(step.scales.sig[i]), int(step.scales.exp[i])) for i in step.scale_of_row]
        assert stored == [unpack16(row.scale) for row in rows]
        assert (step.bias is not None) == biased
        assert not biased or step.bias.view(np.uint16).tolist() == [row.bias for row in rows]
    # A bias in a step that adds none, and a multiplier of a row that is not there.
    with pytest.raises(FormatError, match="a tile at row 0 of [0-9]+ has biases, and its step adds none"):
        GoldenBoard(replace(changed, program=image.program))
    padded = pack_planes(np.zeros((1, 6, 64), int).tolist(), Scale(1024, 0), group_slices=9, multipliers=[[[1] * 6]])
    with pytest.raises(FormatError, match="the padding behind 6 multipliers is not zero"):
        GoldenBoard(with_stream(image, [padded[0], padded[1] | 1 << 63, *padded[2:]]))


def test_step_crcs(stories):
    board = golden_board(stories)
    logits = board.feed([1], 0)
    steps = [s.descriptor for s in board.steps]
    assert board.crcs[steps.index(next(d for d in steps if d.op == Op.HEAD))] == zlib.crc32(
        logits[0].astype("<i4").tobytes())
    row = reference.read(bounds.DATA / "stories-1m.tellme").embedding[1]
    assert board.crcs[0] == zlib.crc32(row.astype("<f2").tobytes())
    assert len(set(board.crcs[:-1])) == len(steps) - 1
    assert board.crcs[-1] == 0 and steps[-1].op == Op.END


def test_speed(stories):
    board = golden_board(stories)
    board.feed([1], 0)
    began = time.process_time()
    for position in range(1, 31):
        board.feed([5], position)
    assert 30 / (time.process_time() - began) > 20


def events(board, args):
    return list(board.start(args))


def test_start_runs_like_single_steps(stories):
    board, single = golden_board(stories), golden_board(stories)
    prompt = [1, 319, 378]
    board.tokens[:3] = prompt
    got = events(board, StartArgs(0, 3, 6))
    assert [k for k, _ in got] == [EventType.TOKEN] * 6 + [EventType.DONE]
    assert got[-1][1].logit == DoneReason.LENGTH
    ids, logits = list(prompt), single.feed(prompt, 0)
    for _, event in got[:-1]:
        assert event.id == logits[-1].argmax() and event.logit == logits[-1].max()
        assert event.position == len(ids) - 1
        ids.append(event.id)
        logits = single.feed(ids[-1:], len(ids) - 1)
    assert board.tokens[:9] == ids


def test_start_ends_with_the_end_token_or_the_context():
    model = random_model("plain")
    board = golden_board(model)
    board.tokens[0] = 3
    free = events(board, StartArgs(0, 1, 1000))
    assert free[-1][1].logit == DoneReason.CONTEXT
    picks = [e.id for k, e in free if k == EventType.TOKEN]
    assert len(picks) == model.config.context
    for place in range(END_TOKENS):
        ends = [model.config.vocab + 1] * place + [picks[4]]
        ended = events(board, StartArgs(0, 1, 1000, ends=tuple(ends)))
        assert [e.id for _, e in ended[:-1]] == picks[:picks.index(picks[4]) + 1]
        assert ended[-1][1].logit == DoneReason.END_TOKEN


def test_start_draws_as_the_sampling_registers_say():
    model = even_model()
    board = golden_board(model)
    settings = DrawSettings(inverse_temperature(2.0), top_k=40, top_p=60_000, max_gap=1 << 17, seed=1 << 40 | 3)
    board.registers |= pack_settings(settings)
    board.tokens[:2] = prompt = [3, 50]
    got = events(board, StartArgs(0, 2, 9, StartFlags.SAMPLE))
    assert got[-1][1].logit == DoneReason.LENGTH
    # Token by token on another board, drawn from outside; a position's token depends on nothing else.
    other, ids = golden_board(model), list(prompt)
    logits = other.feed(ids, 0)[-1]
    for _, event in got[:-1]:
        want = draw(other.top(), settings, len(ids))
        assert (event.position, event.id, event.logit) == (len(ids) - 1, want, logits[want])
        ids.append(want)
        logits = other.feed(ids[-1:], len(ids) - 1)[-1]
    assert board.tokens[:11] == ids
    greedy = [event.id for _, event in events(board, StartArgs(0, 2, 9))[:-1]]
    assert greedy != ids[2:]
    # In the middle of the text, and with an end token.
    board.tokens[:6] = ids[:6]
    again = events(board, StartArgs(0, 6, 9, StartFlags.SAMPLE, ends=(ids[8],)))
    assert [event.id for _, event in again[:-1]] == ids[6:6 + ids[6:].index(ids[8]) + 1]
    assert again[-1][1].logit == DoneReason.END_TOKEN


def test_a_board_without_a_sampler_draws_nothing():
    board = GoldenBoard(compile_model(random_model("plain"), preset("sim-tiny")), sampler=False)
    assert not set(SAMPLING_REGISTERS) & set(board.registers)
    with pytest.raises(ValueError, match="the board has no sampler"):
        events(board, StartArgs(0, 1, 1, StartFlags.SAMPLE))
    unset = golden_board(random_model("plain"))
    with pytest.raises(RangeError, match="top_k: 0 is outside 1 to 64"):
        events(unset, StartArgs(0, 1, 1, StartFlags.SAMPLE))


@pytest.mark.parametrize("flags", [StartFlags.CLEAR, StartFlags.SAMPLE])
def test_all_picks_are_those_of_single_tokens(flags):
    """Prompts of several lengths in chunks of several sizes, with and without tokens to pick: each pick, list and row of logits
    is what a start of the token alone gives, and token memory keeps the prompt."""
    image = compile_model(even_model(67, 24), unlimited_config(even_model(67, 24)))
    drawn = pack_settings(DrawSettings(inverse_temperature(3.0), top_k=20, seed=11))
    for feed, generate, chunk in ((1, 0, 0), (3, 0, 4), (4, 2, 0), (5, 2, 4), (11, 3, 3), (11, 0, 9)):
        board, single = GoldenBoard(image, 4, head_tokens=4), GoldenBoard(image)
        prompt = [(7 * i + 3) % 67 for i in range(feed)]
        for one in (board, single):
            one.registers |= drawn
            one.tokens[:feed] = prompt
        got = events(board, StartArgs(0, feed, generate, flags | StartFlags.ALL, chunk))
        assert len(got) == feed + max(generate - 1, 0) + 1 and got[-1][0] == EventType.DONE
        size = min(chunk or 4, 4)
        last_pass = 1 if generate > 1 else (feed - 1) % size + 1
        assert len(board.pass_logits) == last_pass
        at = 0
        for position in range(feed):
            kept = single.tokens[:]
            (_, want), _ = events(single, StartArgs(position, 1, 1, flags))
            single.tokens[:] = kept
            assert got[position] == (EventType.TOKEN, want)
            if generate <= 1 and position >= feed - last_pass:
                assert board.pass_logits[at].tolist() == single.logits.tolist() and board.top(at) == single.top()
                at += 1
        assert board.tokens[:feed] == prompt
        if generate:
            plain = GoldenBoard(image)
            plain.registers |= drawn
            plain.tokens[:feed] = prompt
            assert events(plain, StartArgs(0, feed, generate, flags)) == got[feed - 1:]
            assert plain.tokens == board.tokens and plain.crcs == board.crcs


def test_a_head_of_one_token_gives_no_picks_of_all():
    image = compile_model(even_model(67, 24), unlimited_config(even_model(67, 24)))
    with pytest.raises(ValueError, match="^START has the flag ALL, and the board's LM head takes one token$"):
        events(GoldenBoard(image, 4), StartArgs(0, 1, 1, StartFlags.ALL))
    with pytest.raises(ValueError, match="^head_tokens is 2; 1 or 4 can be$"):
        GoldenBoard(image, 4, head_tokens=2)


def test_feeding_without_a_pick():
    board = golden_board(random_model("plain"))
    board.tokens[:4] = [1, 2, 3, 4]
    (kind, done), = events(board, StartArgs(0, 4, 0))
    assert kind == EventType.DONE and done.logit == DoneReason.LENGTH and done.position == 3


def test_ties_go_to_the_lower_id():
    board = golden_board(random_model("plain"))
    board.pass_logits = np.zeros((1, 128), np.int32)
    board.logits[[7, 90]] = 5
    assert [i for i, _ in board.top()[:4]] == [7, 90, 0, 1]
    assert len(board.top()) == 64


def test_nonfinite_names_its_step_and_ends_the_run():
    model = random_model("plain")
    model.layers[1].scales["w2"] = Scale(2047, 20)
    board = golden_board(model)
    board.tokens[:3] = [1, 2, 3]
    (kind, done), = events(board, StartArgs(0, 3, 2))
    assert kind == EventType.DONE and done.logit == DoneReason.NONFINITE
    step = board.steps[done.id].descriptor
    assert step.epilogue == Epilogue.RESIDUAL and board.steps[done.id + 1].descriptor.op == Op.HEAD
    with pytest.raises(NonfiniteError, match=f"step {done.id} of"):
        board.feed([1], 0)


@pytest.mark.parametrize("where", ["embedding", "gains", "activation"])
def test_an_infinity_in_each_part_of_a_step_is_named(where):
    """An embedding row whose scale is too large, a product with the next norm's gains, and an activation of finite sums."""
    model = random_model("untied" if where == "gains" else "relu2")
    board = golden_board(model)
    step = 0
    if where == "embedding":
        # The row's stored scale is the largest there is.
        board.write(4 * board.registers["embed_base"] + 2 * 3, b"\xff\xff")
    elif where == "gains":
        board.steps[0].gains_next[:] = 65504
    else:
        step = next(number for number, step in enumerate(board.steps) if step.descriptor.epilogue == Epilogue.ACT)
        # A gate of 300 is finite, and its square is not.
        board.steps[step].bias = np.full(board.steps[step].descriptor.rows, 300, np.float16)
    board.tokens[0] = 3
    (kind, done), = events(board, StartArgs(0, 1, 1))
    assert (kind, done.logit, done.id) == (EventType.DONE, DoneReason.NONFINITE, step)


def test_a_damaged_stream_is_noticed():
    model = random_model("plain")
    image = compile_model(model, unlimited_config(model))
    base, part = image.sections[0]
    stream = bytes(part)

    def damaged(at, content):
        return replace(image, sections=((base, Part.of(stream[:at] + content + stream[at + len(content):])), *image.sections[1:]))

    with pytest.raises(ValueError, match="no base-3 code"):
        GoldenBoard(damaged(9, b"\xff"))
    header = int.from_bytes(stream[:8], "little")
    assert header >> 46 == 0

    def with_bits(bits):
        return damaged(0, (header | bits).to_bytes(8, "little"))

    for planes in (7, 8):
        with pytest.raises(FormatError, match=f"the header [0-9a-f]{{16}} of a tile has {planes} planes, which format 3 does "):
            GoldenBoard(with_bits(planes - 1 << 46))
    for bit in range(59, 64):
        with pytest.raises(FormatError, match="of a tile has bits above its fields, which format 3 does not know"):
            GoldenBoard(with_bits(1 << bit))
    # No rows, an odd number of rows, and more rows than the matrix has.
    rows = header >> 19 & 0xFF
    for wrong in (0, 63, 254):
        content = (header ^ (rows ^ wrong) << 19).to_bytes(8, "little")
        with pytest.raises(ValueError, match=rf"^a tile of {wrong} rows at row 0 of 192$"):
            GoldenBoard(damaged(0, content))
    # More planes, row words, or multipliers take what is something else for these.
    for bits in (*(planes - 1 << 46 for planes in range(2, 7)), 1 << 49, *(1 << bit for bit in range(51, 59))):
        with pytest.raises((ValueError, FormatError)):
            GoldenBoard(with_bits(bits))
    # A single plane has no next one to be multiplied for.
    assert (GoldenBoard(with_bits(1 << 50)).feed([3], 0) == GoldenBoard(image).feed([3], 0)).all()


def test_segments_lie_anywhere():
    """The stream cut at any word and scattered over a memory gives the same logits and step CRCs."""
    model = random_model("grouped")
    image = compile_model(model, unlimited_config(model))
    whole = GoldenBoard(image)
    expected = whole.feed([3, 9], 0)
    memory = np.zeros(image.end, np.uint8)
    for base, part in image.sections:
        part.read_into(memory[base:base + len(part)])
    rng = np.random.default_rng(3)
    pieces = []
    for s in image.segments:
        cuts = sorted({0, s.words64, 1, *rng.integers(0, s.words64, 3).tolist()})
        pieces += [Segment(s.address + 2 * a, b - a, s.lm_head) for a, b in zip(cuts, cuts[1:], strict=False)]
    sections, segments, end = list(image.sections), [Segment(1, 1)] * len(pieces), image.end
    for i in rng.permutation(len(pieces)).tolist():
        piece = pieces[i]
        end += 4 * int(rng.integers(1, 9))
        segments[i] = Segment(end // 4, piece.words64, piece.lm_head)
        sections.append((end, Part.of(memory[4 * piece.address:4 * piece.end].tobytes())))
        end += 8 * piece.words64
    # What the segments were cut from is gone; the embedding table stays.
    body = [s for s in image.segments if not s.lm_head]
    sections.append((4 * body[0].address, Part.of(bytes(4 * (body[-1].end - body[0].address)))))
    board = GoldenBoard(replace(image, sections=tuple(sections), segments=tuple(segments), end=end))
    assert (board.feed([3, 9], 0) == expected).all() and board.crcs == whole.crcs


def test_a_stream_of_another_length_is_noticed():
    model = random_model("plain")
    image = compile_model(model, unlimited_config(model))
    first, *others = image.segments
    shorter = replace(first, words64=first.words64 - 1)
    with pytest.raises((ValueError, FormatError)):
        GoldenBoard(replace(image, segments=(shorter, *others)))
    layers, head = image.segments
    body = [Segment(layers.address, 100), Segment(layers.address + 200, layers.words64 - 100)]
    with pytest.raises(ValueError, match="the program takes [0-9]+ bytes more than the weight stream has"):
        GoldenBoard(replace(image, segments=(*body[:-1], head)))
    with pytest.raises(ValueError, match="the program leaves [0-9]+ bytes of the weight stream"):
        GoldenBoard(replace(image, segments=(*body, body[0], head)))
    with pytest.raises(ValueError, match="^the LM head leaves 800 bytes of the weight stream$"):
        GoldenBoard(replace(image, segments=(layers, head, replace(body[0], lm_head=True))))


@pytest.mark.parametrize(("name", "gain"), [("plain", True), ("untied", False)])
def test_a_program_whose_gains_are_not_those_of_its_stream_is_noticed(name, gain):
    model = random_model(name)
    image = compile_model(model, unlimited_config(model))
    program = [replace(d, gain=gain) if number == 1 else d for number, d in enumerate(image.program)]
    board = GoldenBoard(replace(image, program=tuple(program)))
    with pytest.raises(ValueError, match=f"^step 1 wants {'' if gain else 'no '}gains, the step before loads the opposite$"):
        board.feed([3], 0)


def test_context_limit():
    board = golden_board(random_model("plain"))
    with pytest.raises(ValueError, match="context of 32"):
        board.feed([1] * 33, 0)


def test_unknown_model_name():
    with pytest.raises(ModelError, match="shipped models: stories-1m"):
        find_model("stories-9g")


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("gain", [False, True])
def test_quantise_pass_is_the_specification(norm, gain):
    board = golden_board(random_model("plain"))
    rng = np.random.default_rng(5)
    for size in (1e-6, 1.0, 500.0):
        x = (rng.normal(size=(2, 64)) * size).astype(np.float16)
        gains = rng.uniform(0.2, 3, 64).astype(np.float16) if gain else None
        d = Descriptor(Op.LINEAR, norm=norm, gain=gain, n_eps=2748779 if norm else 0, sqrt_n=Scale(1024, -7))
        codes, scale = board._quantise(0, d, x, gains)
        for row in range(2):
            patterns = [int(b) for b in x[row].view(np.uint16)]
            y = patterns if gains is None else [BINARY16.mul(p, int(g)) for p, g in
                                                zip(patterns, gains.view(np.uint16), strict=True)]
            s, expected = quantise_scales(max(p & 0x7FFF for p in y), norm=norm, sumsq=sum(map(square, patterns)),
                                          n_eps=d.n_eps, sqrt_n=d.sqrt_n)
            assert (int(scale.sig[row]), int(scale.exp[row])) == expected
            assert codes[row].tolist() == [quantise(p, s) for p in y]


@pytest.mark.parametrize(("name", "size"), [("plain", 1), ("head-norms", 1), ("head-norms", 1e-5), ("head-norms", 3e3)])
def test_heads_are_the_specification(name, size):
    model = random_model(name)
    board = golden_board(model)
    c = model.config
    y = (np.random.default_rng(6).normal(size=(1, c.q_dim + 2 * c.kv_dim)) * size).astype(np.float16)
    # A head of q, one of k and one of v are zeros.
    for h in (1, c.heads, c.heads + c.kv_heads):
        y[0, h * c.head_dim:(h + 1) * c.head_dim] = 0
    position = 7
    step = next(step for step in board.steps if step.descriptor.epilogue == Epilogue.QKV)
    codes, scale = board._heads(0, y, slice(position, position + 1), step.head_gains)
    for h in range(c.heads + 2 * c.kv_heads):
        head = [int(b) for b in y[0, h * c.head_dim:(h + 1) * c.head_dim].view(np.uint16)]
        factor = None
        if h < c.heads + c.kv_heads:
            if c.qk_norm:
                r = board.registers
                factor = inv_rms(sum(map(square, head)), r["head_n_eps"], Scale.unpack(r["head_sqrt_n"]))
                gains = model.layers[0].gains["q_norm" if h < c.heads else "k_norm"]
                head = [BINARY16.mul(p, int(g)) for p, g in zip(head, gains.view(np.uint16), strict=True)]
            for pair in range(c.head_dim // 2):
                angle = position * c.theta ** (-2 * pair / c.head_dim)
                cos, sin = (int(np.float16(f(angle)).view(np.uint16)) for f in (np.cos, np.sin))
                head[2 * pair:2 * pair + 2] = rope(*head[2 * pair:2 * pair + 2], cos, sin)
        peak = from_float(max(1, *(p & 0x7FFF for p in head)))
        assert codes[0, h].tolist() == [quantise(p, recip127(peak)) for p in head]
        expected = scale_mul(peak, C127)
        assert (int(scale.sig[0, h]), int(scale.exp[0, h])) == (expected if factor is None else scale_mul(expected, factor))


def test_norms_behind_linears_are_the_specification():
    """Each element of each NORM of two tokens: a code of 12 bits times d / 16, with the norm's gain and 1 / rms; then added to X,
    or sent as heads of q or of k, whose rows are turned.  The heads of v are not."""
    model = random_model("vector-norms")
    c, board = model.config, golden_board(model)
    quantise_step, heads, sent, added, seen = board._quantise, board._heads, {}, [], 0

    def checked_quantise(number, d, x, gains):
        codes, scale = quantise_step(number, d, x, gains)
        assert (d.op == Op.NORM) <= d.src_a and d.again == (d.part in (QkvPart.K, QkvPart.V) and d.op == Op.LINEAR)
        nonlocal seen
        for token, row in enumerate(x if d.op == Op.NORM else ()):
            name = {"Q": "q_norm", "K": "k_norm"}.get(d.part.name) or (
                "attn_post_norm" if board.steps[number - 2].descriptor.op == Op.ATTENTION else "ffn_post_norm")
            gain = model.layers[d.layer].gains[name].view(np.uint16)
            patterns = [int(p) for p in row.view(np.uint16)]
            y = [BINARY16.mul(p, int(g)) for p, g in zip(patterns, gain, strict=True)]
            s, own = quantise_scales(max(p & 0x7FFF for p in y), norm=True, sumsq=sum(map(square, patterns)),
                                     n_eps=round(len(row) * c.eps * 2**32), sqrt_n=scale_from_fraction(len(row)**0.5))
            assert (int(scale.sig[token]), int(scale.exp[token])) == own
            assert codes[token].tolist() == [quantise(p, s, frac=NORM_FRAC) for p in y]
            sent[number, token] = [dequantise(code, scale_mul(own, Scale(1024, -14))) for code in codes[token].tolist()]
            seen = max(seen, *map(abs, codes[token].tolist()))
        return codes, scale

    def checked_heads(number, y, positions, gains, part):
        for token in range(2 if part != QkvPart.V else 0):
            assert y[token].view(np.uint16).tolist() == sent[number, token]
        got, scale = heads(number, y, positions, gains, part)
        for head in range(got.shape[1] if part == QkvPart.V else 0):
            # Not turned: codes are the elements over their largest.
            own = y[1, head * 16:head * 16 + 16].astype(float)
            assert np.abs(got[1, head] / 127 * np.abs(own).max() - own).max() <= np.abs(own).max() / 250
        return got, scale

    def checked_add(a, b):
        added.append(b)
        return elementwise.add(a, b)

    board._quantise, board._heads = checked_quantise, checked_heads
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(board_module, "add", checked_add)
        board.feed([3, 9], 0)
    norms = [n for n, step in enumerate(board.steps) if step.descriptor.op == Op.NORM]
    assert norms == [2, 4, 8, 11, 13, 15, 19, 22] and 1800 < seen <= 2047
    onto_x = [n for n in norms if board.steps[n].descriptor.epilogue == Epilogue.RESIDUAL]
    assert [[row.view(np.uint16).tolist() for row in b] for b in added] == [[sent[n, t] for t in range(2)] for n in onto_x]


@pytest.mark.parametrize("name", ["q_norm", "k_norm", "attn_post_norm", "ffn_post_norm", ""])
def test_norms_behind_linears_change_the_logits(name):
    """Other gains of one of the norms, or none of the norms, are far from what a model with them gives."""
    model, changed = random_model("vector-norms"), random_model("vector-norms")
    ids = [int(i) for i in np.random.default_rng(1).integers(0, model.config.vocab, model.config.context)]
    expected = golden_board(model).feed(ids, 0, heads="all") / 65536
    for layer in changed.layers:
        if name:
            layer.gains[name] = layer.gains[name][::-1].copy()
        else:
            layer.gains.clear()
    if not name:
        changed.config = replace(changed.config, vector_norms=False)
    assert np.abs(golden_board(changed).feed(ids, 0, heads="all") / 65536 - expected).mean() > 0.05 * expected.std()


def test_an_element_times_its_heads_gain_that_runs_over_ends_the_run():
    model = random_model("head-norms")
    board = golden_board(model)
    board.steps[6].head_gains[1, 5] = np.float16(60000)
    y = np.zeros((1, model.config.q_dim + 2 * model.config.kv_dim), np.float16)
    y[0, [5, -3]] = 40
    board._heads(6, y, slice(0, 1), board.steps[6].head_gains)
    y[0, model.config.q_dim + 5] = 40
    with pytest.raises(NonfiniteError, match="^step 6 "):
        board._heads(6, y, slice(0, 1), board.steps[6].head_gains)


def test_norms_on_heads_change_the_logits():
    """Other gains of q or of k, or none of the norms, are far from what a model with them gives."""
    model = random_model("head-norms")
    ids = [int(i) for i in np.random.default_rng(1).integers(0, model.config.vocab, model.config.context)]
    expected = golden_board(model).feed(ids, 0, heads="all") / 65536
    for name in ("q_norm", "k_norm", ""):
        changed = random_model("head-norms")
        for layer in changed.layers:
            if name:
                layer.gains[name] = layer.gains[name][::-1].copy()
            else:
                del layer.gains["q_norm"], layer.gains["k_norm"]
        if not name:
            changed.config = replace(changed.config, qk_norm=False)
        assert np.abs(golden_board(changed).feed(ids, 0, heads="all") / 65536 - expected).mean() > 0.05 * expected.std(), name
