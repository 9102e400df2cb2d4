# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A build of the simulated board that fails or is killed leaves no binary, and no scratch folder for good."""

import os
import signal
import subprocess
import sys

import pytest

from sim.board import build
from tellme.spec.config import SIMULATED, preset

#: Verilator and its compilers, up to half a binary.
HALF = "mkdir obj; echo half > obj/board; echo no such thing; exit 1"


@pytest.fixture
def verilog(tmp_path):
    (tmp_path / "core.v").write_text("module core; endmodule\n")
    return tmp_path / "core.v"


def test_half_a_binary_is_none(verilog, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "verilator_command", lambda: ["sh", "-c", HALF])
    folder = tmp_path / "build"
    with pytest.raises(RuntimeError) as caught:
        build.compile_board(verilog, folder, preset(SIMULATED))
    assert str(caught.value) == (f"Verilator could not build the simulated board (log: {folder / 'build.log'}):\n"
                                 "no such thing")
    assert [path.name for path in folder.iterdir()] == ["build.log"]


def test_an_interruption_while_the_binary_is_copied(verilog, tmp_path, monkeypatch):
    def interrupted(source, target):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "verilator_command", lambda: ["true"])
    monkeypatch.setattr(build.shutil, "copy2", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build.compile_board(verilog, tmp_path / "build", preset(SIMULATED))
    assert [path.name for path in (tmp_path / "build").iterdir()] == ["build.log"]


def test_scratch_folders_of_killed_builds_are_removed(tmp_path):
    """Scratch folders of a running build stay, and so do folders that are no scratch folders."""
    (tmp_path / "board").write_bytes(b"")
    (tmp_path / "build.log").write_bytes(b"")
    code = ("import sys, time; from pathlib import Path; from sim.board.build import space_free_folder\n"
            "with space_free_folder(Path(sys.argv[1])) as folder: print(folder.name, flush=True); time.sleep(600)")
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as other:
        name = other.stdout.readline().strip()
        with build.space_free_folder(tmp_path) as own:
            assert {path.name for path in tmp_path.iterdir()} == {"board", "build.log", name, own.name}
        other.send_signal(signal.SIGKILL)
    with build.space_free_folder(tmp_path) as own:
        assert {path.name for path in tmp_path.iterdir()} == {"board", "build.log", own.name}
    assert {path.name for path in tmp_path.iterdir()} == {"board", "build.log"}


def test_a_temporary_folder_with_a_space(tmp_path, monkeypatch):
    place = tmp_path / "a b"
    place.mkdir()
    monkeypatch.setattr(build.tempfile, "tempdir", str(place))
    with pytest.raises(RuntimeError) as caught, build.space_free_folder(place):
        pass
    assert str(caught.value) == f"the temporary folder {place} has a space in its path; set TMPDIR to one without"
    assert list(place.iterdir()) == []


def test_arguments_say_what_the_preset_is():
    config = preset(SIMULATED)
    arguments = build.board_arguments(config, "ab" * 32)
    assert dict(zip(arguments[::2], arguments[1::2], strict=True)) == {
        "--build-id": "ab" * 32, "--cas": str(config.sdram_cas_latency), "--read-beats": str(build.READ_BEATS),
        "--columns": str(config.sdram_column_bits), "--mhz": str(config.sdram_mhz),
        "--power-up-us": str(config.sdram_power_up_us)}
