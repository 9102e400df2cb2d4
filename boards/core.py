# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The core as a black box of generated Verilog.  Board and simulation are built from the same Verilog text."""

from amaranth.hdl import ClockSignal, Const, Instance, Module, ResetSignal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.top import memory_ports
from tellme.spec.config import CoreConfig

__all__ = ["CoreInstance"]


class CoreInstance(wiring.Component):
    """Module ``core`` of the Verilog that :mod:`hw.verilog` writes for ``config``; ``build_id`` gets the Verilog's hash.

    The ports to the memory's PHY are those of the configuration (:func:`hw.top.memory_ports`).
    """

    def __init__(self, config: CoreConfig, core_sha256: str):
        super().__init__({"rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8)), **memory_ports(config),
                          "running": Out(1), "busy": Out(1), "sdram_ready": Out(1), "failed": Out(1)})
        self._build_id = int.from_bytes(bytes.fromhex(core_sha256), "little")

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ports = {"i_clk": ClockSignal(), "i_rst": ResetSignal(), "i_build_id": Const(self._build_id, 256)}
        for path, member, value in self.signature.flatten(self):
            direction = "i" if member.flow == In else "o"
            ports[f"{direction}_{'__'.join(str(part) for part in path)}"] = Value.cast(value)
        m.submodules.core = Instance("core", **ports)
        return m
