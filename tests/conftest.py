"""A small world for the tests: text of the village, prepared once a session."""

import gc
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browsing import CHROMIUM
from hypothesis import settings
from tiny import TINY

from foundling import hamlet
from foundling.base.config import override
from foundling.data.prepare import prepare
from foundling.stages.pretrain import PretrainConfig

settings.register_profile("foundling", deadline=None)  # how long one takes, the machine says
settings.load_profile("foundling")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--real-model",
        action="append",
        default=[],
        metavar="DIR",
        type=Path,
        help="a folder with real weights, or tokenizers in folders of their own; repeatable",
    )
    parser.addoption(
        "--soak",
        type=float,
        default=20,
        metavar="SECONDS",
        help="how long the crowd stays in the soak of the server; 180 before a release",
    )


@pytest.fixture(scope="session")
def real_model(pytestconfig: pytest.Config) -> Callable[[str], Path]:
    """The folder given by --real-model that holds a model of this type; skips without one."""

    def find(model_type: str) -> Path:
        for folder in pytestconfig.getoption("--real-model"):
            config = folder / "config.json"
            if config.is_file() and json.loads(config.read_text())["model_type"] == model_type:
                return Path(folder)
        pytest.skip(f"needs --real-model DIR with a {model_type} model")

    return find


@pytest.fixture(scope="session")
def real_tokenizer(pytestconfig: pytest.Config) -> Callable[[str], Path]:
    """The folder of this name, with a tokenizer, below one given by --real-model."""

    def find(name: str) -> Path:
        for folder in pytestconfig.getoption("--real-model"):
            if (folder / name / "tokenizer.json").is_file():
                return Path(folder / name)
        pytest.skip(f"needs --real-model DIR that holds {name}/tokenizer.json")

    return find


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what the imports left: a million objects that stay."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What the library logs while the test runs."""
    logger, handler = logging.getLogger("foundling"), _Lines()
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler.lines
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def _cached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is measured of this machine out of the user's cache; compiled kernels stay there.

    They are named by all that they depend on, and take seconds to compile.
    """
    kernels = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "foundling/kernels")
    kernels.mkdir(parents=True, exist_ok=True)
    cache = tmp_path_factory.mktemp("cache")
    (cache / "foundling").mkdir()
    (cache / "foundling" / "kernels").symlink_to(kernels, target_is_directory=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        yield


@pytest.fixture(scope="session")
def village(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token store of a few hundred documents."""
    folder = tmp_path_factory.mktemp("village")
    hamlet.write_corpus(folder / "village.jsonl", 200_000, seed=1)
    prepare(
        [folder / "village.jsonl"],
        folder / "store",
        vocab_size=400,
        validation_fraction=0.1,
    )
    return folder / "store"


@pytest.fixture(scope="session")
def tiny(village: Path) -> Callable[..., PretrainConfig]:
    """Settings of a run of a second; keyword-less `section.key=value` overrides."""

    def make(*assignments: str) -> PretrainConfig:
        return PretrainConfig.parse(override({**TINY, "data": str(village)}, assignments))

    return make


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """A bucket of S3 by its URL, served on this machine."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    access = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in access.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="foundling")
        yield "s3://foundling"
    server.stop()
