"""Many texts at a time: prompts of like lengths are read and continued side by side."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from foundling.generation.engine import StopStrings
from foundling.generation.sampling import Sampling, choose
from foundling.models.language_model import LanguageModel
from foundling.text.stream_decoder import StreamDecoder
from foundling.text.tokenizer import Tokenizer

CPU_ROWS, GPU_ROWS = 32, 256


@dataclass(frozen=True)
class Request:
    """The tokens of a prompt; `continues`: what is written continues its text."""

    tokens: tuple[int, ...]
    continues: bool = False


@dataclass
class _Row:
    """A sample while it is written."""

    prompt: tuple[int, ...]
    decoder: StreamDecoder
    held: StopStrings
    generator: torch.Generator
    text: str = ""
    done: bool = False


def write_all(
    model: LanguageModel,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    *,
    num_samples: int,
    max_tokens: int,
    sampling: Sampling,
    stop: Sequence[str] = (),
) -> list[list[str]]:
    """`num_samples` continuations of each prompt, of at most `max_tokens` tokens.

    Sample `i` of a prompt is a function of its tokens, the sampling's seed and `i`, whatever is
    written beside it. At temperature 0 all samples of a prompt are one.

    Raises:
        AssertionError: a prompt is empty, or leaves no room for so many tokens.
    """
    bound = model.max_context
    assert all(request.tokens for request in requests)
    assert bound is None or all(len(r.tokens) + max_tokens <= bound + 1 for r in requests)
    different = 1 if sampling.temperature == 0 else num_samples
    jobs = [(number, sample) for number in range(len(requests)) for sample in range(different)]
    jobs.sort(key=lambda job: len(requests[job[0]].tokens))
    written: list[list[str]] = [[""] * different for _ in requests]
    most = CPU_ROWS if model.unembed.weight.device.type == "cpu" else GPU_ROWS
    while jobs:
        # The rest of a longer prompt is read while the shorter ones are being continued.
        longest = len(requests[jobs[0][0]].tokens) + max_tokens
        count = 1
        while count < min(most, len(jobs)) and len(requests[jobs[count][0]].tokens) <= longest:
            count += 1
        some, jobs = jobs[:count], jobs[count:]
        rows = [
            _Row(
                requests[number].tokens,
                StreamDecoder(tokenizer, continues=requests[number].continues),
                StopStrings(list(stop)),
                torch.Generator().manual_seed(_seed(requests[number].tokens, sampling, sample)),
            )
            for number, sample in some
        ]
        _write(model, tokenizer, rows, max_tokens, sampling)
        for (number, sample), row in zip(some, rows, strict=True):
            written[number][sample] = row.text
    return [texts * num_samples if different < num_samples else texts for texts in written]


@torch.inference_mode()
def _write(
    model: LanguageModel,
    tokenizer: Tokenizer,
    rows: Sequence[_Row],
    max_tokens: int,
    sampling: Sampling,
) -> None:
    """All rows step by step until the last one is done; what follows a row's end is not kept.

    First what all prompts have, up to the length of the shortest, is read at once. From there on a
    row takes one token a step: the next one of its prompt, or, where that has ended, a new one.
    """
    device = model.unembed.weight.device
    lengths = [len(row.prompt) for row in rows]
    read = min(lengths)
    state = model.eval().new_state(len(rows), max(lengths) + max_tokens)
    unread = torch.tensor([row.prompt[:read] for row in rows])
    for length in range(read, max(lengths) + max_tokens):
        hidden = model.hidden(unread.to(device), state=state)[:, -1]
        logits = model.logits(hidden).cpu()[:, : tokenizer.vocab_size]
        tokens = _next(logits, rows, length, sampling)
        for row, token in zip(rows, tokens, strict=True):
            if length >= len(row.prompt) and not row.done:
                is_last = length + 1 == len(row.prompt) + max_tokens
                _push(row, token, tokenizer, is_last=is_last)
        if all(row.done for row in rows):
            return
        unread = torch.tensor(tokens)[:, None]


def _next(logits: torch.Tensor, rows: Sequence[_Row], length: int, sampling: Sampling) -> list[int]:
    """The token at place `length` of each row: of its prompt, or chosen.

    A row draws only for itself, and only once its prompt is read.
    """
    is_greedy = sampling.temperature == 0
    greedy = choose(logits, sampling, rows[0].generator).tolist() if is_greedy else None
    tokens = []
    for number, row in enumerate(rows):
        if length < len(row.prompt):
            tokens.append(row.prompt[length])
        elif greedy is not None:
            tokens.append(greedy[number])
        else:
            tokens.append(int(choose(logits[number, None], sampling, row.generator)))
    return tokens


def _push(row: _Row, token: int, tokenizer: Tokenizer, *, is_last: bool) -> None:
    ends = token in tokenizer.stop_ids
    text = "" if ends else row.decoder.push(token)
    if ends or is_last:
        text += row.decoder.flush()
    row.text += row.held.push(text)
    row.done = ends or is_last or row.held.found
    if row.done and not row.held.found:
        row.text += row.held.flush()


def _seed(tokens: Sequence[int], sampling: Sampling, sample: int) -> int:
    content = np.array([sampling.seed, sample, *tokens], dtype=np.int64).tobytes()
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "little") >> 1
