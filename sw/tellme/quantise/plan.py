# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""How many planes each matrix gets, and the bytes that a model then takes in a board's memory."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tellme.compiler.image import kv_bytes
from tellme.errors import InputError
from tellme.models.config import LINEARS, ModelConfig
from tellme.spec.packing import (
    HEAD_BLOCK_ROWS,
    ROW_WORD_BYTES,
    SLICE,
    SLICE_BYTES,
    TRITS,
    groups_of,
    head_block_words,
    planes_for,
    slices,
)

__all__ = ["GOOD_START", "UNITS", "Plan", "auto_plan", "fixed_planes"]

#: Planes that are a good start: three where the residual stream is written and in v, two elsewhere.
GOOD_START = {"wq": 2, "wk": 2, "wv": 3, "wo": 3, "w1": 2, "w3": 2, "w2": 3}
#: Matrices that get as many planes as one another: rows of gate and up alternate in the same tiles.
UNITS: tuple[tuple[str, ...], ...] = (("wq",), ("wk",), ("wv",), ("wo",), ("w1", "w3"), ("w2",))
#: Planes that ``auto`` gives at most: more hold no more than int8 activations do.
_MOST_AUTO = 4
#: A plane more leaves a third of the step, and so a ninth of the error's power.
_POWER_OF_A_PLANE = 9.0


@dataclass(frozen=True)
class Plan:
    """Planes of each layer's matrices; columns of a group with multipliers, or 0; the LM head's largest code."""

    config: ModelConfig
    planes: tuple[Mapping[str, int], ...]
    group: int
    head_code: int

    @property
    def bits_a_weight(self) -> float:
        """Bits of trits and multipliers a weight, as ``inspect`` counts them."""
        c = self.config
        total = 0.0
        for layer in self.planes:
            for name, planes in layer.items():
                rows, cols = c.shape(name)
                total += 8 / TRITS * rows * cols * planes + 8 * self._multipliers(name, planes)
        return total / c.ternary_weights

    def _multipliers(self, name: str, planes: int) -> int:
        rows, cols = self.config.shape(name)
        return planes * rows * groups_of(cols, self.group // SLICE) if self.group else 0

    @property
    def memory(self) -> int:
        """Bytes in a board's memory: matrices with their rows' words, embedding and LM head, KV cache and RoPE's tables."""
        c = self.config
        matrices = sum(rows * (planes * slices(cols) * SLICE_BYTES + ROW_WORD_BYTES) + self._multipliers(name, planes)
                       for layer in self.planes for name, planes in layer.items() for rows, cols in (c.shape(name),))
        embedding = 8 * head_block_words(c.dim) * -(-c.vocab // HEAD_BLOCK_ROWS)
        head = c.vocab * (planes_for(self.head_code) * slices(c.dim) * SLICE_BYTES + ROW_WORD_BYTES)
        return matrices + embedding + head + c.context * (kv_bytes(c) + 2 * c.head_dim)

    def as_json(self) -> dict[str, object]:
        """For ``--json``."""
        return {"bits_a_weight": round(self.bits_a_weight, 4), "memory": self.memory, "group": self.group,
                "planes": {name: [layer[name] for layer in self.planes] for name in LINEARS}}

    def shares(self) -> dict[str, dict[int, int]]:
        """Name of a matrix -> number of planes -> layers in which it has so many."""
        found: dict[str, dict[int, int]] = {}
        for name in LINEARS:
            counts = [layer[name] for layer in self.planes]
            found[name] = {planes: counts.count(planes) for planes in sorted(set(counts))}
        return found


def fixed_planes(config: ModelConfig, base: int, named: Mapping[str, int]) -> tuple[Mapping[str, int], ...]:
    """The same planes in each layer."""
    return tuple(dict.fromkeys(LINEARS, base) | dict(named) for _ in range(config.layers))


def _expected_harm(config: ModelConfig) -> list[dict[str, float]]:
    """What harm is taken for where none was measured: the weights of a part, by which GOOD_START is the plan of its budget."""
    return [{unit[0]: sum(GOOD_START[name] * math.prod(config.shape(name)) for name in unit) for unit in UNITS}] * config.layers


def auto_plan(config: ModelConfig, harm: Sequence[Mapping[str, float]] | None, named: Mapping[str, int], *, group: int,
              head_code: int, bits: float | None = None, memory: int | None = None) -> Plan:
    """Planes within a budget, where they help most.

    ``harm``: for each layer and first name of UNITS the loss that three planes cost there; a plane more is taken to cost a ninth.
    None: nothing was measured, and planes go where they mostly help.  ``named``: matrices whose planes are given.  The budget is
    ``bits`` a weight, or ``memory`` bytes, or both; without them that of GOOD_START.  A budget that one plane a matrix passes is
    an InputError.
    """
    planes = [dict.fromkeys(LINEARS, 1) | dict(named) for _ in range(config.layers)]
    worth = _expected_harm(config) if harm is None else harm

    def plan() -> Plan:
        return Plan(config, tuple(planes), group, head_code)

    if bits is None and memory is None:
        bits = Plan(config, fixed_planes(config, 2, GOOD_START | dict(named)), group, head_code).bits_a_weight
    least = plan()
    if bits is not None and least.bits_a_weight > bits:
        raise InputError(f"a budget of {bits:g} bits a weight is too small: the fewest planes take {least.bits_a_weight:.2f}")
    if memory is not None and least.memory > memory:
        raise InputError(f"a budget of {memory} bytes is too small: with the fewest planes the model takes {least.memory} in a "
                         f"board's memory, {config.context * kv_bytes(config)} of them for a context of {config.context}",
                         hint="context")
    # What a plane costs, in the two budgets.
    spent_bits, spent = least.bits_a_weight, least.memory
    waiting = [(layer, unit) for layer in range(config.layers) for unit in UNITS if unit[0] not in named]
    while waiting:
        best: tuple[float, int, tuple[str, ...], float, int] | None = None
        for layer, unit in waiting:
            now = planes[layer][unit[0]]
            more_bits, more = 0.0, 0
            for name in unit:
                rows, cols = config.shape(name)
                multipliers = rows * groups_of(cols, group // SLICE) if group else 0
                more_bits += (8 / TRITS * rows * cols + 8 * multipliers) / config.ternary_weights
                more += rows * slices(cols) * SLICE_BYTES + multipliers
            if (bits is not None and spent_bits + more_bits > bits + 1e-9) or (memory is not None and spent + more > memory):
                continue
            gain = worth[layer][unit[0]] * _POWER_OF_A_PLANE ** (3 - now) / more
            if best is None or gain > best[0]:
                best = gain, layer, unit, more_bits, more
        if best is None:
            break
        _, layer, unit, more_bits, more = best
        for name in unit:
            planes[layer][name] += 1
        spent_bits, spent = spent_bits + more_bits, spent + more
        if planes[layer][unit[0]] == _MOST_AUTO:
            waiting.remove((layer, unit))
    return plan()
