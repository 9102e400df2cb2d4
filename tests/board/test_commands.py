# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""info, selftest, load and bench on one simulated board, one after another, as a board is used."""

import pytest

from tellme.models.random import random_model
from tellme.runtime.bench import bench
from tellme.runtime.board import Board
from tellme.runtime.info import describe
from tellme.runtime.selftest import layer_config, selftest
from tellme.spec.config import preset
from tellme.spec.memory import ACCOUNT

pytestmark = [pytest.mark.rtl, pytest.mark.nightly]

PRESET = "sim-tiny"


def test_a_board_is_looked_at_tested_loaded_and_measured():
    core = preset(PRESET)
    with Board.open("sim", preset=PRESET) as board:
        found = describe(board)
        assert (found.device, found.preset, len(found.core_sha256)) == ("sim", PRESET, 64)
        state = found.state
        assert state.sdram_ready and not state.running and state.bad_packets == 0 and not state.training.failed
        assert state.training.beats > 0

        checks = {check.name: check for check in selftest(board)}
        assert all(check.ok for check in checks.values()), checks
        assert list(checks) == ["link", "SDRAM phase", "data lines", "address lines", "memory march", "layer", "bandwidth"]
        assert checks["address lines"].numbers["bytes"] == core.sdram_bytes
        assert 0.9 < checks["bandwidth"].numbers["peak_share"] <= 1

        model = random_model("commands", layer_config(core))
        board.load(model)
        sent, there = board.device.sent, board.device.skipped
        session = board.load(model)
        # The memory has the model now; tables that cannot be read back are sent again.
        assert board.device.sent + board.device.skipped == sent + there and board.device.skipped > board.device.sent

        report = bench(session, core, positions=[0, 5], prompts=[6])
        assert [d.position for d in report.decode] == [0, 5] and report.core_sha256 == found.core_sha256
        for result in (*report.decode, *report.prefill):
            assert tuple(result.account) == ACCOUNT and sum(result.account.values()) == result.cycles
            assert result.floor(core) < result.cycles
        # No faster than the memory allows, and six tokens take longer than one.
        assert report.prefill[0].cycles > report.decode[0].cycles
