# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tests.serve.long``: many clients over some boards for minutes, with memory watched and a board killed half-way.

Each answer is compared with the golden model's.  The server is a process of its own.  A simulated board is a process too, and one
of them gets SIGKILL when half of the time is over; the server has to open it again before the end.  The report names what was
asked for, what came, and what memory did.  The exit code is 1 if an answer is missing or wrong, if no board took the killed
board's request up, if the killed board did not come back, or if memory grows.
"""

import argparse
import asyncio
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
from prometheus_client.parser import text_string_to_metric_families

import tellme
from sim.reports import commit
from tellme.models import Model
from tellme.runtime.device import GoldenDevice
from tellme.runtime.sampling import Sampling
from tellme.spec.config import PRESETS, SIMULATED
from tests.serve.small import small_model

__all__ = ["Answers", "Plan", "clients", "main", "run"]

ROOT = Path(__file__).resolve().parents[2]
#: Prompts and seeds of the requests: each pair has an answer of its own.
PROMPTS, SEEDS = ("On", "To", "Th", "My", "An", "It"), 5
TEMPERATURE = 1.5
#: Memory may grow by this share and these bytes between the second and the last quarter of the time.
GROWTH, SLACK = 0.03, 4 << 20
#: Seconds between two entries of memory in the report.
EVERY = 10


@dataclass(frozen=True)
class Plan:
    """What is asked for.  ``model``: a model's name or file; ``small``: the one of :mod:`tests.serve.small`.  ``tokens``: of each
    answer.  ``seed`` decides who asks for what, and which board is killed."""

    device: str = "sim"
    preset: str = SIMULATED
    model: str = "small"
    boards: int = 3
    clients: int = 50
    seconds: float = 300.0
    tokens: int = 6
    seed: int = 1

    def wanted(self, model: Model) -> dict[tuple[str, int], str]:
        """The golden model's answer to each prompt and seed."""
        session = tellme.Board(GoldenDevice()).load(model)
        answers = {(prompt, seed): session.generate(prompt, max_tokens=self.tokens,
                                                    sampling=Sampling(temperature=TEMPERATURE, seed=seed)).text
                   for prompt in PROMPTS for seed in range(SEEDS)}
        # An answer to another request would be found out.
        assert len(set(answers.values())) > len(answers) * 3 // 4
        return answers


@dataclass
class Answers:
    """What came: ``sent`` requests, ``right`` and ``wrong`` answers, ``failed`` ones with the error, seconds of each answer."""

    sent: int = 0
    right: int = 0
    wrong: int = 0
    failed: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    per_client: Counter[int] = field(default_factory=Counter)


async def _client(api: openai.AsyncOpenAI, plan: Plan, name: str, number: int, over: Callable[[], bool],
                  wanted: dict[tuple[str, int], str], answers: Answers) -> None:
    """Asks again and again, every other time for a stream."""
    rng = random.Random(f"{plan.seed} {number}")
    while answers.per_client[number] == 0 or not over():
        (prompt, seed), text = rng.choice(list(wanted.items()))
        settings: dict[str, Any] = {"model": name, "prompt": prompt, "max_tokens": plan.tokens, "temperature": TEMPERATURE,
                                    "seed": seed}
        answers.sent += 1
        answers.per_client[number] += 1
        began = time.monotonic()
        try:
            if (number + answers.per_client[number]) % 2:
                stream = await api.completions.create(**settings, stream=True)
                found = "".join([chunk.choices[0].text async for chunk in stream])
            else:
                answer = await api.completions.create(**settings)
                assert answer.usage is not None and answer.usage.completion_tokens == plan.tokens
                found = answer.choices[0].text
        except (openai.OpenAIError, httpx.HTTPError) as error:
            answers.failed.append(f"{type(error).__name__}: {error}")
            continue
        answers.seconds.append(time.monotonic() - began)
        if found == text:
            answers.right += 1
        else:
            answers.wrong += 1


async def clients(url: str, plan: Plan, name: str, wanted: dict[tuple[str, int], str], answers: Answers,
                  over: Callable[[], bool]) -> None:
    """All clients at once, until it is ``over`` and each has its last answer."""
    limits = httpx.Limits(max_connections=None)
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600,
                                  http_client=httpx.AsyncClient(limits=limits, timeout=600)) as api:
        await asyncio.gather(*(_client(api, plan, name, i, over, wanted, answers) for i in range(plan.clients)))


class _Watch:
    """The server's memory, open files and threads, and its boards' states, as time goes by; kills a board half-way."""

    def __init__(self, plan: Plan, url: str, pid: int):
        self._plan, self._url, self._pid = plan, url, pid
        self.samples: list[dict[str, float]] = []
        self.killed: dict[str, Any] | None = None
        self.answers_at_kill = 0

    async def until(self, over: Callable[[], bool], answers: Answers) -> None:
        """Look once a second until the clients have ended and the killed board is back, or is given up."""
        begin, patience = time.monotonic(), self._plan.seconds + 120
        async with httpx.AsyncClient(timeout=60) as http:
            while True:
                passed = time.monotonic() - begin
                states = {board["board"]: board["state"] for board in (await http.get(f"{self._url}/health")).json()["boards"]}
                self.samples.append({"seconds": round(passed, 1), "server_bytes": _status(self._pid, "VmRSS") * 1024,
                                     "threads": _status(self._pid, "Threads"),
                                     "files": len(list(Path(f"/proc/{self._pid}/fd").iterdir())),
                                     "boards_ready": sum(state in ("idle", "busy") for state in states.values())})
                if self.killed is None and passed > self._plan.seconds / 2 and self._plan.device == "sim":
                    pid = random.Random(self._plan.seed).choice(_children(self._pid))
                    os.kill(pid, signal.SIGKILL)
                    self.killed = {"at_seconds": round(passed, 1), "board": None, "left_after_seconds": None,
                                   "back_after_seconds": None}
                    self.answers_at_kill = len(answers.seconds)
                if self.killed is not None:
                    self._follow(self.killed, states, passed)
                if over() and (self.killed is None or self.killed["back_after_seconds"] is not None or passed > patience):
                    return
                await asyncio.sleep(1)

    @staticmethod
    def _follow(killed: dict[str, Any], states: dict[str, str], passed: float) -> None:
        """Which board was killed, and whether it is back."""
        since = round(passed - killed["at_seconds"], 1)
        if killed["board"] is None:
            killed["board"] = next((name for name, state in states.items() if state in ("down", "starting")), None)
            killed["left_after_seconds"] = since if killed["board"] is not None else None
        elif killed["back_after_seconds"] is None and states[killed["board"]] in ("idle", "busy"):
            killed["back_after_seconds"] = since


def _status(pid: int, name: str) -> int:
    """A number of /proc/PID/status."""
    found = re.search(rf"^{name}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found.group(1))


def _children(pid: int) -> list[int]:
    """Ids of a process's children."""
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


@contextmanager
def _model(plan: Plan) -> Iterator[tuple[str, Model]]:
    """The model's name or file, and the model."""
    if plan.model != "small":
        model = tellme.find_model(plan.model)
        yield plan.model, model
        return
    with tempfile.TemporaryDirectory() as folder:
        file, model = Path(folder) / "small.tellme", small_model()
        model.save(file)
        yield str(file), model


@contextmanager
def _server(plan: Plan, model: str) -> Iterator[tuple[str, subprocess.Popen[str], dict[str, int]]]:
    """The server's address and process, and a place for its exit code."""
    command = [sys.executable, "-m", "tellme.cli", "serve", *["--device", plan.device] * plan.boards, "--port", "0",
               "--max-queue", str(plan.clients), "--model", model, "--preset", plan.preset]
    ended: dict[str, int] = {}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, cwd=ROOT, stderr=log, text=True)
        try:
            url = ""
            while not url:
                if process.poll() is not None:
                    log.seek(0)
                    raise SystemExit(f"the server did not start:\n{log.read()}")
                time.sleep(0.2)
                log.seek(0)
                url = "".join(re.findall(r"^serving .* at (http://[^;]*);", log.read(), re.MULTILINE))
            yield url, process, ended
            process.send_signal(signal.SIGINT)
            ended["code"] = process.wait(60)
        finally:
            process.kill()
            process.wait()
            log.seek(0)
            print("".join(line for line in log if not line.startswith("loading")), end="", file=sys.stderr)


async def _all(url: str, pid: int, plan: Plan, name: str, wanted: dict[tuple[str, int], str]) -> tuple[Answers, _Watch]:
    answers, watch = Answers(), _Watch(plan, url, pid)
    # The server listens once one board is ready.
    while sum(board["state"] == "idle" for board in httpx.get(f"{url}/health").json()["boards"]) < plan.boards:
        await asyncio.sleep(0.5)
    end = time.monotonic() + plan.seconds
    asking = asyncio.ensure_future(clients(url, plan, name, wanted, answers, lambda: time.monotonic() >= end))
    await asyncio.gather(asking, watch.until(asking.done, answers))
    return answers, watch


def _numbers(url: str) -> dict[str, float]:
    """The server's counters, without their labels' names."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    return {" ".join([sample.name, *sample.labels.values()]): sample.value for family in families for sample in family.samples}


def run(plan: Plan) -> dict[str, Any]:
    """The report of a run; ``problems`` is empty if all is well."""
    with _model(plan) as (file, model):
        wanted = plan.wanted(model)
        with _server(plan, file) as (url, process, ended):
            answers, watch = asyncio.run(_all(url, process.pid, plan, model.name, wanted))
            numbers = _numbers(url)

    def memory(low: float, high: float) -> float:
        return statistics.median(sample["server_bytes"] for sample in watch.samples
                                 if low <= sample["seconds"] / plan.seconds < high)

    before, after = memory(0.25, 0.5), memory(0.75, 1)
    killed = watch.killed
    resumed = numbers["tellme_resumed_requests_total"]
    tokens = {name.split()[-1]: int(value) for name, value in sorted(numbers.items())
              if name.startswith("tellme_generated_tokens_total")}
    problems = [text for text, wrong in (
        (f"{answers.wrong} answers are wrong", answers.wrong),
        (f"{len(answers.failed)} requests failed, the first with {answers.failed[:1]}", answers.failed),
        ("an answer is missing", answers.sent != answers.right + answers.wrong + len(answers.failed)),
        ("a client got no answer", len(answers.per_client) != plan.clients),
        ("tokens were picked that nobody got", sum(tokens.values()) != plan.tokens * answers.right),
        ("memory grows", after > before * (1 + GROWTH) + SLACK),
        ("no board took the killed board's request up", killed is not None and resumed != 1),
        ("the killed board is not back", killed is not None and killed["back_after_seconds"] is None),
        (f"exit code {ended.get('code')}", ended.get("code") != 130)) if wrong]
    seconds = sorted(answers.seconds)
    return {
        "plan": asdict(plan), "problems": problems,
        "requests": {"sent": answers.sent, "right": answers.right, "wrong": answers.wrong, "failed": len(answers.failed),
                     "fewest_of_a_client": min(answers.per_client.values()),
                     "after_the_kill": len(seconds) - watch.answers_at_kill if killed is not None else None},
        "answer_seconds": {"median": round(statistics.median(seconds), 2),
                           "95_percent": round(seconds[len(seconds) * 95 // 100], 2), "longest": round(seconds[-1], 2)},
        "killed_board": None if killed is None else {**killed, "requests_taken_up": int(resumed)},
        "tokens_by_board": tokens,
        "server_memory_bytes": {"second_quarter": round(before), "last_quarter": round(after),
                                "most": round(max(sample["server_bytes"] for sample in watch.samples))},
        "over_time": [sample for i, sample in enumerate(watch.samples)
                      if i == 0 or sample["seconds"] // EVERY > watch.samples[i - 1]["seconds"] // EVERY],
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.serve.long")
    parser.add_argument("--device", default=Plan.device, choices=("sim", "golden"))
    parser.add_argument("--preset", default=Plan.preset, choices=PRESETS)
    parser.add_argument("--model", default=Plan.model)
    parser.add_argument("--boards", type=int, default=Plan.boards)
    parser.add_argument("--clients", type=int, default=Plan.clients)
    parser.add_argument("--seconds", type=float, default=Plan.seconds)
    parser.add_argument("--tokens", type=int, default=Plan.tokens)
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("-o", "--output", type=Path, help="the report goes to this file too")
    args = parser.parse_args()
    values = vars(args)
    output = values.pop("output")
    head = commit()
    found = run(Plan(**values))
    how = "python -m tests.serve.long " + " ".join(f"--{name} {value}" for name, value in values.items())
    report = {"commit": head, "date": time.strftime("%Y-%m-%d", time.gmtime()), "how": how,
              "computer": {"cores": os.cpu_count(), "load_average": [round(load, 1) for load in os.getloadavg()]}, **found}
    if output is not None:
        output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({name: value for name, value in report.items() if name != "over_time"}, indent=1))
    return 1 if report["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
