# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""HostLink against its model in Python, byte for byte: drawn frames, damaged frames, garbage, and events between them.

The bytes that a step sends are drawn; what comes back until the link is quiet has to be what the model
(:class:`tellme.golden.link.BoardLink`) says.  A step sends at most one frame while there are events, as the order of an event and
of the answers to further frames is free.
"""

import os
from collections import Counter
from zlib import crc32

import cocotb
from cocotb.triggers import First, Timer, ValueChange

from hw.lib.control import EventLayout
from hw.link.link import HostLink
from hw.verilog import to_verilog
from sim.cocotb_streams import report, report_note, rng
from sim.testbench import Bench
from tellme.golden.link import BoardLink
from tellme.link.framing import body, decode, encode, open_body
from tellme.spec.memory import EventType, StartArgs, StatusWord
from tellme.spec.packets import DATA_MAX, EVENTS, SESSION, NakReason, PacketType
from tests.hw.layouts import pack

#: Frames that are sent at least, valid or not.
FRAMES = int(os.environ.get("TELLME_VECTORS", "2500"))
SMALL = ((0x80000000, 0x100, True), (0x90000000, 0x40, True), (0x90000000, 0x100, False), (0xA0000000, 0x40, False))
#: Bytes of the memory's window: within one name, or over two.
MEMORY = int(os.environ.get("MEMORY", "65536"))
WINDOWS = ((0, MEMORY, True), *SMALL)
#: The end of a name of 2**28 bytes, and where in 64 KiB on each side of it the bench's memory has words of their own.
BORDER, REACH = 1 << 28, 1 << 15
NAME, BUILD_ID = "fuzz", bytes(range(32))
#: Bytes that go to the simulator, and come from there, at a time.
GIVE, TAKE = 256, 128
#: STATUS but the words that the bench and the link fill in.
STATUS = [0, 0x11223344, 0x55667788, 0, 0x99AABBCC, 0x1F2E3D, 0, 0]

TB = """
`timescale 1ns / 1ps
// Sends a chunk of bytes, or offers an event, and is done when the chunk is taken and, with ``last``, the link is quiet.
module tb_top(input [{give} * 8 - 1:0] tx_data, input [8:0] tx_count, input tx_put, input last,
              input [{event_bits} - 1:0] event_data, input event_put, output reg event_taken,
              input [7:0] idle, input [7:0] stall,
              output reg [{take} * 8 - 1:0] rx_data, output reg [7:0] rx_count, output reg given, output reg done,
              output reg [31:0] starts, output reg [31:0] stops, output reg [223:0] args, output reg running);
    reg clk = 0, rst = 1;
    always #5 clk = ~clk;
    initial #52 rst = 0;

    reg in_valid = 0, out_ready = 0, event_valid = 0, put_seen = 0, event_seen = 0, armed = 0, fresh = 1;
    reg [7:0] in_data;
    reg [8:0] at = 0;
    reg [7:0] quiet = 0;
    reg [31:0] random = 32'h2545F491;
    wire in_ready, out_valid, event_ready, busy, req_valid, wdata_valid, rdata_ready, start, stop;
    wire [7:0] out_data;
    wire [31:0] wdata, errors;
    wire [52:0] req;
    wire [223:0] run_args;
    reg [255:0] status;
    always @* begin
        status = {status};
        status[0] = running;
        status[32 * {bad} +: 32] = errors;
    end

    // A memory for all windows.
    reg [31:0] words [0:262143];
    integer i;
    initial for (i = 0; i < 262144; i = i + 1) words[i] = 0;
    reg [19:0] left = 0;
    reg [17:0] word_at;
    reg writes, wready = 0, rvalid = 0;
    wire [17:0] first_word = {{req[32:29], req[16:3]}};
    wire req_ready = left == 0;

    dut link(.clk(clk), .rst(rst), .rx__valid(in_valid), .rx__payload(in_data), .rx__ready(in_ready),
        .tx__valid(out_valid), .tx__payload(out_data), .tx__ready(out_ready), .build_id({build_id}),
        .bus_req__valid(req_valid), .bus_req__ready(req_ready), .bus_req__payload(req),
        .bus_wdata__valid(wdata_valid), .bus_wdata__payload(wdata), .bus_wdata__ready(wready),
        .bus_rdata__valid(rvalid), .bus_rdata__payload(words[word_at]), .bus_rdata__ready(rdata_ready), .bus_idle(left == 0),
        .run__start(start), .run__args(run_args), .run__stop(stop), .running(running), .status(status),
        .event__valid(event_valid), .event__payload(event_data), .event__ready(event_ready), .errors(errors), .busy(busy));

    initial begin
        {{starts, stops, args, running, given, done, rx_count, event_taken}} = 0;
    end
    always @(posedge clk) if (!rst) begin
        random = random ^ (random << 13);
        random = random ^ (random >> 17);
        random = random ^ (random << 5);
        quiet = quiet + 1;
        if (busy || in_valid || out_valid || (event_valid && event_ready)) quiet = 0;
        // The bus.
        if (left != 0) begin
            if (writes ? wready && wdata_valid : rvalid && rdata_ready) begin
                if (writes) words[word_at] <= wdata;
                word_at <= word_at + 1;
                left <= left - 1;
                wready <= 0;
                rvalid <= 0;
            end else if (random[7:0] >= stall) begin
                wready <= writes;
                rvalid <= !writes;
            end
        end else if (req_valid) begin
            left <= req[52:33];
            writes <= req[0];
            word_at <= first_word;
        end
        // The run.
        if (start) begin
            starts <= starts + 1;
            args <= run_args;
            running <= 1;
        end
        if (stop) begin
            stops <= stops + 1;
            running <= 0;
        end
        // Events.
        if (event_seen != event_put) begin
            event_seen = event_put;
            event_valid <= 1;
            armed = 1;
            fresh = 1;
            quiet = 0;
        end else if (event_valid && event_ready) begin
            event_valid <= 0;
            event_taken <= ~event_taken;
        end
        // To the link.
        if (put_seen != tx_put) begin
            put_seen = tx_put;
            at = 0;
            armed = 1;
            fresh = 1;
            quiet = 0;
        end
        if (in_valid && in_ready) in_valid <= 0;
        if ((!in_valid || in_ready) && armed && at < tx_count && random[15:8] >= idle) begin
            in_valid <= 1;
            in_data <= tx_data[8 * at +: 8];
            at = at + 1;
            quiet = 0;
        end
        // From the link.
        if (out_valid && out_ready) begin
            if (fresh || rx_count == {take}) rx_count = 0;
            fresh = 0;
            rx_data[8 * rx_count +: 8] = out_data;
            rx_count = rx_count + 1;
            if (rx_count == {take}) given = ~given;
        end
        out_ready <= random[23:16] >= stall;
        if (armed && at >= tx_count && !in_valid && (!last || quiet == 64)) begin
            armed = 0;
            if (fresh || rx_count == {take}) rx_count = 0;
            fresh = 1;
            done = ~done;
        end
    end
endmodule
"""


def bench(name: str, *, memory: int, checksum_bits: int, nightly: str = "") -> Bench:
    return Bench(name=name, nightly=nightly, sources=lambda: sources(memory, checksum_bits), env={"MEMORY": str(memory)})


def sources(memory: int, checksum_bits: int) -> dict[str, str]:
    text = TB.format(give=GIVE, take=TAKE, event_bits=EventLayout.size, bad=int(StatusWord.BAD_PACKETS),
                     build_id=f"256'h{int.from_bytes(BUILD_ID, 'little'):x}",
                     status="256'h" + "".join(f"{word:08x}" for word in reversed(STATUS)))
    link = HostLink(windows=((0, memory, True), *SMALL), name=NAME, checksum_bits=checksum_bits)
    return {"dut.v": to_verilog(link, "dut"), "tb_top.sv": text}


BENCHES = [bench("windows5", memory=1 << 16, checksum_bits=8), bench("memory512", memory=1 << 29, checksum_bits=32,
                 nightly="windows5 has the same frames, and large_window-sums32 such a window and such sums")]


class Core:
    """What is behind the model: the same memory and run as in tb_top."""

    def __init__(self):
        self.words: dict[int, int] = {}
        self.running = False
        self.starts: list[bytes] = []
        self.stops = 0

    def read(self, address, size):
        return b"".join(self.words.get(at, 0).to_bytes(4, "little") for at in range(address, address + size, 4))

    def write(self, address, content):
        for i in range(0, len(content), 4):
            self.words[address + i] = int.from_bytes(content[i:i + 4], "little")

    def start(self, args):
        self.starts.append(args)
        self.running = True

    def stop(self):
        self.stops += 1
        self.running = False

    def status(self):
        return b"".join(word.to_bytes(4, "little") for word in [STATUS[0] | self.running, *STATUS[1:]])


class Drawer:
    """Draws what a host, a bad wire, or anything else might send."""

    def __init__(self, random, link):
        self.random, self.link = random, link
        #: The first frame comes before a session.
        self.first = self.last = encode(body(7, PacketType.STATUS))
        self.session = 0

    def address(self):
        random = self.random
        base, size, _ = random.choice(WINDOWS)
        if size > BORDER:
            # At the ends of names.  A word's number in the bench's memory is the address's upper four bits and its lower 16.
            end = random.choice((0, BORDER, BORDER, size, size))
            at = end + random.choice((0, -4, -8, *(4 * random.randrange(-(REACH // 8), REACH // 8) for _ in range(3)), -2, 1))
            return at % 2**32
        near = random.choice((0, *(random.randrange(0, size, 4) for _ in range(3)), size - 4, size, random.randrange(size)))
        return (random.choice((base, base, base, base, 0x70000000, 0xFFFFFF00)) + near) % 2**32

    def payload(self, kind):
        random = self.random
        size = random.choice((4, 4, 8, 12, 64, 252, 256, DATA_MAX if random.random() < 0.2 else 16, random.randrange(1100)))
        if random.random() < 0.03:
            return random.randbytes(random.randrange(40))
        if kind == PacketType.HELLO:
            if random.random() < 0.3:
                return b""
            self.session = self.session if random.random() < 0.5 else random.randrange(1 << 16)
            return SESSION.pack(self.session)
        if kind == PacketType.WRITE:
            if random.random() < 0.9:
                size -= size % 4
            data = random.randbytes(size) if random.random() < 0.5 else bytes(random.choice((0, 0, 7)) for _ in range(size))
            return self.address().to_bytes(4, "little") + data[:size]
        if kind == PacketType.READ:
            return self.address().to_bytes(4, "little") + size.to_bytes(2, "little")
        if kind == PacketType.CHECKSUM:
            size = random.choice((size, size, size, 0x400, 1 << 22, 1 << 31))
            return self.address().to_bytes(4, "little") + size.to_bytes(4, "little")
        if kind == PacketType.START:
            return random.randbytes(StartArgs.LAYOUT.size)
        if kind == PacketType.EVENTS:
            ring = self.link
            number = random.choice((ring.first, ring.next, ring.unsent, ring.first + random.randrange(33), ring.first - 1,
                                    ring.next + 1, random.randrange(256)))
            return EVENTS.pack(number % 256, random.choice((0, 0, 1, 1, 2, 255)))
        return b""

    def frame(self):
        """A whole frame, most often one that the board has to do."""
        random = self.random
        kind = random.choice((PacketType.WRITE, PacketType.WRITE, PacketType.READ, PacketType.CHECKSUM, PacketType.START,
                              PacketType.STOP, PacketType.STATUS, PacketType.EVENTS, PacketType.EVENTS,
                              PacketType.HELLO if random.random() < (0.3 if self.link.session is None else 0.15)
                              else PacketType.READ))
        seq = self.link.expected
        if random.random() < 0.2:
            seq = random.choice((seq - 1, seq - 2, seq - 128, seq - 129, seq + 1, random.randrange(256))) % 256
        number = random.randrange(256) if random.random() < 0.03 else int(kind)
        content = body(seq, number, self.payload(kind))
        if random.random() < 0.02:
            # Short, with a right CRC of its own or not.
            short = random.randbytes(random.randrange(3))
            content = random.choice((short, short + crc32(short).to_bytes(4, "little")))
        return encode(content)

    def bytes(self):
        """What a step sends."""
        random = self.random
        if self.first:
            self.first = b""
            return self.last
        frame = bytearray(self.frame())
        what = random.random()
        if what < 0.62:
            self.last = bytes(frame)
            return self.last
        at = random.randrange(len(frame))
        if what < 0.72:
            for _ in range(random.choice((1, 1, 1, 2, 5))):
                frame[random.randrange(len(frame))] ^= 1 << random.randrange(8)
        elif what < 0.76:
            del frame[at:at + random.choice((1, 1, 2, 9))]
        elif what < 0.80:
            frame[at:at] = random.randbytes(random.choice((1, 1, 2, 9)))
        elif what < 0.84:
            frame[at:at] = frame[at:at + random.choice((1, 4, 20))]
        elif what < 0.88:
            return bytes(frame[:at])
        elif what < 0.92:
            return self.last
        elif what < 0.94:
            return bytes(frame) + bytes(frame)
        elif what < 0.96:
            return b"\0" + bytes(frame)
        elif what < 0.965:
            # About as long as the longest body that the board stores.
            inner = bytes(random.choice((0, 1, 2, 255)) for _ in range(random.choice((2047, 2048, 2049, 2100, 4200))))
            return encode(inner)
        elif what < 0.98:
            return random.randbytes(random.randrange(40)) + b"\0"
        else:
            return bytes(random.randrange(5))
        return bytes(frame)


class Simulated:
    """The gateware's end."""

    def __init__(self, dut):
        self.dut = dut
        self.given, self.done = ValueChange(dut.given), ValueChange(dut.done)

    async def _until_done(self):
        out = bytearray()
        while True:
            fired = await First(self.given, self.done, Timer(50, "ms"))
            assert fired in (self.given, self.done), "the link hangs"
            count = int(self.dut.rx_count.value)
            out += int(self.dut.rx_data.value).to_bytes(TAKE, "little")[:count]
            if fired is self.done:
                return bytes(out)

    async def send(self, content):
        """Send bytes; what came back until the link was quiet."""
        dut, out = self.dut, b""
        for at in range(0, max(len(content), 1), GIVE):
            chunk = content[at:at + GIVE]
            dut.tx_data.value = int.from_bytes(chunk, "little")
            dut.tx_count.value = len(chunk)
            dut.last.value = at + GIVE >= len(content)
            dut.tx_put.value = not dut.tx_put.value
            out += await self._until_done()
        return out

    async def event(self, kind, payload):
        """Offer an event; what came back until the link was quiet."""
        self.dut.event_data.value = pack(EventLayout, type=int(kind), payload=int.from_bytes(payload, "little"))
        self.dut.tx_count.value = 0
        self.dut.last.value = 1
        self.dut.event_put.value = not self.dut.event_put.value
        return await self._until_done()


def packets(content):
    """What is in bytes of the board, for messages and for counting."""
    return [open_body(decode(frame)) for frame in content.split(b"\0") if frame]


async def fuzz(dut):
    """Frames that were sent, and how often the board said what."""
    for name in ("tx_put", "event_put", "tx_count", "last", "idle", "stall"):
        getattr(dut, name).value = 0
    await Timer(200, "ns")
    random = rng("fuzz")
    core = Core()
    model = BoardLink(core, WINDOWS, name=NAME, build_id=BUILD_ID)
    drawer, board = Drawer(random, model), Simulated(dut)
    frames = 0
    seen = Counter()
    held = None
    sent = []
    while frames < FRAMES:
        if random.random() < 0.05:
            # Of 256 cycles, those without a byte of the host, and those in which nothing is taken or given.
            dut.idle.value, dut.stall.value = (random.choice((0, 0, 0, 0, 26, 26, 230)) for _ in range(2))
        events = model.next != model.first or held is not None
        if held is None and random.random() < (0.5 if events else 0.1):
            held = (random.choice(list(EventType)), random.randbytes(32))
            got = await board.event(*held)
            content = want = b""
        else:
            content = drawer.bytes()
            ends = content.count(b"\0")
            if events and ends > 1:
                content = content[:content.index(b"\0") + 1]
                ends = 1
            frames += ends
            want = model.receive(content)
            got = await board.send(content)
        sent = [*sent[-3:], content]
        while frame := model.poll():
            want += frame
        if held is not None and model.room:
            model.event(*held)
            held = None
            want += model.poll()
        assert got == want, f"after {frames} frames: {[s.hex() for s in sent]}: {packets(got)}, not {packets(want)}"
        for _, kind, payload in packets(got):
            seen[PacketType(kind).name if kind != PacketType.NAK else f"NAK {NakReason(payload[0]).name}"] += 1
    assert int(dut.stops.value) == core.stops and int(dut.starts.value) == len(core.starts)
    assert int(dut.args.value) == int.from_bytes(core.starts[-1], "little")
    return frames, seen


def every():
    """What the board can say."""
    return {PacketType(kind).name for kind in PacketType if kind > 0x80 and kind != PacketType.NAK} | {
        f"NAK {reason.name}" for reason in NakReason}


@cocotb.test()
async def the_model_answers_the_same_bytes(dut):
    frames, seen = await fuzz(dut)
    missing = every() - seen.keys()
    assert not missing, missing
    report(cases=frames)
    report_note(", ".join(f"{name} {count}" for name, count in sorted(seen.items())))
