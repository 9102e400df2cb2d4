# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Loading a bitstream: what is refused, and what is passed to openFPGALoader."""

import pytest

from boards.flow import program
from tellme import programming


@pytest.fixture
def built(monkeypatch, tmp_path):
    """A checkout with a bitstream, and a loader that writes down its arguments."""
    monkeypatch.setattr(program, "ROOT", tmp_path)
    folder = tmp_path / "build" / "ulx3s-85f"
    folder.mkdir(parents=True)
    (folder / "tellme.bit").write_bytes(b"bits")
    loader = tmp_path / "loader"
    monkeypatch.setattr(programming, "find_loader", lambda: loader)

    def make(script):
        loader.write_text(f"#!/bin/sh\necho \"$@\" > '{tmp_path}/said'\n{script}\n")
        loader.chmod(0o755)
        return tmp_path / "said"

    return make


def test_loads_into_the_fpga_or_the_flash(built, capsys):
    said = built("exit 0")
    assert program.main([]) == 0
    assert said.read_text().split()[:2] == ["--board", "ulx3s"] and said.read_text().strip().endswith("tellme.bit")
    assert program.main(["--flash"]) == 0 and "--write-flash" in said.read_text()
    assert "generate --device auto" in capsys.readouterr().err


def test_no_bitstream(built, capsys, tmp_path):
    built("exit 0")
    (tmp_path / "build" / "ulx3s-85f" / "tellme.bit").unlink()
    assert program.main([]) == 2
    assert "make bitstream BOARD=ulx3s DEVICE=85f" in capsys.readouterr().err


def test_no_board_and_no_library(built, capsys):
    built("echo 'unable to open ftdi device' >&2; exit 1")
    assert program.main([]) == 2
    err = capsys.readouterr().err
    assert "unable to open ftdi device" in err and "docs/bring-up.md" in err
    built("echo 'openFPGALoader: error while loading shared libraries: libusb-1.0.so.0' >&2; exit 127")
    assert program.main([]) == 2
    assert "apt-get install -y libusb-1.0-0" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "text"), [(["--board", "x"], "no board is called 'x'; there are:"),
                                                 (["--device", "9f"], "ulx3s has no preset for a '9f'")])
def test_refusals(capsys, arguments, text):
    assert program.main(arguments) == 2
    assert text in capsys.readouterr().err
