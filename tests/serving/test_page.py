"""The files of the chat page, and what a browser may do with them."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from foundling.serving.page import ASSETS
from foundling.stages.pretrain import PretrainConfig, pretrain


def test_the_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    found = re.findall(r'(?:href|src)="([^"]+)"', page.text)
    assert {"/assets/chat.js", "/assets/look/look.css"} <= set(found)
    for path in ("/", *found, *(f"/assets/{path.name}" for path in ASSETS.iterdir())):
        answer = client.get(path)
        assert answer.status_code == 200, path
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self';" in policy
        assert "unsafe" not in policy
        assert "https://" not in answer.text
    assert client.get("/assets/../page.py").status_code == 404


def test_the_page_opens_without_a_key_and_asks_with_one(
    open_client: Callable[..., TestClient], tiny_model: Path
) -> None:
    client = open_client([tiny_model], keys=["secret"])
    assert client.get("/").status_code == 200
    assert client.get("/assets/look/look.css").status_code == 200
    assert client.get("/page/server").status_code == 401
    assert client.post("/page/markdown", json={"text": "a"}).status_code == 401
    key = {"Authorization": "Bearer secret"}
    assert client.get("/page/server", headers=key).json() == {
        "models": [{"id": "tiny", "chat": True, "context": 64}], "votes": False,
    }  # fmt: skip


def test_a_run_that_was_only_pretrained_continues_texts(
    open_client: Callable[..., TestClient],
    tiny: Callable[..., PretrainConfig],
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    run = pretrain(tiny("training.steps=1", "validation.every=1"), tmp_path / "base").folder
    client = open_client([tiny_model, run])
    models = client.get("/page/server").json()["models"]
    assert {model["id"]: model["chat"] for model in models} == {"tiny": True, "base": False}


def test_markdown_is_rendered_safely(client: TestClient) -> None:
    answer = client.post("/page/markdown", json={"text": "**a** <script>evil()</script>"})
    assert "<strong>a</strong>" in answer.json()["html"]
    assert "<script" not in answer.json()["html"]


@pytest.mark.parametrize("text", [None, 3, ["a"]])
def test_what_is_no_text_is_refused(client: TestClient, text: object) -> None:
    assert client.post("/page/markdown", json={"text": text}).status_code == 400


def test_votes_need_a_database(client: TestClient) -> None:
    body = {
        "annotator": "ann",
        "prompt": [{"role": "user", "content": "?"}],
        "answers": [{"model": "a", "text": "x"}, {"model": "b", "text": "y"}],
        "verdict": "first",
    }
    answer = client.post("/page/votes", json=body)
    assert answer.status_code == 404
    assert "--votes" in answer.json()["error"]["message"]
