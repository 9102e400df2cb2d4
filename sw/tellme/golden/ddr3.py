# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What the training of a DDR3 memory finds and chooses, as the gateware's Ddr3Training does."""

from collections.abc import Collection, Sequence

from tellme.spec.ddr3_training import LANES, READCLKSELS, SLIPS, Ddr3Training, LaneSettings, LaneTraining

__all__ = ["LanesTrainer"]


class LanesTrainer:
    """The training of both lanes.  ``found`` is the word TRAINING of STATUS; ``done`` is whether the memory is ready.

    ``works``: the settings of lanes 0 and 1 with which a lane reads right.
    """

    def __init__(self, works: Sequence[Collection[LaneSettings]]):
        self.works = tuple(works)
        #: Slip and start of each lane's last window.
        self._windows = [(0, 0)] * LANES
        self.found = Ddr3Training((LaneTraining(0, 0, 0, 0),) * LANES)
        self.done = False

    def sweep(self, overrides: Sequence[LaneSettings | None] = (None,) * LANES) -> Ddr3Training:
        """A sweep over all settings, and the trial of what is chosen.  The gateware sweeps until ``done``.

        A lane's window is its longest run of READCLKSEL that work with one slip, the first of equal ones.  The lane takes the
        window's middle, ``start + window // 2``, or what ``overrides`` say.  A lane without a window keeps the slip and the start
        of the sweep before.  ``done``: each lane that is not overridden has a window.  ``failed``: some lane has none, or does
        not work with what is chosen.
        """
        lanes, good = [], []
        for number, works in enumerate(self.works):
            (slip, start), best = self._windows[number], 0
            for tried in range(SLIPS):
                run = 0
                for step in range(READCLKSELS):
                    run = run + 1 if LaneSettings(step, tried) in works else 0
                    if run > best:
                        best, slip, start = run, tried, step - run + 1
            settings = overrides[number] or LaneSettings((start + best // 2) % READCLKSELS, slip)
            self._windows[number] = slip, start
            lanes.append(LaneTraining(settings.readclksel, settings.slip, start, best))
            good.append(best > 0 and settings in works)
        self.done = all(fine or override is not None for fine, override in zip(good, overrides, strict=True))
        self.found = Ddr3Training(tuple(lanes), not all(good), any(override is not None for override in overrides))
        return self.found
