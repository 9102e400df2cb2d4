# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The bar of a load: bytes, rate and the time that is left."""

import io
import re
import sys
import time

from tellme.cli.progress import DELAY, bytes_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_goes_on_when_a_load_becomes_slow(monkeypatch):
    """100 MB were there already; then the line's rate counts."""
    monkeypatch.setattr(sys, "stderr", shown := Terminal())
    with bytes_bar("loading") as progress:
        progress(0, 420_000_000)
        time.sleep(DELAY + 0.05)
        progress(100_000_000, 420_000_000)
        for step in range(1, 5):
            time.sleep(0.12)
            progress(100_000_000 + 1_000_000 * step, 420_000_000)
        lines = shown.getvalue().split("\r")
    assert "loading" in lines[-1] and "104M/420M" in lines[-1]
    # Time that has passed, time that is left, rate.
    assert re.search(r"\[\d\d:\d\d<\d\d:\d\d, *[0-9.]+[kM]?B/s\]", lines[-1]), lines[-1]
