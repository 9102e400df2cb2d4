# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tools/mypy_amaranth.py on a planted module: what it must know, and what must stay an error."""

import re
import subprocess
import sys

from tools.reference import ROOT

#: Each line that ends with a comment ``# wrong: WORDS`` is an error that holds these words, and no other line is one.
SOURCE = '''
from amaranth.hdl import Module, Signal, Value, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

LAYOUT = data.StructLayout({"a": 3, "b": signed(4)})


class Unit(wiring.Component):
    def __init__(self, width: int) -> None:
        super().__init__({"i": In(stream.Signature(LAYOUT)), "start": In(1, init=1), "total": Out(signed(width))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += [self.total.eq(self.i.p.b), self.i.ready.eq(self.start)]
        m.d.comb += self.totl.eq(0)  # wrong: "Unit" has no attribute "totl"
        number: str = self.start  # wrong: has type "Signal", variable has type "str"
        view, bits = Signal(LAYOUT), Signal(3)
        m.d.sync += [view.a.eq(bits), view.as_value().eq(0)]
        bits.a  # wrong: "Signal" has no attribute "a"
        m.submodules.table = table = memory.Memory(shape=LAYOUT, depth=4, init=[], attrs={"no_rw_check": True})
        m.d.comb += table.read_port().addr.eq(view.a)
        table.read_prt()  # wrong: "Memory[Any, Any]" has no attribute "read_prt"
        return m


class Any_(wiring.Component):
    def __init__(self, names: list[str]) -> None:
        super().__init__({name: In(1) for name in names})

    def value(self) -> Value:
        return self.whatever
'''


def test_ports_are_known_and_other_names_are_errors(tmp_path):
    (tmp_path / "planted.py").write_text(SOURCE)
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nplugins = {ROOT / 'tools' / 'mypy_amaranth.py'}\ncheck_untyped_defs = true\n")
    done = subprocess.run([sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "planted.py"], cwd=tmp_path,
                          capture_output=True, text=True)
    found = {int(n): text for n, text in re.findall(r"^planted.py:(\d+): error: (.*)$", done.stdout, re.M)}
    wanted = {n: line.split("# wrong: ")[1] for n, line in enumerate(SOURCE.splitlines(), 1) if "# wrong: " in line}
    assert sorted(found) == sorted(wanted), done.stdout + done.stderr
    for n, words in wanted.items():
        assert words in found[n]
