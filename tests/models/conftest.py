"""What tests beside other libraries share."""

import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture
def quiet_peers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`transformers` and `peft` may warn of themselves; our own warnings stay errors."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings():
        peers = r"(transformers|huggingface_hub|torch\.jit|peft|accelerate)\b"
        warnings.filterwarnings("ignore", module=peers)
        yield
