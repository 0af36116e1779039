"""What a model under training is asked at its validations."""

from typing import Any

import pytest
import torch

from foundling import models
from foundling.generation.engine import Engine
from foundling.stages.samples import sample_request, samples
from foundling.stages.sft import SftConfig
from foundling.text.chat import Message, render_plain, render_prompt
from foundling.text.tokenizer import Tokenizer

TEXT = "the miller asked the baker for the weather: rain in the village, sun on the hill."
TOKENIZER = Tokenizer.train_bytes([TEXT], vocab_size=300)
MARKED = "<|user|>the sun<|assistant|>"


def config(*prompts: str, **data: Any) -> SftConfig:
    validation = {"prompts": prompts, "sample_tokens": 6, "sampling": {"temperature": 0}}
    return SftConfig.parse({"parent": "any", "data": data, "validation": validation})


@pytest.mark.parametrize("special_tokens", ["text", "parse"])
@pytest.mark.parametrize("prompt", [MARKED, f"<|begin_of_text|>{MARKED}", "the sun"])
def test_a_plain_prompt_is_asked_as_rows_are_learned(special_tokens: str, prompt: str) -> None:
    plain = config(prompt, style="plain", special_tokens=special_tokens)
    request = sample_request(prompt, TOKENIZER, plain)
    row = render_plain(prompt, "x", TOKENIZER, parse=special_tokens == "parse")
    assert list(request.prompt) == row.tokens[: row.learned.index(True)]
    spelled = prompt.count("<|") if special_tokens == "parse" else 0
    marks = [token for token in request.prompt if token in TOKENIZER.special_ids]
    assert len(marks) == max(1, spelled + 1 - prompt.startswith("<|begin") * (spelled > 0))


def test_samples_are_what_the_engine_answers_to_each_prompt() -> None:
    torch.manual_seed(5)
    size = {"rung": "transformer", "dim": 16}
    model = models.build(size, vocab_size=TOKENIZER.vocab_size, context=60)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)  # away from uniform
    engine, options = Engine(model, TOKENIZER), {"max_tokens": 6, "temperature": 0}
    prompts = ("the rain", MARKED)
    for style in ("plain", "chat"):
        asked = config(*prompts, style=style)
        expected = [
            prompt if style == "plain" else render_prompt((Message("user", prompt),), TOKENIZER)
            for prompt in prompts
        ]
        assert samples(model, TOKENIZER, asked) == [
            {"prompt": prompt, "text": engine.generate(given, **options)}
            for prompt, given in zip(prompts, expected, strict=True)
        ]
