"""Nats, bits per byte and loss by position against sums made by hand."""

import math
from pathlib import Path

import pytest
import torch

from foundling import models
from foundling.data.store import TokenStore
from foundling.data.text import validation_batches
from foundling.metrics.perplexity import measure
from foundling.models.batch import IGNORE

CPU = torch.device("cpu")


def test_against_a_loop_over_tokens(village: Path) -> None:
    store = TokenStore.open(village)
    split, tokenizer = store.split("validation"), store.tokenizer()
    model = models.build({"dim": 16}, vocab_size=tokenizer.vocab_size, context=16).eval()
    batches = list(validation_batches(split, context=16, batch_size=5, max_tokens=700))
    result = measure(
        model, batches, token_bytes=torch.from_numpy(tokenizer.token_bytes), device=CPU
    )
    nats, text_nats, spelled, places = 0.0, 0.0, 0, [[] for _ in range(16)]
    with torch.no_grad():
        for batch in batches:
            logits = model.logits(model.hidden(batch.tokens, batch.view))
            for row in range(len(batch)):
                for place, target in enumerate(batch.targets[row].tolist()):
                    if target != IGNORE:
                        loss = -logits[row, place].log_softmax(-1)[target].item()
                        nats += loss
                        places[int(batch.positions[row, place])].append(loss)
                        piece = tokenizer.bytes_of(target)
                        spelled += len(piece)
                        text_nats += loss if piece else 0.0
    assert result.count == sum(map(len, places))
    assert result.loss_nats == pytest.approx(nats / result.count, rel=1e-5)
    assert result.bits_per_byte == pytest.approx(text_nats / math.log(2) / spelled, rel=1e-5)
    assert result.text_bytes == spelled
    means = [sum(losses) / len(losses) for losses in places]
    assert result.by_position == pytest.approx(means, rel=1e-4)


def test_a_uniform_model_needs_log2_vocab_bits_a_token(village: Path) -> None:
    store = TokenStore.open(village)
    model = models.build(
        {"rung": "next_word", "dim": 4}, vocab_size=store.tokenizer().vocab_size, context=16
    )
    torch.nn.init.zeros_(model.unembed.weight)
    batches = validation_batches(
        store.split("validation"), context=16, batch_size=5, max_tokens=None
    )
    result = measure(model, batches, token_bytes=None, device=CPU)
    assert result.loss_nats == pytest.approx(math.log(model.vocab_size), rel=1e-6)
    assert result.bits_per_byte is None
