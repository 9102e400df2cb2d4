# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Analytic model: what a configuration needs in LUT, block RAM and multipliers, and whether a device has it.

The weight buffer follows TeLLMe v2 section 3.4: it is made of URAM-like blocks, here 512 words of 72 bits in two EBR (18 Kb each,
512 x 36).  The paper's buffer holds the largest matrix; this buffer only has to bridge the memory's pauses.

Block RAMs and multipliers are counted from what the units declare.  LUT (nextpnr's TRELLIS_COMB, including carry chains and LUT
RAM) are a sum of terms for each unit, :func:`lut_terms`.  :mod:`boards.study.fit` finds the terms' coefficients by least squares
from what nextpnr packs.  The fit does not see the presets; the model is within 15 % of what nextpnr packs for them.
"""

from dataclasses import dataclass
from math import ceil

from tellme.spec.config import CoreConfig
from tellme.spec.lut_table import LUT
from tellme.spec.memory import TOP_ENTRIES
from tellme.spec.packing import SLICE_BYTES

__all__ = ["BLOCK_WORDS", "DEVICES", "Device", "SizingError", "WeightBufferSize", "check", "dsp", "ebr", "lut", "lut_terms",
           "vector_parts", "weight_buffer"]

#: Elements of 16 bits of a block RAM.
VECTOR_WORDS = 1024
#: 64-bit words of a weight buffer block.
BLOCK_WORDS = 512
BLOCK_BYTES = 8 * BLOCK_WORDS
EBR_PER_BLOCK = 2
#: Words that the manager asks for at a time, 64 bits each.
BURST_WORDS = 64
#: Fabric cycles for which the weight port may be kept waiting: refresh, a row change, a chunk of each other port.
PAUSE_CYCLES = 200


class SizingError(ValueError):
    """A configuration that does not fit; the text names the resource and both numbers."""


@dataclass(frozen=True)
class Device:
    """LUT4 (TRELLIS_COMB), block RAMs (18 Kb) and 18x18 multipliers."""

    lut: int
    ebr: int
    dsp: int


#: A 12F is a 25F's die.
DEVICES = {"12f": Device(24288, 56, 28), "25f": Device(24288, 56, 28), "45f": Device(43848, 108, 72),
           "85f": Device(83640, 208, 156)}


@dataclass(frozen=True)
class WeightBufferSize:
    """Blocks of 72 bits, the number of 64-bit words in all blocks, and the number of words that the engine may take while the
    memory pauses."""

    blocks: int
    words: int
    ahead: int


def weight_buffer(config: CoreConfig) -> WeightBufferSize:
    """Size of the weight buffer.

    The buffer must hold a burst on its way in, and the words that the engine takes (decode_rows * 4 bytes a cycle) in a pause:
    words >= BURST_WORDS + PAUSE_CYCLES * decode_rows * SLICE_BYTES / 8.
    """
    if config.weight_buffer_bytes <= 0 or config.weight_buffer_bytes % BLOCK_BYTES:
        raise SizingError(f"weight_buffer_bytes is {config.weight_buffer_bytes}; blocks have {BLOCK_BYTES} bytes")
    blocks = config.weight_buffer_bytes // BLOCK_BYTES
    words = blocks * BLOCK_WORDS
    ahead = ceil(PAUSE_CYCLES * config.decode_rows * SLICE_BYTES / 8)
    if words < BURST_WORDS + ahead:
        raise SizingError(f"weight buffer: {words} words, a burst of {BURST_WORDS} and {ahead} eaten in a pause need "
                          f"{BURST_WORDS + ahead}")
    return WeightBufferSize(blocks, words, ahead)


def vector_parts(length: int) -> list[int]:
    """Elements of the memories that a vector of a float pipeline lies in: up to three powers of two, from the largest one down.

    The last one is rounded up.  There are three where the third one saves a block RAM for each token: 6,912 elements are
    4,096 + 2,048 + 1,024, and not 4,096 + 4,096.
    """
    sizes: list[int] = []
    while rest := length - sum(sizes):
        whole, rounded = 1 << rest.bit_length() - 1, 1 << (rest - 1).bit_length()
        saved = rounded - whole - (1 << (rest - whole - 1).bit_length()) if rest > whole else 0
        if sizes and (len(sizes) == 2 or saved < VECTOR_WORDS):
            return [*sizes, rounded]
        sizes.append(whole)
    return sizes


def _vectors(tokens: int, length: int) -> int:
    """Block RAMs of a pipeline's vectors."""
    return sum(ceil(tokens * part / VECTOR_WORDS) for part in vector_parts(length))


def _lists(config: CoreConfig) -> int:
    """Block RAMs of an LM head of several tokens: 64 entries for each token, and 512 candidates for the lists."""
    entries, entry = TOP_ENTRIES * config.head_tokens, 32 + config.widths.token_id_bits
    return ceil(entry / (36 if entries <= 512 else 18)) + ceil((entry + config.widths.head_token_bits) / 36)


def ebr(config: CoreConfig) -> dict[str, int]:
    """Block RAMs by unit, as 512 x 36, 1,024 x 18 or 2,048 x 9."""
    c = config
    # Tokens of a chunk that a float pipeline keeps.
    tokens = ceil(c.chunk / c.float_lanes)
    # Words of four gains: A's, or those of q's and k's heads, lie behind a power of two of X's.
    gains = (1 << (ceil(c.max_dim / 4) - 1).bit_length()) + ceil(max(c.max_cols, c.row_words * 2 * c.max_head_dim) / 4)
    # 32 bits of the words of K and V, a memory each; words of a row.
    parts = c.widths.attention_bits // 32
    words = 1 << (c.max_head_dim // (4 * parts) - 1).bit_length()
    if c.chunk > 1:
        rows = c.max_heads * ceil(c.chunk / c.pes)
        # A PE's q; a token's own K and V rows; a softmax unit's scales and scores; K and V scales, and those of the chunk;
        # tables: exp2, 127 / sum.
        own_rows = ceil(2 * c.max_kv_heads * words / 512) if parts == 1 else 0
        attention = (c.pes * parts * ceil(rows * words / 512) + own_rows
                     + c.exp_units * (1 + ceil(c.pes // c.exp_units * c.max_context / 1024))
                     + parts * ceil(c.max_context / parts / 512) + 2 + 2)
    else:
        # Memories of the group's query heads, and how many heads share one.
        banks, shared = (1, 1 << (c.max_group - 1).bit_length()) if c.compact else (c.max_group, 1)
        # q and scores, K and V scales; tables: exp2, 127 / sum.
        attention = (banks * (ceil(shared * c.max_kv_heads * words / 512) + ceil(shared * c.max_context / 1024))
                     + ceil(c.max_context / 512) + 2)
    return {
        "weights": EBR_PER_BLOCK * weight_buffer(c).blocks,
        # A token's codes; a lane's sums and finished sums; the byte ROMs, two ports each; all lanes' order of a build; a drain's
        # row words; multipliers, eight a word.
        "tlmm": (c.lanes // c.prefill_rows * ceil(c.max_cols / 2048) + 2 * c.lanes + 4 + (c.lanes > 2)
                 + c.row_words * c.float_lanes + 2 * c.multipliers),
        # X, A, gains of four, head banks; tables: 127 / absmax, 1 / rms, sigmoid; rows of RoPE of several tokens.
        "fused": c.float_lanes * (_vectors(tokens, c.max_dim) + _vectors(tokens, c.max_cols)
                                  + 2 * ceil(gains / 512) + 1 + 1 + 2 + 1 + (tokens > 1)),
        "attention": attention,
        # In a compact core the queue of logits, and the best 64; of several tokens the best 64 of each, and the candidates.
        "lm_head": _lists(c) if c.head_tokens > 1 else 1 + 2 if c.compact else 0,
        # The program, in one memory or in one for each word of a descriptor; tokens; CRCs.
        "core": (4 * ceil(c.program_steps / 512) if c.wide_program else ceil(4 * c.program_steps / 512))
                + ceil(c.max_context / 1024) + ceil(c.program_steps / 512),
        # FIFOs of the hub's ports, of which attention has one to itself where it reads words of 64 bits.
        "sdram": (5 + (c.widths.attention_bits > 32)) * ceil(c.word_bits / 36),
        # Packets both ways, the UART's queue.
        "link": 3,
    }


def dsp(config: CoreConfig) -> dict[str, int]:
    """Multipliers by unit.

    fused: dequantise 2, its scale 1, gain 1, RoPE 2, activation 3, sum of squares 1, quantise 2, 127 / absmax 1, 1 / rms
    and its product 2.  attention: four products each of K and V a head of the group; scales, score (a 24-bit dot: 2),
    weight, sums' scale, two addresses; where tokens come in chunks, a product a PE for each value of a word of K or V, and the
    others a softmax unit.  head: scales, logit 2.  core: two addresses, two head sizes.  tlmm: a product a lane, in builds with
    multipliers of column groups.

    A compact core has four products for K and V together, and builds from LUTs what one operand of at most 8 bits and another
    of at most 16 makes (addresses, head sizes, the sigmoid's slope, the lanes' products) or a constant (1 / 127, twice).
    """
    if config.compact:
        return {"fused": 13, "attention": 4 + 4, "lm_head": 3, "core": 1}
    values = config.widths.attention_bits // 8
    attention = values * config.pes + 7 * config.exp_units + 1 if config.chunk > 1 else 8 * config.max_group + 7
    return {"fused": 15 * config.float_lanes, "attention": attention, "lm_head": 3, "core": 4} | (
        {"tlmm": config.lanes} if config.multipliers else {})


def lut_terms(config: CoreConfig) -> dict[str, dict[str, float]]:
    """Unit -> term -> how often it counts.

    tlmm: what all lanes share, a lane (tables, adder tree, sums), the second row's select for two lanes and more, a drain for
    each float pipeline; in builds that take several planes, what planes add to a lane, and row words to a drain; in builds with
    multipliers, what these add to the engine and to a lane.  weights: a FIFO, and a block's address.  fused: a pipeline, and what
    biases add to it.  attention: the unit, a query head of the group (dot, totals, sums in LUT RAM, its place in the muxes).
    core: processor, address space and fetch; the accounts' counters.  top: what lies between the units.  A compact core's fused,
    attention, head and core, and its lanes' multipliers, are terms of their own; its query heads share what else each has for
    itself.  So are those of a core that takes tokens in chunks: its attention has PEs and softmax units.  A wide PE makes eight
    products.  An LM head of several tokens is a unit of its own kind; what the other units have for it is not counted, nor are
    norms behind linears.  Several slots cost the processor, a slot each, and drafted tokens their reader and the processor.
    """
    c = config
    kind = "compact unit" if c.compact else "unit" if c.chunk == 1 else "chunk unit"
    head = "chunk unit" if c.head_tokens > 1 else "compact unit" if c.compact else "unit"
    more = c.float_lanes - 1
    if c.chunk > 1:
        attention: dict[str, float] = {kind: 1, "PE" if c.widths.attention_bits == 32 else "wide PE": c.pes,
                                       "softmax unit": c.exp_units}
    else:
        attention = {kind: 1} if c.compact else {kind: 1, "head of the group": c.max_group}
    planes: dict[str, float] = {"planes of a lane": c.lanes, "row words of a drain": c.float_lanes} if c.row_words else {}
    if c.multipliers:
        planes |= {"multipliers": 1, "multipliers of a compact lane" if c.compact else "multipliers of a lane": c.lanes}
    biases: dict[str, float] = {"biases": c.float_lanes} if c.row_words else {}
    return {
        "tlmm": {"unit": 1, "lane": c.lanes, "second row": int(c.lanes > 1), "second drain": more} | planes,
        "weights": {"unit": 1, "block": weight_buffer(c).blocks},
        "sdram": {"unit": 1},
        "fused": {kind: c.float_lanes} | biases,
        "attention": attention,
        "lm_head": {head: 1},
        "core": {kind: 1, "accounts": int(c.accounts), "slots": int(c.slots > 1), "slot": c.slots if c.slots > 1 else 0,
                 "drafts": int(c.drafts)},
        "link": {"unit": 1},
        "top": {"unit": 1, "second pipeline": more},
    }


def lut(config: CoreConfig) -> dict[str, int]:
    """LUT by unit: terms times the coefficients that were fitted.  A SizingError for terms that have none."""
    counts = {unit: {term: n for term, n in terms.items() if n} for unit, terms in lut_terms(config).items()}
    missing = [f"{unit} ({term})" for unit, terms in counts.items() for term in terms if term not in LUT.get(unit, {})]
    if missing:
        raise SizingError(f"no LUT are known for {', '.join(missing)}; make model finds them")
    return {unit: round(sum(LUT[unit][term] * n for term, n in terms.items())) for unit, terms in counts.items()}


def check(config: CoreConfig, device: str) -> None:
    """Refuse a configuration that a device cannot hold: a SizingError names every resource that is short, with numbers."""
    if device not in DEVICES:
        raise SizingError(f"no device is called {device!r}; there are: {', '.join(DEVICES)}")
    have = DEVICES[device]
    short = []
    for what, needs, limit in (("LUT", lut(config), have.lut), ("EBR", ebr(config), have.ebr),
                               ("multipliers", dsp(config), have.dsp)):
        total = sum(needs.values())
        if total > limit:
            parts = ", ".join(f"{unit} {n}" for unit, n in needs.items())
            short.append(f"{what}: {config.name} needs {total}, the {device} has {limit} ({parts})")
    if short:
        raise SizingError("; ".join(short))
