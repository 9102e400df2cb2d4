# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""DDR3 PHY, clocks and training at the pins: models of the ECP5's primitives, and a chip whose lanes have a skew each."""

import os

import cocotb
from cocotb.triggers import Edge, First, RisingEdge, Timer, with_timeout
from cocotb.utils import get_sim_time

from hw.lib.ports import RequestLayout
from hw.memory.commands import Command
from hw.memory.ddr3.clocks import STEP_CYCLES
from hw.memory.ddr3.dfi import COLUMN_SLOT, ROW_SLOT
from hw.memory.ddr3.phy import READ_LATENCY
from sim.chips.ddr3 import Ddr3Chip
from sim.cocotb_streams import report, report_note, rng
from sim.testbench import Bench
from tellme.spec.ddr3_training import LANES, OVERRIDE_FIELDS, READCLKSELS, SLIPS, TRAINING_FIELDS
from tellme.spec.words import pack_word, unpack_word
from tests.hw.layouts import pack
from tests.hw.memory.ddr3_parts import SPEC
from tests.hw.memory.ddr3_phy_parts import CHIP, CK_MHZ, CLIENTS, START, sources

#: In a simulator of its own, as it looks at the chip from its first clock on.
RULES = "start_training_and_traffic_keep_the_chips_rules"
TESTS = ("start_up_has_its_order_and_its_times", "training_finds_the_middle", "no_window_is_said",
         "host_settings_take_the_place_of_the_training", "bursts_come_back_exactly", "without_pause_nothing_takes",
         "locks_that_are_lost")
BENCHES = [
    Bench(name="pins", sources=sources, env={"DRAWS": "20"}, tests=TESTS, timeout_s=600),
    Bench(name="rules", sources=sources, tests=(RULES,), timeout_s=600,
          nightly="the controller's bench has the chip's rules, and ddr3_phy-pins has training and traffic"),
    Bench(name="skews", sources=sources, env={"DRAWS": "100"}, tests=("training_finds_the_middle",), timeout_s=3600,
          nightly="CI draws 20 pairs of skews; the build is the same"),
]
DRAWS = int(os.environ.get("DRAWS", 20))
REFERENCE_NS = 10
#: Bits of ``steps``.
STEPS = ("update", "pause", "reset", "stop", "freeze")
#: Of the chip's clock, ps: 150 MHz.
T = 1e6 / 150


class Board:
    """The rig under test; its settings, its training, and the test's own bursts."""

    def __init__(self, dut):
        self.dut = dut
        self.broken = int(dut.broken.value)

    async def start(self, flights=(0.3, 0.3), positions=(0, 0)):
        """The clocks run.  The chip and the training go on from where the test before left them."""
        dut = self.dut
        for name in ("override", "again", "no_pause", "no_code", "manual"):
            getattr(dut, name).value = 0
        for client in CLIENTS:
            getattr(dut, f"{client.name}__req__valid").value = 0
        dut.host_write__data__valid.value = dut.host_read__data__ready.value = 0
        self.quiet()
        self.skew(flights, positions)
        if not dut.ready.value:
            await with_timeout(RisingEdge(dut.ready), 50, "us")

    def quiet(self):
        """No command and no data."""
        for name in ("wdata", "wmask", "wen", "ren"):
            getattr(self.dut, f"dfi__{name}").value = 0
        for n in range(2):
            getattr(self.dut, f"dfi__slots__{n}").value = 0

    def skew(self, flights, positions):
        """Round trip of each lane as a part of T, and where its words begin."""
        for lane in range(LANES):
            getattr(self.dut, f"flight{lane}").value = round(flights[lane] * T)
            getattr(self.dut, f"position{lane}").value = positions[lane]

    def found(self):
        """What STATUS says, by lane and for both."""
        fields = unpack_word(TRAINING_FIELDS, int(self.dut.found.value))
        lanes = [{name[:-1]: value for name, value in fields.items() if name[-1] == str(lane)} for lane in range(LANES)]
        return lanes, fields["failed"], fields["overridden"]

    async def train(self, **override):
        """A sweep from anew; returns ``found`` when it is done, or at latest behind two failed sweeps."""
        dut = self.dut
        dut.override.value = pack_word(OVERRIDE_FIELDS, override)
        if dut.done.value:
            await RisingEdge(dut.sclk)
            await Timer(1, "ps")
            dut.again.value = 1
            await RisingEdge(dut.sclk)
            await Timer(1, "ps")
            dut.again.value = 0
        await with_timeout(First(RisingEdge(dut.done), Timer(250, "us")), 1, "ms")
        return self.found()

    def rules(self):
        """How many rules were broken since the last look, and the last one's text."""
        count = int(self.dut.broken.value)
        new, self.broken = count - self.broken, count
        return new, int(self.dut.last.value).to_bytes(64, "big").lstrip(b"\0").decode()

    def intact(self):
        """No rule was broken."""
        assert self.rules()[0] == 0, self.rules()

    async def cycle(self, *, row=None, column=None, wen=0, wdata=0, wmask=0, ren=0):
        """A fabric cycle of the DFI: (command, bank, address) in each slot; returns the word read, if one came."""
        dut = self.dut
        for slot, command in ((ROW_SLOT, row), (COLUMN_SLOT, column)):
            value = 0
            if command is not None:
                code, bank, address = command
                value = 1 | code << 1 | bank << 4 | address << 7
            getattr(dut, f"dfi__slots__{slot}").value = value
        dut.dfi__wen.value, dut.dfi__wdata.value, dut.dfi__wmask.value, dut.dfi__ren.value = wen, wdata, wmask, ren
        await RisingEdge(dut.sclk)
        await Timer(1, "ps")
        return int(dut.dfi__rdata.value) if dut.dfi__rvalid.value else None

    async def idle(self, cycles):
        return [word for _ in range(cycles) if (word := await self.cycle()) is not None]

    async def open(self, bank, row):
        """The DFI becomes the test's."""
        self.quiet()
        self.dut.manual.value = 1
        await self.idle(20)
        await self.cycle(row=(Command.PRECHARGE, 0, Command.ALL_BANKS))
        await self.idle(3)
        await self.cycle(row=(Command.ACTIVE, bank, row))
        await self.idle(3)

    async def close(self):
        """The DFI goes back to the controller, for which the row of the probes may be open."""
        await self.idle(16)
        await self.cycle(row=(Command.PRECHARGE, 0, Command.ALL_BANKS))
        await self.idle(4)
        await self.cycle(row=(Command.ACTIVE, 0, 0))
        await self.idle(4)
        self.dut.manual.value = 0

    async def write(self, bank, columns, bursts, gaps, masks=None):
        """Bursts of two words to columns, ``gaps`` idle cycles behind each."""
        for i, (column, words) in enumerate(zip(columns, bursts, strict=True)):
            mask = masks[i] if masks else (0, 0)
            await self.cycle(column=(Command.WRITE, bank, column), wen=1, wdata=words[0], wmask=mask[0])
            await self.cycle(wen=1, wdata=words[1], wmask=mask[1])
            await self.idle(gaps[i])

    async def read(self, bank, columns, gaps):
        """The bursts at the columns, as they come."""
        words = []
        for column, gap in zip(columns, gaps, strict=True):
            for step in ({"column": (Command.READ, bank, column), "ren": 1}, {"ren": 1}, *[{}] * gap):
                word = await self.cycle(**step)
                words += [] if word is None else [word]
        words += await self.idle(READ_LATENCY + 3)
        return list(zip(words[::2], words[1::2], strict=True))


def window(flight):
    """The steps of READCLKSEL whose READ pulse begins in the preamble."""
    return [step for step in range(READCLKSELS) if flight <= step / 4 < flight + 1]


def draw(random, count):
    """Skews of lanes, each in a quarter of T of its own in turn, so that windows of all sizes come; none on an edge of a step."""
    skews = [(i % 7 + random.uniform(0.02, 0.98)) / 4 for i in range(count)]
    random.shuffle(skews)
    return skews


async def round_trip(board, random, *, bursts=8):
    """Random bursts to a random place, without gaps, and back."""
    bank, row = random.randrange(8), random.getrandbits(15)
    columns = [8 * n for n in random.sample(range(128), bursts)]
    data = [(random.getrandbits(64), random.getrandbits(64)) for _ in columns]
    await board.open(bank, row)
    await board.write(bank, columns, data, [0] * bursts)
    await board.idle(10)
    back = await board.read(bank, columns, [0] * bursts)
    await board.close()
    return data, back


class Sequence:
    """Times of the edges of the start-up sequence, while the context lasts."""

    def __init__(self, dut):
        self.dut, self.times = dut, {}

    def __enter__(self):
        self.task = cocotb.start_soon(self.watch())
        return self

    def __exit__(self, *_):
        self.task.cancel()

    async def watch(self):
        before = 0
        await RisingEdge(self.dut.locked)
        self.locked = get_sim_time("ps")
        while True:
            await Edge(self.dut.steps)
            now = int(self.dut.steps.value)
            for i, name in enumerate(STEPS):
                if (before ^ now) >> i & 1:
                    self.times.setdefault(name, []).append(get_sim_time("ps"))
            before = now

    def check(self):
        """One sequence ends now."""
        step = STEP_CYCLES * REFERENCE_NS * 1000
        begin = self.times["freeze"][0]
        # From the lock's edge two registers, and one behind the comparison.
        assert 0 <= begin - self.locked - step - 2 * REFERENCE_NS * 1000 < REFERENCE_NS * 1000
        assert {name: [(at - begin) / step for at in edges] for name, edges in self.times.items()} == {
            "freeze": [0, 5], "stop": [1, 4], "reset": [2, 3], "pause": [6, 9], "update": [7, 8]}
        assert (get_sim_time("ps") - begin) / step == 10


async def level(dut, name, value):
    """Until a signal of the sequence has this value."""
    while int(dut.steps.value) >> STEPS.index(name) & 1 != value:
        await Edge(dut.steps)


@cocotb.test()
async def start_up_has_its_order_and_its_times(dut):
    """Freeze, stop, reset and back, then pause, update and back, eight cycles of the reference clock a step."""
    board = Board(dut)
    with Sequence(dut) as sequence:
        await board.start()
        sequence.check()
    assert dut.reset.value, "the fabric is in reset until the clocks are ready"
    while dut.reset.value:
        await RisingEdge(dut.sclk)
        await Timer(1, "ps")
    await RisingEdge(dut.sclk)
    first = get_sim_time("ps")
    for _ in range(100):
        await RisingEdge(dut.sclk)
    assert abs(get_sim_time("ps") - first - 100 * 2 * T) < 2 * T / 10
    assert not dut.lost.value
    board.intact()
    report(cases=10)


@cocotb.test()
async def training_finds_the_middle(dut):
    """Skews and word positions drawn for each lane; the windows are those that the skews leave, and data pass at their middle."""
    board = Board(dut)
    random = rng("skews")
    await board.start()
    sizes, skews = [], draw(random, DRAWS * LANES)
    for i in range(DRAWS):
        flights, positions = skews[i * LANES:(i + 1) * LANES], [random.randrange(SLIPS) for _ in range(LANES)]
        board.skew(flights, positions)
        lanes, failed, overridden = await board.train()
        assert dut.done.value and not failed and not overridden, (flights, positions, lanes)
        for lane, found in enumerate(lanes):
            steps = window(flights[lane])
            wanted = {"readclksel": steps[len(steps) // 2], "slip": positions[lane], "start": steps[0], "window": len(steps)}
            assert found == wanted, (i, lane, flights[lane], found, wanted)
            sizes.append(len(steps))
        sent, back = await round_trip(board, random)
        assert sent == back
    assert set(sizes) == {1, 2, 3, 4}
    board.intact()
    report_note(f"{DRAWS} pairs of skews; windows of {min(sizes)} to {max(sizes)} steps")
    report(cases=DRAWS)


@cocotb.test()
async def no_window_is_said(dut):
    """A lane whose strobe comes too late for all steps: failed, no done, and a window of 0 for this lane alone."""
    board = Board(dut)
    await board.start()
    board.skew((0.4, 2.6), (1, 0))
    lanes, failed, _ = await board.train()
    assert failed and not dut.done.value
    assert lanes[1]["window"] == 0
    # The sweep begins anew until there is a window.
    board.skew((0.4, 0.9), (1, 3))
    await with_timeout(RisingEdge(dut.done), 450, "us")
    lanes, failed, _ = board.found()
    assert not failed and [lane["window"] for lane in lanes] == [4, 4] and [lane["slip"] for lane in lanes] == [1, 3]
    report(cases=2)


@cocotb.test()
async def host_settings_take_the_place_of_the_training(dut):
    """At both edges of a window data pass, a step ahead of it not; STATUS has the settings in use beside the windows found."""
    board = Board(dut)
    random = rng("override")
    await board.start()
    flights, positions = (0.6, 0.4), (2, 0)
    board.skew(flights, positions)
    steps = window(flights[0])
    for step in (steps[0] - 1, steps[0], steps[-1], steps[-1] + 1):
        lanes, failed, overridden = await board.train(use0=1, readclksel0=step, slip0=2)
        assert dut.done.value and overridden and failed == (step not in steps), (step, failed)
        assert lanes[0] == {"readclksel": step, "slip": 2, "start": steps[0], "window": len(steps)}
        sent, back = await round_trip(board, random)
        low = [[[word & 0x00FF00FF00FF00FF for word in burst] for burst in bursts] for bursts in (sent, back)]
        high = [[[word & 0xFF00FF00FF00FF00 for word in burst] for burst in bursts] for bursts in (sent, back)]
        # A step behind the window the pulse cuts the first beat short; only BURSTDET tells.
        assert high[0] == high[1] and (step > steps[-1] or (low[0] == low[1]) == (step in steps)), step
    lanes, failed, overridden = await board.train(use0=1, readclksel0=steps[1], slip0=1)
    assert dut.done.value and failed and lanes[0]["slip"] == 1
    sent, back = await round_trip(board, random)
    assert sent != back
    lanes, failed, overridden = await board.train()
    assert not failed and not overridden and lanes[0]["readclksel"] == steps[2]
    sent, back = await round_trip(board, random)
    assert sent == back
    report(cases=6)


@cocotb.test()
async def bursts_come_back_exactly(dut):
    """Random trains of bursts with random gaps and masks, in all banks; a word for each ``ren``, READ_LATENCY cycles later."""
    board = Board(dut)
    random = rng("bursts")
    await board.start()
    board.skew((0.35, 1.1), (3, 1))
    await board.train()
    assert dut.done.value
    board.rules()
    bytes_ = 0
    for bank in range(8):
        row = random.getrandbits(16)
        columns = [8 * n for n in random.sample(range(128), 12)]
        data = [(random.getrandbits(64), random.getrandbits(64)) for _ in columns]
        gaps = [random.choice((0, 0, 1, 2, 3, 5)) for _ in columns]
        await board.open(bank, row)
        await board.write(bank, columns, data, gaps)
        # Some are written again with masks: a bit is set where the chip keeps its byte.
        again = random.sample(range(12), 6)
        second = [(random.getrandbits(64), random.getrandbits(64)) for _ in again]
        masks = [(random.getrandbits(8), random.getrandbits(8)) for _ in again]
        await board.idle(8)
        await board.write(bank, [columns[i] for i in again], second, [random.choice((0, 1, 3)) for _ in again], masks)
        for i, new, mask in zip(again, second, masks, strict=True):
            data[i] = tuple(sum((old if m >> n & 1 else word) & 0xFF << 8 * n for n in range(8))
                            for old, word, m in zip(data[i], new, mask, strict=True))
        await board.idle(12)
        order = random.sample(range(12), 12)
        back = await board.read(bank, [columns[i] for i in order], [random.choice((0, 0, 1, 2, 3, 5)) for _ in order])
        assert back == [data[i] for i in order], bank
        bytes_ += 16 * len(order)
        await board.close()
    # The time of an answer, with nothing else on the way.
    await board.open(0, 0)
    await board.write(0, [0], [(1, 2)], [12])
    answers = []
    for i in range(READ_LATENCY + 4):
        answers.append(await board.cycle(column=(Command.READ, 0, 0) if i == 0 else None, ren=int(i < 2)))
    assert answers[READ_LATENCY - 1:READ_LATENCY + 1] == [1, 2] and answers.count(None) == len(answers) - 2
    await board.close()
    board.intact()
    report(cases=bytes_)


@cocotb.test()
async def without_pause_nothing_takes(dut):
    """The models catch a training that does not pause DQSBUFM."""
    board = Board(dut)
    await board.start()
    board.skew((0.9, 0.9), (0, 0))
    dut.no_pause.value = 1
    lanes, failed, _ = await board.train()
    count, rule = board.rules()
    assert count and rule == "DQSBUFM: READCLKSEL changed without PAUSE"
    assert failed or lanes[0]["window"] in (0, READCLKSELS)
    dut.no_pause.value = 0
    if not dut.done.value:
        await with_timeout(RisingEdge(dut.done), 450, "us")
    board.rules()
    lanes, failed, _ = await board.train()
    assert dut.done.value and not failed and lanes[0]["window"] == 4
    board.intact()
    report(cases=2)


@cocotb.test()
async def locks_that_are_lost(dut):
    """DDRDLLA's lock is told and disturbs nothing, neither later nor while its clock stands still in the sequence.  When the PLL
    loses its lock, all begins anew."""
    board = Board(dut)
    await board.start()
    assert dut.ready.value and not dut.lost.value and not dut.reset.value
    dut.unlock.value = 0b10
    await Timer(1, "us")
    assert dut.ready.value and dut.lost.value and not dut.reset.value
    with Sequence(dut) as sequence:
        dut.unlock.value = 0b01
        await Timer(200, "ns")
        assert not dut.ready.value and not dut.lost.value and dut.reset.value
        dut.unlock.value = 0
        await with_timeout(level(dut, "stop", 1), 10, "us")
        dut.unlock.value = 0b10
        await with_timeout(level(dut, "stop", 0), 1, "us")
        dut.unlock.value = 0
        await with_timeout(RisingEdge(dut.ready), 10, "us")
        sequence.check()
    await Timer(1, "us")
    assert dut.ready.value and not dut.lost.value and not dut.reset.value
    report(cases=2)


@cocotb.test()
async def start_training_and_traffic_keep_the_chips_rules(dut):
    """The checking chip looks at the pins from power-up on: commands, ODT, beats of writes; then the hub's words come back."""
    board = Board(dut)
    random = rng("rules")
    chip = Ddr3Chip(timing=CHIP, mhz=CK_MHZ, **START)
    clocks = 0

    async def watch():
        nonlocal clocks
        while True:
            await Edge(dut.tick)
            pins = int(dut.pins.value)
            wrote = int(dut.wrote.value)
            names = ("reset", "cke", "odt", "cs", "ras", "cas", "we")
            levels = {name: pins >> 25 - i & 1 for i, name in enumerate(names)}
            for low in ("reset", "cs", "ras", "cas", "we"):
                levels[low] ^= 1
            if not levels["cke"]:
                levels["cs"] = 0
            chip.clock(**levels, ba=pins >> 16 & 7, a=pins & 0xFFFF, oe=wrote, dq=int(dut.beats.value) if wrote else 0,
                       dm=int(dut.masks.value) if wrote else 0)
            clocks += 1
            assert not chip.violation(), chip.violation()

    await board.start((0.7, 1.2), (1, 3))
    task = cocotb.start_soon(watch())
    await with_timeout(RisingEdge(dut.done), 250, "us")
    lanes, failed, _ = board.found()
    assert not failed and [lane["slip"] for lane in lanes] == [1, 3]
    trained = clocks
    moved = 0
    for length in (2, 4, 10, 64, 200):
        # Whole bursts: the chip tells of cells that were never written.
        address = random.randrange(1 << 20) * 4
        words = [random.getrandbits(32) for _ in range(2 * length)]
        await send(dut, address, words)
        assert await fetch(dut, address, 2 * length) == [a | b << 32 for a, b in zip(words[::2], words[1::2], strict=True)]
        # A word of 32 bits in a pair: the rest of the pair stays.
        place, word = random.randrange(2 * length), random.getrandbits(32)
        await send(dut, address + place, [word])
        words[place] = word
        assert await fetch(dut, address, 2 * length) == [a | b << 32 for a, b in zip(words[::2], words[1::2], strict=True)]
        moved += 8 * length
    assert not task.done(), "the chip was looked at to the end"
    board.intact()
    report_note(f"{trained} clocks of start and training, {clocks - trained} of traffic")
    report(cases=moved)


async def step(dut):
    await RisingEdge(dut.sclk)
    await Timer(1, "ps")


async def ask(dut, name, address, length):
    """A request of a client, in 32-bit words."""
    getattr(dut, f"{name}__req__payload").value = pack(RequestLayout(SPEC), addr=address, len=length)
    getattr(dut, f"{name}__req__valid").value = 1
    while True:
        await Timer(1, "ns")
        taken = getattr(dut, f"{name}__req__ready").value
        await step(dut)
        if taken:
            break
    getattr(dut, f"{name}__req__valid").value = 0


async def send(dut, address, words):
    """Write 32-bit words, and wait until they are in the memory."""
    await ask(dut, "host_write", address, len(words))
    for word in words:
        dut.host_write__data__payload.value, dut.host_write__data__valid.value = word, 1
        while True:
            await Timer(1, "ns")
            taken = dut.host_write__data__ready.value
            await step(dut)
            if taken:
                break
    dut.host_write__data__valid.value = 0
    for _ in range(4):
        await step(dut)
    while not dut.host_write__idle.value:
        await step(dut)


async def fetch(dut, address, length):
    """Read 32-bit words, as words of 64 bits."""
    await ask(dut, "host_read", address, length)
    words = []
    dut.host_read__data__ready.value = 1
    while len(words) < length // 2:
        await Timer(1, "ns")
        if dut.host_read__data__valid.value:
            words.append(int(dut.host_read__data__payload.value))
        await step(dut)
    dut.host_read__data__ready.value = 0
    return words
