# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What the training of a DDR3 memory's reads finds, and what a host may set: words of STATUS and of a register.

A byte lane has two settings.  READCLKSEL, 0 to 7, is the place of the READ pulse in steps of a quarter of the chip's clock.  The
slip, 0 to 3, is the beat of a fabric cycle with which a word begins.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tellme.spec.ranges import Range, check_fields
from tellme.spec.words import pack_word, unpack_word

__all__ = ["LANES", "LANE_FIELDS", "LEAST_WINDOW", "OVERRIDE_FIELDS", "PATTERNS", "READCLKSELS", "SLIPS", "TRAINING_FIELDS",
           "Ddr3Training", "LaneSettings", "LaneTraining", "pack_overrides", "unpack_overrides"]

#: Byte lanes of the chip.
LANES = 2
#: Steps of READCLKSEL and of the slip.
READCLKSELS, SLIPS = 8, 4

#: A lane in the word of STATUS.
LANE_FIELDS = {
    "readclksel": 3,  # in use
    "slip": 2,        # in use
    "start": 3,       # READCLKSEL of the widest window's first step
    "window": 4,      # steps in a row that work, at the slip where most do; 0: none
}
#: The word of STATUS, from bit 0 on: lanes 0 and 1, then what holds for both.
TRAINING_FIELDS = {f"{name}{lane}": bits for lane in range(LANES) for name, bits in LANE_FIELDS.items()} | {
    "failed": 1,      # a lane had no window in the last sweep, or the chosen settings did not work
    "overridden": 1,  # a lane has the host's settings
}
#: The host's register: for each lane whether its settings are the host's, and these.
OVERRIDE_FIELDS = {f"{name}{lane}": bits for lane in range(LANES)
                   for name, bits in {"readclksel": 3, "slip": 2, "use": 1}.items()}

#: Steps of a window at least, so that a step works on each side of the middle one.
LEAST_WINDOW = 3

#: Bursts of eight 16-bit beats that the training writes and reads.  In each pattern each data line has three to five ones and at
#: least three changes, is not itself moved by 1 to 5 beats, and differs from itself in the other patterns.
PATTERNS = (
    (0xE086, 0xDF7B, 0x9A81, 0x24D2, 0x5B7D, 0xB73D, 0x1709, 0xE18E),
    (0xD82F, 0x3E88, 0x46E7, 0x99F6, 0x0B05, 0xCDC8, 0xA053, 0x253D),
    (0x6B23, 0x3E38, 0xF3B4, 0x444D, 0xF8E2, 0x04BC, 0x9701, 0x4443),
)


@dataclass(frozen=True)
class LaneSettings:
    """A byte lane's settings: READCLKSEL 0 to 7, slip 0 to 3.  Others are a RangeError."""

    readclksel: int
    slip: int

    def __post_init__(self) -> None:
        check_fields(self, {"readclksel": Range(0, READCLKSELS - 1), "slip": Range(0, SLIPS - 1)})


@dataclass(frozen=True)
class LaneTraining:
    """A byte lane in the word of STATUS: ``readclksel`` and ``slip`` are in use.

    The ``window`` is the most READCLKSEL in a row that work with one slip, from ``start`` on; 0: none works.
    """

    readclksel: int
    slip: int
    start: int
    window: int

    @property
    def settings(self) -> LaneSettings:
        """What is in use."""
        return LaneSettings(self.readclksel, self.slip)


@dataclass(frozen=True)
class Ddr3Training:
    """What the training of a DDR3 memory found: the word TRAINING of STATUS.

    ``lanes``: lane 0, then lane 1.  ``failed``: a lane had no window in the last sweep, or what was chosen did not work.
    ``overridden``: a lane has the host's settings.
    """

    lanes: tuple[LaneTraining, ...]
    failed: bool = False
    overridden: bool = False

    @classmethod
    def unpack(cls, word: int) -> "Ddr3Training":
        """The fields of a word."""
        values = unpack_word(TRAINING_FIELDS, word)
        return cls(tuple(LaneTraining(**{name: values[f"{name}{lane}"] for name in LANE_FIELDS}) for lane in range(LANES)),
                   bool(values["failed"]), bool(values["overridden"]))

    def pack(self) -> int:
        """The word of the fields.  A field that its bits cannot hold is a RangeError."""
        lanes = {f"{name}{number}": value for number, lane in enumerate(self.lanes) for name, value in asdict(lane).items()}
        return pack_word(TRAINING_FIELDS, lanes | {"failed": int(self.failed), "overridden": int(self.overridden)})


def pack_overrides(lanes: Sequence[LaneSettings | None]) -> int:
    """The register ``sdram_settings``: for lanes 0 and 1 the host's settings, or None for what the training finds."""
    values: dict[str, int] = {}
    for number, lane in enumerate(lanes):
        if lane is not None:
            values |= {f"readclksel{number}": lane.readclksel, f"slip{number}": lane.slip, f"use{number}": 1}
    return pack_word(OVERRIDE_FIELDS, values)


def unpack_overrides(word: int) -> tuple[LaneSettings | None, ...]:
    """What the register ``sdram_settings`` says of lanes 0 and 1."""
    values = unpack_word(OVERRIDE_FIELDS, word)
    return tuple(LaneSettings(values[f"readclksel{n}"], values[f"slip{n}"]) if values[f"use{n}"] else None for n in range(LANES))
