"""Requests that Schemathesis makes of the server's own OpenAPI bring no 5xx."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from live import Live, running
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance

# The server's threads use `random` while Hypothesis, in the same process, watches its state.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")

PATHS = (
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages",
    "/v1/messages/count_tokens", "/v1/embeddings", "/tokenize", "/detokenize", "/tokenizer_info",
    "/v1/models", "/health", "/metrics",
)  # fmt: skip


@pytest.fixture(scope="module")
def server(calling_models: dict[str, Path]) -> Iterator[Live]:
    with running([calling_models["tagged"]], timeout=30) as live:
        yield live


@pytest.fixture(scope="module")
def described(server: Live) -> Any:
    return schemathesis.openapi.from_url(f"{server.base}/openapi.json")


def explore(described: Any, path: str, examples: int) -> None:
    for method in described[path]:

        @settings(
            max_examples=examples, deadline=None, database=None, derandomize=True,
            phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(described[path][method].as_strategy())
        def each(case: Case) -> None:
            answer = case.call(timeout=60)
            case.validate_response(answer, checks=[not_a_server_error, content_type_conformance])
            assert "Traceback" not in answer.text

        each()


@pytest.mark.parametrize("path", ["/tokenize", "/v1/models", "/health", "/metrics"])
def test_what_is_described_is_served(described: Any, path: str) -> None:
    explore(described, path, 3)


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_much_of_what_is_described_is_served(described: Any, path: str) -> None:
    explore(described, path, 30)
