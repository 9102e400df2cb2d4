# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The gateware's rooms (docs/decisions/0010-rooms-and-seams.md): which may import which."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
#: Room -> other rooms that its files may import.  Files of no room here are the top, which may import all rooms.
ROOMS = {
    "lib": set(),
    "link": {"lib"}, "memory": {"lib"}, "memory/sdr": {"lib", "memory"}, "memory/ddr3": {"lib", "memory"},
    "tlmm": {"lib"}, "tlmm/study": {"tlmm"}, "fused": {"lib"}, "attention": {"lib"}, "lm_head": {"lib"}, "sampling": {"lib"},
    "core": {"lib", "link"},
}


def room_of(module: str) -> str:
    """The room of a module such as hw.memory.sdr.controller."""
    parts = module.split(".")[1:]
    return max((room for room in ROOMS if parts[:room.count("/") + 1] == room.split("/")), key=len, default="top")


def imported(file: Path) -> set[str]:
    """Rooms that a file imports from."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return {room_of(name) for name in names if name.split(".")[0] == "hw"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_below_it(room):
    files = sorted((ROOT / "hw" / room).glob("*.py"))
    assert files
    for file in files:
        assert imported(file) <= {room} | ROOMS[room], file.relative_to(ROOT)


def test_every_file_is_in_a_room_or_is_the_top():
    files = {path.relative_to(ROOT / "hw").as_posix() for path in (ROOT / "hw").rglob("*.py")}
    assert {file for file in files if room_of("hw." + file.removesuffix(".py").replace("/", ".")) == "top"} == {
        "__init__.py", "top.py", "verilog.py"}
