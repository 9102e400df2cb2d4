# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Tests of a board: the link, what the memory's start found, the memory, and one layer of a model against the golden model."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tellme.compiler.image import Image, compile_model
from tellme.errors import TellmeError
from tellme.golden.board import GoldenBoard
from tellme.link.client import CHECKSUM_MAX
from tellme.models.config import ModelConfig
from tellme.models.random import random_model
from tellme.runtime.board import Board
from tellme.runtime.ddr3 import train_ddr3
from tellme.runtime.device import BoardDevice
from tellme.runtime.generation import describe_step
from tellme.runtime.info import BoardState, board_state, lane_words, phase_step_ns, readclksel_step_ps, training_failure
from tellme.runtime.march import AddressLines, Fault, address_lines, data_lines, march, sampled_pages, whole_memory
from tellme.runtime.sampling import Sampling
from tellme.spec.config import CoreConfig
from tellme.spec.ddr3_training import LEAST_WINDOW, Ddr3Training, LaneSettings
from tellme.spec.memory import SDRAM_BASE, EventType, StartArgs, StartFlags
from tellme.spec.packets import DATA_MAX
from tellme.spec.sampling import pack_settings
from tellme.spec.status import Training

__all__ = ["Check", "layer_config", "selftest"]

#: Bytes that are written and read to measure the link's rate.
RATE_BYTES = 64 * 1024
#: Packets of which the median round trip is taken.
ROUND_TRIPS = 16
#: Nanoseconds in which the SDRAM's clock may lie at least, so that heat and age do not end it.
LEAST_WINDOW_NS = 1.0
#: Tokens of a prompt of the layer's test, behind a whole chunk; and tokens that are picked.
BEHIND, PICKS = 3, 4
#: How the board draws its last picks, where its core has a sampler.
DRAWN = Sampling(temperature=0.9, top_k=40, top_p=0.95, seed=11).settings()
#: Hears (what is tested, bytes done, bytes in all).
Progress = Callable[[str, int, int], object]


@dataclass(frozen=True)
class Check:
    """A test that was made: its name, whether the board passed it, what was found, and what to do (empty if nothing).

    A test that passed and has something to do is a warning.  ``numbers``: what was measured, for programs.
    """

    name: str
    ok: bool
    found: str
    advice: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The fields for a JSON object."""
        return asdict(self)


def _sizes(full: bool) -> list[int]:
    """Bytes of the packets that go there and back: all sizes, or those where frames and COBS's blocks end."""
    if full:
        return list(range(4, DATA_MAX + 1, 4))
    return sorted({*range(4, 68, 4), *range(240, 268, 4), *range(496, 520, 4), *range(752, 772, 4), DATA_MAX - 4, DATA_MAX})


def _link(device: BoardDevice, full: bool, progress: Progress) -> Iterator[Check]:
    """Packets of all sizes there and back, of noise, zeros and ones; and the link's times."""
    client, rng = device.client, np.random.default_rng(0)
    before = board_state(device).bad_packets
    sizes = _sizes(full)
    wrong = []
    for number, size in enumerate(sizes):
        progress("link", sum(sizes[:number]), sum(sizes))
        content = (rng.bytes(size), bytes(size), b"\xff" * size)[number % 3]
        client.write(SDRAM_BASE, content)
        if client.read(SDRAM_BASE, size) != content:
            wrong.append(size)
    progress("link", sum(sizes), sum(sizes))
    trips = []
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        client.status()
        trips.append(time.perf_counter() - began)
    content = rng.bytes(min(RATE_BYTES, device.core.sdram_bytes))
    began = time.perf_counter()
    client.write(SDRAM_BASE, content)
    wrote = time.perf_counter()
    same = client.read(SDRAM_BASE, len(content)) == content
    read = time.perf_counter()
    refused = board_state(device).bad_packets - before
    trip, there, back = statistics.median(trips), len(content) / (wrote - began), len(content) / (read - wrote)
    numbers = {"packet_sizes": len(sizes), "wrong_sizes": wrong, "round_trip_ms": round(1e3 * trip, 3),
               "write_bytes_per_second": round(there), "read_bytes_per_second": round(back), "refused_packets": refused}
    times = (f"round trip {1e3 * trip:.2f} ms, {there / 1e3:.1f} kB/s there, {back / 1e3:.1f} kB/s back")
    if wrong or not same:
        yield Check("link", False, f"what was read is not what was written, with packets of {wrong or [DATA_MAX]} bytes",
                    "if the memory's tests below pass, report this; else the memory is the cause", numbers)
    elif refused:
        yield Check("link", False, f"the board refused {refused} packets; {times}", "bytes get lost on the way: try another "
                    "cable, a port of the computer instead of a hub, or a lower rate", numbers)
    else:
        yield Check("link", True, f"packets of {len(sizes)} sizes there and back; {times}", "", numbers)


def _lanes(core: CoreConfig, state: BoardState, training: Ddr3Training) -> Check:
    """What the training of a DDR3 memory found."""
    name, step = "DDR3 training", readclksel_step_ps(core)
    numbers = {"ready": state.sdram_ready, "failed": training.failed, "overridden": training.overridden,
               "readclksel_step_ps": round(step, 1),
               "lanes": [asdict(lane) | {"window_ps": round(step * lane.window, 1)} for lane in training.lanes],
               "overrides": [lane and asdict(lane) for lane in state.overrides]}
    found = "; ".join(f"lane {number}: {said}" for number, said in enumerate(lane_words(step, state)))
    if not state.sdram_ready:
        return Check(name, False, f"{training_failure(training)}; {found}", "power the board off and on; docs/bring-up.md goes "
                     "through the causes (A DDR3 memory)", numbers)
    if training.failed:
        return Check(name, False, f"the host's settings did not read back what was written; {found}",
                     "go back to what the training finds: settings auto", numbers)
    narrow = [str(number) for number, lane in enumerate(training.lanes) if lane.window < LEAST_WINDOW]
    if narrow:
        return Check(name, True, found, f"fewer than {LEAST_WINDOW} steps work for lane {' and lane '.join(narrow)}: the memory "
                     "may fail when the board gets warm. Run this test cold and warm, and report the windows (docs/bring-up.md)",
                     numbers)
    return Check(name, True, found, "", numbers)


def _start(device: BoardDevice) -> Check:
    """What the memory's start found."""
    state = board_state(device)
    if isinstance(state.training, Ddr3Training):
        return _lanes(device.core, state, state.training)
    return _phase(device.core, state, state.training)


def _phase(core: CoreConfig, state: BoardState, training: Training) -> Check:
    """What an SDR memory's start found."""
    step = phase_step_ns(core)
    window = training.window * step
    numbers = {"ready": state.sdram_ready, "beats": training.beats, "phase": training.phase, "window": training.window,
               "phases": core.sdram_phases, "window_ns": round(window, 3)}
    if not state.sdram_ready:
        return Check("SDRAM phase", False, "no phase of the SDRAM's clock works" if training.failed else "the SDRAM is not ready",
                     "power the board off and on; docs/bring-up.md goes through the causes", numbers)
    if core.sdram_phases == 1:
        return Check("SDRAM phase", True, f"{training.beats} beats from READ to data; this core tries one phase", "", numbers)
    found = (f"{training.beats} beats from READ to data, phase {training.phase} of {core.sdram_phases}; {training.window} phases "
             f"work, {window:.2f} ns")
    if window < LEAST_WINDOW_NS:
        return Check("SDRAM phase", False, f"{found}, and {LEAST_WINDOW_NS:.2f} ns is the least that is safe",
                     "the memory may fail when the board gets warm: try it cold and warm, and report both windows", numbers)
    return Check("SDRAM phase", True, found, "", numbers)


def _lines(faults: list[Fault]) -> Check:
    """What the walk over the data lines says."""
    bits = sorted({bit % 16 for fault in faults for bit in fault.bits})
    if not faults:
        return Check("data lines", True, "a one and a zero on each of 32 bits", "", {"faulty_lines": []})
    return Check("data lines", False, f"{faults[0]}; data lines {', '.join(map(str, bits))} of 16 are wrong",
                 "look at these pins of the SDRAM: solder, and their constraints in the board's file", {"faulty_lines": bits})


def _addresses(found: AddressLines, size: int) -> Check:
    """What the walk over the address lines says."""
    numbers = {"bytes": found.size, "bytes_wanted": size, "dead": list(found.dead), "shorted": [list(p) for p in found.shorted]}
    wrong = []
    if found.size != size:
        wrong.append(f"the memory has {found.size / 2**20:g} MiB, and the core wants {size / 2**20:g} MiB")
    if found.dead:
        wrong.append(f"address bits {', '.join(map(str, found.dead))} choose nothing")
    wrong += [f"address bits {a} and {b} choose the same word" for a, b in found.shorted]
    wrong += [str(fault) for fault in found.faults]
    if wrong:
        return Check("address lines", False, "; ".join(wrong), "look at the SDRAM's address and bank pins; a board with a "
                     "smaller chip wants a preset of its own", numbers)
    return Check("address lines", True, f"{size / 2**20:g} MiB, each address bit chooses", "", numbers)


def _march(device: BoardDevice, full: bool, progress: Progress) -> Check:
    """The march over some pages, or over the whole memory."""
    size = device.core.sdram_bytes
    blocks = whole_memory(size) if full else sampled_pages(size)
    faults = march(device.client, blocks, lambda done, total: progress("memory", done, total))
    tested = sum(part for _, part in blocks)
    numbers = {"bytes": tested, "of_bytes": size, "faults": [asdict(fault) for fault in faults]}
    name = f"{tested / 2**20:g} MiB" if full else f"{len(blocks)} pages of {DATA_MAX} bytes, of {size / 2**20:g} MiB"
    if not faults:
        return Check("memory march", True, f"{name}: each word held what was written, up and down", "", numbers)
    addresses = {fault.address for fault in faults}
    return Check("memory march", False, f"{faults[0]} ({len(addresses)} faulty word{'s' * (len(addresses) > 1)} so far)",
                 "one bit at one address: a bad chip; bits all over: the clock's phase (docs/bring-up.md)", numbers)


def layer_config(core: CoreConfig) -> ModelConfig:
    """The shape of the model of one layer that a core is tested with: small, within all limits of the core, and with as many
    norms as the core does."""
    head_dim, kv_heads = min(core.max_head_dim, 32), min(core.max_kv_heads, 2)
    heads = kv_heads * min(core.max_group, 2)
    plain = not core.vector_norms
    return ModelConfig(dim=min(core.max_dim, 128), ffn=min(core.max_cols, 192), layers=1, heads=heads, kv_heads=kv_heads,
                       head_dim=head_dim, vocab=min(core.max_vocab, 256), context=min(core.max_context, 64), o_norm=plain,
                       down_norm=plain, qk_norm=plain and core.row_words, vector_norms=core.vector_norms)


def _layer(device: BoardDevice) -> tuple[Check, Image]:
    """A prompt of more than a chunk, then some picks, on the board and on the golden model."""
    core = device.core
    config = layer_config(core)
    image = compile_model(random_model("selftest", config), core)
    device.load(image, lambda done, total: None)
    golden = GoldenBoard(image, core.chunk, sampler=core.sampler)
    feed = min(core.chunk + BEHIND, config.context - PICKS - 1)
    prompt = [int(token) for token in np.random.default_rng(3).integers(0, config.vocab, feed)]
    device.place(0, prompt)
    golden.tokens[:feed] = prompt
    wrong = ""
    position, numbers = 0, {"steps": len(image.program) - 1, "prompt_tokens": feed, "picks": PICKS + 1}
    flags = StartFlags.CLEAR | StartFlags.DUMP
    if core.sampler:
        device.draw_as(DRAWN)
        golden.registers.update(pack_settings(DRAWN))
    for n, generate, more in ((feed, 1, StartFlags(0)), (1, PICKS, StartFlags.SAMPLE if core.sampler else StartFlags(0))):
        args = StartArgs(position, n, generate, flags | more)
        # DONE has a reason, and beside it what the board knows of the last token.
        got, wanted = ([(kind, event.id if kind == EventType.TOKEN else 0, event.logit) for kind, event in events]
                       for events in (device.start(args), golden.start(args)))
        step = next((i for i, (a, b) in enumerate(zip(device.crcs(), golden.crcs[:-1], strict=True)) if a != b), None)
        ids = [[token for kind, token, _ in side if kind == EventType.TOKEN] for side in (got, wanted)]
        if step is not None:
            wrong = f"{describe_step(image, step)} gave other bits than the golden model"
        elif not np.array_equal(device.logits(), golden.logits):
            wrong = "the CRC of each step is right, and the logits in memory are not"
        elif got != wanted:
            wrong = f"the tokens are {ids[0]}, and {ids[1]} on the golden model"
        if wrong:
            return Check("layer", False, f"{wrong}, at position {position + n - 1}", "if the memory's tests pass: build the "
                         "bitstream anew with another seed, and report the step", numbers), image
        position += n
    picks = f"{PICKS + 1} picks" + (f", {PICKS} of them drawn by the board" if core.sampler else "")
    return Check("layer", True, f"{numbers['steps']} steps, {feed} prompt tokens and {picks}: CRCs and logits are the golden "
                 "model's", "", numbers), image


def _bandwidth(device: BoardDevice, counters: dict[str, int]) -> Check:
    """How fast the memory was: by the counters of the layer's run, and by the host's clock for a checksum."""
    core, numbers, parts = device.core, dict[str, Any](), []
    words, busy = (sum(value for name, value in counters.items() if name.endswith(end)) for end in ("_words", "_busy"))
    if core.accounts and counters["weights_busy"]:
        rate = core.word_bits // 8 * counters["weights_words"] / counters["weights_busy"] * core.fabric_mhz
        peak = core.peak_bytes_per_cycle * core.fabric_mhz
        numbers |= {"weights_bytes_per_second": round(1e6 * rate), "peak_share": round(rate / peak, 4), "words": words,
                    "busy_cycles": busy}
        parts.append(f"{rate:.1f} MB/s while weights stream, {100 * rate / peak:.1f} % of the peak (counted cycles)")
    if device.name != "sim":
        size = min(CHECKSUM_MAX, core.sdram_bytes)
        seconds = []
        for part in (size // 16, size):
            began = time.perf_counter()
            device.client.checksum(SDRAM_BASE, part)
            seconds.append(time.perf_counter() - began)
        if seconds[1] > seconds[0]:
            summed = (size - size // 16) / (seconds[1] - seconds[0])
            numbers["checksum_bytes_per_second"] = round(summed)
            parts.append(f"{summed / 1e6:.1f} MB/s for a checksum (host's clock)")
    found = "; ".join(parts) or "this core counts no cycles, and simulated time is not measured"
    return Check("bandwidth", True, found, "", numbers)


def selftest(board: Board, *, full: bool = False, progress: Progress | None = None,
             ddr3_settings: Sequence[LaneSettings | None] | None = None) -> Iterator[Check]:
    """Test a board; a Check after each test.  What the memory held is lost.

    ``full``: all sizes of packets, and all of the memory.  ``ddr3_settings``: a DDR3 memory is trained again first, with these
    settings, which stay (:func:`tellme.runtime.ddr3.train_ddr3`); None leaves the memory's settings as they are.

    A board that does not answer, or misbehaves, ends the tests: the last Check says why.  The golden model, which has neither
    link nor memory, is a DeviceError.
    """
    device = board.connect()
    hear = progress or (lambda what, done, total: None)
    size = device.core.sdram_bytes
    start = "DDR3 training" if device.core.ddr3 else "SDRAM phase"
    now = "link"
    try:
        if ddr3_settings is not None:
            now = start
            train_ddr3(device, ddr3_settings)
            now = "link"
        # The link's packets below go to the memory, which answers none before it is ready.
        if not board_state(device).sdram_ready:
            yield _start(device)
            return
        yield from _link(device, full, hear)
        now = start
        yield (found := _start(device))
        if not found.numbers["ready"]:
            return
        now = "data lines"
        yield _lines(data_lines(device.client))
        now = "address lines"
        yield _addresses(address_lines(device.client, size), size)
        now = "memory march"
        yield _march(device, full, hear)
        now = "layer"
        yield _layer(device)[0]
        now = "bandwidth"
        yield _bandwidth(device, device.counters())
    except TellmeError as error:
        yield Check(now, False, str(error), "the tests behind this one were not made")
