"""Folders that hold an adapter alone."""

import json
from pathlib import Path

import pytest

from foundling import models
from foundling.base.config import ConfigError
from foundling.models import interchange
from foundling.runs import model_folder


def test_the_ids_of_an_adapters_base_are_found_without_reading_its_weights(tmp_path: Path) -> None:
    model = models.build({"dim": 16, "num_heads": 2}, vocab_size=19, context=8)
    interchange.save(model, tmp_path / "base", {"bos_token_id": 1, "eos_token_id": [2, 3]})
    named = model_folder.fingerprint(tmp_path / "base")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    facts = {"base": "../base", "base_fingerprint": named}
    (adapter / "adapter.json").write_text(json.dumps(facts))
    assert model_folder.base_of(adapter) == tmp_path / "base"
    (tmp_path / "base" / "model.safetensors").write_bytes(b"damaged")
    expected = {"bos_token_id": 1, "eos_token_id": [2, 3]}
    assert model_folder.token_ids(adapter) == expected
    with pytest.raises(ConfigError, match="is not the model that it stands on"):
        model_folder.base_of(adapter)
