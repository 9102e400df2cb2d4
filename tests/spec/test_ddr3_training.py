# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Words and patterns of the DDR3 training."""

import pytest

from tellme.spec.ddr3_training import LANES, OVERRIDE_FIELDS, PATTERNS, READCLKSELS, SLIPS, TRAINING_FIELDS
from tellme.spec.words import pack_word, unpack_word

LINES = [[[beat >> line & 1 for beat in pattern] for line in range(16)] for pattern in PATTERNS]


def test_words_fit_a_register():
    assert sum(TRAINING_FIELDS.values()) <= 32 and sum(OVERRIDE_FIELDS.values()) <= 32
    assert READCLKSELS == 1 << TRAINING_FIELDS["readclksel0"] and SLIPS == 1 << TRAINING_FIELDS["slip1"]
    # A window has up to all steps.
    assert READCLKSELS < 1 << TRAINING_FIELDS["window0"]
    values = {name: (1 << bits) - 1 for name, bits in TRAINING_FIELDS.items() if name.endswith("1")}
    assert unpack_word(TRAINING_FIELDS, pack_word(TRAINING_FIELDS, values)) == dict.fromkeys(TRAINING_FIELDS, 0) | values


@pytest.mark.parametrize("pattern", range(len(PATTERNS)))
@pytest.mark.parametrize("line", range(8 * LANES))
def test_each_line_tells_a_wrong_beat(pattern, line):
    beats = LINES[pattern][line]
    assert len(beats) == 8 and 3 <= sum(beats) <= 5
    assert sum(a != b for a, b in zip(beats, beats[1:], strict=False)) >= 3
    for moved in range(1, 6):
        assert beats[moved:] != beats[:-moved]
    assert all(beats != LINES[other][line] for other in range(len(PATTERNS)) if other != pattern)
