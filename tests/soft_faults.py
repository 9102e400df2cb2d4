# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tests.soft_faults --count N``: flips a drawn bit of a running simulated board, fault by fault, and counts who
notices.

Each fault is a board of its own: a process of ``sim-tiny`` with a small random model, which makes some tokens.  A bit of one
kind is flipped in a drawn cycle of the run.  Then each of those that may notice says so for itself: the watchdog and the link,
the picks and logits that ``--check N`` compares, the step CRCs that it compares, and the checksums of the memory after the run.

Fault number i of a seed is the same bit in the same cycle in each run of this program on the same core.  ``--report`` goes on
with the faults that docs/reports/soft-faults.json does not have.  ``--golden`` flips bits of the golden model behind packets, and
simulates nothing.
"""

import argparse
import json
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sim.board.soft_faults import Site, build_faulty, fault_argument
from sim.checkout import commit
from tellme.compiler.cycles import watchdog_cycles
from tellme.compiler.image import Image, compile_model
from tellme.errors import CheckError, TellmeError
from tellme.golden.board import GoldenBoard
from tellme.link.client import BoardClient
from tellme.link.errors import LinkError, StuckError
from tellme.link.transport import ProcessTransport
from tellme.models.config import ModelConfig
from tellme.models.model import Model
from tellme.runtime.checking import Checker, MemorySums
from tellme.runtime.device import BoardDevice
from tellme.spec.config import CoreConfig, preset
from tellme.spec.memory import DoneReason, Event, EventType, StartArgs, StartFlags, cache_bases
from tests.models.random_model import model_of

__all__ = ["KINDS", "Fault", "Outcome", "Trial", "draw_fault", "interval", "main", "summary"]

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs" / "reports" / "soft-faults.json"
PRESET = "sim-tiny"
#: Where a bit flips: sections of the image in SDRAM, KV cache in SDRAM, weight buffer, other memories on the chip, registers.
KINDS = ("image", "kv", "buffer", "memory", "register")
#: Tokens of the prompt, tokens that are picked, and tokens from a comparison to the next.
PROMPT, TOKENS, EVERY = 4, 12, 6
#: Seconds of silence of a simulated board that end a trial, and from a STATUS to the next.
PATIENCE, POLL = 60.0, 0.5
#: Of a two-sided confidence interval of 95 %.
Z = 1.959964


def trial_model() -> Model:
    """Two small layers with sub-norms, grouped heads and a head of its own."""
    config = ModelConfig(dim=40, ffn=40, layers=2, heads=2, kv_heads=1, head_dim=16, vocab=96, context=32, tied=False,
                         o_norm=True, down_norm=True)
    return model_of(config, gains=True, seed=25, name="soft")


@dataclass(frozen=True)
class Fault:
    """A bit that flips.  ``cycle``: of those in which a run goes on, from 1 on.  ``site``: number of a site of the core, 0 for
    the memory chip, of which ``word`` is the byte's address.  ``what`` names it."""

    kind: str
    cycle: int
    site: int
    word: int
    bit: int
    what: str


@dataclass
class Outcome:
    """What a fault did, and who noticed.

    ``wrong``: the number of the first pick whose token is another one than without the fault, None if there is none.
    ``missing``: picks that did not come.  Each of the other fields is what the one told that noticed, empty if it did not:
    ``watchdog``, ``link`` (an error of the link or of the run), ``picks`` (ids and logits that --check compares), ``crcs`` (step
    CRCs that it compares), ``sums`` (checksums of the memory after the run).  ``ended``: the fault does not
    count, as the chip model ended the simulation (a rule of the chip was broken), or as the golden model takes no such byte.
    """

    wrong: int | None = None
    missing: int = 0
    watchdog: str = ""
    link: str = ""
    picks: str = ""
    crcs: str = ""
    sums: str = ""
    ended: bool = False

    @property
    def noticed(self) -> list[str]:
        """Who noticed."""
        return [name for name in ("watchdog", "link", "picks", "crcs", "sums") if getattr(self, name)]


@dataclass
class Trial:
    """A model on a core, what it picks without a fault, and how long that takes.  ``cycles``: from START to the last DONE, with a
    START for each piece of EVERY tokens; known after a run without a fault."""

    model: Model
    image: Image
    core: CoreConfig
    prompt: list[int]
    wanted: list[int] = field(default_factory=list)
    cycles: int = 0

    @classmethod
    def of(cls, core: CoreConfig) -> "Trial":
        """The trial of a core."""
        model = trial_model()
        image = compile_model(model, core)
        prompt = [int(x) for x in random.Random(25).sample(range(model.config.vocab), PROMPT)]
        golden = GoldenBoard(image)
        golden.tokens[:PROMPT] = prompt
        wanted = [event.id for kind, event in golden.start(StartArgs(0, PROMPT, TOKENS)) if kind == EventType.TOKEN]
        return cls(model, image, core, prompt, wanted)

    def run(self, client: Any, before: Callable[[int], None] = lambda number: None) -> Outcome:
        """Load, pick tokens in pieces, and hear everybody.  ``before`` is called ahead of each piece with its first pick's
        number."""
        outcome = Outcome()
        device = BoardDevice("board", self.core, client, "ab" * 32, blank=True)
        checker = Checker(self.image, EVERY, vocab=self.model.config.vocab, lanes=self.core.chunk)
        picked: list[int] = []
        try:
            device.load(self.image, lambda done, total: None)
            device.watch(watchdog_cycles(self.model.config, self.image, self.core))
            self._pieces(device, checker, picked, outcome, before)
        except StuckError as error:
            outcome.watchdog = str(error)
        except TellmeError as error:
            outcome.link = str(error)
        outcome.wrong = next((i for i, (a, b) in enumerate(zip(picked, self.wanted, strict=False)) if a != b), None)
        outcome.missing = TOKENS - len(picked)
        if not outcome.link:
            try:
                MemorySums(self.image).check(device)
            except CheckError as error:
                outcome.sums = str(error)
            except TellmeError as error:
                outcome.link = str(error)
        return outcome

    def _pieces(self, device: BoardDevice, checker: Checker, picked: list[int], outcome: Outcome,
                before: Callable[[int], None]) -> None:
        """Pick all tokens, EVERY a START, and compare behind each START."""
        position, feed, cycles = 0, list(self.prompt), 0
        vocab = self.model.config.vocab
        while len(picked) < TOKENS:
            before(len(picked))
            device.place(position, feed)
            events = list[Event]()
            for kind, event in device.start(StartArgs(position, len(feed), EVERY, StartFlags(0) if picked else StartFlags.CLEAR)):
                if kind == EventType.DONE:
                    cycles = event.cycles
                    if event.logit != DoneReason.LENGTH or len(events) != EVERY:
                        known = event.logit in list(DoneReason)
                        raise LinkError(f"the run ended with {DoneReason(event.logit).name if known else event.logit} after "
                                        f"{len(events)} tokens")
                    continue
                events.append(event)
                picked.append(event.id)
            found = checker.compare([*self.prompt, *picked[:-1]], events, None, device.crcs())
            if found is not None and found.got is not None:
                outcome.picks = outcome.picks or found.text("")
            if found is not None and found.step is not None:
                outcome.crcs = outcome.crcs or f"step {found.step} at position {found.last}"
            if any(token >= vocab for token in picked):
                raise LinkError("a pick is no token")
            position, feed = position + len(feed) + EVERY - 1, [picked[-1]]
        self.cycles = self.cycles or cycles


def kv_addresses(trial: Trial) -> list[int]:
    """Byte addresses of the keys, values and scales of the positions that the run feeds."""
    r, end, out = trial.image.registers, PROMPT + TOKENS - 1, list[int]()
    for layer in range(trial.model.config.layers):
        k, v, s = cache_bases(r, layer)
        for head in range(r["kv_heads"]):
            for base in (k, v):
                first = 4 * (base + head * r["kv_stride"])
                out += range(first, first + end * r["head_dim"])
            first = 4 * (s + head * r["s_stride"])
            out += range(first, first + 4 * end)
    return out


def draw_fault(trial: Trial, sites: Sequence[Site], seed: int, number: int) -> Fault:
    """Fault ``number`` of a seed: the kinds in turn, a bit of the kind, each as likely, and a cycle of the run, each as
    likely."""
    rng = random.Random(f"{seed} {number}")
    kind, cycle = KINDS[number % len(KINDS)], rng.randint(1, trial.cycles)
    if kind == "image":
        base, part = rng.choices(trial.image.sections, [len(part) for _, part in trial.image.sections])[0]
        word, bit = base + rng.randrange(len(part)), rng.randrange(8)
        return Fault(kind, cycle, 0, word, bit, f"image byte {word:#x}")
    if kind == "kv":
        word, bit = rng.choice(kv_addresses(trial)), rng.randrange(8)
        return Fault(kind, cycle, 0, word, bit, f"KV byte {word:#x}")
    own = [site for site in sites if site.kind == kind]
    site = rng.choices(own, [site.size for site in own])[0]
    word, bit = rng.randrange(max(site.words, 1)), rng.randrange(site.bits)
    where = f"{site.module}.{site.name}" + (f"[{word}]" if site.words else "")
    return Fault(kind, cycle, site.number, word, bit, where)


def simulated(trial: Trial, command: Sequence[str], fault: Fault | None) -> Outcome:
    """A trial on a simulated board of its own."""
    arguments = [] if fault is None else fault_argument(fault.cycle, fault.site, fault.word, fault.bit)
    transport = ProcessTransport([*command, *arguments])
    try:
        client = BoardClient(transport, timeout=PATIENCE, hello_timeout=PATIENCE, retry=PATIENCE / 2, poll=POLL)
        outcome = trial.run(client)
        outcome.ended = "the simulated board ended" in outcome.link
        return outcome
    finally:
        transport.close()


def golden(trial: Trial, fault: Fault | None) -> Outcome:
    """The same on a golden board behind the calls of a client: bits of the image and of the KV cache, ahead of a piece of
    tokens."""
    from tests.soft_golden import SoftClient

    client = SoftClient(trial.core)

    def before(number: int) -> None:
        # The pieces are as long as each other, but for the prompt.
        if fault is not None and number == EVERY * (fault.cycle * (TOKENS // EVERY) // (trial.cycles + 1)):
            client.flip(fault.word, fault.bit)

    outcome = trial.run(client, before)
    outcome.ended = client.skipped > 0
    return outcome


def interval(hits: int, of: int) -> tuple[float, float]:
    """Wilson's interval of a share, 95 %."""
    if not of:
        return 0.0, 1.0
    share, z2 = hits / of, Z * Z
    middle, half = share + z2 / (2 * of), Z * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return max(0.0, (middle - half) / (1 + z2 / of)), min(1.0, (middle + half) / (1 + z2 / of))


def share(hits: int, of: int) -> dict[str, Any]:
    """A share with its interval."""
    low, high = interval(hits, of)
    return {"hits": hits, "of": of, "share": round(hits / of, 4) if of else None, "low": round(low, 4), "high": round(high, 4)}


def summary(trials: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts and shares by kind and in all.

    ``right``: all tokens came, and are those without the fault.  ``wrong``: a token is another one, or did not come.
    ``wrong_noticed``: the share of these that anybody noticed; ``wrong_noticed_by``: those that each noticed.
    ``right_noticed``: of the faults without a wrong token, those that were noticed.
    """
    out = {}
    for kind in (*KINDS, "all"):
        own = [trial for trial in trials if kind in (trial["kind"], "all") and not trial["ended"]]
        wrong = [trial for trial in own if trial["wrong"] is not None or trial["missing"]]
        right = [trial for trial in own if trial not in wrong]
        by = Counter(name for trial in wrong for name in trial["noticed"])
        out[kind] = {"faults": len(own), "right": len(right), "wrong": len(wrong),
                     "not_counted": sum(trial["ended"] for trial in trials if kind in (trial["kind"], "all")),
                     "right_noticed": sum(bool(trial["noticed"]) for trial in right),
                     "wrong_noticed": share(sum(bool(trial["noticed"]) for trial in wrong), len(wrong)),
                     "wrong_noticed_by": {name: by[name] for name in ("watchdog", "link", "picks", "crcs", "sums")}}
    return out


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soft_faults", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="faults, from number 0 on (default: 1000)")
    parser.add_argument("--seed", type=int, default=25)
    parser.add_argument("--report", nargs="?", type=Path, const=REPORT, help="go on with the faults that the report (default: "
                        "docs/reports/soft-faults.json) does not have, and write it after each")
    parser.add_argument("--golden", action="store_true", help="flip bits of the golden model: image and KV cache alone")
    parser.add_argument("--seconds", type=float, help="begin no fault after so many seconds")
    args = parser.parse_args(argv)
    if args.count < 1:
        parser.error(f"--count: {args.count} is below 1")
    began, head_commit = time.monotonic(), commit("hw", "sw", "sim", "tests")
    trial = Trial.of(preset(PRESET))
    command, sites, core = list[str](), list[Site](), "golden"
    if args.golden:
        trial.cycles = 1_000_000
        clean = golden(trial, None)
    else:
        command, sites = build_faulty(trial.core)
        core = command[command.index("--build-id") + 1]
        clean = simulated(trial, command, None)
    if clean.noticed or clean.wrong is not None or clean.missing:
        print(f"FAILED: without a fault: {clean}")
        return 1
    print(f"without a fault: {TOKENS} tokens in {trial.cycles} cycles, nobody notices anything", flush=True)
    head: dict[str, Any] = {"seed": args.seed, "core_sha256": core, "preset": PRESET, "prompt_tokens": PROMPT, "tokens": TOKENS,
            "check_every": EVERY}
    done: dict[str, Any] = {"trials": []}
    if args.report is not None and args.report.exists():
        done = json.loads(args.report.read_text())
        other = {name: (done[name], value) for name, value in head.items() if done[name] != value}
        if other:
            print(f"FAILED: {args.report} is of other faults (its value, this run's): {other}; remove it, or name another file")
            return 2
        # A run differs by some cycles from the next, as refreshes of the memory come at other moments.
        trial.cycles = done["cycles"]
    head["cycles"] = trial.cycles
    numbers = {entry["number"] for entry in done["trials"]}
    for number in range(args.count):
        kind = KINDS[number % len(KINDS)]
        if number in numbers or args.golden and kind not in ("image", "kv"):
            continue
        if args.seconds is not None and time.monotonic() - began > args.seconds:
            break
        fault = draw_fault(trial, sites, args.seed, number)
        outcome = golden(trial, fault) if args.golden else simulated(trial, command, fault)
        done["trials"].append({"number": number, **asdict(fault), **asdict(outcome), "noticed": outcome.noticed,
                               "commit": head_commit})
        tokens = "right" if outcome.wrong is None and not outcome.missing else (
            f"pick {outcome.wrong} is wrong" if outcome.wrong is not None else f"{outcome.missing} picks are missing")
        who = ", ".join(outcome.noticed) or "nobody"
        print(f"{number} {fault.what} bit {fault.bit}, cycle {fault.cycle}: {tokens}; noticed by {who}"
              + " (does not count)" * outcome.ended, flush=True)
        if args.report is not None:
            write(args.report, head, done["trials"])
    shares = summary(done["trials"])
    print(json.dumps(shares, indent=1))
    unnoticed = sum(entry["wrong"] is not None and not entry["noticed"] for entry in done["trials"])
    print(f"{len(done['trials'])} faults, {unnoticed} with wrong tokens that nobody noticed; {time.monotonic() - began:.0f} s")
    return 1 if unnoticed else 0


def write(path: Path, head: dict[str, Any], trials: list[dict[str, Any]]) -> None:
    """The report, whole or not at all."""
    scratch = path.with_suffix(".tmp")
    entries = ",\n".join("  " + json.dumps(entry) for entry in trials)
    body = json.dumps({**head, "goal": 1000, "summary": summary(trials)}, indent=1)[:-2]
    scratch.write_text(f'{body},\n "trials": [\n{entries}\n ]\n}}\n')
    with suppress(OSError):
        scratch.chmod(0o644)
    scratch.replace(path)


if __name__ == "__main__":
    sys.exit(main())
