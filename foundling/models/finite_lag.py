"""A finite window: the embeddings of the last `lag` tokens, through an MLP."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from foundling.base.config import Section
from foundling.models.batch import BatchView


class FiniteLagSettings(Section):
    """Settings of the `finite_lag` rung."""

    rung: Literal["finite_lag"] = "finite_lag"
    dim: int = Field(256, gt=0)
    lag: int = Field(4, gt=0)
    """How many tokens it sees, the last one included."""
    mlp_dim: int | None = Field(None, gt=0)
    """None: 2 · dim."""
    tied: bool = False

    def resolved(self) -> "FiniteLagSettings":
        return self.model_copy(update={"mlp_dim": self.mlp_dim or 2 * self.dim})

    def build(self, context: int) -> tuple[nn.Module, int | None]:
        return FiniteLag(**self.resolved().model_dump(exclude={"rung", "tied"})), None


@dataclass
class Window:
    """The embeddings of the last `lag - 1` tokens, zeros before the first."""

    last: Float[Tensor, "batch lag_less_one dim"] | None = None
    length: int = 0


class FiniteLag(nn.Module):
    """Remembers the last `lag` embeddings, in order.

    Source: Bengio et al. 2003, A Neural Probabilistic Language Model.
    """

    def __init__(self, *, dim: int, lag: int, mlp_dim: int) -> None:
        super().__init__()
        self.lag = lag
        self.up = nn.Linear(lag * dim, mlp_dim)
        self.down = nn.Linear(mlp_dim, dim)

    def forward(
        self, x: Float[Tensor, "batch time dim"], view: BatchView, state: Window | None = None
    ) -> Float[Tensor, "batch time dim"]:
        time = x.shape[1]
        before = x.new_zeros(x.shape[0], self.lag - 1, x.shape[2])
        if state is not None and state.last is not None:
            before = state.last
        extended = torch.cat((before, x), dim=1)
        # A token `back` steps ago counts only if the document had begun by then.
        steps = [
            extended[:, self.lag - 1 - back : self.lag - 1 - back + time]
            * (view.positions >= back)[..., None]
            for back in range(self.lag)
        ]
        if state is not None:
            state.last = extended[:, extended.shape[1] - (self.lag - 1) :]
            state.length += time
        result: Tensor = x + self.down(F.gelu(self.up(torch.cat(steps, dim=-1))))
        return result

    def new_state(self, batch: int, max_time: int) -> Window:
        return Window()
