# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The server over three simulated boards: 50 clients for five minutes, and a board that is killed half-way."""

import pytest

from tests.serve.long import Plan, run

pytestmark = [pytest.mark.rtl, pytest.mark.nightly]


def test_fifty_clients_for_five_minutes():
    found = run(Plan(tokens=4))
    print(found["requests"], found["killed_board"], found["server_memory_bytes"])
    assert found["problems"] == [] and found["requests"]["right"] >= 50 and found["requests"]["after_the_kill"]
