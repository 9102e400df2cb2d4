# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Properties that many units share: a stream's rules, order and number of what passes, and bounded waits."""

from typing import Any

from amaranth.hdl import Mux, Signal, Value

from formal.harness import Harness

__all__ = ["Order", "moves", "offers", "stays", "waits"]


def moves(stream: Any) -> Value:
    """An element passes."""
    return stream.valid & stream.ready


def offers(h: Harness, stream: Any, name: str, *, ready: bool = False) -> None:
    """A well-behaved neighbour feeds the stream: what it offers stays until it is taken."""
    h.drive(stream.payload, f"{name}_payload")
    h.drive(stream.valid, f"{name}_valid")
    waiting, payload = h.before(stream.valid & ~stream.ready, f"{name}_waiting"), h.before(stream.payload, f"{name}_payload")
    h.assume(stream.valid & (Value.cast(stream.payload) == payload), waiting)


def stays(h: Harness, stream: Any, name: str) -> None:
    """valid stays until it is taken, and the payload with it."""
    waiting, payload = h.before(stream.valid & ~stream.ready, f"{name}_waits"), h.before(stream.payload, f"{name}_waits_payload")
    h.holds(stream.valid & (Value.cast(stream.payload) == payload), waiting)


def waits(h: Harness, condition: Value, limit: int, name: str) -> Signal:
    """``condition``, in which a unit lets a neighbour wait, lasts at most ``limit`` cycles.  The cycles that it lasts so far."""
    count = h.cycles(condition, limit + 1, name)
    h.holds(count <= limit)
    return count


class Order:
    """Each element that enters leaves once, in the order in which they entered, as it was.

    The solver picks any element that enters (``tracked``), of which the number of elements before it (``ahead``) and the payload
    (``value``) are kept.  ``count`` elements are inside, at most ``most``.  Where ``count`` elements are gone, none leaves; where
    the tracked one is the next, it leaves as it was.  So the n-th to leave is the n-th that entered, for each n.  That none stays
    inside for ever is a property of its own (:func:`waits`).  ``passes``: an element may leave in the cycle in which it enters.
    ``fills``: that all places are taken is to be covered.
    """

    def __init__(self, h: Harness, enters: Value, payload: Any, offered: Value, leaves: Value, left: Any, *, most: int,
                 name: str = "order", passes: bool = False, fills: bool = True):
        m = h.m
        payload, left = Value.cast(payload), Value.cast(left)
        self.count, self.ahead = Signal(range(most + 2), name=f"{name}_count"), Signal(range(most + 2), name=f"{name}_ahead")
        self.tracked, self.value = Signal(name=f"{name}_tracked"), Signal(payload.shape(), name=f"{name}_value")
        count, ahead, tracked, value = self.count, self.ahead, self.tracked, self.value
        pick = h.free(1, f"{name}_pick")
        m.d.sync += count.eq(count + enters - leaves)
        with m.If(tracked & leaves):
            m.d.sync += [tracked.eq(ahead != 0), ahead.eq(ahead - 1)]
        passing = (count == 0) & enters & leaves if passes else None
        fresh = enters & pick & ~tracked
        with m.If(fresh if passing is None else fresh & ~passing):
            m.d.sync += [tracked.eq(1), ahead.eq(count - leaves), value.eq(payload)]
        h.holds(count <= most)
        h.holds((count != 0) | enters if passes else count != 0, offered)
        h.holds(left == value, offered & tracked & (ahead == 0))
        if passing is not None:
            h.holds(left == payload, offered & enters & (count == 0))
        # For the induction.
        h.holds(ahead < count, tracked)
        h.cover(tracked & leaves & (ahead == 0) & (value != 0))
        if most > 1 and fills:
            h.cover(count == most)
        # The place of the tracked one counted from the last.
        self.behind = Mux(tracked, count - 1 - ahead, 0)
