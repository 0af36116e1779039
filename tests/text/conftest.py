"""Tokenizers with chat templates of others."""

import pytest
from chat_templates import FAMILIES, write
from conversed import Pair
from transformers import PreTrainedTokenizerFast

from foundling.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """Each tokenizer as we and as transformers read it."""
    made = {}
    for name, family in FAMILIES.items():
        folder = write(tmp_path_factory.mktemp(name), family, as_file=name != "dated")
        made[name] = (Tokenizer.load(folder), PreTrainedTokenizerFast.from_pretrained(folder))
    return made
