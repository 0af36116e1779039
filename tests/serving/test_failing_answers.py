"""Answers that fail while they are written: each interface says so in its own way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from events import named_events
from fastapi.testclient import TestClient
from openai.types.responses import Response
from tiny_models import save_tiny

from foundling.text.tokenizer import Tokenizer

FORM = {"type": "json_schema", "name": "a", "schema": {"type": "string", "pattern": "^ab(cz)$"}}
"""It begins with letters that the vocabulary has, and goes on with one that it lacks."""


@pytest.fixture
def speller(open_client: Callable[..., TestClient], tmp_path: Path) -> TestClient:
    tokenizer = Tokenizer.characters(['abc"{} the cat']).with_roles()
    return open_client([save_tiny(tmp_path / "speller", tokenizer=tokenizer)])


def test_a_response_that_fails_says_so_last(speller: TestClient) -> None:
    body: dict[str, Any] = {"input": "the cat", "text": {"format": FORM}}
    whole = speller.post("/v1/responses", json=body)
    assert whole.status_code == 400
    assert "vocabulary lacks" in whole.json()["error"]["message"]
    found = named_events(speller.post("/v1/responses", json={**body, "stream": True}).text)
    assert found[0]["type"] == "response.created"
    assert found[-1]["type"] == "response.failed"
    assert [one["sequence_number"] for one in found] == list(range(len(found)))
    failed = found[-1]["response"]
    Response.model_validate(failed, strict=True)
    assert failed["id"] == found[0]["response"]["id"]
    assert failed["status"] == "failed"
    assert "vocabulary lacks" in failed["error"]["message"]
    assert failed["output"][0]["content"][0]["text"].startswith('"a')


def test_a_message_that_fails_ends_with_an_error(speller: TestClient) -> None:
    user = {"role": "user", "content": "the cat"}
    body: dict[str, Any] = {"messages": [user], "max_tokens": 20, "output_config": {"format": FORM}}
    assert speller.post("/v1/messages", json=body).status_code == 400
    found = named_events(speller.post("/v1/messages", json={**body, "stream": True}).text)
    assert found[0]["type"] == "message_start"
    assert found[-1]["type"] == "error"
    assert found[-1]["error"]["type"] == "invalid_request_error"
    # The others are served as before.
    again = speller.post("/v1/messages", json={"messages": [user], "max_tokens": 3})
    assert again.status_code == 200
