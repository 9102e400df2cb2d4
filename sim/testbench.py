# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What a cocotb testbench module declares, so that the runner can build and run it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from amaranth.lib import wiring

__all__ = ["Bench"]


@dataclass(frozen=True)
class Bench:
    """One build of a unit under test.

    A module ``tests/hw/<unit>/tb_<name>.py`` has a list ``BENCHES`` of these objects, and cocotb tests.

    - ``build`` makes the component, outside of the simulator.
    - ``sources`` may take the place of ``build``: Verilog files (name and text) with a module tb_top, which may use delays.
    - ``env`` reaches the tests as environment variables.
    - ``tests`` names the cocotb tests to run; empty: all tests of the module.
    - After ``timeout_s`` a run counts as hung.
    - ``nightly`` is the reason why CI leaves the bench to ``make nightly``; empty: CI runs the bench.
    """

    name: str
    build: Callable[[], wiring.Component] | None = None
    sources: Callable[[], dict[str, str]] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    tests: tuple[str, ...] = ()
    timeout_s: int = 300
    nightly: str = ""
