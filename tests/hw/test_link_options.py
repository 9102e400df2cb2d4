# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What a HostLink can be built with."""

import pytest

from hw.link.link import HostLink


@pytest.mark.parametrize(("base", "size"), [(0x1000_0000, 1 << 29), (0x1000_0000, (1 << 28) + 4), (0x0800_0000, 4), (0, 0),
                                            (0x4000_0000, (1 << 30) + 4)])
def test_windows_that_cannot_be(base, size):
    with pytest.raises(ValueError, match="a window of"):
        HostLink(windows=((base, size, True),), name="x")


@pytest.mark.parametrize(("base", "size"), [(0x2000_0000, 1 << 29), (0x1000_0000, 1 << 28), (0, 1 << 31), (0x8000_0000, 1 << 31)])
def test_windows_that_can_be(base, size):
    HostLink(windows=((base, size, True),), name="x")


@pytest.mark.parametrize("bits", [0, 16, 64])
def test_sums_that_cannot_be(bits):
    with pytest.raises(ValueError, match="checksum_bits is"):
        HostLink(windows=((0, 4, True),), name="x", checksum_bits=bits)
