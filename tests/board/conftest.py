# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The simulated board that a module's tests share."""

import pytest

from tests.board.compare import open_sim


@pytest.fixture(scope="module")
def device(request):
    """One board process for all tests of a module, with the module's PRESET if it names one.  Nothing is built or reset between
    models."""
    device = open_sim(getattr(request.module, "PRESET", "ulx3s-85f-l2"))
    yield device
    device.close()
