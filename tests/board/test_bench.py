# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""sim.bench: the report adds up, its floor is that of the needed bytes, and bad arguments are refused before anything is
built."""

import json
from dataclasses import replace

import pytest

from sim import bench
from tellme.compiler.image import needed_bytes
from tellme.models.shipped import find_model
from tellme.spec.config import preset
from tellme.spec.memory import ACCOUNT
from tests.board.compare import open_sim


def no_less_than_nothing(account, report):
    """Whether no activity took less than no cycles.

    Behind position 0 an account is the difference of two runs, and refreshes come at other cycles in each of them.  A refresh may
    hide idle cycles of the longer run that are counted in the shorter one: as many as a run has, which position 0's account says.
    """
    alone = report["results"][0]
    assert alone["position"] == 0
    return all(cycles >= (-alone["decode_account"]["idle"] if name == "idle" else 0) for name, cycles in account.items())


@pytest.mark.rtl
def test_report_adds_up(tmp_path, capsys):
    path = tmp_path / "bench.json"
    assert bench.main(["--model", "stories-1m", "--positions", "9,0", "--preload", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    # No preset named: the board's own.
    config, model = preset("ulx3s-85f"), find_model("stories-1m")
    device = open_sim("ulx3s-85f")
    try:
        assert report["core_sha256"] == device.core_sha256
    finally:
        device.close()
    assert (report["model"], report["preset"]) == ("stories-1m", "ulx3s-85f")
    assert report["fabric_mhz"] == pytest.approx(config.fabric_mhz, abs=1e-3)
    assert [r["position"] for r in report["results"]] == [0, 9]
    for result in report["results"]:
        account, cycles = result["decode_account"], result["cycles_per_token"]
        assert tuple(account) == ACCOUNT and no_less_than_nothing(account, report)
        assert sum(account.values()) == cycles
        # Each tile of this LM head has three planes.
        trits = 3 * model.config.vocab * model.config.dim
        share = needed_bytes(model.config, result["position"], head_trits=trits) / (cycles * config.peak_bytes_per_cycle)
        assert result["peak_share"] == pytest.approx(share, abs=1e-4) and share > 0.8
        assert result["tokens_per_second"] == pytest.approx(config.fabric_mhz * 1e6 / cycles, rel=1e-3)
        # The engine and the LM head take a word per cycle at most.
        assert account["engine"] >= model.ternary_weights / 40 and account["lm_head"] > trits / 40
    # Nine more keys are nine more rows of K and V for each head.
    first, second = (r["cycles_per_token"] for r in report["results"])
    assert second > first
    assert "position" in capsys.readouterr().out


@pytest.mark.rtl
def test_the_body_alone_goes_token_by_token(tmp_path, monkeypatch):
    """Without an LM head both tokens of a difference are fed tokens, which this core could take in one chunk."""
    monkeypatch.setattr(bench, "BODY_ONLY", ("stories-1m",))
    path = tmp_path / "bench.json"
    assert bench.main(["--model", "stories-1m", "--positions", "0,9", "--preload", "--json", str(path)]) == 0
    model = find_model("stories-1m")
    report = json.loads(path.read_text())
    for result in report["results"]:
        account, cycles = result["decode_account"], result["cycles_per_token"]
        assert no_less_than_nothing(account, report) and sum(account.values()) == cycles and account["lm_head"] == 0
        assert account["engine"] >= model.ternary_weights / 40 and 0.8 < result["peak_share"] < 1


@pytest.mark.rtl
@pytest.mark.nightly
def test_a_preloaded_model_takes_the_same_cycles(tmp_path, capsys):
    """Through the link, or in the memory with its KV cache when power comes; of two layers, which the report says."""
    reports = []
    for more in ([], ["--preload"]):
        path = tmp_path / "bench.json"
        assert bench.main(["--model", "bitllama2c-3m", "--layers", "2", "--preset", "ulx3s-85f-l2", "--positions", "0,40",
                           "--json", str(path), *more]) == 0
        assert "bitllama2c-3m (2 of 8 layers), 1 plane, preset ulx3s-85f-l2" in capsys.readouterr().out
        reports.append(json.loads(path.read_text()))
    by_link, preloaded = reports
    assert by_link["layers"] == preloaded["layers"] == 2
    for one, other in zip(by_link["results"], preloaded["results"], strict=True):
        # Refreshes come at other cycles.
        assert other["cycles_per_token"] == pytest.approx(one["cycles_per_token"], abs=200)
        assert other["needed_bytes"] == one["needed_bytes"]
    assert preloaded["simulated_cycles_per_second"] > 0


@pytest.mark.rtl
@pytest.mark.parametrize("more", [[], pytest.param(["--row-words"], marks=pytest.mark.nightly)])
def test_planes_cost_no_more_than_their_number(more, tmp_path, capsys):
    """The layers' cycles with three planes are at most 3 x 1.03 of those with one; with a scale and a bias a row too."""
    reports = []
    for planes in (1, 3):
        path = tmp_path / "bench.json"
        assert bench.main(["--model", "bitllama2c-3m", "--layers", "2", "--planes", str(planes), "--positions", "0", "--preload",
                           "--json", str(path), *more]) == 0
        assert f"(2 of 8 layers), {'3 planes' if planes == 3 else '1 plane'}{', row words' if more else ''}, preset" in (
            capsys.readouterr().out)
        reports.append(json.loads(path.read_text()))
    one, three = reports
    assert (one["planes"], three["planes"], three["row_words"]) == (1, 3, bool(more))
    needed, layers = ([report["results"][0][what] for report in reports] for what in ("needed_bytes", "cycles_per_token"))
    head = [report["results"][0]["decode_account"]["lm_head"] for report in reports]
    weights = replace(bench.SHAPES["bitllama2c-3m"], layers=2).ternary_weights
    # Reports have whole bytes.
    assert needed[1] - needed[0] == pytest.approx(2 * weights / 5, abs=1)
    assert layers[1] - head[1] <= 3 * 1.03 * (layers[0] - head[0])


@pytest.mark.parametrize(("arguments", "message"), [
    (["--positions", "a"], "--positions is 'a'"), (["--positions", "-1"], "positions start at 0"),
    (["--positions", "511"], "position 511 wants a context of 513, and stories-1m has 512"),
    (["--model", "nobody"], "no model is called 'nobody'"), (["--preset", "x"], "no preset is called 'x'"),
    (["--json", "/nowhere/at/all.json"], "there is no folder /nowhere/at"),
    (["--preset", "sim-tiny", "--positions", "9"], "sim-tiny"),
    (["--layers", "2"], "--layers is for shapes, and stories-1m is none: trilm-99m, bitllama2c-3m"),
    (["--model", "bitnet-large", "--layers", "25"], "--layers is 25; 1 to 24 can be"),
    (["--model", "bitnet-large", "--layers", "0"], "--layers is 0; 1 to 24 can be"),
    (["--planes", "2"], "--planes is for shapes, and stories-1m is none"),
    (["--row-words"], "--row-words is for shapes, and stories-1m is none"),
    (["--model", "bitnet-large", "--planes", "6"], "--planes is 6; 1 to 5 can be"),
    (["--model", "bitnet-large", "--layers", "1"], "dim is 1536, and the build ulx3s-85f can do"),
])
def test_refusals(arguments, message, capsys):
    assert bench.main(arguments) == 2
    assert message in capsys.readouterr().err
