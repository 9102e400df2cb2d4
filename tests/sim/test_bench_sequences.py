# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Sequences side by side: passes are told apart, all picks are compared, and the report's numbers follow from the cycles."""

import json

import numpy as np
import pytest

from sim import bench
from sim.reports import keep, kept
from sim.sequences import Beside, SideBySide
from tellme.compiler.cycles import PassModel, Run
from tellme.compiler.image import compile_model
from tellme.errors import DeviceError, InputError
from tellme.spec.config import preset
from tellme.spec.memory import SDRAM_BASE, cache_bases
from tests.models.random_model import even_model
from tests.sim.golden_client import PASS, TOLD, GoldenClient

CORE = preset("sim-slots")
MODEL = even_model(67, 24)
IMAGE = compile_model(MODEL, CORE)
TEXTS = np.random.default_rng(5).integers(0, 67, (CORE.slots, 16)).tolist()
END = 6


def side_by_side():
    return SideBySide(IMAGE, CORE, PassModel(MODEL.config, IMAGE, CORE), TEXTS, END)


def client(**how):
    found = GoldenClient(IMAGE, CORE, slots=CORE.slots, **how)
    for slot, text in enumerate(TEXTS):
        found.golden.feed(text[:END], 0, heads="none", slot=slot)
    return found


@pytest.mark.parametrize("sequences", [1, 2, 4])
def test_a_pass_of_all_is_counted_alone(sequences):
    board, measured = client(), side_by_side()
    for position in (0, 3, END):
        found = measured.measure(board, sequences, position)
        assert found == Beside(sequences, position, PASS + TOLD * sequences,
                               measured._model.cycles([Run(position + (sequences > 1 and position == 0)),
                                                       *[Run(position)] * (sequences - 1)]))


def test_a_pick_of_another_token_is_told():
    with pytest.raises(DeviceError, match=r"sequence 1 picked \[\d+\], and alone the golden model picks \[\d+\]"):
        # The first event is sequence 0's pick of the pass before.
        side_by_side().measure(client(wrong=2), 2, 3)
    with pytest.raises(DeviceError, match="sequence 3 picked"):
        side_by_side().run(client(wrong=19), 4, 5)


def test_a_late_start_is_told():
    with pytest.raises(DeviceError, match="2 sequences at position 3 were not in one pass: a START came too late"):
        side_by_side().measure(client(late=True), 2, 3)


def test_a_run_tells_the_passes_of_all():
    board = client()
    found = side_by_side().run(board, 4, 14)
    assert (found.sequences, found.tokens, found.prompts) == (4, 14, (2, 3, 4, 5))
    assert found.cycles == sum(board.passes)
    # Passes in which each of the four decodes have four picks.
    whole = [cycles for cycles in board.passes if cycles == PASS + 4 * TOLD]
    assert 0 < found.passes <= len(whole) and found.side_by_side == found.passes * (PASS + 4 * TOLD)
    report = found.as_json(CORE)
    assert report["tokens_per_second"] == pytest.approx(56 * CORE.fabric_mhz * 1e6 / found.cycles, abs=0.01)
    assert report["tokens_per_second_of_these"] == pytest.approx(4 * CORE.fabric_mhz * 1e6 / (PASS + 4 * TOLD), abs=0.01)


def test_a_run_may_be_over_before_all_decode():
    found = side_by_side().run(client(), 4, 1)
    assert (found.passes, found.side_by_side) == (0, 0) and found.as_json(CORE)["tokens_per_second_of_these"] is None


def test_caches_lie_where_the_registers_say():
    measured, (r, c) = side_by_side(), (IMAGE.registers, MODEL.config)
    memory = bytearray(4 * r["kv_base"] + 4 * c.layers * r["layer_stride"])
    for at, content in measured.pieces():
        assert not any(memory[at:at + len(content)])
        memory[at:at + len(content)] = content
    golden = measured._golden
    for layer in range(c.layers):
        k, v, s = cache_bases(r, layer)
        for slot in range(CORE.slots):
            for head in range(c.kv_heads):
                for position in range(END):
                    place = slot * c.context + position
                    cache = golden._caches[layer][slot]
                    for base, rows in ((k, cache.keys), (v, cache.values)):
                        at = 4 * (base + head * r["kv_stride"]) + place * c.head_dim
                        assert memory[at:at + c.head_dim] == rows[head, position].tobytes()
                    at = 4 * (s + head * r["s_stride"] + place)
                    assert int.from_bytes(memory[at:at + 4], "little") == (
                        int(cache.key_scales[head, position]) | int(cache.value_scales[head, position]) << 16)
    assert SDRAM_BASE % 4 == 0


def test_numbers_of_a_report():
    report = Beside(8, 32, 1_000_000, 990_000.4).as_json(preset("ulx3s-85f"), 800_000)
    assert report == {"sequences": 8, "position": 32, "cycles": 1_000_000, "model_cycles": 990_000, "tokens_per_second": 533.33,
                      "tokens_per_second_each": 66.67, "x_alone": 6.4}
    assert Beside(8, 32, 1_000_000, 0.0).as_json(CORE, None)["x_alone"] is None


def test_reports_of_a_file(tmp_path):
    path = tmp_path / "reports.json"
    keep(path, "b", {"x": 1}, "how b")
    keep(path, "a", {"x": 2}, "how a")
    keep(path, "b", {"x": 3}, "how c")
    held = kept(path)
    assert [(name, report["x"], report["how"]) for name, report in held.items()] == [("a", 2, "how a"), ("b", 3, "how c")]
    assert all(report["commit"] for report in held.values())
    for content in ("[]", "no", json.dumps({"a": 1})):
        path.write_text(content)
        with pytest.raises(InputError, match="no file of such reports; name another file"):
            keep(path, "a", {}, "how")
        assert path.read_text() == content


def test_how_names_no_folder():
    assert bench.how(["--drafts", "/a/b.drafts", "--json", "/c/d.json", "--text", "e.txt", "--tokens", "9"]) == (
        "python -m sim.bench --drafts b.drafts --text e.txt --tokens 9")


@pytest.mark.parametrize(("arguments", "message"), [
    (["--sequences", "0"], "sequences start at 1"),
    (["--sequences", "32"], "--sequences holds 32, and a core of preset ulx3s-85f runs 16 sequences side by side"),
    (["--sequences", "2", "--preset", "ulx3s-85f-l2"], "a core of preset ulx3s-85f-l2 runs one sequence at a time"),
    (["--sequences", "2", "--prompt-tokens", "4"], "leave it out beside --sequences"),
    (["--sequences", "2", "--tokens", "-1"], "--tokens is -1"),
    (["--sequences", "2", "--model", "trilm-99m"], "take a model with its LM head"),
    (["--sequences", "2", "--text", "/nowhere"], "the texts cannot be read"),
    (["--sequences", "16", "--positions", "400"], "texts of 424 tokens or more; 16 are wanted"),
])
def test_refusals(arguments, message, capsys):
    assert bench.main(arguments) == 2
    assert message in capsys.readouterr().err
