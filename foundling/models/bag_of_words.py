"""The running sum of the whole context: it knows every word before, and not their order."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from foundling.base.config import Section
from foundling.models.batch import BatchView


class BagOfWordsSettings(Section):
    """Settings of the `bag_of_words` rung."""

    rung: Literal["bag_of_words"] = "bag_of_words"
    dim: int = Field(256, gt=0)
    last_word: bool = True
    """Show the last word beside the sum. False: the last word, too, is only one of the bag, and
    the model cannot tell which word came last."""
    mlp_dim: int | None = Field(None, gt=0)
    """None: 2 · dim."""
    tied: bool = False

    def resolved(self) -> "BagOfWordsSettings":
        return self.model_copy(update={"mlp_dim": self.mlp_dim or 2 * self.dim})

    def build(self, context: int) -> tuple[nn.Module, int | None]:
        return BagOfWords(**self.resolved().model_dump(exclude={"rung", "tied"})), None


@dataclass
class RunningSum:
    """The sum of all embeddings seen."""

    total: Float[Tensor, "batch 1 dim"] | None = None
    length: int = 0


class BagOfWords(nn.Module):
    """Remembers the sum of all embeddings of the document, given on as their mean."""

    def __init__(self, *, dim: int, mlp_dim: int, last_word: bool) -> None:
        super().__init__()
        self.last_word = last_word
        self.up = nn.Linear(2 * dim if last_word else dim, mlp_dim)
        self.down = nn.Linear(mlp_dim, dim)

    def forward(
        self, x: Float[Tensor, "batch time dim"], view: BatchView, state: RunningSum | None = None
    ) -> Float[Tensor, "batch time dim"]:
        total = x.cumsum(dim=1)
        if state is None:
            # Take away what had been summed when the document began, at time t - position.
            begins = torch.arange(x.shape[1], device=x.device) - view.positions
            before = torch.cat((torch.zeros_like(total[:, :1]), total), dim=1)
            index = begins[..., None].expand_as(x)
            total = total - before.gather(1, index)
        else:
            total = total if state.total is None else total + state.total
            state.total = total[:, -1:]
            state.length += x.shape[1]
        bag = total / (view.positions + 1)[..., None]
        seen = torch.cat((bag, x), dim=-1) if self.last_word else bag
        result: Tensor = (x if self.last_word else bag) + self.down(F.gelu(self.up(seen)))
        return result

    def new_state(self, batch: int, max_time: int) -> RunningSum:
        return RunningSum()
