# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The simulated board that a module's tests share."""

import pytest

from tellme.spec.config import preset
from tests.board.compare import open_sim


def pytest_generate_tests(metafunc):
    """Each test of a core or a board runs with each of the module's CORES, if it names some."""
    if "core" in metafunc.fixturenames and hasattr(metafunc.module, "CORES"):
        metafunc.parametrize("core", metafunc.module.CORES, indirect=True, scope="module")


@pytest.fixture(scope="module")
def core(request):
    """The core of the module's board: one of its CORES, else its PRESET, else that of ulx3s-85f-l2."""
    return preset(getattr(request, "param", getattr(request.module, "PRESET", "ulx3s-85f-l2")))


@pytest.fixture(scope="module")
def device(core):
    """One board process for all tests of a module with a core.  Nothing is built or reset between models."""
    device = open_sim(core.name)
    yield device
    device.close()
