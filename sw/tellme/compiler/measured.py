# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What decoding was measured to cost on each build, beside the least that the build's memory allows."""

from dataclasses import dataclass
from math import log

__all__ = ["DECODE", "Measurement", "nearest"]


@dataclass(frozen=True)
class Measurement:
    """The cost of a token, simulated.

    ``shape``: the model; ``at``: the token's position.  ``needed``: bytes that the token needs
    (:func:`tellme.compiler.image.needed_bytes`).  ``factor``: the token's cycles over the fewest cycles in which the memory can
    move these bytes, 1 or more.
    """

    shape: str
    at: str
    needed: int
    factor: float


#: ``python -m sim.bench``.  "Layers" are a model without its LM head, which is on the host.
_ULX3S_85F = (
    Measurement("stories-1m", "position 0", 708_797, 1.067), Measurement("stories-1m", "position 9", 716_141, 1.066),
    Measurement("stories-8m", "position 0", 4_353_422, 1.041), Measurement("stories-8m", "position 9", 4_365_302, 1.041),
    Measurement("bitllama2c-3m", "position 0", 762_650, 1.047), Measurement("bitllama2c-3m", "position 64", 901_914, 1.034),
    Measurement("bitllama2c-3m", "position 128", 1_041_178, 1.031),
    Measurement("bitllama2c-3m", "position 448", 1_737_498, 1.022),
    Measurement("TriLM-99M's layers", "position 0", 9_664_307, 1.030),
    Measurement("TriLM-99M's layers", "position 128", 11_826_995, 1.026),
    Measurement("TriLM-99M's layers", "position 448", 17_233_715, 1.021),
)
#: Measurements by preset.  A preset that is not here was not measured.  ``ulx3s-85f-l2`` decodes like ``ulx3s-85f``.
DECODE: dict[str, tuple[Measurement, ...]] = {
    "ulx3s-85f": _ULX3S_85F, "ulx3s-85f-l2": _ULX3S_85F,
    # A run of ``tellme-host generate`` on the simulated board: 195.2 K cycles a token.  One lane is as fast as the memory, and
    # makes up for no wait.
    "ecp5-25f": (Measurement("stories-1m", "positions 1 to 8", 712_469, 1.096),),
    "ecpix5-85f": (Measurement("bitnet-large", "position 0", 185_127_322, 1.042),),
}


def nearest(preset: str, needed: float) -> Measurement | None:
    """The measurement on a build whose token needs the nearest number of bytes, by their ratio; None without a measurement."""
    return min(DECODE.get(preset, ()), key=lambda m: abs(log(m.needed / needed)), default=None)
