"""Attention over long rows on a GPU: one kernel for documents, branches and windows."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import (
    BlockMask,
    and_masks,
    create_block_mask,
    flex_attention,
)

from foundling.models.attending import Parts

Rule = Callable[..., Tensor]
"""Of batch, head, query and key."""


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function)


@dataclass(frozen=True)
class BlockSparse(Parts):
    """Who may attend to whom as a rule of two places, asked in blocks of 128 × 128.

    Blocks that nobody sees are left out, and no mask of time × time is held. On a CPU it has no
    backward pass. Source: Dong et al. 2024, Flex Attention.
    """

    def __post_init__(self) -> None:
        assert self.block_mask is not None  # made here, outside of what is compiled

    def rules(self) -> list[Rule]:
        """Whether a query sees a key, by their places: it does where all rules say so."""
        # No functions with types: the kernel takes its rules apart, a checker of types included.
        rules: list[Rule] = [lambda batch, head, query, key: key <= query]
        if (documents := self.view.documents) is not None:
            rules.append(lambda b, head, query, key: documents[b, query] == documents[b, key])
        if (until := self.view.seen_until) is not None:
            rules.append(lambda b, head, query, key: until[b, key] > query)
        if (window := self.window) is not None:
            # Along the branch: in one without others, places differ as positions do.
            at = self.view.positions
            rules.append(lambda b, head, query, key: at[b, key] > at[b, query] - window)
        return rules

    @cached_property
    def block_mask(self) -> BlockMask:
        batch, time = self.view.positions.shape
        device = self.view.positions.device
        make: Callable[..., Any] = create_block_mask
        if device.type == "cuda":
            make = _compiled(make)
        made = make(and_masks(*self.rules()), batch, None, time, time, device=device.type)
        return cast(BlockMask, made)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float | None,
        softcap: float | None,
    ) -> Tensor:
        capped: Rule | None = None
        if softcap is not None:
            capped = lambda score, *places: softcap * (score / softcap).tanh()  # noqa: E731
        run: Any = _compiled(flex_attention) if query.is_cuda else flex_attention
        mixed = run(
            query, key, value,
            score_mod=capped,
            block_mask=self.block_mask,
            scale=scale,
        )  # fmt: skip
        return cast(Tensor, mixed)
