# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``make synth UNIT=``: refusals, a small unit through the tools, and the committed table of all nine."""

import json

import pytest

from boards import synth
from boards.build import UNITS
from hw.core.merge import HeadMerge
from tellme.spec.config import preset


@pytest.mark.parametrize(("arguments", "text"), [
    (["--unit", "gpu"], "no unit is called 'gpu'; there are: all, tlmm, weights"),
    (["--unit", "head", "--preset", "ulx4s"], "no preset is called 'ulx4s'"),
])
def test_refusals(capsys, arguments, text):
    assert synth.main(arguments) == 2
    assert text in capsys.readouterr().err


def test_the_page_shows_the_committed_report():
    report = json.loads(synth.REPORT.read_text())
    assert synth.markdown(report) in synth.TABLE.read_text()
    assert (report["preset"], list(report["units"])) == (synth.PRESET, list(synth.PARTS))
    assert set(synth.PARTS) == set(UNITS)
    for unit, row in report["units"].items():
        assert row["comb"] > 0 and row["ff"] > 0 and row["fmax_mhz"] > 0, unit
    # The whole holds at least what its largest unit does.
    assert report["units"]["top"]["comb"] > max(row["comb"] for unit, row in report["units"].items() if unit != "top")


def test_a_small_unit_through_the_tools(tmp_path):
    row = synth.measure(HeadMerge(inputs=2), tmp_path, "yowasp", preset(synth.PRESET), "merge", route=False)
    assert row["comb"] > 0 and row["ebr"] == row["dsp"] == 0
