# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Analytic model of memories: what a configuration needs in block RAM and multipliers, and whether a device has it.

After TeLLMe v2 section 3.4: the weight buffer is made of URAM-like blocks, here 512 words of 72 bits in two EBR (18 Kb
each, 512 x 36).  Where the paper's buffer holds the largest matrix, this one only has to bridge the memory's pauses.
"""

from dataclasses import dataclass
from math import ceil

from tellme.spec.config import BoardConfig
from tellme.spec.packing import SLICE_BYTES

__all__ = ["BLOCK_WORDS", "DEVICES", "Device", "SizingError", "WeightBufferSize", "check", "dsp", "ebr", "weight_buffer"]

#: 64-bit words of a weight buffer block.
BLOCK_WORDS = 512
BLOCK_BYTES = 8 * BLOCK_WORDS
EBR_PER_BLOCK = 2
#: Words that the manager asks for at a time, 64 bits each.
BURST_WORDS = 64
#: Fabric cycles for which the weight port may be kept waiting: refresh, a row change, a chunk of each other port.
PAUSE_CYCLES = 200


class SizingError(ValueError):
    """A configuration that does not fit; the text names what, and both numbers."""


@dataclass(frozen=True)
class Device:
    """Block RAMs (18 Kb) and 18x18 multipliers."""

    ebr: int
    dsp: int


DEVICES = {"12f": Device(56, 28), "25f": Device(56, 28), "45f": Device(108, 72), "85f": Device(208, 156)}


@dataclass(frozen=True)
class WeightBufferSize:
    """Blocks of 72 bits, their 64-bit words in all, and how many of them the engine may eat while the memory pauses."""

    blocks: int
    words: int
    ahead: int


def weight_buffer(config: BoardConfig) -> WeightBufferSize:
    """Size of the weight buffer.

    It must hold a burst on its way in, and what the engine eats at decode_rows * 4 bytes a cycle during a pause:
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


def ebr(config: BoardConfig) -> dict[str, int]:
    """Block RAMs by unit, as 512 x 36, 1,024 x 18 or 2,048 x 9."""
    c = config
    return {
        "weights": EBR_PER_BLOCK * weight_buffer(c).blocks,
        # A lane's codes and accumulators; the byte ROMs, two ports each.
        "tlmm": c.lanes * (ceil(c.padded_cols / 2048) + ceil(c.tile_rows / 512)) + 4,
        # X, A, gains of four, RoPE row, head banks; tables: 127 / absmax twice, 1 / rms, sigmoid.
        "fused": ceil(c.max_dim / 1024) + ceil(c.max_cols / 1024) + 2 * ceil(c.max_cols / 4 / 512) + 2 + 2 + 2 + 1,
        # q and scores a head of the group, K and V scales; tables: exp2, 127 / sum.
        "attention": c.max_group * (1 + ceil(c.max_context / 1024)) + ceil(c.max_context / 512) + 2,
        "head": 3,
        "core": ceil(4 * c.program_steps / 512) + ceil(c.max_context / 1024) + ceil(c.program_steps / 512),
        "sdram": 5,
        "link": 3,
    }


def dsp(config: BoardConfig) -> dict[str, int]:
    """Multipliers by unit."""
    return {"fused": 17, "attention": 8 * config.max_group + 6, "head": 8 + 4, "core": 4}


def check(config: BoardConfig, device: str) -> None:
    """Refuse a configuration that a device cannot hold, by name and number."""
    if device not in DEVICES:
        raise SizingError(f"no device is called {device!r}; there are: {', '.join(DEVICES)}")
    have = DEVICES[device]
    for what, needs, limit in (("EBR", ebr(config), have.ebr), ("multipliers", dsp(config), have.dsp)):
        total = sum(needs.values())
        if total > limit:
            parts = ", ".join(f"{unit} {n}" for unit, n in needs.items())
            raise SizingError(f"{what}: {config.name} needs {total}, the {device} has {limit} ({parts})")
