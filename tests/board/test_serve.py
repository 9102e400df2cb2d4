# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The server over three simulated boards: 50 clients for five minutes, and a board that is killed half-way."""

import pytest

from tests.serve.long import run

pytestmark = [pytest.mark.rtl, pytest.mark.nightly]


def test_fifty_clients_for_five_minutes():
    found = run("sim", 3, 50, 300, 6)
    print(found)
    assert not found["problem"] and found["killed_boards"] == 1 and found["answers"]["right"] >= 50
