# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""One port for two users: the user that is chosen has the whole port, and the other user sees nothing."""

import os

import cocotb
from cocotb.triggers import FallingEdge, Timer

from hw.memory.share import ReadShare, WriteShare
from sim.cocotb_streams import report, reset, rng
from sim.testbench import Bench

BENCHES = [Bench(name="read", build=ReadShare, env={"KIND": "read"}),
           Bench(name="write", build=WriteShare, env={"KIND": "write"})]
KIND = os.environ.get("KIND", "read")
#: Streams of a user: to the port, or from it.
TO = {"read": ("req",), "write": ("req", "data")}[KIND]
CASES = 400


def shared(part):
    """The port's name of a user's stream."""
    return {"req": "req", "data": "words"}[part]


@cocotb.test()
async def each_user_in_turn(dut):
    if KIND == "read":
        await reset(dut)
    random = rng("ports")
    inputs = ["first", *(f"{shared(part)}__ready" for part in TO),
              *(f"{user}__{part}__{field}" for user in ("one", "other") for part in TO for field in ("payload", "valid"))]
    if KIND == "read":
        inputs += ["words__payload", "words__valid", "one__data__ready", "other__data__ready"]
    else:
        inputs += ["idle"]
    for case in range(CASES):
        given = {name: random.getrandbits(len(getattr(dut, name))) for name in inputs}
        for name, value in given.items():
            getattr(dut, name).value = value
        if KIND == "read":
            # The choice is a register.
            await FallingEdge(dut.clk)
        await Timer(1, "ns")
        mine, others = ("one", "other") if given["first"] else ("other", "one")
        got = {handle._name: int(handle.value) for handle in dut if handle._name not in ("clk", "rst")}
        for part in TO:
            for field in ("payload", "valid"):
                assert got[f"{shared(part)}__{field}"] == given[f"{mine}__{part}__{field}"], (case, part, field)
            assert got[f"{mine}__{part}__ready"] == given[f"{shared(part)}__ready"]
            assert got[f"{others}__{part}__ready"] == 0
        if KIND == "read":
            assert got["words__ready"] == given[f"{mine}__data__ready"]
            assert got[f"{mine}__data__payload"] == given["words__payload"]
            assert (got[f"{mine}__data__valid"], got[f"{others}__data__valid"]) == (given["words__valid"], 0)
        else:
            assert got["one__idle"] == got["other__idle"] == given["idle"]
    report(cases=CASES)
