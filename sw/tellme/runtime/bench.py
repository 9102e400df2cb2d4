# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What a token and a prompt cost on a device, against what the memory's peak allows.

A token's cost on a board is the difference of two runs: one run ends with the token, the other ends before it.  So the weight
buffer is as full as in the middle of a text.  At position 0 the cost is that of a run with one token.  The tokens are fed one by
one, even if a chunk could take both.  The KV cache before a position is filled through the host's port.  Needed bytes count each
byte once, even if the board reads a byte more often.

The golden model counts no cycles: there the host's clock measures.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tellme.compiler.image import Head, Image, kv_bytes, needed_bytes
from tellme.errors import DeviceError, InputError
from tellme.models.config import ModelConfig
from tellme.runtime.device import Device
from tellme.runtime.session import Session
from tellme.spec.config import CoreConfig
from tellme.spec.memory import ACCOUNT, COUNTERS, HEAD_COUNTERS, EventType, StartArgs, StartFlags, cache_bases
from tellme.spec.packing import TRITS
from tellme.spec.scale import Scale, pack16

__all__ = ["PROMPTS", "BenchReport", "Decode", "Drafted", "Prefill", "bench", "cache_pieces", "check_positions",
           "default_positions", "measure_decode", "measure_drafts", "measure_prefill", "prefill_bytes"]

#: Lengths of prompts that are measured where none are named.
PROMPTS = (16, 64)
#: Runs of which the quickest counts, where the host's clock measures.
TRIES = 3
#: Tokens of the text on which drafted tokens are measured.
DRAFTED_TOKENS = 48
#: Hears (what is measured, steps done, steps in all).
Progress = Callable[[str, int, int], object]


@dataclass(frozen=True)
class Decode:
    """The cost of the token at a position.

    Behind position 0 they are the difference of two runs, of which one is a token longer.  Refreshes come at other cycles in each
    run, so that a few idle cycles may be hidden in the longer run alone: ``account["idle"]`` may be a few cycles below zero.

    ``needed``: bytes that the token needs (:func:`tellme.compiler.image.needed_bytes`).  ``seconds``: by the board's cycles, or
    by the host's clock where nothing counts cycles.  ``account``: cycles by what they were spent on; None where the core does
    not count that.  ``simulated``: cycles of the longer run in a second of the host's clock.  ``rows_read``: the share of the LM
    head's rows that were read whole, and none of the others' lowest planes are needed; None where it did not go in two steps.
    """

    position: int
    needed: float
    seconds: float
    cycles: int | None = None
    account: dict[str, int] | None = None
    simulated: float | None = None
    rows_read: float | None = None

    @property
    def tokens_per_second(self) -> float:
        """1 / seconds."""
        return 1 / self.seconds

    def floor(self, core: CoreConfig) -> float:
        """Cycles in which the memory at its peak moves the needed bytes."""
        return self.needed / core.peak_bytes_per_cycle

    def as_json(self, core: CoreConfig | None) -> dict[str, object]:
        """The fields for a JSON object; ``peak_share`` is floor / cycles."""
        fields: dict[str, object] = {"position": self.position, "cycles_per_token": self.cycles,
                                     "tokens_per_second": round(self.tokens_per_second, 2), "peak_share": None,
                                     "needed_bytes": round(self.needed), "decode_account": self.account}
        if core is not None and self.cycles:
            fields["peak_share"] = round(self.floor(core) / self.cycles, 4)
        if self.rows_read is not None:
            fields["rows_read"] = round(self.rows_read, 4)
        return fields


@dataclass(frozen=True)
class Prefill:
    """The cost of a prompt, from START to the first token, or to the last chunk's end for a model without its LM head.

    ``needed``: bytes that the prompt needs (:func:`prefill_bytes`); ``decode_needed``: those of one token after the prompt.
    """

    tokens: int
    needed: float
    decode_needed: float
    seconds: float
    cycles: int | None = None
    account: dict[str, int] | None = None

    @property
    def tokens_per_second(self) -> float:
        """tokens / seconds."""
        return self.tokens / self.seconds

    def floor(self, core: CoreConfig) -> float:
        """Cycles in which the memory at its peak moves the needed bytes."""
        return self.needed / core.peak_bytes_per_cycle

    def decode_floor(self, core: CoreConfig) -> float:
        """The same for one token after the prompt."""
        return self.decode_needed / core.peak_bytes_per_cycle

    def as_json(self, core: CoreConfig | None) -> dict[str, object]:
        """The fields for a JSON object; ``ttft_ms`` is the time to the first token."""
        fields: dict[str, object] = {"prompt_tokens": self.tokens, "cycles": self.cycles, "ttft_ms": round(1e3 * self.seconds, 3),
                                     "prefill_account": self.account}
        if core is not None and self.cycles:
            fields |= {"tokens_per_second": round(self.tokens_per_second, 2),
                       "peak_share": round(self.floor(core) / self.cycles, 4)}
        else:
            fields["tokens_per_second"] = round(self.tokens_per_second, 2)
        return fields


@dataclass(frozen=True)
class Drafted:
    """What drafted tokens give on a greedy text from BOS on: ``tokens`` behind the first one, in ``passes``.  ``seconds``: by the
    board's cycles, or by the host's clock where nothing counts cycles."""

    tokens: int
    passes: int
    seconds: float
    cycles: int | None = None

    @property
    def tokens_per_pass(self) -> float:
        """tokens / passes."""
        return self.tokens / self.passes

    @property
    def tokens_per_second(self) -> float:
        """tokens / seconds."""
        return self.tokens / self.seconds

    def as_json(self) -> dict[str, object]:
        """The fields for a JSON object; ``accepted_tokens``: drafted ones that were right."""
        return {"tokens": self.tokens, "passes": self.passes, "accepted_tokens": self.tokens - self.passes,
                "tokens_per_pass": round(self.tokens_per_pass, 3), "cycles": self.cycles,
                "tokens_per_second": round(self.tokens_per_second, 2)}


@dataclass(frozen=True)
class BenchReport:
    """How fast a model is on a device.  ``core``, ``fabric_mhz`` and the peak are None on the golden model; ``drafts`` is None
    where nothing is drafted."""

    model: str
    device: str
    core: CoreConfig | None
    core_sha256: str | None
    decode: tuple[Decode, ...]
    prefill: tuple[Prefill, ...]
    drafts: Drafted | None = None

    @property
    def peak_bytes_per_second(self) -> float | None:
        """What the memory's pins move at most."""
        return None if self.core is None else 1e6 * self.core.fabric_mhz * self.core.peak_bytes_per_cycle

    def as_json(self) -> dict[str, Any]:
        """The fields for a JSON object."""
        core = self.core
        return {"model": self.model, "device": self.device, "preset": core and core.name,
                "fabric_mhz": core and round(core.fabric_mhz, 3), "core_sha256": self.core_sha256,
                "measured_by": "the host's clock" if core is None else
                "simulated cycles" if self.device == "sim" else "the board's cycles",
                "peak_bytes_per_second": self.peak_bytes_per_second and round(self.peak_bytes_per_second),
                "decode": [r.as_json(core) for r in self.decode], "prefill": [r.as_json(core) for r in self.prefill],
                **({} if self.drafts is None else {"drafts": self.drafts.as_json()})}


def prefill_bytes(c: ModelConfig, tokens: int, chunk: int, trits: int | None = None, multipliers: int = 0) -> float:
    """Bytes that a prompt needs.  Each chunk reads all trits and multipliers once, reads K, V and scales of all positions up to
    its own once, and writes K, V and scales of its own positions."""
    ternary = (c.ternary_weights if trits is None else trits) / 5
    ends = [min(first + chunk, tokens) for first in range(0, tokens, chunk)]
    return len(ends) * (ternary + multipliers) + kv_bytes(c) * (sum(ends) + tokens)


def default_positions(context: int) -> list[int]:
    """Five positions from 0 to the last that can be measured, or fewer in a small context."""
    last = context - 2
    return sorted({last * i // 4 for i in range(5)})


def check_positions(name: str, context: int, positions: Sequence[int], prompts: Sequence[int] = ()) -> None:
    """Refuse positions and lengths of prompts that a model has no room for: an InputError."""
    for what, values in (("position", positions), ("a prompt of", prompts)):
        if values and max(values) + 2 > context:
            raise InputError(f"{what} {max(values)} wants a context of {max(values) + 2}, and {name} has {context}")
        if values and min(values) < (0 if what == "position" else 1):
            raise InputError(f"{what} {min(values)}: there is none")


def cache_pieces(image: Image, config: ModelConfig, first: int, end: int, slot: int = 0) -> Iterator[tuple[int, bytes]]:
    """(address in the memory, content) of random keys, values and scales of a slot, positions first to end - 1 of all layers and
    heads."""
    rng = np.random.default_rng(1)
    row, r, at = config.head_dim, image.registers, slot * config.context + first
    scale = pack16(Scale(1024, -16))
    for k, v, s in (cache_bases(r, layer) for layer in range(config.layers)):
        for head in range(config.kv_heads):
            for base in (k, v):
                yield (4 * (base + head * r["kv_stride"]) + at * row,
                       rng.integers(-20, 21, (end - first) * row, dtype=np.int8).tobytes())
            yield 4 * (s + head * r["s_stride"] + at), np.full(end - first, scale << 16 | scale, "<u4").tobytes()


def _run(device: Device, args: StartArgs) -> float:
    """One run; the host's seconds."""
    began = time.perf_counter()
    events = list(device.start(args))
    seconds = time.perf_counter() - began
    kind, last = events[-1]
    if kind != EventType.DONE or last.logit != 0:
        raise DeviceError(f"a run at position {args.position} ended with {last}")
    return seconds


def _counted(device: Device, args: StartArgs) -> tuple[dict[str, int], float]:
    """Counters of one run, and the host's seconds."""
    seconds = _run(device, args)
    return device.counters(), seconds


def _account(core: CoreConfig, spent: dict[str, int]) -> dict[str, int] | None:
    """Cycles by what they were spent on; None for a core that does not count that."""
    if not core.accounts:
        return None
    account = {name: spent[f"{name}_cycles"] for name in ACCOUNT}
    if sum(account.values()) != spent["cycles"]:
        raise DeviceError(f"the account's sum is {sum(account.values())} of {spent['cycles']} cycles")
    return account


def measure_decode(device: Device, config: ModelConfig, image: Image, positions: Sequence[int], core: CoreConfig | None, *,
                   body_only: bool = False, filled: int = 0, progress: Progress | None = None) -> list[Decode]:
    """The cost of a token at each of ascending positions.

    ``core`` None: the device counts no cycles.  ``body_only``: the layers alone, without the LM head.  ``filled``: positions from
    0 on whose keys and values the memory holds already (:func:`cache_pieces`).
    """
    head: Head = "board" if image.probe is None else "host"
    results: list[Decode] = []
    for number, position in enumerate(positions):
        if progress is not None:
            progress("decode", number, len(positions))
        needed = needed_bytes(config, position, head, trits=image.trits, multipliers=image.multipliers,
                              head_trits=0 if body_only else image.head_trits)
        if core is None:
            results.append(Decode(position, needed, _golden_decode(device, config, position)))
            continue
        before = max(0, position - 1)
        if before > filled:
            for at, content in cache_pieces(image, config, filled, before):
                device.write(at, content)
            filled = before
        device.place(before, [config.bos or 0] * (position - before + 1))
        counts = [] if position else [dict.fromkeys([*COUNTERS, *HEAD_COUNTERS], 0)]
        for tokens in range(1, position - before + 2):
            feed, generate = (tokens, 0) if body_only else (1, tokens)
            flags = StartFlags.CLEAR | (StartFlags.TWO_STEPS if device.two_steps and not body_only else StartFlags(0))
            count, seconds = _counted(device, StartArgs(before, feed, generate, flags, chunk=1))
            counts.append(count)
        filled = max(filled, position + 1)
        # Counters wrap; a difference may be a few cycles below zero.
        spent = {name: (counts[-1][name] - counts[-2][name] + 2**31) % 2**32 - 2**31 for name in counts[-1]}
        rows = spent["head_rows_read"] / spent["head_rows"] if spent.get("head_rows") else None
        if rows is not None:
            # A code of a row that was not read whole has a trit less.
            needed -= (1 - rows) * config.vocab * config.dim / TRITS
        results.append(Decode(position, needed, spent["cycles"] / core.fabric_mhz / 1e6, spent["cycles"], _account(core, spent),
                              counts[-1]["cycles"] / seconds, rows))
    if progress is not None:
        progress("decode", len(positions), len(positions))
    return results


def _golden_decode(device: Device, config: ModelConfig, position: int) -> float:
    """Seconds of a token by the host's clock: the quickest of some runs, behind tokens that fill the KV cache."""
    device.place(0, [config.bos or 0] * (position + 1))
    if position:
        _run(device, StartArgs(0, position, 0))
    return min(_run(device, StartArgs(position, 1, 1)) for _ in range(TRIES))


def measure_prefill(device: Device, config: ModelConfig, image: Image, prompts: Sequence[int], core: CoreConfig | None, *,
                    body_only: bool = False, progress: Progress | None = None) -> list[Prefill]:
    """The cost of prompts of some lengths; ``core`` and ``body_only`` as in :func:`measure_decode`."""
    rng = np.random.default_rng(2)
    head: Head = "board" if image.probe is None else "host"
    chunk = core.chunk if core is not None else max(prompts, default=1)
    results: list[Prefill] = []
    for number, tokens in enumerate(prompts):
        if progress is not None:
            progress("prefill", number, len(prompts))
        device.place(0, [int(t) for t in rng.integers(0, config.vocab, tokens)])
        args = StartArgs(0, tokens, 0 if body_only else 1)
        needed = prefill_bytes(config, tokens, chunk if image.whole_heads else 1, image.trits, image.multipliers)
        decode = needed_bytes(config, tokens, head, trits=image.trits, multipliers=image.multipliers,
                              head_trits=0 if body_only else image.head_trits)
        if core is None:
            results.append(Prefill(tokens, needed, decode, min(_run(device, args) for _ in range(TRIES))))
            continue
        spent, _ = _counted(device, args)
        results.append(Prefill(tokens, needed, decode, spent["cycles"] / core.fabric_mhz / 1e6, spent["cycles"],
                               _account(core, spent)))
    if progress is not None:
        progress("prefill", len(prompts), len(prompts))
    return results


def measure_drafts(session: Session, core: CoreConfig | None, progress: Progress | None = None) -> Drafted:
    """What drafted tokens give, on a device that drafts."""
    config = session.model.config
    session.cache.forget()
    if progress is not None:
        progress("drafts", 0, 1)
    run = session.generate([config.bos or 0], max_tokens=min(DRAFTED_TOKENS + 1, config.context), ignore_end=True)
    for _ in run:
        pass
    stats = run.stats
    cycles = stats["decode_cycles"]
    if progress is not None:
        progress("drafts", 1, 1)
    seconds = run.generation.wall_seconds if core is None or not cycles else cycles / core.fabric_mhz / 1e6
    return Drafted(len(run.generation.generated) - 1, stats["passes"], seconds, cycles)


def bench(session: Session, core: CoreConfig | None, *, positions: Sequence[int] | None = None,
          prompts: Sequence[int] | None = None, progress: Progress | None = None) -> BenchReport:
    """Measure a session's model.  ``core``: that of the session's board; None for the golden model.

    ``positions`` and ``prompts`` are ascending; None for five positions over the context, and for :data:`PROMPTS` as far as the
    context has room.  What the KV cache held is lost.  Drafted tokens are measured apart, on a text; the other numbers are those
    of plain decode.
    """
    config, device = session.model.config, session.device
    at = list(positions) if positions is not None else default_positions(config.context)
    lengths = list(prompts) if prompts is not None else [n for n in PROMPTS if n + 2 <= config.context]
    check_positions(session.model.name, config.context, at, lengths)
    session.cache.forget()
    settings, drafts = session.image.draft_settings if device.draft_most else None, None
    try:
        if settings is not None:
            device.draft_as(0)
        # Prompts first: the positions' cache is filled anew.
        prefill = measure_prefill(device, config, session.image, lengths, core, progress=progress)
        decode = measure_decode(device, config, session.image, at, core, progress=progress)
        if settings is not None:
            device.draft_as(settings)
            drafts = measure_drafts(session, core, progress)
    except KeyboardInterrupt:
        device.stop()
        raise
    return BenchReport(session.model.name, device.name, core, device.core_sha256, tuple(decode), tuple(prefill), drafts)
