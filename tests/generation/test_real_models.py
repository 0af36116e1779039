"""Real models write what transformers writes of them, and answer in their own format."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from foundling.generation.engine import Engine
from foundling.generation.request import Request
from foundling.generation.sampling import Sampling
from foundling.generation.settings import EngineSettings
from foundling.runs.run import load_model

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "Water boils at",
    "def fibonacci(n):",
    "The three laws of motion are",
    "1, 1, 2, 3, 5, 8,",
    "To make bread, first",
    "Dear Sir or Madam,",
    "The Roman Empire fell because",
    "import numpy as np\n",
    "Q: What is the largest planet?\nA:",
    "Das Wetter ist heute",
    "In 1969, Neil Armstrong",
    "# A list of fruits\n-",
    "The difference between a virus and a bacterium is",
    "She opened the door and",
    "Photosynthesis is the process by which",
    "SELECT name FROM",
    "Il était une fois",
    "My favourite colour is",
]
NUM_TOKENS = 100


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["llama", "gemma3_text"])
def test_greedy_text_is_that_of_transformers(
    real_model: Callable[[str], Path], model_type: str
) -> None:
    folder = real_model(model_type)
    model, tokenizer = load_model(str(folder))
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    encoder = AutoTokenizer.from_pretrained(folder)
    engine = Engine(model, tokenizer)
    for prompt in PROMPTS:
        asked = encoder(prompt)["input_ids"]
        chunks = engine.stream(prompt, max_tokens=NUM_TOKENS, temperature=0)
        written = [token for chunk in chunks for token in chunk.tokens]
        assert len(written) == NUM_TOKENS or written[-1] in tokenizer.stop_ids, prompt
        # Greedy decoding writes these tokens exactly if each is the arg max behind those before
        # it, which one forward pass shows; `generate` would take a pass a token.
        with torch.inference_mode():
            logits = theirs(torch.tensor([asked + written])).logits[0, len(asked) - 1 : -1]
        assert logits.argmax(-1).tolist() == written, prompt


@pytest.mark.real
def test_an_instructed_model_is_asked_in_its_own_format(
    real_model: Callable[[str], Path],
) -> None:
    model, tokenizer = load_model(str(real_model("llama")))
    answer = Engine(model, tokenizer).chat(
        "What is the capital of France?", max_tokens=30, temperature=0
    )
    assert "Paris" in answer
    assert "<|im_end|>" not in answer


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("quantize", ["none", "int8"])
@pytest.mark.parametrize("model_type", ["llama", "gemma3_text"])
def test_a_real_model_says_the_same_alone_and_in_a_crowd_warm_and_cold(
    real_model: Callable[[str], Path], model_type: str, quantize: Literal["none", "int8"]
) -> None:
    """Sixteen mixed requests; their log-probabilities too are the same, bit by bit."""
    model, tokenizer = load_model(str(real_model(model_type)))
    stem = tokenizer.encode("The mill by the river was built in the year of the flood. " * 8)
    wanted = [
        Request(
            (*stem[: 11 * number * (number % 2)], *tokenizer.encode(PROMPTS[number])),
            4 + number % 8,
            Sampling(
                temperature=(0.0, 0.7, 1.5)[number % 3],
                top_p=(None, 0.9)[number % 2],
                frequency_penalty=(0.0, 0.4)[number // 8],
                seed=number,
            ),
            logprobs=2,
            ignore_end=True,
        )
        for number in range(16)
    ]
    settings = EngineSettings(quantize=quantize, prefix_cache=False)
    lonely = Engine(model, tokenizer, settings)
    alone = [lonely.run([request])[0] for request in wanted]
    crowded = Engine(
        model, tokenizer, EngineSettings(quantize=quantize, prefill_chunk=96, lookup=True)
    )
    cached = []
    for _ in range(2):  # cold, and warm
        together = crowded.run(wanted)
        assert [replace(one, cached_tokens=0) for one in together] == alone
        cached.append(sum(one.cached_tokens for one in together))
    assert 0 < cached[0] < cached[1]
    assert crowded.stats()["blocks_held"] == 0
