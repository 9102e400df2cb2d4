# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The program of long runs, on the golden model behind packets: what it draws, its record, and that a wrong bit ends it."""

import json

from tellme.runtime.device import BoardDevice
from tellme.spec.config import SIMULATED, preset
from tests.long import BLOCK, FAMILIES, GOAL, ONE_IN, REPORT, drawn, drawn_texts, model_name, model_of
from tests.soft_golden import SoftClient


class Wrong(SoftClient):
    """Step 4 has another CRC from the ``after``-th READ of the CRCs on."""

    after, reads = 10**9, 0

    def read(self, address, size):
        content = super().read(address, size)
        if address == 0xA000_0000:
            self.reads += 1
            if self.reads >= self.after:
                content = content[:16] + bytes([content[16] ^ 1]) + content[17:]
        return content


def device(after=10**9):
    client = Wrong(preset(SIMULATED))
    client.after = after
    return BoardDevice("sim", preset(SIMULATED), client, "ab" * 32)


def test_what_is_drawn():
    """Each model, within its context; the same for the same seed."""
    names = [model_name(number) for number in range(100 * BLOCK)]
    assert set(names) == {*FAMILIES, *ONE_IN} and names.count("stories-8m") == BLOCK and names.count("stories-1m") == 6 * BLOCK
    assert all(len(set(names[first:first + BLOCK])) == 1 for first in range(0, len(names), BLOCK))
    for number in range(20):
        name, prompt, tokens = drawn(7, number)
        config = model_of(name).config
        assert drawn(7, number) == (name, prompt, tokens) and len(prompt) + tokens - 1 <= config.context and tokens >= 1
    assert [drawn(7, number) for number in range(5)] != [drawn(8, number) for number in range(5)]


def test_a_record_goes_on(tmp_path, capsys):
    path = tmp_path / "long.json"
    assert drawn_texts(5, 3, path, device()) == 0
    first = json.loads(path.read_text())
    assert first["tokens"] >= 5 and first["tokens"] == sum(first["tokens_by_model"].values()) and first["goal"] == GOAL
    assert drawn_texts(first["tokens"] + 5, 3, path, device()) == 0
    both = json.loads(path.read_text())
    assert both["texts"][:len(first["texts"])] == first["texts"] and both["tokens"] >= first["tokens"] + 5
    assert both["steps"] == sum(text["steps"] for text in both["texts"])
    assert [text["number"] for text in both["texts"]] == list(range(len(both["texts"])))
    assert drawn_texts(50, 4, path, device()) == 2 and "is of other texts" in capsys.readouterr().out


def test_a_wrong_bit_ends_it(tmp_path, capsys):
    path = tmp_path / "long.json"
    assert drawn_texts(30, 3, path, device(after=2)) == 1
    assert "FAILED: text 0 of seed 3, plain, prompt [" in (said := capsys.readouterr().out) and ": step 4 (LINEAR)" in said
    assert not path.exists()


def test_the_record():
    record = json.loads(REPORT.read_text())
    assert record["tokens"] >= GOAL and set(record["tokens_by_model"]) == {*FAMILIES, *ONE_IN}
    assert record["tokens"] == sum(text["tokens"] for text in record["texts"]) == sum(record["tokens_by_model"].values())
    for text in record["texts"]:
        name, prompt, tokens = drawn(record["seed"], text["number"])
        assert (text["model"], text["prompt"], text["tokens"]) == (name, len(prompt), tokens)
