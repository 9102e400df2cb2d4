# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Benches on netlists: what models refuse, netlists as Verilog, planted faults, and the committed report."""

import json
import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest

from sim import gates
from sim.netlist import CELLS, FAULTS, NetlistError, cell_counts, cell_sources, parameter, plant, to_verilog
from sim.run_one import BUILD_ARGS
from sim.run_tests import Job, discover, run_job
from sim.testbench import Bench
from sim.verilator import verilator_command, verilator_env
from tellme.spec.config import preset

ROOT = Path(__file__).resolve().parents[2]
#: Parameters that a model must refuse, with what it says.
REFUSED = {
    "DP16KD": {"DATA_WIDTH_A": ("36 + 1", "DATA_WIDTH_A is 37"), "DATA_WIDTH_B": ("3", "DATA_WIDTH_B is 3"),
               "REGMODE_A": ('"OUTREG"', "REGMODE_A"), "REGMODE_B": ('"OUTREG"', "REGMODE_B"),
               "WRITEMODE_A": ('"WRITETHRU"', "WRITEMODE_A"), "WRITEMODE_B": ('"OLD"', "WRITEMODE_B"),
               "CSDECODE_A": ('"0b001"', "CSDECODE_A"), "CSDECODE_B": ('"0b111"', "CSDECODE_B"),
               "CLKAMUX": ('"CLKB"', "CLKAMUX"), "CLKBMUX": ('"0"', "CLKBMUX"), "RESETMODE": ('"NONE"', "RESETMODE"),
               "ASYNC_RESET_RELEASE": ('"ASYNC"', "release"), "GSR": ('"AUTO"', "GSR")},
    "MULT18X18D": {"REG_INPUTA_CLK": ('"CLK4"', "register"), "REG_INPUTB_CLK": ('"CLK"', "register"),
                   "REG_INPUTC_CLK": ('"CLK0"', "operand C"), "CLK1_DIV": ('"DISABLED"', "fast clock"),
                   "HIGHSPEED_CLK": ('"CLK0"', "fast clock"), "MULT_BYPASS": ('"ENABLED"', "bypass"),
                   "CAS_MATCH_REG": ('"TRUE"', "cascade"), "SOURCEB_MODE": ('"C_SHIFT"', "operand"),
                   "RESETMODE": ('"NONE"', "RESETMODE"), "GSR": ('"AUTO"', "GSR")},
    "TRELLIS_FF": {"GSR": ('"ENABLED"', "GSR"), "CEMUX": ('"0"', "CEMUX"), "CLKMUX": ('"1"', "CLKMUX"),
                   "LSRMUX": ('"0"', "LSRMUX"), "REGSET": ('"0"', "REGSET"), "SRMODE": ('"SYNC"', "SRMODE")},
    "TRELLIS_DPR16X4": {"WCKMUX": ('"0"', "WCKMUX"), "WREMUX": ('"1"', "WREMUX")},
    "CCU2C": {"INJECT1_0": ('"MAYBE"', "INJECT1_0"), "INJECT1_1": ('"0"', "INJECT1_1")},
}
#: What a model wants where its own default is an error.
WANTED = {"DP16KD": {"GSR": '"DISABLED"'}, "TRELLIS_FF": {"GSR": '"DISABLED"'}}


def verilate(folder, text):
    """Verilator over the models and a module ``top``, with the options of benches; its exit code and what it says."""
    for name, source in {**cell_sources(), "top.sv": text}.items():
        (folder / name).write_text(source)
    done = subprocess.run([*verilator_command(), "--lint-only", *BUILD_ARGS, "--top-module", "top", *cell_sources(), "top.sv"],
                          cwd=folder, env=verilator_env(), capture_output=True, text=True)
    return done.returncode, done.stderr


def instance(cell, name, parameters):
    given = ", ".join(f".{key}({value})" for key, value in {**WANTED.get(cell, {}), **parameters}.items())
    return f"  {cell} #({given}) {name}();"


def test_the_models_take_what_they_have(tmp_path):
    lines = [instance(cell, f"c{n}", {}) for n, cell in enumerate(REFUSED)]
    code, said = verilate(tmp_path, "\n".join(["module top;", *lines, "endmodule\n"]))
    assert code == 0, said


def test_an_unsupported_parameter_is_an_error(tmp_path):
    """Each at elaboration, by a line that names it."""
    cases = [(cell, key, value, says) for cell, keys in REFUSED.items() for key, (value, says) in keys.items()]
    lines = [instance(cell, f"c{n}", {key: value}) for n, (cell, key, value, _) in enumerate(cases)]
    code, said = verilate(tmp_path, "\n".join(["module top;", *lines, "endmodule\n"]))
    assert code != 0
    errors = [line for line in said.splitlines() if line.startswith("%Error")]
    for cell, key, _, says in cases:
        assert any(cell in line and says in line for line in errors), (cell, key, said)
    # Verilator prints a line of a model once, however many instances it stops.
    assert sum(line.startswith("%Error-USERERROR: dp16kd.sv") for line in errors) == len(REFUSED["DP16KD"])


@pytest.mark.parametrize("text", [
    "DP16KD #(.GSR(\"DISABLED\"), .DATA_WIDTH_C(9)) c();",
    "TRELLIS_FF #(.GSR(\"DISABLED\")) c(.M(1'b0));", "MULT18X18D c(.SRIA0(1'b0));", "ALU54B c();"])
def test_an_unknown_parameter_pin_or_cell_is_an_error(tmp_path, text):
    code, said = verilate(tmp_path, f"module top;\n  {text}\nendmodule\n")
    assert code != 0 and "%Error" in said


def netlist_of(cells, ports=None):
    """A netlist as yosys writes it."""
    ports = ports or {"clk": {"direction": "input", "bits": [2]}, "d": {"direction": "input", "bits": [3, 4]},
                      "q": {"direction": "output", "bits": [5, "1"]}}
    return {"modules": {"dut": {"ports": ports, "cells": cells}}}


LUT = {"type": "LUT4", "parameters": {"INIT": "1000000000000001"},
       "port_directions": dict.fromkeys("ABCD", "input") | {"Z": "output"},
       "connections": {"A": [3], "B": [4], "C": ["x"], "D": ["0"], "Z": [5]}}
FF = {"type": "TRELLIS_FF", "parameters": {"CEMUX": "1 ", "GSR": "DISABLED", "REGSET": "RESET"},
      "port_directions": {"CLK": "input", "DI": "input", "Q": "output"}, "connections": {"CLK": [2], "DI": [3], "Q": [6]}}
EBR = {"type": "DP16KD", "parameters": {"CLKAMUX": "CLKA", "CLKBMUX": "CLKB", "DATA_WIDTH_A": f"{36:032b}"},
       "port_directions": {}, "connections": {"CLKA": [2], "CLKB": [2], "CEA": ["1"], "CEB": ["1"], "WEA": ["1"]}}


def test_a_netlist_as_verilog():
    note = {"type": "$scopeinfo", "parameters": {}, "port_directions": {}, "connections": {}}
    text = to_verilog(netlist_of({"lut": LUT, "ff": FF, "note": note}))
    assert re.search(r"^  input clk;\n  input \[1:0\] d;\n  output \[1:0\] q;$", text, re.M)
    assert "assign n2 = clk;" in text and "assign n4 = d[1];" in text and "assign q = {1'b1, n5};" in text
    assert re.search(r"LUT4 #\(\.INIT\(16'b1000000000000001\)\) c0\(\.A\(\{n3\}\), \.B\(\{n4\}\), \.C\(\{1'b[01]\}\), \.D", text)
    assert '.CEMUX("1")' in text and "scopeinfo" not in text
    assert cell_counts(netlist_of({"lut": LUT, "ff": FF, "note": note})) == {"LUT4": 1, "TRELLIS_FF": 1}


def test_parameters_of_yosys():
    """Strings that look like bits have a space behind."""
    assert [parameter(text) for text in ("0101", "CLK", "1 ", "01  ", "0b000")] == ["0101", '"CLK"', '"1"', '"01 "', '"0b000"']


def test_netlists_that_no_model_can_simulate():
    with pytest.raises(NetlistError, match="alu is a ALU54B, of which sim/cells has no model"):
        to_verilog(netlist_of({"alu": {**LUT, "type": "ALU54B"}}))
    with pytest.raises(NetlistError, match="lut drives a constant at Z"):
        to_verilog(netlist_of({"lut": {**LUT, "connections": {**LUT["connections"], "Z": ["0"]}}}))
    both = {**EBR, "port_directions": dict.fromkeys(EBR["connections"], "input")}
    to_verilog(netlist_of({"ebr": both}))
    other = {**both, "connections": {**EBR["connections"], "CLKB": [3]}}
    with pytest.raises(NetlistError, match="the ports of ebr have two clocks"):
        to_verilog(netlist_of({"ebr": other}))
    to_verilog(netlist_of({"ebr": {**other, "connections": {**other["connections"], "CEA": ["0"]}}}))


def test_a_planted_fault_changes_one_cell():
    carry = {**LUT, "type": "CCU2C", "parameters": {"INIT0": "0" * 16, "INIT1": "1" * 16}}
    memory = {**LUT, "type": "TRELLIS_DPR16X4", "parameters": {"WREMUX": "WRE"}}
    enabled = {**FF, "parameters": {**FF["parameters"], "CEMUX": "CE"}}
    cells = {"lut": LUT, "lut2": deepcopy(LUT), "ff": FF, "ff2": enabled, "ebr": EBR, "carry": carry, "memory": memory}
    whole = netlist_of(cells)
    for fault in FAULTS:
        changed = deepcopy(whole)
        assert plant(changed, fault, 1)
        differ = [name for name, cell in changed["modules"]["dut"]["cells"].items() if cell != cells[name]]
        assert len(differ) == 1, fault
        again = deepcopy(whole)
        plant(again, fault, 1)
        assert again == changed
    with pytest.raises(NetlistError, match="no fault is called 'gremlin'; there are: lut, "):
        plant(whole, "gremlin", 1)
    with pytest.raises(NetlistError, match="the netlist has no DP16KD that can have the fault ebr-width"):
        plant(netlist_of({"lut": LUT}), "ebr-width", 1)


def test_netlists_are_of_benches_and_presets_that_exist():
    jobs = {job.name for job in discover(ROOT / "tests" / "hw")}
    assert len({netlist.name for netlist in gates.NETLISTS}) == len(gates.NETLISTS)
    for netlist in gates.NETLISTS:
        assert netlist.bench in jobs
        preset(netlist.preset)
    assert {n.bench.split("/")[0] for n in gates.NETLISTS} >= {"tlmm", "weights", "fused", "lm_head"}
    names = {netlist.name for netlist in gates.NETLISTS}
    assert {name for name, *_ in gates.PLANTED} <= names and {fault for _, fault, _ in gates.PLANTED} <= set(FAULTS)


@pytest.mark.parametrize(("arguments", "says"), [
    (["-k", "nonsense"], "no netlist matches 'nonsense'; --list shows all"),
    (["--plant", "gremlin:1"], "--plant is 'gremlin:1'; it wants FAULT:SEED"), (["--plant", "lut"], "it wants FAULT:SEED"),
    (["--plant", "lut:1", "--report"], "give it without --faults and --report"), (["--root", "/nowhere"], "no bench is called")])
def test_bad_arguments(arguments, says, capsys):
    try:
        code = gates.main(arguments)
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert says in capsys.readouterr().err


UNIT = """
import cocotb
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import FallingEdge
from sim.cocotb_streams import report, reset
from sim.testbench import Bench

class Unit(wiring.Component):
    a: In(6)
    sum: Out(7)
    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.sum.eq(self.a + self.a[:3])
        return m

BENCHES = [Bench(name="x", build=Unit)]

@cocotb.test()
async def sums(dut):
    await reset(dut)
    for a in range(64):
        dut.a.value = a
        await FallingEdge(dut.clk)
        assert int(dut.sum.value) == a + a % 8
    report(cases=64)
"""


@pytest.mark.nightly
def test_a_bench_on_its_netlist_and_a_fault(tmp_path):
    """The same test passes on yosys' cells, and fails on cells with a fault; both are counted by what ran."""
    root = tmp_path / "hw"
    (root / "demo").mkdir(parents=True)
    file = root / "demo" / "tb_it.py"
    file.write_text(UNIT)
    bench = Bench(name="x", build=object)
    job = Job("demo", file, bench, ("sums",), gates="ulx3s-85f")
    good = run_job(job, folder=gates.build_folder(), seed="1", waves=False, root=root)
    assert [(case.name, case.outcome, case.cases) for case in good.cases] == [("demo/it-x@ulx3s-85f.sums", "PASS", 64)], good.log
    cells = gates.notes(good)["cells"]
    assert cells["TRELLIS_FF"] == 7 and set(cells) <= set(CELLS)
    assert gates.found(good).outcome == "FAIL"
    faulty = Job("demo", file, bench, ("sums",), gates="ulx3s-85f", plant="ff:1" if "CCU2C" not in cells else "carry:1")
    bad = run_job(faulty, folder=gates.build_folder(), seed="1", waves=False, root=root)
    assert [case.outcome for case in bad.cases] == ["FAIL"]
    assert gates.notes(bad)["fault"] and gates.found(bad).outcome == "PASS"


def test_the_report_is_of_these_netlists():
    """Every netlist and every planted fault that is not open has a run that passed."""
    report = json.loads(gates.REPORT.read_text())
    names = {n.name for n in gates.NETLISTS} | {f"{name}+{fault}:{seed}" for name, fault, seed in gates.PLANTED}
    assert set(gates.OPEN) <= names and set(report) == names - set(gates.OPEN)
    for name, entry in report.items():
        assert entry["failed"] == 0 < entry["passed"], name
        assert entry["cells"] and set(entry["cells"]) <= set(CELLS), name
        netlist, _, fault = name.partition("+")
        assert f"-k {netlist} " in entry["how"] and (f"--plant {fault} " in entry["how"]) == bool(fault), name


def test_a_bad_preset_is_named():
    done = subprocess.run([sys.executable, "-c", "from sim.netlist import synthesise; from pathlib import Path; "
                           "synthesise('', 'nonsense', Path('.'))"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and "nonsense" in done.stderr
