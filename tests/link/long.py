# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tests.link.long --faults N --device sim-tiny``: faults on the wire to a simulated board.

A simulated board of a preset, through the same pipe as for everyone, with a small random model: loads, runs, reads, checksums,
stops, STATUS, HELLO, refusals, hosts that go away.  Each token must be the golden model's, and each byte of the memory one that
was written.  ``--device model``: the plain board of the tests, in simulated time.  A wrong byte or token, or a hang, is an
AssertionError.
"""

import argparse
import random
import sys
import time

from tellme.compiler.image import compile_model
from tellme.golden.board import GoldenBoard
from tellme.link.client import BoardClient
from tellme.link.transport import ProcessTransport
from tellme.runtime.device import BoardDevice
from tellme.runtime.simulated import build, sim_command
from tellme.spec.config import PRESETS, preset
from tellme.spec.memory import TOKEN_BASE, Event, EventType, StartArgs
from tests.link.faults import Faults, FaultyTransport
from tests.link.scenario import USES, Scenario
from tests.link.test_faults import check, use
from tests.models.random_model import random_model

#: Seconds: until a packet is sent again; of silence; of a pause on the wire at most; of one use of the board at most.
RETRY, PATIENCE, PAUSE, BOUND = 1.5, 120.0, 2.0, 900.0
#: Bytes of memory behind the model that are written and read.
SPACE = 1 << 16
#: Prompts of the runs.
PROMPTS = 12


class Kept(ProcessTransport):
    """A process that outlives its clients."""

    def close(self) -> None:
        """A client goes away, and the board stays."""

    def end(self) -> None:
        super().close()


class GoldenRuns:
    """Runs of a model whose events the golden model gives."""

    def __init__(self, image, vocab: int, draw: random.Random):
        self._golden = []
        golden = GoldenBoard(image)
        for _ in range(PROMPTS):
            prompt = [draw.randrange(vocab) for _ in range(draw.randint(1, 3))]
            args = StartArgs(0, len(prompt), draw.randint(0, 6))
            golden.tokens[:len(prompt)] = prompt
            self._golden.append((prompt, args, list(golden.start(args))))

    def begin(self, client, draw) -> tuple[StartArgs, list[tuple[EventType, Event]]]:
        prompt, args, events = draw.choice(self._golden)
        client.write(TOKEN_BASE, b"".join(token.to_bytes(4, "little") for token in prompt))
        return args, events

    @staticmethod
    def compare(found, wanted) -> None:
        """Types, positions, tokens and logits, and the reason of DONE; the golden model counts no cycles."""
        got, true = ([(kind, e.position, e.logit, e.id if kind == EventType.TOKEN else None) for kind, e in events]
                     for events in (found, wanted))
        assert got == true, f"the board said {got}, the golden model {true}"


class Loads(Scenario):
    """A scenario whose model is damaged and loaded again now and then."""

    uses = (*USES, "load", "load")

    def __init__(self, connect, runs, image, config, **options):
        super().__init__(connect, runs, **options)
        self._image, self._config = image, config
        self.sent = self.skipped = 0
        self.whole_model = True

    def load(self, client) -> None:
        base, part = self.random.choice(self._image.sections)
        at = base + 4 * self.random.randrange(len(part) // 4)
        self.whole_model = False
        client.write(at, self.random.randbytes(4))
        self._repair(client)

    def _repair(self, client) -> None:
        device = BoardDevice("sim", self._config, client, "ab" * 32, verify=True)
        device.load(self._image, lambda done, total: None)
        self.whole_model = True
        self.sent += device.sent
        self.skipped += device.skipped

    def _begin(self, client):
        if not self.whole_model:
            # An error of the link came into the last load.
            self._repair(client)
        return super()._begin(client)


def simulated(name: str, seed: int, rate: float, faults: int) -> int:
    """The simulated board of a preset."""
    config = preset(name)
    model = random_model("plain", seed)
    image = compile_model(model, config)
    base = (image.end + SPACE - 1) // SPACE * SPACE
    command, root, env = sim_command(config)
    board = Kept(build(command, root, env), cwd=root, env=env)
    wire = Faults(seed, rate=0.0, left=faults, pause=PAUSE)

    def connect() -> BoardClient:
        return BoardClient(FaultyTransport(board, wire, time.monotonic), timeout=PATIENCE, hello_timeout=PATIENCE, retry=RETRY)

    try:
        first = connect()
        BoardDevice("sim", config, first, "ab" * 32, blank=True).load(image, lambda done, total: None)
        first.write(base, bytes(SPACE))
        runs = GoldenRuns(image, model.config.vocab, random.Random(seed))
        scenario = Loads(connect, runs, image, config, base=base, size=SPACE, beyond=config.sdram_bytes, seed=seed,
                         clock=time.monotonic, bound=BOUND)
        wire.rate, begin, told = rate, time.monotonic(), 0
        while wire.left > 0:
            scenario.step()
            if wire.total - told >= 100:
                told = wire.total
                print(f"{told} faults after {time.monotonic() - begin:.0f} s", flush=True)
        last = connect()
        last.connect()
        scenario.whole(last.read(base, SPACE))
        bad = last.status()[3]
    finally:
        board.end()
    print(f"{wire.total} faults, {time.monotonic() - begin:.0f} s; the board refused {bad} packets\n{wire.table()}")
    print(f"hit: { {kind.name: count for kind, count in sorted(wire.types.items())} }")
    print(f"done: {dict(scenario.done)}; errors: {dict(scenario.errors)}; loads sent {scenario.sent} bytes and skipped "
          f"{scenario.skipped}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.link.long", description=__doc__)
    parser.add_argument("--faults", type=int, default=10_000)
    parser.add_argument("--device", default="sim-tiny", choices=["model", *PRESETS], help="a preset, or the model board")
    parser.add_argument("--rate", type=float, default=0.12, help="share of the frames that get a fault")
    parser.add_argument("--seed", type=int, help="default: a new one, which is printed")
    args = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if args.seed is None else args.seed
    print(f"seed {seed}", flush=True)
    if args.device != "model":
        return simulated(args.device, seed, args.rate, args.faults)
    scenario, _, board = use(seed, rate=args.rate, faults=args.faults)
    check(scenario, board)
    return 0


if __name__ == "__main__":
    sys.exit(main())
