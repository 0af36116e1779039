"""Continuations sampled from a model, as batches on which another model can be compared."""

from collections.abc import Callable, Iterator, Sequence

import torch

from foundling.generation.continuing import Continuing
from foundling.generation.request import Request
from foundling.generation.sampling import Sampling
from foundling.models.batch import IGNORE, TokenBatch
from foundling.models.language_model import LanguageModel

AS_IT_IS = Sampling(temperature=1.0)


def sampled_continuations(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    ends: frozenset[int],
    seed: int,
    sampling: Sampling = AS_IT_IS,
    check: Callable[[], None] = lambda: None,
) -> Iterator[TokenBatch]:
    """One row for each prompt: it and the model's continuation, whose tokens are the targets.

    Drawn, unless `sampling` says otherwise, from the model's own distribution, each continuation
    from `seed` and its number alone. It ends with a token of `ends`, at `max_tokens`, or where the
    model can read no more. A prompt that fills the context has none and is left out.
    """
    bound = model.max_context
    requests = []
    for number, prompt in enumerate(prompts):
        room = max_tokens if bound is None else min(max_tokens, bound - len(prompt))
        if room > 0:
            how = sampling.changed({"seed": seed})
            requests.append(Request(tuple(prompt), room, how, sample=number))
    written = Continuing(model, requests, ends).tokens(check)
    for request, made in zip(requests, written, strict=True):
        row = torch.tensor([[*request.prompt, *made]])
        targets = row[:, 1:].clone()
        targets[:, : len(request.prompt) - 1] = IGNORE
        yield TokenBatch(row[:, :-1], targets, torch.arange(row.shape[1] - 1)[None])
