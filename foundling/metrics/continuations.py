"""Continuations sampled from a model, as batches on which another model can be compared."""

from collections.abc import Callable, Iterator, Sequence

import torch

from foundling.generation.sampling import RandomStream, Sampling, choose
from foundling.models.batch import IGNORE, TokenBatch
from foundling.models.finite import check_finite
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
    device = next(model.parameters()).device
    model.eval()
    for number, prompt in enumerate(prompts):
        check()
        random = RandomStream(seed, prompt, number)
        room = max_tokens if model.max_context is None else model.max_context - len(prompt)
        tokens, unread = list(prompt), list(prompt)
        state = model.new_state(1, len(prompt) + max_tokens)
        for index in range(min(max_tokens, room)):
            with torch.inference_mode():
                hidden = model.hidden(torch.tensor([unread], device=device), state=state)[:, -1]
                logits = model.logits(hidden)[0].cpu()
            check_finite(logits.amax())
            token = choose(logits, sampling, random.uniform(index))
            tokens.append(token)
            unread = [token]
            if token in ends:
                break
        if len(tokens) > len(prompt):
            row = torch.tensor([tokens])
            targets = row[:, 1:].clone()
            targets[:, : len(prompt) - 1] = IGNORE
            yield TokenBatch(row[:, :-1], targets, torch.arange(len(tokens) - 1)[None])
