# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What the training of a DDR3 memory's reads finds, and what a host may set: words of STATUS and of a register.

A byte lane has two settings.  READCLKSEL, 0 to 7, is the place of the READ pulse in steps of a quarter of the chip's clock.  The
slip, 0 to 3, is the beat of a fabric cycle with which a word begins.
"""

__all__ = ["LANES", "LANE_FIELDS", "OVERRIDE_FIELDS", "PATTERNS", "READCLKSELS", "SLIPS", "TRAINING_FIELDS"]

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

#: Bursts of eight 16-bit beats that the training writes and reads.  In each pattern each data line has three to five ones and at
#: least three changes, is not itself moved by 1 to 5 beats, and differs from itself in the other patterns.
PATTERNS = (
    (0xE086, 0xDF7B, 0x9A81, 0x24D2, 0x5B7D, 0xB73D, 0x1709, 0xE18E),
    (0xD82F, 0x3E88, 0x46E7, 0x99F6, 0x0B05, 0xCDC8, 0xA053, 0x253D),
    (0x6B23, 0x3E38, 0xF3B4, 0x444D, 0xF8E2, 0x04BC, 0x9701, 0x4443),
)
