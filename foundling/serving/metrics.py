"""What a server measures of itself, in the form that Prometheus reads."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from foundling.serving.registry import Served

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


@dataclass
class Record:
    """What becomes of one request, for the log and the metrics; never a text of it."""

    begun: float = field(default_factory=time.monotonic)
    """On the clock of `time.monotonic`."""
    model: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    first_token_seconds: float | None = None
    generates: bool = False
    """Whether the answer is generated, not worked out otherwise."""
    finish: str | None = None
    stream: bool = False
    is_gone: bool = False
    """The client went away before the answer was complete."""


class Metrics:
    """Counts of one server; see the help of each at /metrics."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"foundling_{name}", what, labels, registry=self._registry)

        def seconds(name: str, what: str) -> Histogram:
            name = f"foundling_{name}_seconds"
            return Histogram(name, what, ["model"], buckets=_SECONDS, registry=self._registry)

        self.requests = counter("requests", "Requests.", "path", "model", "status")
        self.prompt_tokens = counter("prompt_tokens", "Tokens of prompts.", "model")
        self.cached_tokens = counter(
            "cached_tokens", "Tokens of prompts that were found in the prefix cache.", "model"
        )
        self.completion_tokens = counter("completion_tokens", "Tokens generated.", "model")
        self.request_seconds = seconds("request", "Seconds of a request.")
        self.first_token_seconds = seconds(
            "time_to_first_token", "Seconds from a request to its first text."
        )
        self.between_tokens_seconds = seconds("time_between_tokens", "Seconds a token.")
        self._engine = Gauge(
            "foundling_engine",
            "What an engine says of itself, such as the requests that run and wait.",
            ["model", "figure"],
            registry=self._registry,
        )

    def page(self, in_memory: Mapping[str, Served]) -> bytes:
        """All figures, those of the engines as they are now."""
        self._engine.clear()
        for name, served in in_memory.items():
            for figure, value in served.engine.stats().items():
                self._engine.labels(name, figure).set(value)
        return generate_latest(self._registry)

    def count(self, record: Record, path: str, status: int, seconds: float) -> None:
        self.requests.labels(path, record.model, str(status)).inc()
        if not record.model:
            return
        self.request_seconds.labels(record.model).observe(seconds)
        self.prompt_tokens.labels(record.model).inc(record.prompt_tokens)
        self.cached_tokens.labels(record.model).inc(record.cached_tokens)
        self.completion_tokens.labels(record.model).inc(record.completion_tokens)
