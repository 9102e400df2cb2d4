# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Inputs of a unit that a model drives in each cycle."""

__all__ = ["Inputs"]


class Inputs(dict[str, int]):
    """Value by port name.  A write takes as long as a comparison of all of them, so that :meth:`drive` writes what changed."""

    def __init__(self, dut, values):
        super().__init__(values)
        self._dut, self._driven = dut, dict.fromkeys(values)

    def drive(self):
        """Give the ports their values."""
        for name, value in self.items():
            if self._driven[name] != value:
                getattr(self._dut, name).value = self._driven[name] = value
