# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A simulated board in which a bit of a running core, or of its memory chip, can be flipped: a soft fault.

The core's Verilog gets three inputs, ``soft__which``, ``soft__word`` and ``soft__bit``, down to each module.  Each register and
each memory that the core writes has a number.  In a cycle in which ``soft__which`` is the number of a register, the register
takes its next value with the bit flipped.  In one in which it is a memory's number, the bit of the memory's word is flipped.
Number 0 is none.  Nothing else of the core differs.

Amaranth's Verilog has a line for each register, and the rules below refuse a core of which they do not understand a line.
"""

import hashlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from hw.verilog import core_sha256, core_verilog
from sim.board.build import ROOT, board_arguments, compile_board, sources
from sim.verilator import verilator_version
from tellme.spec.config import CoreConfig

__all__ = ["Site", "build_faulty", "fault_argument", "with_sites"]

#: A name in Amaranth's Verilog: plain, or escaped up to a space.
NAME = r"(?:\\\S+ |[A-Za-z_]\w*)"
#: A module's begin up to its list of ports.
MODULE = re.compile(rf"^module ({NAME})\(", re.M)
#: A submodule of the core's own, up to its list of ports.
INSTANCE = re.compile(rf"^  (\\core\S* ) ({NAME}) ?\(\n", re.M)
REGISTER = re.compile(rf"^  reg (?:\[(\d+):0\] )?({NAME}) ?(?:= [^;]*)?;$", re.M)
MEMORY = re.compile(rf"^  reg \[(\d+):0\] ({NAME}) ?\[(\d+):0\];$", re.M)
#: Behind a clock edge: the one assignment of a register.
TAKES = re.compile(rf"^  always @\(posedge (\w+)\)\n    ({NAME}) ?<= (.*?) ?;$", re.M)
CLOCK = re.compile(r"^  always @\(posedge (\w+)\) begin$", re.M)
PORTS = "soft__which, soft__word, soft__bit"
INPUTS = "".join(f"  input [31:0] soft__{name};\n  wire [31:0] soft__{name};\n" for name in ("which", "word", "bit"))
CONNECTED = "".join(f"    .soft__{name}(soft__{name}),\n" for name in ("which", "word", "bit"))
#: The weight buffer's memory, by its module and its name.
BUFFER = ("core.weights", "blocks")
#: Bits of a word of the weight buffer that are used.
BUFFER_BITS = 64


@dataclass(frozen=True)
class Site:
    """A register (``words`` 0) or a memory: its number, its module and name, bits of a word, and words."""

    number: int
    module: str
    name: str
    bits: int
    words: int = 0

    @property
    def kind(self) -> str:
        """``register``, ``buffer`` (the weight buffer) or ``memory`` (any other)."""
        if not self.words:
            return "register"
        return "buffer" if (self.module.split("$")[0], self.name) == BUFFER else "memory"

    @property
    def size(self) -> int:
        """Bits that may be flipped."""
        return self.bits * max(self.words, 1)


def plain(name: str) -> str:
    """A name without the escape."""
    return name.removeprefix("\\").strip()


def with_sites(verilog: str) -> tuple[str, list[Site]]:
    """The Verilog of a core with the three inputs, and its sites.

    ROMs, which nothing writes, are no sites.  A register whose width or whose assignment is not understood is a ValueError.
    """
    heads = list(MODULE.finditer(verilog))
    sites: list[Site] = []
    out = [verilog[:heads[0].start()]]
    for head, end in zip(heads, [*(each.start() for each in heads[1:]), len(verilog)], strict=True):
        text, module = verilog[head.start():end], plain(head[1])
        out.append(_module(text, module, sites) if module.split(".")[0] == "core" else text)
    if not sites:
        raise ValueError("no register was found in the core's Verilog")
    return "".join(out), sites


def _module(text: str, module: str, sites: list[Site]) -> str:
    """A module of the core with its inputs; its sites are added."""
    widths = {plain(name): int(high or 0) + 1 for high, name in REGISTER.findall(text)}

    def takes(found: re.Match[str]) -> str:
        clock, name, value = found.groups()
        if plain(name) not in widths:
            raise ValueError(f"{module}: the register {plain(name)} has no width")
        bits = widths[plain(name)]
        sites.append(Site(len(sites) + 1, module, plain(name), bits))
        return (f"  always @(posedge {clock})\n    {name} <= ({value} ) ^ (soft__which == {len(sites)} ? "
                f"{bits}'d1 << soft__bit : {bits}'d0);")

    clocks = set(CLOCK.findall(text)) | {clock for clock, _, _ in TAKES.findall(text)}
    if text.count("always @(posedge") != len(TAKES.findall(text)) + len(CLOCK.findall(text)):
        raise ValueError(f"{module}: a register takes its value in a way that is not understood")
    text = TAKES.sub(takes, text)
    flips = []
    for high, name, last in MEMORY.findall(text):
        if not re.search(rf"{re.escape(name.strip())} ?\[[^\]\n]*(?:\[[^\]\n]*\])?[^\]\n]*\] (?:\[[^\n]*\] )?<= ", text):
            continue
        if len(clocks) != 1:
            raise ValueError(f"{module}: a memory and {len(clocks)} clocks")
        bits = BUFFER_BITS if (module.split("$")[0], plain(name)) == BUFFER else int(high) + 1
        sites.append(Site(len(sites) + 1, module, plain(name), bits, int(last) + 1))
        word = f"{name}[soft__word]"
        flips.append(f"  always @(posedge {min(clocks)})\n    if (soft__which == {len(sites)})\n"
                     f"      {word} <= {word} ^ ({int(high) + 1}'d1 << soft__bit);\n")
    text = INSTANCE.sub(lambda found: found[0] + CONNECTED, text)
    at = text.index(");\n") + 3
    ports = text[:at].replace("(", f"({PORTS}, ", 1).replace(", )", ")")
    return ports + INPUTS + text[at:].replace("endmodule", "".join(flips) + "endmodule", 1)


def build_faulty(config: CoreConfig) -> tuple[list[str], list[Site]]:
    """The command that starts a preset's board with sites, and the sites; built below build/board if it is not built yet.

    Only boards with an SDR memory have a chip whose bits can be flipped: others are a ValueError.
    """
    if config.ddr3 is not None:
        raise ValueError(f"the memory of {config.name} is DDR3, in whose chip model no bit can be flipped")
    verilog = core_verilog(config.name)
    text, sites = with_sites(verilog.read_text())
    digest = hashlib.sha256(text.encode() + verilator_version().encode())
    for path in (Path(__file__).with_name("build.py"), *sources(config)):
        digest.update(path.read_bytes())
    folder = ROOT / "build" / "board" / f"{config.name}-soft-{digest.hexdigest()[:20]}"
    if not (folder / "board").exists():
        print("simulated board with soft faults: compiling with Verilator", file=sys.stderr, flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "faulty.v").write_text(text)
        compile_board(folder / "faulty.v", folder, config, " -DBOARD_FAULTS")
    # Cells that nobody wrote give something, as on a real chip: a fault may turn an address to them.
    return [str(folder / "board"), *board_arguments(config, core_sha256(verilog)), "--check-unwritten", "0"], sites


def fault_argument(cycle: int, site: int, word: int, bit: int) -> list[str]:
    """Arguments that flip a bit in the cycle ``cycle`` (from 1 on) of those in which a run goes on.

    ``site``: a site's number; 0 for the memory chip, whose bytes ``word`` counts.
    """
    return ["--fault", f"{cycle}:{site}:{word}:{bit}"]
