# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Counters, gauges and histograms in Prometheus' text format, version 0.0.4."""

import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

__all__ = ["CONTENT_TYPE", "Counter", "Gauge", "Histogram", "Metric", "Metrics"]

#: Of the text that Prometheus reads.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Seconds: from an answer of a small model on a fast board to a long text of a large one.
SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
#: Tokens a second: from a simulated board to a small model on a fast one.
RATES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
Labels = tuple[str, ...]


def _labelled(name: str, names: Sequence[str], values: Sequence[str]) -> str:
    def quoted(value: str) -> str:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    inside = ",".join(f'{label}="{quoted(value)}"' for label, value in zip(names, values, strict=True))
    return f"{name}{{{inside}}}" if inside else name


class Metric:
    """A number that the server tells, with a sample for each set of values of its labels.

    ``name``: what Prometheus calls the metric; ``text``: its help; ``labels``: the names of its labels.
    """

    #: Prometheus' word for the type of the metric.
    kind = ""

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()):
        self.name, self.text, self.labels = name, text, tuple(labels)
        self._lock = threading.Lock()

    def lines(self) -> list[str]:
        """The samples."""
        raise NotImplementedError


class Counter(Metric):
    """A number that grows, for each set of labels."""

    kind = "counter"

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()):
        super().__init__(name, text, labels)
        self._values: dict[Labels, float] = {} if labels else {(): 0.0}

    def add(self, amount: float = 1, *labels: str) -> None:
        with self._lock:
            self._values[labels] = self._values.get(labels, 0.0) + amount

    def value(self, *labels: str) -> float:
        """The number of a set of labels."""
        return self._values.get(labels, 0.0)

    def lines(self) -> list[str]:
        with self._lock:
            return [f"{_labelled(self.name, self.labels, labels)} {value:.15g}" for labels, value in self._values.items()]


class Gauge(Metric):
    """Numbers that are asked for when they are read, by their labels."""

    kind = "gauge"

    def __init__(self, name: str, text: str, labels: Sequence[str], read: Callable[[], Mapping[Labels, float]]):
        super().__init__(name, text, labels)
        self._read = read

    def lines(self) -> list[str]:
        return [f"{_labelled(self.name, self.labels, labels)} {value:.15g}" for labels, value in self._read().items()]


class Histogram(Metric):
    """How often values up to each of some limits came."""

    kind = "histogram"

    def __init__(self, name: str, text: str, limits: Sequence[float] = SECONDS):
        super().__init__(name, text)
        self._limits = tuple(limits)
        self._counts = [0] * (len(limits) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        with self._lock:
            self._counts[bisect_left(self._limits, value)] += 1
            self._sum += value

    def lines(self) -> list[str]:
        with self._lock:
            out, total = [], 0
            for limit, count in zip((*self._limits, None), self._counts, strict=True):
                total += count
                shown = "+Inf" if limit is None else f"{limit:g}"
                out.append(f'{self.name}_bucket{{le="{shown}"}} {total}')
            return [*out, f"{self.name}_sum {self._sum:.15g}", f"{self.name}_count {total}"]


class Metrics:
    """All metrics of a server."""

    def __init__(self) -> None:
        self.requests = Counter("tellme_requests_total", "Requests that were answered, by path and status code.",
                                ("path", "status"))
        self.prompt_tokens = Counter("tellme_prompt_tokens_total", "Tokens of prompts.")
        self.cached_tokens = Counter("tellme_cached_tokens_total", "Tokens of prompts that were in a KV cache already.")
        self.generated_tokens = Counter("tellme_generated_tokens_total", "Tokens that were picked, by board.", ("board",))
        self.passes = Counter("tellme_decode_passes_total", "Passes of finished runs behind their first token, of boards that "
                              "draft tokens.", ("board",))
        self.accepted_tokens = Counter("tellme_accepted_tokens_total",
                                       "Drafted tokens that were right, of finished runs, by board.", ("board",))
        self.cycles = Counter("tellme_board_cycles_total", "Cycles of finished runs by what they went to, by board.",
                              ("board", "part"))
        self.failures = Counter("tellme_board_failures_total", "Times that a board left the pool.", ("board",))
        self.resumed = Counter("tellme_resumed_requests_total", "Requests that another board took up from where they were.")
        self.stopped = Counter("tellme_stopped_requests_total", "Runs that were stopped: the client went away, or time was up.")
        self.queue_seconds = Histogram("tellme_queue_seconds", "Seconds from a request to its board.")
        self.first_token_seconds = Histogram("tellme_first_token_seconds", "Seconds from a request to its first token.")
        self.request_seconds = Histogram("tellme_request_seconds", "Seconds from a request to its end.")
        self.request_rate = Histogram("tellme_request_tokens_per_second",
                                      "Tokens a second of a request, after its first token.", RATES)
        self.gauges: list[Gauge] = []

    def text(self) -> str:
        """All metrics as Prometheus reads them."""
        lines = []
        for metric in [*(m for m in vars(self).values() if isinstance(m, Metric)), *self.gauges]:
            lines += [f"# HELP {metric.name} {metric.text}", f"# TYPE {metric.name} {metric.kind}", *metric.lines()]
        return "\n".join(lines) + "\n"
