# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What the memory seam refuses, and that its names are the specification's."""

from dataclasses import replace

import pytest

from hw.lib.layouts import Layouts
from hw.lib.ports import MEMORY, ClientStrobes, MemorySpec
from hw.memory.hub import Client, MemoryHub
from hw.memory.sdr.controller import SdramController
from hw.memory.width import NarrowRead, WideWrite
from hw.top import memory_hub
from tellme.spec.config import SIMULATED, preset
from tellme.spec.memory import COUNTERS, MEMORY_CLIENTS

FIRST = Client("first", "read", 0, port="shared")


@pytest.mark.parametrize(("client", "text"), [
    (Client("first", "read", 1), "first: an earlier client of the hub has the name 'first' too"),
    (Client("second", "read", 0), "second: an earlier client of the hub has the priority 0 too"),
    (Client("second", "read", 1, data_bits=48), "second: data_bits is 48; 32, 64, 128 and so on can be"),
    (Client("second", "write", 1, port="shared"), "second: mode is 'write', that of first on the same port 'read'"),
    (Client("second", "read", 1, data_bits=64, port="shared"), "second: data_bits is 64, that of first on the same port 32"),
    (Client("second", "read", 1, port="shared", guarded=True), "second: guarded is True, that of first on the same port False"),
])
def test_clients_that_cannot_be(client, text):
    with pytest.raises(ValueError) as error:
        MemoryHub([FIRST, client], MEMORY)
    assert text == str(error.value)


@pytest.mark.parametrize(("make", "text"), [
    (lambda: MemorySpec(48, 24, 20, 32), "data_bits of a memory is 48"),
    (lambda: MemorySpec(32, 24, 20, 24), "burst of a memory is 24"),
    (lambda: SdramController(ports=1, spec=MEMORY.client(64)), "an SDR SDRAM of 16 bits with 9 column bits has words of 32 bits"),
    (lambda: SdramController(ports=1, spec=MemorySpec(32, 24, 20, 512)), "bursts of at most 256 of them"),
    (lambda: NarrowRead(64, MEMORY), "a client of 64 bits is not narrower than a memory of 32 bits"),
    (lambda: WideWrite(32, MEMORY.client(64)), "a client of 32 bits is narrower than a memory of 64 bits"),
])
def test_memories_that_cannot_be(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_names_are_the_specifications():
    hub = memory_hub(Layouts(preset(SIMULATED).widths))
    for layout in (hub.moved.shape(), hub.busy.shape(), ClientStrobes):
        assert list(layout.members) == list(MEMORY_CLIENTS)
    assert {name for name in COUNTERS if name.endswith("_words")} == {f"{name}_words" for name in MEMORY_CLIENTS}


def test_ports():
    """Five ports: what shares one costs no FIFO of its own.  Attention has one where it reads words of 64 bits."""
    wide = preset("sim-ddr3")
    for config, ports, bits in ((preset(SIMULATED), 5, 32), (wide, 6, 64), (replace(wide, chunk=1, pes=4), 5, 32)):
        hub = memory_hub(Layouts(config.widths))
        assert (hub.ports, len(hub.attention_read.data.payload)) == (ports, bits)
