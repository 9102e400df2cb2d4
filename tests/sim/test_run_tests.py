# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The RTL test runner, on planted testbenches: whatever goes wrong is a failure, and counts are real."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sim.run_tests import Job, build_folder, longest_first, may_match
from sim.testbench import Bench
from sim.verilator import compiler_is_gcc, object_cache, verilator_root
from tools.coverage_rtl import read_counts

ROOT = Path(__file__).resolve().parents[2]
HEAD = """
import cocotb
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import Timer
from sim.cocotb_streams import report, reset
from sim.testbench import Bench

class Unit(wiring.Component):
    i: In(4)
    o: Out(4)
    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.o.eq(self.i)
        return m
"""
BENCH = "BENCHES = [Bench(name='x', build=Unit, timeout_s=20)]\n"
PASSING = "@cocotb.test()\nasync def good(dut):\n    await reset(dut)\n    report(cases=7)\n"
PLANTED = {
    "passing": (BENCH + PASSING, 0, "1 passed, 0 failed, 0 skipped", r"^PASS demo/it-x\.good cases=7 cycles=\d+ "),
    "failing": (BENCH + PASSING + "@cocotb.test()\nasync def bad(dut):\n    assert 1 == 2\n", 1,
                "1 passed, 1 failed, 0 skipped", r"^FAIL demo/it-x\.bad "),
    "skipped": (BENCH + PASSING + "@cocotb.test(skip=True)\nasync def later(dut):\n    pass\n", 0,
                "1 passed, 0 failed, 1 skipped", r"^SKIP demo/it-x\.later "),
    "no test": (BENCH, 1, "0 passed, 1 failed, 0 skipped", r"^FAIL demo/it-x\.\(no test\) "),
    "crash": (BENCH + "@cocotb.test()\nasync def dies(dut):\n    import os\n    os._exit(3)\n", 1,
              "0 passed, 1 failed, 0 skipped", r"^FAIL demo/it-x\.\(crash\) "),
    "build error": ("def broken():\n    raise RuntimeError('no such unit')\n"
                    "BENCHES = [Bench(name='x', build=broken)]\n" + PASSING, 1, "0 passed, 1 failed, 0 skipped",
                    r"^FAIL demo/it-x\.\(build\) "),
    "hang": (BENCH.replace("20", "3") + "@cocotb.test()\nasync def waits(dut):\n    while True:\n"
             "        await Timer(1000, 'ns')\n", 1, "0 passed, 1 failed, 0 skipped", r"^FAIL demo/it-x\.\(hang\) "),
}


def run(root, *arguments):
    return subprocess.run([sys.executable, "-m", "sim.run_tests", "--root", str(root), *arguments], cwd=ROOT,
                          capture_output=True, text=True, timeout=1200)


def plant(folder: Path, source: str) -> Path:
    root = folder / "tests with a space" / "hw"
    (root / "demo").mkdir(parents=True)
    (root / "demo" / "tb_it.py").write_text(HEAD + source)
    return root


@pytest.mark.parametrize("name", PLANTED)
def test_planted(tmp_path, name):
    source, code, last, line = PLANTED[name]
    done = run(plant(tmp_path, source), "--seed", "1")
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout.rstrip().splitlines()[-1] == last
    assert re.search(line, done.stdout, re.M), done.stdout


def test_nothing_matches(tmp_path):
    done = run(plant(tmp_path, BENCH + PASSING), "-k", "nonsense")
    assert done.returncode == 2
    assert "no test matches 'nonsense'" in done.stderr


def test_list_and_junit(tmp_path):
    root = plant(tmp_path, BENCH + PASSING)
    assert run(root, "--list").stdout == "demo/it-x.good\n"
    junit = tmp_path / "out.xml"
    assert run(root, "-k", "good", "--junit", str(junit)).returncode == 0
    assert 'testcase name="demo/it-x.good"' in junit.read_text()


def test_nightly_benches_run_when_asked_for(tmp_path):
    root = plant(tmp_path, "BENCHES = [Bench(name='x', build=Unit), Bench(name='y', build=Unit, nightly='a reason')]\n" + PASSING)
    assert run(root, "--list").stdout == "demo/it-x.good\n"
    assert run(root, "--list", "--nightly").stdout == "demo/it-x.good\ndemo/it-y.good\n"
    done = run(root, "-k", "it-y")
    assert (done.returncode, done.stderr) == (2, "'it-y' matches benches of make nightly alone; give --nightly too\n")


def test_longest_first_and_unknown_ones_ahead():
    jobs = [Job("demo", Path("tb_it.py"), Bench(name=name), ("good",)) for name in ("unknown", "a", "b")]
    assert [job.bench.name for job in longest_first(jobs, {"demo/it-a": 1.0, "demo/it-b": 2.0})] == ["unknown", "b", "a"]


@pytest.mark.parametrize(("substring", "files"), [
    ("tlmm/", {"tb_by_rows", "tb_carry", "tb_dot", "tb_engine", "tb_groups", "tb_lane", "tb_planes"}),
    ("tlmm/engine-lanes2.", {"tb_engine"}), ("mm/eng", {"tb_engine"}),
    ("engine", None), ("nobody/", set())])
def test_files_that_cannot_match_are_not_imported(substring, files):
    """None: all of them, as the names after the file's are not known before."""
    every = sorted((ROOT / "tests" / "hw").glob("*/tb_*.py"))
    found = {file.stem for file in every if may_match(file, [substring])}
    assert found == ({file.stem for file in every} if files is None else files)


def test_the_runtime_library_is_kept_and_the_model_is_not(tmp_path):
    """What includes a model's header depends on the model; a library's object is made once."""
    library = verilator_root() / "include" / "verilated_threads.cpp"
    model = tmp_path / "model.cpp"
    model.write_text("int answer() { return 1; }\n")
    command = object_cache(tmp_path / "objects", "-O0")
    for source in (library, model):
        compiler = ["c++", "-O0", f"-I{library.parent}", f"-I{library.parent / 'vltstd'}", "-DVM_TIMING=0", "-c", "-o",
                    f"{source.stem}.o", str(source)]
        subprocess.run([command, *compiler], cwd=tmp_path, check=True)
    assert {path.name for path in command.parent.iterdir()} == {"compile", "verilated_threads.o"}
    first = (tmp_path / "verilated_threads.o").read_bytes()
    (tmp_path / "verilated_threads.o").unlink()
    # No compiler: it is the one that was kept.
    subprocess.run([command, "false", str(library)], cwd=tmp_path, check=True)
    assert (tmp_path / "verilated_threads.o").read_bytes() == first
    assert subprocess.run([command, "false", str(model)], cwd=tmp_path).returncode == 1
    assert object_cache(tmp_path / "objects", "-O1").parent != command.parent


@pytest.mark.skipif(not compiler_is_gcc(), reason="headers are precompiled with GCC alone")
def test_the_librarys_headers_are_read_precompiled(tmp_path):
    """By the sources of a model, with the options with which they were precompiled; with other options they are read as text."""
    include = verilator_root() / "include"
    command = object_cache(tmp_path / "objects", "-O0", headers=True)
    (tmp_path / "model.cpp").write_text('#include "verilated.h"\nIData answer() { return VL_MASK_I(3); }\n')
    # With -H the compiler says which precompiled header it takes (!), and which it does not take (x).
    for flags, mark in ((["-O0"], "!"), (["-O0", "-fno-exceptions"], "x")):
        compiler = ["c++", *flags, "-H", f"-I{include}", f"-I{include / 'vltstd'}", "-DVM_TIMING=0", "-MMD", "-c", "-o",
                    "model.o", "model.cpp"]
        done = subprocess.run([command, *compiler], cwd=tmp_path, check=True, capture_output=True, text=True)
        found = [line[0] for line in done.stderr.splitlines() if line.endswith("/library.h.gch")]
        assert found == [mark] and (tmp_path / "model.o").exists()
        (tmp_path / "model.o").unlink()
    # A library's object is kept as without the headers.
    assert subprocess.run([command, "false", str(include / "verilated.cpp")], cwd=tmp_path).returncode == 1
    (command.parent / "verilated.o").write_text("kept")
    subprocess.run([command, "false", str(include / "verilated.cpp")], cwd=tmp_path, check=True)
    assert (tmp_path / "verilated.o").read_text() == "kept"


@pytest.mark.skipif(not compiler_is_gcc(), reason="a model's file is split with GCC alone")
def test_what_runs_once_in_a_model_is_not_optimised(tmp_path):
    """The compiler makes a constant of the same sum in the part that runs often, and not in the other part."""
    include = verilator_root() / "include"
    command = object_cache(tmp_path / "objects", "-O1", headers=True)
    for name, result in (("Vtop", "often"), ("Vtop__Slow", "once")):
        (tmp_path / f"{name}.cpp").write_text(
            f'extern "C" int {result}() {{ int sum = 0; for (int n = 0; n < 4; ++n) sum += n * 7; return sum; }}\n')
    (tmp_path / "Vtop__ALL.cpp").write_text('#include "Vtop.cpp"\n#include "Vtop__Slow.cpp"\n')
    subprocess.run([command, "c++", "-O1", f"-I{include}", f"-I{include / 'vltstd'}", "-DVM_TIMING=0", "-MMD", "-S", "-o",
                    "Vtop__ALL.o", "Vtop__ALL.cpp"], cwd=tmp_path, check=True)
    often, once = re.split(r"^once:$", (tmp_path / "Vtop__ALL.o").read_text(), flags=re.M)
    assert not re.search(r"^\.L\d+:$", often.partition("often:")[2], re.M), "no loop is left"
    assert re.search(r"^\.L\d+:$", once, re.M), "the loop is there"


def test_a_stream_driver_at_another_time_is_refused(tmp_path):
    """A read just before the rising edge would see values that the flip-flops have taken already."""
    source = (
        "from amaranth.lib import stream\n"
        "from cocotb.triggers import RisingEdge\nfrom sim.cocotb_streams import StreamSource\n"
        "class Streams(wiring.Component):\n    i: In(stream.Signature(4))\n    def elaborate(self, platform):\n"
        "        m = Module()\n        m.d.sync += self.i.ready.eq(1)\n        return m\n")
    source += BENCH.replace("Unit", "Streams") + (
        "@cocotb.test()\nasync def good(dut):\n    await reset(dut)\n    source = StreamSource(dut, 'i')\n"
        "    await source.send(1)\n    await RisingEdge(dut.clk)\n    await source.send(1)\n")
    done = run(plant(tmp_path, source), "--seed", "1")
    assert done.returncode == 1
    assert "a stream is used at another time than just behind a falling edge of the clock" in done.stdout


@pytest.mark.nightly
def test_waves(tmp_path):
    """A VCD file beside the log that has the unit's signals and ends where the test does."""
    source = BENCH + "@cocotb.test()\nasync def good(dut):\n    await reset(dut)\n    await Timer(1000, 'ns')\n"
    done = run(plant(tmp_path, source), "--waves")
    assert done.returncode == 0, done.stdout + done.stderr
    [wave] = (build_folder() / "demo--it-x").glob("*.vcd")
    text = wave.read_text()
    assert re.search(r"\$var wire\s+4 \S+ o ", text) and re.search(r"\$var wire\s+1 \S+ clk ", text)
    last = max(int(t) for t in re.findall(r"^#(\d+)$", text, re.M))
    assert last >= 1_000_000, "picoseconds"


@pytest.mark.nightly
def test_coverage_keeps_the_counts_of_a_bench(tmp_path):
    """Nightly: it compiles Verilator's library once more.  The unit is one of hw: those of tests have no points."""
    imports = "from hw.lib.streams import Skid\nfrom sim.cocotb_streams import report_point\n"
    source = imports + "POINTS = ('limit: all', 'limit: none')\n" + BENCH.replace("build=Unit", "build=lambda: Skid(4)")
    source += PASSING.replace(
        "    report(cases=7)\n", "    report_point('limit: all')\n")
    root, folder = plant(tmp_path, source), tmp_path / "counts"
    done = run(root, "--coverage", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((folder / "demo--it-x" / "bench.json").read_text())
    assert (told["bench"], told["declared"], told["told"], told["failed"]) == ("demo/it-x", ["limit: all", "limit: none"],
                                                                               ["limit: all"], [])
    assert json.loads((folder / "demo--it-x" / "points.json").read_text()).keys() == {"points", "controls", "always"}
    assert read_counts((folder / "demo--it-x" / "coverage.dat").read_text())
    # A run without a test that passed leaves nothing, old counts neither.
    failing = plant(tmp_path / "failing", BENCH + "@cocotb.test()\nasync def bad(dut):\n    assert 1 == 2\n")
    assert run(failing, "--coverage", str(folder)).returncode == 1
    assert not (folder / "demo--it-x").exists()


def test_coverage_wants_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(plant(tmp_path, BENCH + PASSING), "--coverage", str(tmp_path / "file"))
    assert done.returncode == 2 and "is no folder" in done.stderr


def test_a_seed_repeats_a_run(tmp_path):
    source = (BENCH + "@cocotb.test()\nasync def good(dut):\n    import random\n    await reset(dut)\n"
              "    report(cases=random.getrandbits(30))\n")
    root = plant(tmp_path, source)

    def cases(*arguments):
        out = run(root, *arguments).stdout
        return re.search(r"^seed (\d+)", out)[1], re.search(r"cases=(\d+)", out)[1]

    seed, first = cases()
    assert cases("--seed", seed) == (seed, first)
    assert cases("--seed", str(int(seed) ^ 1))[1] != first


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_benches_of_a_run_that_began(signum):
    """``begin`` serves :mod:`sim.gates` too."""
    code = """import subprocess, time
from sim import run_tests
run_tests.begin("1")
bench = subprocess.Popen(["sleep", "60"], start_new_session=True)
run_tests._RUNNING.add(bench)
print("it runs", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          cwd=ROOT) as run:
        assert run.stdout.readline() == "seed 1 (repeat with --seed 1)\n"
        assert run.stdout.readline() == "it runs\n"
        began = time.monotonic()
        run.send_signal(signum)
        assert run.wait(20) == 128 + signum
        # The bench has both pipes too: they end when it has ended.
        assert (run.stdout.read(), run.stderr.read()) == ("", "\nstopped\n") and time.monotonic() - began < 30


def test_a_signal_ends_a_run_with_its_bench_and_says_no_more(tmp_path):
    source = "import os\nfrom pathlib import Path\n" + BENCH + (
        f"@cocotb.test()\nasync def waits(dut):\n    Path({str(tmp_path / 'began')!r}).write_text(str(os.getpid()))\n"
        "    while True:\n        await Timer(1000, 'ns')\n")
    root = plant(tmp_path, source)
    with subprocess.Popen([sys.executable, "-m", "sim.run_tests", "--root", str(root), "--seed", "1"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, cwd=ROOT) as run:
        deadline = time.monotonic() + 120
        while not (tmp_path / "began").exists() or not (tmp_path / "began").read_text():
            assert time.monotonic() < deadline and run.poll() is None
            time.sleep(0.1)
        run.send_signal(signal.SIGTERM)
        # The process that the benches are forks of has both pipes too.
        assert run.communicate(timeout=30)[1] == "\nstopped\n" and run.returncode == 128 + signal.SIGTERM
    bench = int((tmp_path / "began").read_text())
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(bench, 0)
            time.sleep(0.1)
