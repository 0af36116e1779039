"""What reads tokens and gives logits: a batch of spans, each the next tokens of a sequence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from foundling.models.language_model import LanguageModel, State


@dataclass(frozen=True)
class Span:
    """The next tokens of one sequence: one that was drawn, a piece of a prompt, or a draft.

    Args:
        sequence: the sequence's number, under which a runner may keep what it remembers.
        tokens: what is read, at least one token.
        start: the position of the first; all before it were read.
        num_logits: how many of the last tokens' logits are wanted.
        blocks: where the keys and values of the sequence lie, those of `tokens` included: position
            p is in block `blocks[p // block_size]`, at `p % block_size`. Empty for runners without
            blocks.
        room: the most tokens that the sequence may come to have.
    """

    sequence: int
    tokens: Sequence[int]
    start: int
    num_logits: int
    blocks: Sequence[int] = ()
    room: int = 0


@runtime_checkable
class Runner(Protocol):
    """Reads spans of many sequences at once.

    `num_blocks` blocks of `block_size` tokens hold keys and values, whose numbers the scheduler
    gives out; None: the runner keeps a state for each sequence. `can_rewind`: a span may start
    before the end of what was read, and so take back the tokens of a draft.
    """

    num_blocks: int | None
    block_size: int
    can_rewind: bool

    def forward(self, spans: Sequence[Span]) -> Float[Tensor, "rows vocab"]:
        """The logits that the spans want, in their order, on the CPU in fp32."""

    def forget(self, sequence: int) -> None:
        """Nothing more of this sequence is read."""


class StateRunner:
    """Each sequence by itself, with the rung's own state.

    So a sequence's logits do not depend on the others, whatever the rung.
    """

    num_blocks: int | None = None
    block_size = 0
    can_rewind = False

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._device = model.device
        self._states = dict[int, State]()

    @torch.inference_mode()
    def forward(self, spans: Sequence[Span]) -> Float[Tensor, "rows vocab"]:
        rows = []
        for span in spans:
            if span.start == 0:
                self._states[span.sequence] = self._model.new_state(1, span.room)
            state = self._states[span.sequence]
            assert state.length == span.start, "a state goes on where it ended"
            tokens = torch.tensor([span.tokens], device=self._device)
            hidden = self._model.hidden(tokens, state=state)
            if span.num_logits:
                rows.append(self._model.logits(hidden[0, -span.num_logits :]).float().cpu())
        if len(rows) == 1:  # without a copy
            return rows[0]
        return torch.cat(rows) if rows else torch.empty(0, self._model.vocab_size)

    def forget(self, sequence: int) -> None:
        self._states.pop(sequence, None)
