# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``make synth UNIT=``: refusals, a small unit through the tools, and the committed table of all nine."""

import json

import pytest

from boards.flow import synth
from boards.flow.build import UNITS
from hw.attention.merge import HeadMerge
from hw.lib.layouts import Layouts
from tellme.spec.config import preset


@pytest.mark.parametrize(("arguments", "text"), [
    (["--unit", "gpu"], "no unit is called 'gpu'; there are: all, tlmm, weights"),
    (["--unit", "lm_head", "--preset", "ulx4s"], "no preset is called 'ulx4s'"),
])
def test_refusals(capsys, arguments, text):
    assert synth.main(arguments) == 2
    assert text in capsys.readouterr().err


def test_every_unit_has_parts_and_a_row():
    assert set(synth.PARTS) == set(UNITS)
    row = {"comb": 1234, "ff": 5, "ebr": 6, "dsp": 7, "fmax_mhz": 89.1}
    assert "| tlmm | 1,234 | 5 | 6 | 7 | 89.1 |\n" in synth.markdown({"preset": "p", "units": {"tlmm": row}})
    page = synth.TABLE.read_text()
    assert page.index(synth.BEGIN) < page.index(synth.END)


def test_a_small_unit_through_the_tools(tmp_path):
    config = preset(synth.PRESET)
    row = synth.measure(HeadMerge(Layouts(config.widths), inputs=2), tmp_path, "yowasp", config, "merge", route=False)
    assert row["comb"] > 0 and row["ebr"] == row["dsp"] == 0


def test_the_committed_table_is_the_report():
    report = json.loads(synth.REPORT.read_text())
    assert report["preset"] == synth.PRESET and list(report["units"]) == list(synth.PARTS)
    for row in report["units"].values():
        assert row["comb"] > 0 and row["ff"] > 0 and row["fmax_mhz"] > 0
    page = synth.TABLE.read_text()
    assert page[page.index(synth.BEGIN) + len(synth.BEGIN):page.index(synth.END)] == synth.markdown(report)
