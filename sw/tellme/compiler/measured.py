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
    Measurement("stories-1m", "position 0", 472_867, 1.075), Measurement("stories-1m", "position 9", 480_211, 1.073),
    Measurement("stories-8m", "position 0", 3_095_131, 1.044), Measurement("stories-8m", "position 9", 3_107_011, 1.044),
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
    # A run of ``tellme-host generate`` on the simulated board: 133.8 K cycles a token.  One lane is as fast as the memory, and
    # makes up for no wait.
    "ecp5-25f": (Measurement("stories-1m", "positions 1 to 8", 476_539, 1.123),),
    "ecpix5-85f": (
        Measurement("bitnet-large", "position 0", 185_127_322, 1.042),
        Measurement("bitnet-large", "position 128", 194_761_114, 1.042),
        Measurement("bitnet-large", "position 512", 223_662_490, 1.041),
        Measurement("bitnet-2b-body's layers", "position 0", 416_850_520, 1.040),
        Measurement("bitnet-2b-body's layers", "position 128", 421_842_520, 1.039),
        Measurement("bitnet-2b-body's layers", "position 512", 436_818_520, 1.039),
    ),
}


def nearest(preset: str, needed: float) -> Measurement | None:
    """The measurement on a build whose token needs the nearest number of bytes, by their ratio; None without a measurement."""
    return min(DECODE.get(preset, ()), key=lambda m: abs(log(m.needed / needed)), default=None)
