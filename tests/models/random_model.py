# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Random models of the family; between them they have every feature of a configuration."""

from itertools import cycle, pairwise

import numpy as np

from tellme.models import LINEARS, Layer, Model, ModelConfig, Multipliers, int8_rows
from tellme.models.int8 import table_code
from tellme.models.model import NORMS
from tellme.models.source import Block
from tellme.spec.packing import groups_of, plane_reach
from tellme.spec.scale import Scale, scale_from_fraction

__all__ = ["BOARD_FAMILY", "FAMILY", "even_model", "model_of", "random_model", "rows_of", "with_biases", "with_groups",
           "with_head_codes", "with_planes", "with_row_scales", "with_several_scales", "worth"]

#: Shapes between them: dim equal to ffn and not, widths that are no multiple of 20, 21 or 32, heads = KV heads and
#: 3 and 4 x KV heads, head_dim 16 and 64, a vocabulary that is no multiple of 64 or of 4, tied and untied, with and without
#: gains and sub-norms, SiLU and ReLU squared; and norms on heads of q and k, with heads x head_dim other than dim,
#: and an eps that counts; and the norms of OLMo 2.
FAMILY = {
    "plain": (ModelConfig(dim=64, ffn=64, layers=2, heads=4, kv_heads=4, head_dim=16, vocab=128, context=32), False),
    "grouped": (ModelConfig(dim=100, ffn=164, layers=2, heads=4, kv_heads=1, head_dim=16, vocab=203, context=24,
                            o_norm=True, down_norm=True), True),
    "wide-heads": (ModelConfig(dim=128, ffn=92, layers=1, heads=2, kv_heads=1, head_dim=64, vocab=130, context=16,
                               tied=False, act="relu2", act_exp=2), True),
    "relu2": (ModelConfig(dim=48, ffn=124, layers=3, heads=8, kv_heads=2, head_dim=16, vocab=77, context=16,
                          act="relu2", act_exp=5, down_norm=True, eps=1e-6), False),
    "untied": (ModelConfig(dim=76, ffn=148, layers=2, heads=6, kv_heads=2, head_dim=16, vocab=300, context=20,
                           tied=False, o_norm=True, theta=5e5), True),
    "head-norms": (ModelConfig(dim=60, ffn=64, layers=2, heads=4, kv_heads=2, head_dim=16, vocab=77, context=20, tied=False,
                               eps=1e-2, theta=1e6, qk_norm=True), True),
    "vector-norms": (ModelConfig(dim=60, ffn=88, layers=2, heads=4, kv_heads=2, head_dim=16, vocab=77, context=20, tied=False,
                                 eps=1e-4, theta=5e5, vector_norms=True), True),
}
#: Those that each build of several planes takes.
BOARD_FAMILY = [name for name, (config, _) in FAMILY.items() if not config.vector_norms]


def random_model(name: str, seed: int = 0) -> Model:
    """A model of FAMILY with random weights: activations stay of the order of 1."""
    config, gains = FAMILY[name]
    return model_of(config, gains=gains, seed=seed, name=name)


def model_of(config: ModelConfig, *, gains: bool, seed: int = 0, name: str = "random", head_code: int | None = None) -> Model:
    """A model of a configuration with random weights, with or without gains of its norms.

    ``head_code``: the largest code of its tables; without, that of :func:`tellme.models.int8.table_code`.
    """
    rng = np.random.default_rng([seed, *name.encode()])
    layers = []
    for _ in range(config.layers):
        weights = {n: rng.integers(-1, 2, config.shape(n)).astype(np.int8) for n in LINEARS}
        scales = {n: scale_from_fraction(float(rng.uniform(0.5, 2) / config.shape(n)[1] ** 0.5)) for n in LINEARS}
        own = [n for n in NORMS if gains and config.has_norm(n)]
        layers.append(Layer(weights, scales,
                            {n: rng.uniform(0.5, 1.5, config.norm_width(n)).astype(np.float16) for n in own}))
    tables = [int8_rows(rng.normal(size=(config.vocab, config.dim)), head_code or table_code(config, table))
              for table in ("embedding", "head")]
    final = rng.uniform(0.5, 1.5, config.dim).astype(np.float16) if gains else None
    return Model(config, layers, *tables[0], final, *((None, None) if config.tied else tables[1]), name=name)


def even_model(vocab: int = 128, context: int = 32) -> Model:
    """A small model whose logits lie close together, so that many tokens can be drawn at temperature 1."""
    config = ModelConfig(dim=64, ffn=64, layers=2, heads=4, kv_heads=4, head_dim=16, vocab=vocab, context=context, tied=False)
    model = model_of(config, gains=True, name=f"even-{vocab}")
    assert model.final_gain is not None
    model.final_gain = (model.final_gain / 8).astype(np.float16)
    return model


def with_several_scales(model: Model, seed: int = 0) -> Model:
    """The model with row blocks of every kind: halves, blocks of odd lengths, a scale a row, of tiles and across them."""
    rng = np.random.default_rng(seed)
    kinds = cycle((2, 3, None, 7, 1))
    for layer in model.layers:
        for name in LINEARS:
            scale, rows, parts = layer.blocks(name)[0].scale, len(layer.weights[name]), next(kinds)
            inner = range(1, rows) if parts is None else sorted(rng.choice(np.arange(1, rows), parts - 1, False))
            layer.scales[name] = tuple(
                Block(int(end - first), Scale(int(rng.integers(1024, 2048)), scale.exp + int(rng.integers(-1, 2))))
                for first, end in pairwise([0, *inner, rows]))
    return model


def with_head_codes(model: Model, most: int, seed: int = 0) -> Model:
    """The model with a drawn head, or embedding of a tied model, whose codes go up to ``most`` in each row: 127 as in files of
    before :data:`tellme.spec.packing.HEAD_CODE`."""
    codes = np.random.default_rng(seed).integers(-most, most + 1, (model.config.vocab, model.config.dim)).astype(np.int8)
    codes[:, 0] = most
    if model.config.tied:
        model.embedding = codes
    else:
        model.head = codes
    return model


def with_biases(model: Model, seed: int = 0) -> Model:
    """The model with biases on some matrices of each layer."""
    rng = np.random.default_rng(seed)
    for i, layer in enumerate(model.layers):
        for name in LINEARS[i % 2::2]:
            layer.biases[name] = rng.normal(size=len(layer.weights[name])).astype(np.float16)
    return model


def with_planes(model: Model, seed: int = 0) -> Model:
    """The model with new weights of 1 to 5 planes, another number for each matrix of a layer; values stay as large."""
    rng = np.random.default_rng([seed, 9])
    counts = cycle((2, 1, 3, 5, 4))
    for layer in model.layers:
        for name in LINEARS:
            planes = next(counts)
            reach = plane_reach(planes)
            blocks = layer.blocks(name)
            layer.weights[name] = rng.integers(-reach, reach + 1, layer.weights[name].shape).astype(np.int8)
            # Each plane makes the values about three times as large.
            layer.scales[name] = tuple(
                Block(b.rows, scale_from_fraction(b.scale.value() / round(((9**planes - 1) / 8) ** 0.5))) for b in blocks)
            if planes > 1:
                layer.planes[name] = planes
    return model


def with_groups(model: Model, seed: int = 0) -> Model:
    """The model with column groups in most matrices of each layer, of another number of slices each, and multipliers of -128 to
    127; values stay as large."""
    rng = np.random.default_rng([seed, 11])
    sizes = cycle((1, 3, 0, 2, 4, 0, 6, 255, 1))
    for layer in model.layers:
        for name in LINEARS:
            size, (rows, cols) = next(sizes), layer.weights[name].shape
            if not size:
                continue
            values = rng.integers(-128, 128, (layer.planes.get(name, 1), groups_of(cols, size), rows)).astype(np.int8)
            values[:, :, :2] = [-128, 127]
            layer.multipliers[name] = Multipliers(size, values)
            # Multipliers spread as 74, and the planes that were tied as powers of three.
            planes = layer.planes.get(name, 1)
            larger = 74 * (planes / ((9**planes - 1) / 8)) ** 0.5
            layer.scales[name] = tuple(Block(b.rows, scale_from_fraction(float(b.scale.value()) / larger))
                                       for b in layer.blocks(name))
    return model


def with_row_scales(model: Model, seed: int = 0) -> Model:
    """The model with a scale of its own for each row of each matrix."""
    rng = np.random.default_rng([seed, 7])
    for layer in model.layers:
        for name in LINEARS:
            exp = layer.blocks(name)[0].scale.exp
            layer.scales[name] = tuple(Block(1, Scale(int(rng.integers(1024, 2048)), exp + int(rng.integers(-1, 1))))
                                       for _ in layer.weights[name])
    return model


def worth(layer: Layer, name: str) -> np.ndarray:
    """The integers that a matrix multiplies with: its codes, or what their trits are worth."""
    codes = layer.weights[name]
    if name not in layer.multipliers:
        return codes
    size, values = layer.multipliers[name]
    planes = layer.planes.get(name, 1)
    trits = (codes.astype(int) + plane_reach(planes)) // 3 ** np.arange(planes)[:, None, None] % 3 - 1
    group_of = np.arange(codes.shape[1]) // (20 * size)
    return (trits * values.astype(int)[:, group_of].transpose(0, 2, 1)).sum(axis=0)


def rows_of(model: Model, layer: int) -> dict[str, tuple[list, ...]]:
    """Step -> (weights, scale of each row, bias of each row or None, planes of each row) in the engine's order, by hand.

    Weights of a matrix with column groups are what its codes' trits are worth.
    """
    c, part = model.config, model.layers[layer]

    def parts(name: str, more: int = 0) -> tuple[list, ...]:
        scales = [b.scale._replace(exp=b.scale.exp + more) for b in part.blocks(name) for _ in range(b.rows)]
        own = part.biases.get(name)
        return (worth(part, name).tolist(), scales, [None] * len(scales) if own is None else own.view(np.uint16).tolist(),
                [part.planes.get(name, 1)] * len(scales))

    def alternating(even: tuple[list, ...], odd: tuple[list, ...]) -> tuple[list, ...]:
        return tuple([item for pair in zip(*both, strict=True) for item in pair] for both in zip(even, odd, strict=True))

    weights, scales, biases, planes = alternating(parts("w1"), parts("w3"))
    qkv = ({name[1]: parts(name) for name in ("wq", "wk", "wv")} if c.vector_norms else
           {"qkv": tuple(sum(lists, []) for lists in zip(parts("wq"), parts("wk"), parts("wv"), strict=True))})
    return {**qkv, "o": parts("wo"), "gate_up": (weights, scales, biases, [max(planes[:2])] * len(planes)),
            "down": parts("w2", 0 if c.down_norm else c.act_exp)}
