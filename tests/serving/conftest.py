"""A tiny model that is served, and clients of it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from chat_templates import write
from fastapi.testclient import TestClient
from tiny_models import save_tiny
from tool_templates import TOOLS

from foundling.generation.engine import Engine
from foundling.serving.app import create_app
from foundling.serving.opening import opener
from foundling.serving.registry import Registry, find_sources
from foundling.serving.settings import ServingSettings
from foundling.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def long_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose texts take a while."""
    return save_tiny(tmp_path_factory.mktemp("models") / "long", seed=6, context=8192)


@pytest.fixture(scope="session")
def calling_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models whose templates take tools, and one that thinks, by the forms of their calls."""
    folder = tmp_path_factory.mktemp("calling")
    return {
        name: save_tiny(
            folder / name,
            context=1024,
            tokenizer=Tokenizer.load(write(folder / f"{name}-tokenizer", TOOLS[name])),
        )
        for name in ("tagged", "thinking", "listed", "bare")
    }


@pytest.fixture
def open_client() -> Iterator[Callable[..., TestClient]]:
    """Opens a client of a server of these models."""
    opened: list[TestClient] = []

    def open_one(
        folders: Sequence[Path], *, keys: Sequence[str] = (), **settings: Any
    ) -> TestClient:
        parsed = ServingSettings.parse({"device": "cpu", **settings})
        sources = find_sources([str(folder) for folder in folders], template=parsed.template)
        registry = Registry(sources, opener(parsed), parsed.max_loaded)
        app = create_app(registry, parsed, keys=keys)
        client = TestClient(app, "http://localhost", raise_server_exceptions=False)
        opened.append(client.__enter__())
        return client

    yield open_one
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(open_client: Callable[..., TestClient], tiny_model: Path) -> TestClient:
    return open_client([tiny_model])


@pytest.fixture
def engine(tiny_model: Path) -> Engine:
    """The served model, without a server."""
    from foundling.runs.run import load_model

    return Engine(*load_model(tiny_model))
