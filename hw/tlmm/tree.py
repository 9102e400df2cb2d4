# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A pipelined sum of terms with signs, in which no negation costs a LUT."""

from collections.abc import Sequence
from typing import NamedTuple

from amaranth.hdl import Const, Module, Signal, Value, signed

from hw.tlmm.carry import AddOf, add_table, extend, mask

__all__ = ["Term", "signed_sum", "stages"]

#: Both operands complemented under their signs; or just added.
SIGNED = add_table(lambda a, b: a ^ b, lambda a, b, c, d: c ^ d)
PLAIN = add_table(lambda a, b: a, lambda a, b, c, d: c)


class Term(NamedTuple):
    """A registered number from ``low`` to ``high``; where ``sign`` is 1 its negative counts."""

    value: Signal
    sign: Value
    low: int
    high: int


class Node(NamedTuple):
    """A partial sum, and the signs whose +1 is still missing in it (-v = ~v + 1)."""

    value: Signal
    low: int
    high: int
    missing: tuple[Value, ...]


def bits(low: int, high: int) -> int:
    return max(high.bit_length(), (-low - 1).bit_length()) + 1


def stages(terms: int) -> int:
    """Registers between the terms and the sum of :func:`signed_sum`: also one for each +1 left over at the end."""
    count, missing = (terms + 1) // 2, [1] * (terms // 2) + [0] * (terms % 2)
    depth = 1
    while count > 1 or missing[0]:
        merged = [max(sum(missing[i:i + 2]) - 1, 0) for i in range(0, count, 2)]
        count, missing, depth = len(merged), merged, depth + 1
    return depth


def signed_sum(m: Module, terms: list[Term], prefix: str) -> Signal:
    """The sum of all terms under their signs, :func:`stages` cycles later; initiation interval 1.

    The lowest adders complement both of their operands (one LUT a bit with the addition).  Every adder can add one bit
    more, and takes up one of the signs whose +1 is missing; where a node has no partner, an adder of its own does.
    ``prefix`` begins the names.
    """
    nodes: list[Node] = []
    for level in range(stages(len(terms))):
        following: list[Node] = []
        for at in range(0, len(terms) if level == 0 else len(nodes), 2):
            name = f"{prefix}_{level}_{at // 2}"
            pair: Sequence[Term | Node] = terms[at:at + 2] if level == 0 else nodes[at:at + 2]
            missing = tuple(sign for n in pair for sign in (n.missing if isinstance(n, Node) else (n.sign,)))
            low, high = sum(n.low for n in pair), sum(n.high for n in pair)
            injected, *rest = missing or (None,)
            if level == 0:
                # The complement of low..high is -high - 1..-low - 1.
                low, high = sum(min(t.low, -t.high - 1) for t in pair), sum(max(t.high, -t.low - 1) for t in pair)
            high += injected is not None
            width = bits(low, high)
            value = Signal(signed(width), name=name, reset_less=True)
            if len(pair) == 1 and injected is None:
                m.d.sync += value.eq(pair[0].value)
            else:
                m.submodules[name] = add = AddOf(width=width, table=SIGNED if level == 0 else PLAIN)
                m.d.comb += [add.a.eq(extend(pair[0].value, width)), add.i.eq(0 if injected is None else injected)]
                if len(pair) == 2:
                    m.d.comb += add.c.eq(extend(pair[1].value, width))
                if level == 0:
                    m.d.comb += [port.eq(mask(term.sign, width)) for port, term in zip((add.b, add.d), terms[at:at + 2],
                                                                                          strict=False)]
                else:
                    m.d.comb += add.d.eq(Const(-1, signed(width)))
                m.d.sync += value.eq(add.s)
            delayed = []
            for n, sign in enumerate(rest):
                later = Signal(name=f"{name}_lacks{n}", reset_less=True)
                m.d.sync += later.eq(sign)
                delayed.append(later)
            following.append(Node(value, low, high, tuple(delayed)))
        nodes = following
    (root,) = nodes
    assert not root.missing
    return root.value
