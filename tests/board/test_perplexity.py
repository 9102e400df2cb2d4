# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tellme-host perplexity on the simulated board: the golden model's number, to the last bit."""

import json

import pytest

from tellme.cli import main
from tests.board.compare import ROOT

#: test_end_to_end.py has all logits of this board, and tests/cli/test_perplexity.py the command on a board of packets' meanings.
pytestmark = [pytest.mark.rtl, pytest.mark.nightly]


def test_the_number_is_the_goldens(capsys):
    found = {}
    for device in ("golden", "sim"):
        assert main(["perplexity", "--text", str(ROOT / "tests" / "data" / "stories.txt"), "--tokens", "6", "--device", device,
                     "--json"]) == 0
        found[device] = json.loads(capsys.readouterr().out)
        assert found[device].pop("device") == device
    assert found["sim"] == found["golden"] and found["sim"]["tokens"] == 6
