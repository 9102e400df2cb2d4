# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The analytic model: sizes, refusals by name and number, and the model against a placed and routed build."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tellme.spec.config import PRESETS, CoreConfig, preset
from tellme.spec.lut_table import LUT
from tellme.spec.sizing import SizingError, check, dsp, ebr, lut, lut_terms, vector_parts, weight_buffer

REPORTS = Path(__file__).resolve().parents[2] / "docs" / "reports"
JUDGED = ("ulx3s-85f-1lane", "sim-tiny", "ulx3s-85f-l8")
BUILT = [path.stem for path in sorted(REPORTS.glob("*-*f.json"))]
PACKING = json.loads((REPORTS / "packing.json").read_text())


def test_every_preset_fits_the_85f():
    for config in PRESETS.values():
        check(config, "85f")


def test_weight_buffer_of_the_board():
    size = weight_buffer(preset("ulx3s-85f"))
    assert (size.blocks, size.words, size.ahead) == (4, 2048, 200)


@pytest.mark.parametrize("size", [0, 4095, 5000])
def test_weight_buffer_in_whole_blocks(size):
    with pytest.raises(SizingError, match=f"weight_buffer_bytes is {size}; blocks have 4096 bytes"):
        weight_buffer(replace(preset("ulx3s-85f"), weight_buffer_bytes=size))


def test_what_does_not_fit_is_named():
    with pytest.raises(SizingError, match=r"EBR: big needs \d+, the 85f has 208 \(weights 160, "):
        check(replace(preset("ulx3s-85f"), name="big", weight_buffer_bytes=80 * 4096, max_context=4096), "85f")
    with pytest.raises(SizingError, match=r"LUT: ulx3s-85f needs \d+, the 25f has 24288 \(tlmm \d+, weights \d+, "):
        check(preset("ulx3s-85f"), "25f")
    with pytest.raises(SizingError, match=r"multipliers: small needs 45, the 25f has 28 \(fused 15, attention 23, "):
        check(replace(preset("ecp5-25f"), name="small", compact=False, max_context=256), "25f")


def test_row_words_take_a_block_ram_a_drain():
    """Planes, row words and biases cost LUT in the engine and in the pipelines alone, and a block RAM a drain."""
    for name in ("ulx3s-85f", "ulx3s-85f-l2"):
        config = preset(name)
        one = replace(config, planes=1)
        assert sum(ebr(config).values()) == sum(ebr(one).values()) + config.float_lanes
        assert {unit for unit, n in lut(one).items() if n < lut(config)[unit]} == {"tlmm", "fused"}
        assert all(n <= lut(config)[unit] for unit, n in lut(one).items())


def test_multipliers_take_a_product_a_lane_and_two_block_rams():
    for name in ("ulx3s-85f", "ulx3s-85f-l2", "ecpix5-85f"):
        without = replace(preset(name), multipliers=False)
        config = replace(without, multipliers=True)
        for model, more in ((ebr, 2), (dsp, config.lanes)):
            before, after = model(without), model(config)
            assert after["tlmm"] - before.get("tlmm", 0) == more
            assert {unit: n for unit, n in after.items() if unit != "tlmm"} == {u: n for u, n in before.items() if u != "tlmm"}
        check(config, "85f")
    # A compact core makes small products of LUT; none was packed with them.
    small = replace(preset("ecp5-25f"), multipliers=True)
    assert "tlmm" not in dsp(small)
    with pytest.raises(SizingError, match=r"no LUT are known for tlmm \(multipliers of a compact lane\); make model finds them"):
        lut(small)


def test_picks_of_all_positions_cost_the_lm_head_alone():
    """Its EBR are those that were packed; every build has room for them."""
    for name in ("ulx3s-85f", "ulx3s-85f-l8", "ecpix5-85f"):
        config = replace(preset(name), head_tokens=1, slots=1, drafts=False)
        every = replace(config, head_tokens=config.chunk)
        for model in (ebr, lut, dsp):
            before, after = model(config), model(every)
            assert {unit for unit in before if after[unit] != before[unit]} <= {"lm_head"}
        check(every, "85f")
    packed = [part for part in PACKING["parts"]["lm_head"] if "head_tokens" in part["changes"]]
    assert [part["changes"]["head_tokens"] for part in packed] == [4, 12]
    for part in packed:
        config = CoreConfig(name="packed", **part["changes"])
        assert (ebr(config)["lm_head"], dsp(config)["lm_head"]) == (part["ebr"], part["dsp"])
        assert lut(config)["lm_head"] == pytest.approx(part["comb"], rel=0.02)


def test_slots_and_drafts_cost_the_processor_alone():
    """What was packed, within a tenth: the pairs are of the parts that differ."""
    for one, other in PACKING["pairs"]["core"]:
        before, after = (CoreConfig(name="packed", sampler=True, **part["changes"]) for part in (one, other))
        more = {unit: n - lut(before)[unit] for unit, n in lut(after).items() if n != lut(before)[unit]}
        assert set(more) == {"core"} and more["core"] == pytest.approx(other["comb"] - one["comb"], rel=0.1, abs=2)
        assert ebr(before) == ebr(after) and dsp(before) == dsp(after)
    board = preset("ulx3s-85f")
    assert lut(replace(board, slots=2, drafts=False))["core"] < lut(replace(board, slots=16, drafts=False))["core"]
    assert lut(replace(board, drafts=False))["core"] < lut(replace(board, drafts=True))["core"]


def test_the_small_preset_fits_the_25f():
    check(preset("ecp5-25f"), "25f")
    check(preset("ecp5-25f"), "12f")


def test_unknown_device():
    with pytest.raises(SizingError, match="no device is called '99f'; there are: 12f, 25f, 45f, 85f"):
        check(preset("ulx3s-85f"), "99f")


@pytest.mark.parametrize("name", JUDGED)
@pytest.mark.parametrize(("what", "model"), [("comb", lut), ("ebr", ebr), ("dsp", dsp)])
def test_model_is_within_15_percent_of_what_is_packed(name, what, model):
    """Presets that the fit never saw (test_fit_sees_no_judged_preset)."""
    assert sum(model(preset(name)).values()) / PACKING["judged"][name][what] == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize(("what", "model"), [("comb", lut), ("ebr", ebr), ("dsp", dsp)])
def test_model_is_within_15_percent_of_the_build(name, what, model):
    assert {"ulx3s-85f", "icepi_zero-25f"} <= set(BUILT)
    report = json.loads((REPORTS / f"{name}.json").read_text())
    assert sum(model(preset(report["preset"])).values()) / report[what]["used"] == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(("length", "parts"), [
    (1, [1]), (128, [128]), (384, [256, 128]), (1280, [1024, 256]), (2560, [2048, 512]), (4096, [4096]), (5000, [4096, 1024]),
    (6144, [4096, 2048]), (6912, [4096, 2048, 1024]), (7168, [4096, 2048, 1024]), (7169, [4096, 4096]), (8200, [8192, 8])])
def test_memories_of_a_vector(length, parts):
    assert vector_parts(length) == parts and sum(parts) >= length


def test_a_term_without_coefficient_is_named(monkeypatch):
    monkeypatch.delitem(LUT["tlmm"], "lane")
    with pytest.raises(SizingError, match=r"no LUT are known for tlmm \(lane\); make model finds them"):
        lut(preset("ulx3s-85f"))


def test_every_term_has_a_coefficient():
    for config in PRESETS.values():
        for unit, terms in lut_terms(config).items():
            assert terms.keys() <= LUT[unit].keys()


@pytest.mark.parametrize(("changes", "grows"), [({"lanes": 8}, "tlmm"), ({"max_group": 4}, "attention"),
                                                ({"weight_buffer_bytes": 65536}, "weights")])
def test_more_of_something_costs_its_unit_alone(changes, grows):
    base = replace(preset("ulx3s-85f-l2"), max_group=2)
    before, after = lut(base), lut(replace(base, **changes))
    assert {unit for unit in before if after[unit] > before[unit]} == {grows}
    assert all(after[unit] >= before[unit] for unit in before)
