"""Tokens that continue prompts, for those who need no text: measures of a model in training."""

from collections.abc import Callable, Collection, Iterator
from collections.abc import Sequence as Many

import torch

from foundling.generation.request import Request, Stream
from foundling.generation.scheduler import Scheduler
from foundling.generation.sequence import Sequence
from foundling.generation.settings import EngineSettings, make_runner
from foundling.models.language_model import LanguageModel


class Continuing:
    """Continues all prompts side by side, as the engine does.

    Args:
        requests: they say how many tokens are made of each, and how they are drawn.
        ends: the tokens that end a continuation.
    """

    def __init__(
        self, model: LanguageModel, requests: Many[Request], ends: Collection[int]
    ) -> None:
        model.eval()
        settings = EngineSettings()
        self._scheduler = Scheduler(
            make_runner(model, settings),
            max_batch=settings.most_at_once(model.device),
            prefill_chunk=settings.prefill_chunk,
            vocab_size=model.vocab_size,
        )
        self._streams = [Stream(request, self) for request in requests]
        for stream in self._streams:
            budget = stream.request.max_tokens
            assert budget
            self._scheduler.add([Sequence(stream, budget, ends, decoder=None)])

    def tokens(self, check: Callable[[], None] = lambda: None) -> Iterator[tuple[int, ...]]:
        """The continuation of each prompt, in their order; `check` is called between steps.

        Raises:
            NotFiniteError: the model computed NaN or infinity.
        """
        for stream in self._streams:
            while stream.finish is None:
                check()
                self.wait_for(stream)
            yield stream.result().tokens

    @torch.inference_mode()
    def wait_for(self, stream: Stream) -> None:
        """Work a step."""
        self._scheduler.step()

    def cancel(self, stream: Stream) -> None:
        """Leave a prompt as it is."""
        stream.cancelled = True
