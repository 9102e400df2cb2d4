# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Pieces that the float units share: a pipeline with one clock enable, unpacking, rounding."""

from collections.abc import Callable
from typing import NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from tellme.spec.formats import FloatFormat

__all__ = ["Landing", "Pipeline", "Queue", "Skid", "StreamUnit", "Unpacked", "leading_zeros", "registers", "round_float",
           "unpack"]


class Pipeline:
    """Registers that move together when ``ce`` is high.

    They have no reset, which would have to reach each of them in a cycle: a reset lasts until what they hold has left
    (hw.core.processor.RESET_CYCLES).  ``resets`` is for a flag on which ``ce`` depends.
    """

    def __init__(self, m: Module, ce: Value):
        self.m = m
        self.ce = ce

    def reg(self, value, *, stages: int = 1, name: str = "stage", resets: bool = False) -> Signal:
        """``value``, ``stages`` registers later."""
        value = Value.cast(value)
        for i in range(stages):
            register = Signal(value.shape(), name=f"{name}{i}" if stages > 1 else name, reset_less=not resets)
            with self.m.If(self.ce):
                self.m.d.sync += register.eq(value)
            value = register
        return value


def registers(m: Module) -> tuple[Callable[..., Signal], Callable[..., Signal]]:
    """``register(value, name)``, the value a cycle later, and ``later(value, cycles, name)``; without reset, see Pipeline."""
    pipe = Pipeline(m, Const(1))
    return (lambda value, name: pipe.reg(value, name=name),
            lambda value, cycles, name: pipe.reg(value, stages=cycles, name=name))


class StreamUnit(wiring.Component):
    """A unit of LATENCY stages between streams ``i`` and ``o``, initiation interval 1.

    The whole unit moves when its last stage is empty or taken, and stands still otherwise: valid never waits for
    ready, and a payload stays until it is taken.
    """

    LATENCY: int

    def __init__(self, i_shape, o_shape):
        super().__init__({"i": In(stream.Signature(i_shape)), "o": Out(stream.Signature(o_shape))})

    def pipeline(self, m: Module) -> Pipeline:
        """Handshake and clock enable."""
        ce = Signal()
        pipe = Pipeline(m, ce)
        m.d.comb += [ce.eq(~self.o.valid | self.o.ready), self.i.ready.eq(ce),
                     self.o.valid.eq(pipe.reg(self.i.valid, stages=self.LATENCY, name="valid", resets=True))]
        return pipe


class Skid(wiring.Component):
    """Two places between streams, so that ready does not run through: one cycle more, nothing lost at a stall."""

    def __init__(self, shape):
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        size = len(Value.cast(self.i.payload))
        held, payload, full = Signal(size, reset_less=True), Signal(size, reset_less=True), Signal()
        m.d.comb += [self.i.ready.eq(~full), self.o.payload.eq(payload)]
        free = ~self.o.valid | self.o.ready
        with m.If(free):
            m.d.sync += [self.o.valid.eq(self.i.valid | full), full.eq(0),
                         payload.eq(Mux(full, held, Value.cast(self.i.payload)))]
        with m.Elif(self.i.valid & ~full):
            m.d.sync += [held.eq(self.i.payload), full.eq(1)]
        return m


class Queue(wiring.Component):
    """A small queue between streams in LUT RAM, whose valid and ready are known from registers.

    Where a Skid's ready moves all its bits, this one's moves a pointer.  A cycle from ``i`` to ``o``, one element a cycle.
    ``level`` is the number of elements in it.
    """

    def __init__(self, shape, *, depth: int = 4):
        self._depth = depth
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)), "level": Out(range(depth + 1))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = fifo.SyncFIFO(width=len(Value.cast(self.i.payload)), depth=self._depth)
        m.d.comb += [queue.w_data.eq(self.i.payload), queue.w_en.eq(self.i.valid), self.i.ready.eq(queue.w_rdy),
                     self.o.payload.eq(queue.r_data), queue.r_en.eq(self.o.ready), self.level.eq(queue.level)]
        # What r_rdy is, but a register.
        m.d.sync += self.o.valid.eq((queue.w_en & queue.w_rdy) | (queue.level > 1) | ((queue.level == 1) & ~queue.r_en))
        return m


class Landing(wiring.Component):
    """The end of a pipeline that cannot be stopped: a queue, and a count of what is on its way to it.

    ``sent`` marks an element that sets out, in a cycle in which ``open`` is high or, where elements come in a ``burst``, in one
    of the burst - 1 cycles behind it; ``valid`` with ``value`` that it is here, in the order of setting out, some cycles later.
    There is always room for it.  ``empty``: nothing is here or on its way.  An element a cycle where ``depth`` is at least its
    way, the burst's length and five more.  ``o`` and ``open`` come from registers.
    """

    def __init__(self, shape, *, depth: int, burst: int = 1):
        self._shape, self._depth, self._burst = shape, depth, burst
        super().__init__({"sent": In(1), "open": Out(1, init=1), "valid": In(1), "value": In(shape),
                          "o": Out(stream.Signature(shape)), "empty": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = fifo.SyncFIFO(width=len(Value.cast(self.value)), depth=self._depth)
        m.submodules.skid = skid = Skid(self._shape)
        under_way, sent = Signal(range(self._depth + 1)), Signal()
        m.d.comb += [queue.w_data.eq(self.value), queue.w_en.eq(self.valid), skid.i.payload.eq(queue.r_data),
                     skid.i.valid.eq(queue.r_rdy), queue.r_en.eq(skid.i.ready), self.empty.eq((under_way == 0) & ~sent)]
        wiring.connect(m, skid.o, wiring.flipped(self.o))
        # Of three cycles, the last of them a burst's first, it does not know yet what they send.
        m.d.sync += [sent.eq(self.sent), under_way.eq(under_way + sent - (self.o.valid & self.o.ready)),
                     self.open.eq(under_way <= self._depth - 2 - self._burst)]
        return m


class Unpacked(NamedTuple):
    """A float as (-1)**sign * sig * 2**(exp - 1 + min_exp): sig has frac_bits + 1 bits, exp is at least 1."""

    sign: Value
    sig: Value
    exp: Value
    inf: Value
    nan: Value
    zero: Value


def unpack(bits, fmt: FloatFormat) -> Unpacked:
    """Fields of a float."""
    bits = Value.cast(bits)
    frac = bits[:fmt.frac_bits]
    field = bits[fmt.frac_bits:fmt.frac_bits + fmt.exp_bits]
    normal = field != 0
    top = field == fmt.exp_max
    return Unpacked(bits[-1], Cat(frac, normal), Mux(normal, field, 1), top & (frac == 0), top & (frac != 0),
                    ~normal & (frac == 0))


def leading_zeros(m: Module, value: Value) -> Signal:
    """Number of zeros above the first one, as a tree of halves; for 0 the next power of two."""
    levels = max(1, (len(value) - 1).bit_length())
    padded = Cat(Const(0, (1 << levels) - len(value)), value)
    # Of each block: its count, and whether it holds a one.
    counts, ones = [Const(0, 1)] * len(padded), [padded[i] for i in range(len(padded))]
    for level in range(levels):
        next_counts, next_ones = [], []
        for low in range(0, len(counts), 2):
            one = Signal(name=f"one{level}_{low}")
            count = Signal(level + 1, name=f"zeros{level}_{low}")
            inner = [c[:level] if level else Const(0, 0) for c in counts[low:low + 2]]
            m.d.comb += [one.eq(ones[low] | ones[low + 1]),
                         count.eq(Cat(Mux(ones[low + 1], inner[1], inner[0]), ~ones[low + 1]))]
            next_counts.append(count)
            next_ones.append(one)
        counts, ones = next_counts, next_ones
    return counts[0]


#: Stages of :func:`round_float`.
ROUND_STAGES = 4


def round_float(pipe: Pipeline, fmt: FloatFormat, *, sign, magnitude, exp, inf, nan) -> tuple[Signal, Signal]:
    """(-1)**sign * magnitude * 2**exp rounded half to even; (bits, nonfinite) ROUND_STAGES later.

    ``magnitude`` is an unsigned integer whose least significant bit may stand for all that was cut off (sticky) if
    there are two more bits below the last kept one; ``exp`` is signed.  A magnitude of zero gives a zero of that sign.
    """
    m = pipe.m
    magnitude = Value.cast(magnitude)
    kept = fmt.frac_bits + 1
    width = max(len(magnitude), kept + 2)
    # 1: how many leading zeros
    wide = Signal(width)
    m.d.comb += wide.eq(magnitude << (width - len(magnitude)))
    count = leading_zeros(m, wide)
    exp = Value.cast(exp)
    # Weight of the lowest bit of ``wide``, then relative to the subnormals' lowest bit.
    exp1 = pipe.reg(exp - (width - len(magnitude)) - fmt.min_exp, name="exp1")
    wide1, count1 = pipe.reg(wide, name="wide1"), pipe.reg(count, name="count1")
    flags1 = pipe.reg(Cat(sign, inf, nan), name="flags1")
    # 2: leading one to the top; the kept significand's lowest bit then weighs lsb, with 1 for the subnormals'
    lsb = Signal(signed(max(len(exp1), len(count1)) + 2))
    m.d.comb += lsb.eq(exp1 - count1 + (width - kept) + 1)
    top2 = pipe.reg((wide1 << count1)[:width], name="top2")
    lsb2 = pipe.reg(lsb, name="lsb2")
    flags2 = pipe.reg(flags1, name="flags2")
    # Subnormals move down by 1 - lsb: a sum of its own, beside that of lsb.
    below = Signal(signed(len(lsb) + 1))
    moves = Signal(range(kept + 3))
    m.d.comb += [below.eq(count1 - exp1 - (width - kept)),
                 moves.eq(Mux(below[-1], 0, Mux(below > kept + 1, kept + 2, below[:len(moves)])))]
    down = pipe.reg(moves, name="down")
    # 3: what falls off stays as sticky
    body = Signal(kept + 2)
    rest = top2[:width - kept - 1]
    m.d.comb += body.eq(Cat(rest.any(), top2[width - kept - 1:]))
    moved = Signal(kept + 2)
    lost = Signal()
    mask = Signal(kept + 2)
    m.d.comb += [moved.eq(body >> down), mask.eq((Const(1, kept + 3) << down) - 1), lost.eq((body & mask).any())]
    value3 = pipe.reg(Cat(moved[0] | lost, moved[1:]), name="value3")
    too_big = lsb2 > fmt.exp_max - 1
    field3 = pipe.reg(Mux(lsb2 < 1, 1, Mux(too_big, fmt.exp_max, lsb2))[:fmt.exp_bits], name="field3")
    flags3 = pipe.reg(Cat(flags2, too_big & top2[-1]), name="flags3")
    # 4: round; a carry moves on into the exponent field
    value, sticky, guard = value3[2:], value3[0], value3[1]
    up = guard & (sticky | value[0])
    packed = Signal(fmt.width)
    m.d.comb += packed.eq(Cat(value[:fmt.frac_bits], Mux(value[-1], field3, 0)) + up)
    overflow = flags3[3] | (packed[:fmt.width - 1] >= fmt.inf)
    is_inf = flags3[1] | overflow
    bits = Mux(flags3[2], fmt.nan, Cat(Mux(is_inf, Const(fmt.inf, fmt.width - 1), packed[:fmt.width - 1]), flags3[0]))
    return pipe.reg(bits, name="rounded"), pipe.reg(flags3[2] | is_inf, name="nonfinite")
