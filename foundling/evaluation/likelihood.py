"""How likely continuations are: every prompt that begins alike is read once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from foundling.base.config import ConfigError
from foundling.base.precision import autocast
from foundling.evaluation.prefix_tree import PrefixTree
from foundling.models.batch import BatchView
from foundling.models.finite import check_finite
from foundling.models.language_model import LanguageModel

TokenPair = tuple[Sequence[int], Sequence[int]]
"""The tokens of a prompt and of its continuation."""
Ints = npt.NDArray[np.int64]

# Tokens of one forward pass. Measured on 2 cores with a model of 30M weights: see docs/results.md.
CPU_TOKENS, GPU_TOKENS = 512, 8192
LOGITS = 2**24
"""The most logits that are held at a time."""


@dataclass(frozen=True)
class Likelihood:
    """The nats of a continuation, summed, and whether each of its tokens was the likeliest."""

    nats: float
    is_greedy: bool


def likelihoods(
    model: LanguageModel, pairs: Sequence[TokenPair], *, precision: torch.dtype = torch.float32
) -> list[Likelihood]:
    """Score each continuation given its prompt.

    Where the context module knows branches, the pairs are one tree of prefixes and each of its
    tokens is read once, behind the keys and values of what comes before it; other models read
    each different text as a row.

    Raises:
        ConfigError: a prompt or a continuation is empty, a pair is longer than the context, or the
            model's logits are not finite.
    """
    if not all(prompt and continuation for prompt, continuation in pairs):
        raise ConfigError("a prompt or its continuation has no token.")
    read = [(*prompt, *continuation[:-1]) for prompt, continuation in pairs]
    longest = max(map(len, read), default=0)
    if model.max_context is not None and longest > model.max_context:
        raise ConfigError(
            f"a prompt has {longest:,} tokens with its continuation and the model reads at most "
            f"{model.max_context:,}: take fewer examples."
        )
    if not pairs:
        return []
    model.eval()
    texts = sorted(set(read))
    number = {text: index for index, text in enumerate(texts)}
    counts = np.array([len(continuation) for _, continuation in pairs])
    # One target for each token of a continuation: where it is predicted, what it is, whose it is.
    owners = np.repeat(np.arange(len(pairs)), counts)
    targets = np.fromiter((t for _, continuation in pairs for t in continuation), np.int64)
    rows = np.array([number[text] for text in read])[owners]
    begins = np.array([len(prompt) - 1 for prompt, _ in pairs])
    within = np.arange(len(targets)) - np.repeat(np.cumsum(counts) - counts, counts)
    wanted = _Targets(rows, begins[owners] + within, targets)
    nats, greedy = np.zeros(len(targets)), np.zeros(len(targets), dtype=bool)
    read_all = _by_tree if model.supports_tree_mask else _by_row
    for asked, hidden in read_all(model, texts, wanted, precision):
        nats[asked], greedy[asked] = look_up(model, hidden, targets[asked])
    sums = np.bincount(owners, weights=nats, minlength=len(pairs))
    misses = np.bincount(owners, weights=~greedy, minlength=len(pairs))
    return [Likelihood(float(s), not m) for s, m in zip(sums, misses, strict=True)]


@dataclass(frozen=True)
class _Targets:
    """All that is to be predicted: from which index of which text, which token."""

    rows: Ints
    indices: Ints
    targets: Ints


Answers = Iterator[tuple[Ints, Float[Tensor, "targets dim"]]]
"""Numbers of targets, and the hidden vector that predicts each."""


@torch.inference_mode()
def _by_tree(
    model: LanguageModel, texts: Sequence[tuple[int, ...]], wanted: _Targets, precision: torch.dtype
) -> Answers:
    device = model.unembed.weight.device
    most = CPU_TOKENS if device.type == "cpu" else GPU_TOKENS
    tree = PrefixTree(texts)
    nodes = tree.nodes_of(wanted.rows, wanted.indices)
    order = np.argsort(nodes, kind="stable")
    sorted_nodes = nodes[order]
    state = model.new_state(1, int(tree.depth.max()) + 1 + most)
    for start, stop in tree.passes(most):
        first, last = np.searchsorted(sorted_nodes, (start, stop))
        part = slice(start, stop)
        view = BatchView(
            torch.from_numpy(tree.depth[part])[None].to(device),
            seen_until=torch.from_numpy(np.minimum(tree.until[part], stop) - start)[None].to(
                device
            ),
        )
        tokens = torch.from_numpy(tree.tokens[part])[None].to(device)
        state.length = int(tree.depth[start])  # what was read behind it is another branch's
        with autocast(device, precision):
            hidden = model.hidden(tokens, view, state)[0]
        asked = order[first:last]
        if len(asked):
            yield asked, hidden[torch.from_numpy(nodes[asked] - start).to(device)]


@torch.inference_mode()
def _by_row(
    model: LanguageModel, texts: Sequence[tuple[int, ...]], wanted: _Targets, precision: torch.dtype
) -> Answers:
    """Rows are padded on the right, which nothing before it sees."""
    device = model.unembed.weight.device
    most = CPU_TOKENS if device.type == "cpu" else GPU_TOKENS
    order = np.argsort(wanted.rows, kind="stable")
    by_row = np.split(order, np.searchsorted(wanted.rows[order], np.arange(1, len(texts))))
    queue = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    while queue:
        count = 1
        while count < len(queue) and len(texts[queue[count]]) * (count + 1) <= 8 * most:
            count += 1
        batch, queue = queue[:count], queue[count:]
        tokens = torch.zeros(count, len(texts[batch[-1]]), dtype=torch.int64)
        for index, number in enumerate(batch):
            tokens[index, : len(texts[number])] = torch.tensor(texts[number])
        with autocast(device, precision):
            hidden = model.hidden(tokens.to(device))
        asked = np.concatenate([by_row[number] for number in batch])
        rows = np.repeat(np.arange(count), [len(by_row[number]) for number in batch])
        yield asked, hidden[torch.from_numpy(rows), torch.from_numpy(wanted.indices[asked])]


@torch.inference_mode()
def look_up(
    model: LanguageModel, hidden: Float[Tensor, "targets dim"], targets: Ints
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """The log-probability of each target in nats, and whether it is the likeliest token.

    Raises:
        ConfigError: the logits are not finite.
    """
    nats, greedy = [], []
    at_once = max(1, LOGITS // model.vocab_size)
    for start in range(0, len(targets), at_once):
        wanted = torch.from_numpy(targets[start : start + at_once]).to(hidden.device)[:, None]
        part = hidden[start : start + at_once].to(model.unembed.weight.dtype)
        logits = model.logits(part)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        chosen = logits.gather(1, wanted)[:, 0]
        log_probs = chosen - logits.logsumexp(1)
        check_finite(log_probs)
        nats.append(log_probs.double().cpu().numpy())
        greedy.append((chosen == logits.amax(1)).cpu().numpy())
    return np.concatenate(nats), np.concatenate(greedy)
