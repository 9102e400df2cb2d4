# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The fit of the analytic model: its input, that it finds known coefficients, and that the committed table is its result."""

import json

import pytest

from boards.study.fit import fit
from boards.study.packing import CORES, JUDGED, PAIRS_PACKED, PARTS_PACKED, REPORT, config_of
from tellme.spec.config import PRESETS, preset
from tellme.spec.lut_table import LUT
from tellme.spec.sizing import lut_terms


def test_committed_table_is_the_fit_of_the_committed_packings():
    found = fit(json.loads(REPORT.read_text()))
    assert found.keys() == LUT.keys()
    for unit, terms in found.items():
        assert terms == pytest.approx(LUT[unit], abs=0.11), unit


def test_fit_sees_no_judged_preset():
    """The fit sees neither a preset nor a part with a preset's parameters: apart from the name, each differs in a parameter."""
    report = json.loads(REPORT.read_text())
    assert set(report["judged"]) == set(JUDGED)
    fitted = [config_of(changes) for changes in (
        *CORES.values(), *(c for parts in PARTS_PACKED.values() for c in parts),
        *(c for pairs in PAIRS_PACKED.values() for pair in pairs for c in pair))]
    for name in PRESETS:
        assert all({**vars(config), "name": name} != vars(preset(name)) for config in fitted)
    assert {unit: [part["changes"] for part in parts] for unit, parts in report["parts"].items()} == PARTS_PACKED
    assert {unit: [tuple(part["changes"] for part in pair) for pair in pairs] for unit, pairs in report["pairs"].items()
            } == PAIRS_PACKED
    assert {label: core["changes"] for label, core in report["cores"].items()} == CORES


def made_up(coefficients):
    """A report in which every unit costs exactly what its terms say."""
    def cost(changes, unit):
        terms = lut_terms(config_of(changes))[unit]
        return round(sum(coefficients[unit][name] * count for name, count in terms.items()))

    parts = {unit: [{"changes": c, "comb": cost(c, unit)} for c in changes] for unit, changes in PARTS_PACKED.items()}
    # A unit by itself costs more than in a core.
    pairs = {unit: [[{"changes": c, "comb": cost(c, unit) + 77} for c in pair] for pair in pairs]
             for unit, pairs in PAIRS_PACKED.items()}
    cores = {label: {"changes": c, "units": {unit: {"comb": cost(c, unit)} for unit in coefficients}}
             for label, c in CORES.items()}
    return {"parts": parts, "pairs": pairs, "cores": cores}


def test_fit_finds_what_was_put_in():
    coefficients = {unit: {name: 100 + 10 * n for n, name in enumerate(terms)} for unit, terms in LUT.items()}
    for unit, terms in fit(made_up(coefficients)).items():
        assert terms == pytest.approx(coefficients[unit], abs=0.2), unit


def test_too_few_packings_are_refused():
    report = made_up({unit: dict.fromkeys(terms, 100) for unit, terms in LUT.items()})
    del report["cores"]["four lanes, groups of three"]
    with pytest.raises(ValueError, match="do not tell .* apart"):
        fit(report)
