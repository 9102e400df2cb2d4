# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tests.serve.long``: many clients over some boards for minutes, with memory watched and a board killed half-way.

Each answer is compared with the golden model's.  The server is a process of its own; a board that is a process is killed when
half of the time is over.  The exit code is 1 if an answer is missing or wrong, or if memory grows.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import openai

from tellme.runtime.sampling import Sampling
from tests.serve.servers import reference

__all__ = ["main", "run"]

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = ("Once upon a time", "Tom and Lily went", "The dog was sad because", "One day a cat saw a")
SEEDS = 4
#: Memory may grow by this share and these bytes between the second and the last quarter of the time.
GROWTH, SLACK = 0.03, 4 << 20


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return 1024 * int(found.group(1)) if found else 0


def children(pid: int) -> list[int]:
    """Ids of a process's children."""
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


async def client(api: openai.AsyncOpenAI, number: int, end: float, tokens: int, answers: Counter) -> None:
    """Asks again and again; each answer is that of the golden model."""
    count = 0
    while count == 0 or time.monotonic() < end:
        prompt, seed = PROMPTS[(number + count) % len(PROMPTS)], (number + count) // len(PROMPTS) % SEEDS
        settings = {"model": "stories-1m", "prompt": prompt, "max_tokens": tokens, "temperature": 0.9, "seed": seed}
        if (number + count) % 2:
            stream = await api.completions.create(**settings, stream=True)
            text = "".join([chunk.choices[0].text async for chunk in stream])
        else:
            text = (await api.completions.create(**settings)).choices[0].text
        answers["right" if text == reference(prompt, tokens, Sampling(temperature=0.9, seed=seed))[0] else "wrong"] += 1
        count += 1


async def watch(pid: int, begin: float, seconds: float, sizes: list[tuple[float, int]], killed: list[int]) -> None:
    """Memory of the server as time goes by; kills a board half-way."""
    while (passed := time.monotonic() - begin) < seconds:
        sizes.append((passed / seconds, resident(pid)))
        if passed > seconds / 2 and not killed and (boards := children(pid)):
            killed.append(boards[0])
            os.kill(boards[0], signal.SIGKILL)
        await asyncio.sleep(1)


async def load(url: str, pid: int, clients: int, seconds: float, tokens: int) -> dict[str, object]:
    answers: Counter = Counter()
    sizes: list[tuple[float, int]] = []
    killed: list[int] = []
    begin = time.monotonic()
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600) as api:
        await asyncio.gather(watch(pid, begin, seconds, sizes, killed),
                             *(client(api, i, begin + seconds, tokens, answers) for i in range(clients)))
    before = [size for part, size in sizes if 0.25 <= part < 0.5]
    after = [size for part, size in sizes if part >= 0.75]
    return {"seconds": round(time.monotonic() - begin, 1), "answers": dict(answers), "killed_boards": len(killed),
            "memory_before": round(statistics.median(before)), "memory_after": round(statistics.median(after)),
            "memory_most": max(size for _, size in sizes)}


def run(device: str, boards: int, clients: int, seconds: float, tokens: int) -> dict[str, object]:
    """The numbers of a run; ``problem`` is empty if all is well."""
    for prompt in PROMPTS:
        for seed in range(SEEDS):
            reference(prompt, tokens, Sampling(temperature=0.9, seed=seed))
    command = [sys.executable, "-m", "tellme.cli", "serve", *["--device", device] * boards, "--port", "0", "--max-queue",
               str(clients)]
    server = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        url = ""
        while not url:
            line = server.stderr.readline()
            if not line:
                raise SystemExit("the server did not start")
            print(line, end="", file=sys.stderr)
            url = "".join(re.findall(r"^serving .* at (http://[^;]*);", line))
        found = asyncio.run(load(url, server.pid, clients, seconds, tokens))
    finally:
        server.send_signal(signal.SIGINT)
        try:
            code = server.wait(60)
        finally:
            server.kill()
    grown = int(str(found["memory_after"])) > int(str(found["memory_before"])) * (1 + GROWTH) + SLACK
    wrong = dict(found["answers"]).get("wrong", 0)  # type: ignore[call-overload]
    problem = "answers are wrong" if wrong else "memory grows" if grown else f"exit code {code}" if code != 130 else ""
    return {"device": device, "boards": boards, "clients": clients, **found, "problem": problem}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.serve.long")
    parser.add_argument("--device", default="sim", choices=("sim", "golden"))
    parser.add_argument("--boards", type=int, default=3)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--tokens", type=int, default=6)
    args = parser.parse_args()
    found = run(args.device, args.boards, args.clients, args.seconds, args.tokens)
    print(json.dumps(found))
    return 1 if found["problem"] else 0


if __name__ == "__main__":
    sys.exit(main())
