# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A board's DDR3 memory is trained again, with settings of the host or without."""

import time
from collections.abc import Callable, Sequence

from tellme.errors import DeviceError
from tellme.runtime.device import BoardDevice
from tellme.runtime.info import BoardState, board_state, lane_words, readclksel_step_ps, training_failure
from tellme.spec.ddr3_training import LANES, Ddr3Training, LaneSettings, pack_overrides
from tellme.spec.memory import register_address

__all__ = ["train_ddr3"]

#: Seconds that a training may take.  A sweep takes 0.1 ms on a board; the simulated board is slower.
PATIENCE = 10.0


def train_ddr3(device: BoardDevice, lanes: Sequence[LaneSettings | None], *, patience: float = PATIENCE,
               clock: Callable[[], float] = time.monotonic) -> BoardState:
    """Train the DDR3 memory of a board that is connected again, and wait until it is ready; the state after that.

    ``lanes``: the host's settings of lanes 0 and 1, or None for a lane that takes what the training finds.  They are in use until
    the board loses power, or until the next call.  The training overwrites the first 16 bytes of the memory; the rest keeps what
    it holds if it was right before.  No run may go on.

    A core with an SDR memory, and a memory that is not ready with these settings after ``patience`` seconds, are a DeviceError.
    """
    if not device.core.ddr3:
        raise DeviceError(f"the memory of {device.core.name} is SDR: DDR3 settings are for boards with a DDR3 memory")
    if len(lanes) != LANES:
        raise ValueError(f"settings of {len(lanes)} lanes; a DDR3 memory has {LANES}")
    wanted = any(lane is not None for lane in lanes)
    device.client.write(register_address("sdram_settings"), pack_overrides(lanes).to_bytes(4, "little"))
    device.client.write(register_address("sdram_retrain"), bytes(4))
    end = clock() + patience
    while True:
        state = board_state(device)
        training = state.training
        assert isinstance(training, Ddr3Training)
        used = all(lane is None or lane == found.settings for lane, found in zip(lanes, training.lanes, strict=True))
        if state.sdram_ready and used and training.overridden == wanted:
            return state
        if clock() >= end:
            found = "; ".join(f"lane {number}: {said}"
                              for number, said in enumerate(lane_words(readclksel_step_ps(device.core), state)))
            why = f"the memory is {training_failure(training)}" if not state.sdram_ready else "the settings are not in use"
            raise DeviceError(f"{why} {patience:g} s after the start of a training; {found}")
