# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tellme-host convert and inspect."""

from pathlib import Path

import pytest
from safetensors.numpy import save_file

from tellme import __version__
from tellme.cli import main
from tellme.models import Model
from tests.models.test_checkpoints import METADATA, SHIPPED, bitllama, training_output


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "training run.safetensors"
    save_file(training_output(SHIPPED), path, metadata=METADATA)
    return path


@pytest.fixture
def pieces(tmp_path):
    path = tmp_path / "pieces.model"
    path.write_bytes(SHIPPED.tokenizer)
    return path


def test_convert_then_generate(source, pieces, tmp_path, capsys):
    out = tmp_path / "my stories.tellme"
    assert main(["convert", str(source), "-o", str(out), "--tokenizer", str(pieces)]) == 0
    assert Model.load(out).name == "my stories"
    captured = capsys.readouterr()
    assert captured.out == "" and "1.18 M ternary weights" in captured.err
    assert main(["generate", "--model", str(out), "--device", "golden", "--max-tokens", "3"]) == 0
    assert capsys.readouterr().out


def test_convert_bitllama_says_which_bit_order(pieces, tmp_path, capsys):
    source = tmp_path / "m.bin"
    source.write_bytes(bitllama(SHIPPED, least_first=False))
    assert main(["convert", str(source), "-o", str(tmp_path / "m.tellme"), "--tokenizer", str(pieces)]) == 0
    assert "weights lie most significant first; known by the loss" in capsys.readouterr().err


def test_without_tokenizer(source, tmp_path, capsys):
    assert main(["convert", str(source), "-o", str(tmp_path / "m.tellme")]) == 0
    assert "no tokenizer: prompts and output are token ids" in capsys.readouterr().err


@pytest.mark.parametrize(("source_name", "out", "message"), [
    ("missing.bin", "m.tellme", "there is no file"),
    ("pieces.model", "m.tellme", "neither a bitllama2.c file nor a safetensors file"),
    ("training run.safetensors", "no-folder/m.tellme", "there is no folder"),
    ("training run.safetensors", ".", "is a folder; give the name"),
])
def test_refusals_leave_nothing(source, pieces, tmp_path, capsys, source_name, out, message):
    before = sorted(tmp_path.iterdir())
    code = main(["convert", str(tmp_path / source_name), "-o", str(tmp_path / out), "--tokenizer", str(pieces)])
    captured = capsys.readouterr()
    assert code == 2 and message in captured.err and captured.out == ""
    assert sorted(tmp_path.iterdir()) == before




def test_the_old_file_stays_when_the_new_one_fails(source, tmp_path, capsys):
    target = tmp_path / "m.tellme"
    target.write_bytes(b"precious")
    source.write_bytes(source.read_bytes()[:-10])
    assert main(["convert", str(source), "-o", str(target)]) == 2
    assert target.read_bytes() == b"precious" and "damaged" in capsys.readouterr().err


def test_inspect(capsys):
    assert main(["inspect"]) == 0
    out = capsys.readouterr().out
    assert "ternary weights  1179648" in out and "final_norm" in out and "BSD-2-Clause" in out
    assert main(["inspect", "nothing"]) == 2


def test_version_is_the_distributions(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == f"tellme-host {__version__}"
    text = (Path(__file__).resolve().parent.parent.parent / "pyproject.toml").read_text()
    assert f'version = "{__version__}"' in text
