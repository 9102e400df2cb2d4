# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The ULX3S's whole top level at its pins: PLL, DDR registers, SDRAM chip with its times, UART, LEDs."""

import os
from zlib import crc32

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import Timer

from boards import ulx3s
from sim.chips.sdram import Chip
from sim.cocotb_streams import report, report_note, rng
from sim.pins import SdramAtPins, UartAtPins, sources
from sim.testbench import Bench
from tellme.link.framing import body, decode, encode, open_body
from tellme.spec.config import preset
from tellme.spec.memory import REGISTER_BASE, REGISTERS, StatusWord
from tellme.spec.packets import HELLO, SESSION, PacketType
from tellme.spec.sdram import CHIPS

#: Chip, and its access time including pads and wires, in ns.  Power is not switched between tests, so each chip has a run of its
#: own.
CHIPS_AT = {"IS42S16160G-7": 5.4, "MT48LC16M16A2-6A": 3.0, "AS4C32M16SB-7": 7.9}
#: The logic between the pins and the core's ports is the same for all cores with the same clocks: CI takes a core with one lane.
CORES = {"1lane": "ulx3s-85f-1lane", "85f": ulx3s.DEVICES["85f"][0]}
#: CI runs the chip with the latest data, more than a beat after the clock.
CI = ("1lane", "AS4C32M16SB-7")


def bench(core, chip):
    name = CORES[core]
    nightly = ("" if (core, chip) == CI else "the parts at the pins are those of 1lane, and the core takes long to simulate"
               if core == "85f" else "CI runs the chip whose data come last; memory/controller has the times of all three")
    return Bench(name=f"{core}-{chip}", sources=lambda: sources(ulx3s, "85f", name), env={"CHIP": chip, "CORE": core},
                 timeout_s=900, nightly=nightly)


BENCHES = [bench(core, chip) for core in CORES for chip in CHIPS_AT]
CHIP = os.environ.get("CHIP", "IS42S16160G-7")
BAUD = 3_000_000
PRESET = preset(CORES[os.environ.get("CORE", "1lane")])
BUILT = preset(ulx3s.DEVICES["85f"][0])
assert (PRESET.fabric_mhz, PRESET.sdram_mhz, PRESET.sdram_phases, PRESET.sdram_cas_latency, PRESET.uart_baud) == (
    BUILT.fabric_mhz, BUILT.sdram_mhz, BUILT.sdram_phases, BUILT.sdram_cas_latency, BUILT.uart_baud)
LOCKED, READY, LINK, BUSY, ERROR = range(5)


class Board:
    def __init__(self, dut):
        self.dut = dut
        self.chip = Chip(timing=CHIPS[CHIP], mhz=PRESET.sdram_mhz)
        self.sdram = SdramAtPins(dut, self.chip, access_ns=CHIPS_AT[CHIP])
        self.uart = UartAtPins(dut.uart_0__rx__io, dut.uart_0__tx__io, baud=BAUD)
        self.seq = 0

    def led(self, n: int) -> bool:
        return bool(getattr(self.dut, f"led_{n}__io").value)

    async def bring_up(self):
        """Clocks on, until the memory is ready; rules of the chip may be broken while its clock's phase is looked for."""
        self.sdram.tolerant = True
        cocotb.start_soon(Clock(self.dut.clk25_0__io, 40, unit="ns").start())
        cocotb.start_soon(self.sdram.run())
        cocotb.start_soon(self.uart.listen())
        for _ in range(2000):
            await Timer(1, "us")
            if self.led(READY):
                self.sdram.tolerant = False
                return
        raise AssertionError("the SDRAM did not become ready in 2 ms")

    async def training(self):
        """(read latency in beats, phase step, phases that work) as the status packet tells."""
        kind, content = await self.ask(PacketType.STATUS)
        assert kind == PacketType.STATUS_ANSWER
        word = int.from_bytes(content[4 * StatusWord.TRAINING:][:4], "little")
        assert not word >> 17
        return word & 31, word >> 5 & 63, word >> 11 & 63

    async def ask(self, kind, payload=b""):
        """Send a packet through the pin; its answer's type and content."""
        self.seq = (self.seq + 1) & 0x7F
        self.uart.received.clear()
        await self.uart.send(encode(body(self.seq, kind, payload)))
        for _ in range(4000):
            if 0 in self.uart.received:
                seq, answer, content = open_body(decode(bytes(self.uart.received[:-1])))
                assert seq == self.seq
                return answer, content
            await Timer(1, "us")
        raise AssertionError("no answer within 4 ms")


@cocotb.test()
async def memory_through_pins(dut):
    """From the 25 MHz clock to data written and read by packets on the UART's pins."""
    board = Board(dut)
    assert not board.led(LOCKED) and not board.led(READY)
    await board.bring_up()
    assert board.led(LOCKED) and not board.led(BUSY) and not board.led(ERROR)
    # EN of both revisions of the ESP32.
    assert not dut.esp32_off_0__io.value and not dut.esp32_off_1__io.value
    kind, content = await board.ask(PacketType.HELLO, SESSION.pack(1))
    assert kind == PacketType.HELLO_ANSWER
    assert HELLO.unpack(content)[3].rstrip(b"\0") == PRESET.name.encode()
    assert board.led(LINK)
    beats, phase, window = await board.training()
    step = 1000 / PRESET.sdram_mhz / PRESET.sdram_phases
    report_note(f"{CHIP}, data {CHIPS_AT[CHIP]} ns after the clock: {beats} beats from READ to data, phase {phase}, "
                f"{window} phases of {step:.3f} ns work")
    assert window * step > 1.0
    random = rng("memory")
    # Across a row's and a bank's end, in the last row, and alternating bits on every data pin.
    cases = [(0x3F0, bytes(random.getrandbits(8) for _ in range(32))), (0x1FFFFE0, bytes([0x55, 0x55, 0xAA, 0xAA] * 8)),
             (0x1000FF0, bytes(random.getrandbits(8) for _ in range(32)))]

    async def write_and_read():
        for address, data in cases:
            where = address.to_bytes(4, "little")
            assert await board.ask(PacketType.WRITE, where + data) == (PacketType.ACK, b"")
        for address, data in cases:
            where = address.to_bytes(4, "little")
            size = len(data).to_bytes(4, "little")
            assert await board.ask(PacketType.READ, where + size[:2]) == (PacketType.DATA, data)
            assert await board.ask(PacketType.CHECKSUM, where + size) == (PacketType.SUM, crc32(data).to_bytes(4, "little"))

    await write_and_read()
    # A host may search for the window's edge: a quarter of the window further, all still works.
    for _ in range(window // 4):
        where = (REGISTER_BASE + 4 * REGISTERS["sdram_retrain"]).to_bytes(4, "little")
        assert await board.ask(PacketType.WRITE, where + bytes(4)) == (PacketType.ACK, b"")
    await Timer(2, "us")
    assert (await board.training())[1] == (phase + window // 4) % PRESET.sdram_phases
    await write_and_read()
    report(cases=6 * len(cases))
