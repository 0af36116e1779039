"""Real models write what transformers writes of them, and answer in their own format."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from foundling.generation.engine import Engine
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
