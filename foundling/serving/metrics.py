"""What a server measures of itself, in the form that Prometheus reads."""

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from foundling.serving.registry import Served

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


@dataclass
class Record:
    """What becomes of one request, for the log and the metrics; never a text of it."""

    model: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    first_token_seconds: float | None = None
    finish: str | None = None
    stream: bool = False
    is_gone: bool = False
    """The client went away before the answer was complete."""


class Metrics:
    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        kept = {"registry": self._registry, "namespace": "foundling"}
        self.requests = Counter("requests", "Requests.", ("path", "model", "status"), **kept)
        self.request_seconds = Histogram(
            "request_seconds", "Seconds of a request.", ("model",), buckets=_SECONDS, **kept
        )
        self.first_token_seconds = Histogram(
            "time_to_first_token_seconds",
            "Seconds from a request to its first text.",
            ("model",), buckets=_SECONDS, **kept,
        )  # fmt: skip
        self.between_tokens_seconds = Histogram(
            "time_between_tokens_seconds", "Seconds a token.", ("model",), buckets=_SECONDS, **kept
        )
        self.prompt_tokens = Counter("prompt_tokens", "Tokens of prompts.", ("model",), **kept)
        self.cached_tokens = Counter(
            "cached_tokens", "Tokens of prompts found in the prefix cache.", ("model",), **kept
        )
        self.completion_tokens = Counter(
            "completion_tokens", "Tokens generated.", ("model",), **kept
        )
        self._engine = Gauge(
            "engine", "What an engine says of itself.", ("model", "figure"), **kept
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
