"""Embeddings: the mean of the hidden states, in both encodings."""

import base64
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from openai.types import CreateEmbeddingResponse

from foundling.generation.engine import Engine


def ask(client: TestClient, given: Any, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/embeddings", json={"input": given, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_vector_is_the_mean_of_the_hidden_states(client: TestClient, engine: Engine) -> None:
    tokenizer = engine.tokenizer
    texts = ["the mill", "café 🦆", "the mill"]
    tokens = [[*tokenizer.begin_ids, *tokenizer.encode(text)] for text in texts]
    with torch.inference_mode():
        expected = [engine.model.hidden(torch.tensor([one]))[0].mean(0) for one in tokens]
    made = ask(client, texts)
    CreateEmbeddingResponse.model_validate(made, strict=True)
    assert [one["index"] for one in made["data"]] == [0, 1, 2]
    for one, vector in zip(made["data"], expected, strict=True):
        torch.testing.assert_close(torch.tensor(one["embedding"]), vector)
    assert made["usage"] == {"prompt_tokens": sum(map(len, tokens))} | {
        "total_tokens": sum(map(len, tokens))
    }
    assert made["model"] == "tiny"
    assert ask(client, tokens)["data"] == made["data"]
    assert ask(client, tokens[0])["data"] == made["data"][:1]
    assert ask(client, texts[0], dimensions=16)["data"] == made["data"][:1]
    raw = ask(client, texts, encoding_format="base64")["data"]
    numbers = np.frombuffer(base64.b64decode(raw[1]["embedding"]), dtype="<f4")
    assert numbers.tolist() == pytest.approx(made["data"][1]["embedding"], rel=1e-6)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": [99999]}, None),
        ({"input": "the " * 99}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a", "dimensions": 8}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
    ],
)
def test_what_has_no_vector_is_refused(
    client: TestClient, body: dict[str, Any], param: str | None
) -> None:
    answer = client.post("/v1/embeddings", json=body)
    assert answer.status_code == 400, answer.text
    assert param is None or answer.json()["error"]["param"] == param


def test_a_model_says_what_its_vectors_are(client: TestClient) -> None:
    [model] = client.get("/v1/models").json()["data"]
    assert model["embedding"].startswith("the mean of the hidden states")


def test_vectors_are_made_one_at_a_time(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(client, "the mill")
    [served] = client.app.state.service.registry.in_memory.values()  # type: ignore[attr-defined]
    make, running, most = served.engine.embed, [0], [0]

    def counted(tokens: Any) -> torch.Tensor:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.01)
        running[0] -= 1
        return make(tokens)

    monkeypatch.setattr(served.engine, "embed", counted)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ask(client, ["the", "mill"]), range(4)))
    assert most == [1]


def test_a_vector_that_takes_too_long_holds_its_model_to_its_end(
    open_client: Callable[..., TestClient], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_client([tiny_model], timeout=0.5)
    service = client.app.state.service  # type: ignore[attr-defined]
    service.registry.open_now(service.registry.source(None))
    [served] = service.registry.in_memory.values()
    held = []

    def slow(tokens: Any) -> torch.Tensor:
        time.sleep(1)
        held.append(service.registry._users["tiny"])
        return torch.zeros(16)

    monkeypatch.setattr(served.engine, "embed", slow)
    answer = client.post("/v1/embeddings", json={"input": ["the", "mill"]})
    assert (answer.status_code, "0.5 seconds" in answer.text) == (408, True)
    assert held == [1]
    assert service.registry._users["tiny"] == 0
