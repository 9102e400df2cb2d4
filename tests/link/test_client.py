# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The client and loading, on the plain board in simulated time."""

from itertools import islice
from zlib import crc32

import numpy as np
import pytest

from tellme import find_model
from tellme.compiler.image import compile_model
from tellme.link.client import REGION, BoardClient
from tellme.link.errors import LinkError
from tellme.link.transport import Transport
from tellme.runtime.device import BoardDevice
from tellme.spec.config import preset
from tellme.spec.memory import DoneReason, EventType, StartArgs, StatusWord
from tests.link.model_transport import Clock, ModelTransport
from tests.link.plain_board import MEMORY, PlainBoard, done_of, event_of

RUN = StartArgs(0, 3, 50)
CONTENT = np.random.default_rng(1).bytes(20_000)


class Bench:
    """A board, a clock, and clients of the board."""

    def __init__(self, **options):
        self.clock, self.board = Clock(), PlainBoard(**options)

    def client(self, transport=ModelTransport) -> BoardClient:
        return BoardClient(transport(self.board, self.clock), clock=self.clock)


@pytest.fixture
def bench():
    return Bench()


def test_write_read_checksum_verify(bench):
    client, heard = bench.client(), []
    client.write(8, CONTENT + b"abc", heard.append)
    assert bytes(bench.board.memory[0][8:8 + len(CONTENT) + 4]) == CONTENT + b"abc\0"
    assert heard == sorted(heard) and heard[-1] == len(CONTENT) + 3
    assert client.read(8, len(CONTENT) + 3) == CONTENT + b"abc"
    assert client.read(8, 0) == b"" and client.checksums([]) == []
    assert client.checksum(8, len(CONTENT)) == crc32(CONTENT)
    client.verify(8, CONTENT)
    bench.board.memory[0][100] ^= 1
    with pytest.raises(LinkError, match="^the board's memory does not hold what was written at 0x8$"):
        client.verify(8, CONTENT)


def test_hello_changes_nothing(bench):
    client = bench.client()
    assert client.hello().preset == "plain" and bench.board.link.session is None
    client.status()
    session = bench.board.link.session
    assert client.hello().preset == "plain" and bench.board.link.session == session is not None


def test_a_run(bench):
    client = bench.client()
    client.start(RUN)
    assert client.status()[StatusWord.FLAGS] & 1
    assert list(client.events()) == [*((EventType.TOKEN, event_of(RUN, n)) for n in range(50)),
                                     (EventType.DONE, done_of(RUN, 50, DoneReason.LENGTH))]
    with pytest.raises(LinkError, match="^the model board has no run whose events could come; start one$"):
        next(client.events())


def test_a_stop(bench):
    client = bench.client()
    client.start(RUN)
    heard = list(islice(client.events(), 5))
    client.stop()
    heard += client.events()
    assert [event for _, event in heard[:-1]] == [event_of(RUN, n) for n in range(len(heard) - 1)] and len(heard) < 50
    assert heard[-1][1].logit == DoneReason.STOPPED


@pytest.mark.parametrize("heard", [0, 3, 40])
def test_a_run_that_nobody_heard_to_its_end(bench, heard):
    """In the next start of the same client, and in the next client, no event of the run is left."""
    first = bench.client()
    first.start(RUN)
    list(islice(first.events(), heard))
    other = StartArgs(5, 1, 3)
    wanted = [*((EventType.TOKEN, event_of(other, n)) for n in range(3)),
              (EventType.DONE, done_of(other, 3, DoneReason.LENGTH))]
    first.start(other)
    assert list(first.events()) == wanted
    first.start(RUN)
    list(islice(first.events(), heard))
    second = bench.client()
    second.connect()
    assert not bench.board.running
    second.start(other)
    assert list(second.events()) == wanted


def test_a_reset_in_the_middle_of_a_load_and_of_a_run(bench):
    """The error says so, and a new client works without a power cycle."""
    client = bench.client()

    def reset(size):
        if size > 9000:
            bench.board.reset()

    with pytest.raises(LinkError, match="^the model board: the board was reset, and its memory is empty; start again$"):
        client.write(0, CONTENT, reset)
    with pytest.raises(LinkError, match="the board was reset"):
        client.status()
    client = bench.client()
    client.write(0, CONTENT)
    client.verify(0, CONTENT)
    client.start(RUN)
    heard = []
    with pytest.raises(LinkError, match="the board was reset"):
        for _, event in client.events():
            heard.append(event)
            if len(heard) == 20:
                bench.board.reset()
    assert heard == [event_of(RUN, n) for n in range(len(heard))]
    # The same client, too, if it is told to.
    client.connect()
    client.write(0, CONTENT)
    client.start(RUN)
    assert len(list(client.events())) == 51


class Unplugged(ModelTransport):
    """A port that goes away after some bytes."""

    left = 30_000

    def write(self, content):
        super().write(content)
        if self.sent > self.left:
            raise LinkError(f"{self.name} went away")


def test_unplugged(bench):
    client = bench.client(Unplugged)
    with pytest.raises(LinkError, match="^the model board went away$"):
        for _ in range(9):
            client.write(0, CONTENT)
    client = bench.client()
    client.write(0, CONTENT)
    client.verify(0, CONTENT)


class Dead(Transport):
    """A port where nobody is; counts what is sent."""

    name = "nobody"

    def __init__(self, board, clock):
        self._clock, self.sent = clock, 0

    def write(self, content):
        self.sent += len(content)

    def read(self, timeout):
        self._clock.now += timeout
        return b""

    def close(self):
        pass


@pytest.mark.parametrize(("options", "seconds", "times"), [
    ({}, 3.0, 4), ({"timeout": 300.0, "hello_timeout": 300.0, "retry": 30.0}, 300.0, 4)])
def test_silence_is_told_in_time_and_is_not_flooded(options, seconds, times):
    clock = Clock()
    wire = Dead(None, clock)
    client = BoardClient(wire, clock=clock, **options)
    with pytest.raises(LinkError, match=rf"^nobody does not answer \(no answer to HELLO within {seconds:.0f} s\)"):
        client.hello()
    # A frame has eight bytes, and a zero byte before it.
    assert clock.now == pytest.approx(seconds) and wire.sent <= 9 * times
    with pytest.raises(LinkError):
        client.hello()
    assert clock.now == pytest.approx(2 * seconds)


def test_a_pause_of_the_caller_is_no_silence_of_the_board(bench):
    """An answer that nobody looked for is there when somebody does."""
    client = bench.client()
    client.start(RUN)
    heard = list(islice(client.events(), 2))
    bench.clock.now += 1000
    client.write(0, CONTENT)
    bench.clock.now += 1000
    heard += client.events()
    assert len(heard) == 51


def test_an_interruption_in_the_middle(bench):
    class Interrupted(ModelTransport):
        armed = False

        def write(self, content):
            if self.armed:
                self.armed = False
                super().write(content[:1500])
                raise KeyboardInterrupt
            super().write(content)

    transport = Interrupted(bench.board, bench.clock)
    client = BoardClient(transport, clock=bench.clock)
    client.start(RUN)
    transport.armed = True
    with pytest.raises(KeyboardInterrupt):
        client.write(0, CONTENT)
    before = bench.clock.now
    client.stop()
    assert list(client.events())[-1][1].logit == DoneReason.STOPPED
    # No time-out was waited for.
    assert bench.clock.now - before < 0.2


def test_an_answer_that_nobody_waited_for_is_lost_before_a_pause(bench):
    """Silence counts from when the caller looks."""
    class Forgets(ModelTransport):
        armed = False

        def read(self, timeout):
            content = super().read(timeout)
            if self.armed and content:
                # The answer to the READ that fills the chip's packet comes last.
                self.armed = False
                content = content[:content.rstrip(b"\0").rindex(b"\0") + 1]
            return content

    transport = Forgets(bench.board, bench.clock)
    client = BoardClient(transport, clock=bench.clock)
    client.connect()
    transport.armed = True
    client.write(0, b"data")
    bench.clock.now += 1000
    assert client.read(0, 4) == b"data"


def test_an_interruption_that_loses_the_last_event(bench):
    class Takes(ModelTransport):
        armed = False

        def read(self, timeout):
            content = super().read(timeout)
            if self.armed and not self.board.running:
                self.armed = False
                raise KeyboardInterrupt
            return content

    transport = Takes(bench.board, bench.clock)
    client = BoardClient(transport, clock=bench.clock)
    client.start(RUN)
    transport.armed = True
    heard = []
    with pytest.raises(KeyboardInterrupt):
        for event in client.events():
            heard.append(event)
    before = bench.clock.now
    heard += client.events()
    assert len(heard) == 51 and bench.clock.now - before < 0.2


# ---------------------------------------------------------------- loading
@pytest.fixture(scope="module")
def stories():
    """The image of the small shipped model."""
    config = preset("ulx3s-85f")
    return config, compile_model(find_model("stories-1m"), config)


def load(bench, config, image, *, verify=True):
    """Load with a new client; the device and the bytes that the host sent."""
    client = bench.client()
    device = BoardDevice("port", config, client, "ab" * 32, verify=verify)
    seen = []
    device.load(image, lambda done, total: seen.append((done, total, device.sent, device.skipped)))
    assert [done for done, *_ in seen] == sorted(done for done, *_ in seen)
    assert seen[0][0] == 0 and seen[-1][0] == seen[-1][1] == device.sent + device.skipped
    assert all(done == sent + skipped for done, _, sent, skipped in seen)
    return device, client._transport.sent


def test_a_second_load_sends_no_weights(stories):
    config, image = stories
    bench = Bench(memory=1 << 21)
    device, sent = load(bench, config, image)
    size = sum(len(part) for _, part in image.sections)
    tables = sum(len(table) for _, table in image.tables)
    assert (device.sent, device.skipped) == (size + tables, 0)
    for base, part in image.sections:
        assert bench.board.memory[0][base:base + len(part)] == bytes(part)
    device, again = load(bench, config, image)
    assert (device.sent, device.skipped) == (tables, size)
    print(f"bytes that the host sent: {sent} and {again}, of an image of {size}")
    assert again < 8000 < size < sent < 1.03 * size
    # One byte that differs: its region is sent.
    base, part = image.sections[0]
    at = base + len(part) // 2
    bench.board.memory[0][at] ^= 0x40
    device, _ = load(bench, config, image)
    assert 0 < device.sent - tables <= REGION
    assert bench.board.memory[0][base:base + len(part)] == bytes(part)


def test_memory_that_does_not_hold_what_was_written(stories):
    config, image = stories

    class Weak(PlainBoard):
        def write(self, address, content):
            super().write(address, content)
            self.memory[0][70_000] = 1

    bench = Bench()
    bench.board = Weak(memory=1 << 21)
    with pytest.raises(LinkError, match="^the board's memory does not hold what was written at 0x"):
        load(bench, config, image)


def test_a_load_that_was_cut_short_goes_on(stories):
    """After an unplug the next load sends only what is missing."""
    config, image = stories
    bench = Bench(memory=1 << 21)

    class Half(Unplugged):
        left = 400_000

    client = bench.client(Half)
    with pytest.raises(LinkError, match="went away"):
        BoardDevice("port", config, client, "ab" * 32).load(image, lambda done, total: None)
    device, _ = load(bench, config, image)
    assert device.skipped > 200_000 and device.sent > 200_000
    for base, part in image.sections:
        assert bench.board.memory[0][base:base + len(part)] == bytes(part)


def test_memory_is_smaller_than_the_image(stories):
    config, image = stories
    bench = Bench(memory=MEMORY)
    with pytest.raises(LinkError, match="^the board refused a (CHECKSUM|WRITE) packet: ADDRESS$"):
        load(bench, config, image)
