# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""HostLink of a core with several slots: START and STOP of slots, and the order of their refusals."""

import os

import cocotb
from cocotb.triggers import FallingEdge

from hw.link.link import HostLink
from sim.cocotb_streams import report, report_point, reset, rng, settled
from sim.testbench import Bench
from tellme.spec.memory import StartArgs
from tellme.spec.packets import NAK, SLOTS, NakReason, PacketType
from tests.hw.link.tb_link import ACK, BUILD_ID, STATUS, WINDOWS, nak, status_bytes
from tests.hw.packets_model import Host

BENCHES = [Bench(name=f"slots{slots}", build=lambda slots=slots: HostLink(windows=WINDOWS, name="test-slots", slots=slots),
                 env={"SLOTS": str(slots)}, nightly="" if slots == 4 else "slots4 has the same tests") for slots in (4, 16)]
BENCHES += [Bench(name="slots4-sums32", env={"SLOTS": "4"}, nightly="slots4 and large_window-sums32 have both apart",
                  build=lambda: HostLink(windows=WINDOWS, name="test-slots", slots=4, checksum_bits=32))]
POINTS = ("refused: a START of a slot that runs", "refused: a START of a slot that no core has",
          "limit: a STOP of no slot and of all", "refused: a STOP of another length")
COUNT = int(os.environ.get("SLOTS", "4"))
ALL = (1 << COUNT) - 1


def start_of(slot):
    """A START; of a slot that no configuration has, too."""
    payload = bytearray(StartArgs(position=3, feed=2, generate=9, chunk=4, ends=(7, 0x12345678)).pack())
    payload[10:12] = slot.to_bytes(2, "little")
    return bytes(payload)


async def bring_up(dut):
    for name in ("rx__valid", "tx__ready", "event__valid", "running", "bus_rdata__valid", "bus_wdata__ready", "bus_req__ready"):
        getattr(dut, name).value = 0
    dut.build_id.value, dut.bus_idle.value = BUILD_ID, 1
    dut.status.value = int.from_bytes(STATUS, "little")
    await reset(dut)
    pulses = []

    async def watch():
        while True:
            await FallingEdge(dut.clk)
            if dut.run__start.value:
                pulses.append(int(dut.run__args.value).to_bytes(28, "little"))
            if dut.run__stop.value:
                pulses.append(int(dut.run__slots.value))

    cocotb.start_soon(watch())
    host = Host(dut)
    await host.open(seq=40)
    return host, pulses


@cocotb.test()
async def a_start_is_refused_while_its_slot_runs(dut):
    """Whatever other slots do; and if there is no such slot."""
    host, pulses = await bring_up(dut)
    random, cases = rng("slots"), 0
    for slot in range(COUNT):
        for running in (0, 1 << slot, ALL, ALL & ~(1 << slot), random.getrandbits(COUNT)):
            dut.running.value = running
            pulses.clear()
            if running >> slot & 1:
                assert await host.ask(PacketType.START, start_of(slot)) == nak(NakReason.BUSY, host.seq)
                assert not pulses
            else:
                assert await host.ask(PacketType.START, start_of(slot)) == ACK
                assert pulses == [start_of(slot)]
            cases += 1
    for running in (0, ALL):
        dut.running.value = running
        for slot in {COUNT, COUNT + 1, 2 * COUNT, 0x100, 1 << 15, 0xFFFF}:
            pulses.clear()
            assert await host.ask(PacketType.START, start_of(slot)) == nak(NakReason.ADDRESS, host.seq), slot
            assert not pulses
            cases += 1
    # The seq comes first; a START that was done is acknowledged, and not done again.
    dut.running.value = 0
    assert await host.exchange((host.seq + 1) % 256, PacketType.START, start_of(COUNT)) == nak(NakReason.SEQUENCE, host.seq)
    assert await host.ask(PacketType.START, start_of(1)) == ACK
    dut.running.value = 2
    assert await host.exchange((host.seq - 1) % 256, PacketType.START, start_of(1)) == ACK
    assert pulses == [start_of(1)]
    report_point("refused: a START of a slot that runs")
    report_point("refused: a START of a slot that no core has")
    report(cases=cases)


@cocotb.test()
async def a_stop_names_slots_or_all(dut):
    host, pulses = await bring_up(dut)
    dut.running.value = 0b0110
    cases = 0
    for payload, slots in ((b"", ALL), *((SLOTS.pack(mask), mask & ALL) for mask in (0, 1, 2, 8, 9, ALL, 0xFFFF)), (b"", ALL)):
        pulses.clear()
        assert await host.ask(PacketType.STOP, payload) == ACK
        assert pulses == [slots], payload
        assert await host.exchange((host.seq - 1) % 256, PacketType.STOP, payload) == ACK
        assert pulses == [slots], "a STOP is done once"
        cases += 1
    pulses.clear()
    for kind, size in ((PacketType.STOP, 1), (PacketType.STOP, 3), (PacketType.STOP, 4), (PacketType.STATUS, 2),
                       (PacketType.EVENTS, 4), (PacketType.START, 30), (PacketType.READ, 8)):
        assert await host.ask(kind, bytes(size)) == (PacketType.NAK, NAK.pack(NakReason.LENGTH, host.seq)), (kind, size)
    assert not pulses
    assert await host.ask(PacketType.STATUS) == (PacketType.STATUS_ANSWER, status_bytes(0, 0))
    report_point("limit: a STOP of no slot and of all")
    report_point("refused: a STOP of another length")
    report(cases=cases)


@cocotb.test()
async def a_start_waits_until_the_bus_is_idle(dut):
    host, pulses = await bring_up(dut)
    dut.bus_idle.value = 0
    waiting = cocotb.start_soon(host.ask(PacketType.START, start_of(2)))
    for _ in range(1000):
        await FallingEdge(dut.clk)
    assert not pulses and not waiting.done()
    dut.bus_idle.value = 1
    await settled()
    assert dut.run__start.value and int(dut.run__args.value) == int.from_bytes(start_of(2), "little")
    assert await waiting == ACK
    assert not pulses, "one pulse, of which the watch saw nothing between two falling edges"
