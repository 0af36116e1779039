"""The lowest rung: embedding → linear → softmax, which knows the last token alone."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from foundling.base.config import Section
from foundling.models.batch import BatchView


class NextWordSettings(Section):
    """Settings of the `next_word` rung."""

    rung: Literal["next_word"] = "next_word"
    dim: int = Field(256, gt=0)
    tied: bool = False

    def resolved(self) -> "NextWordSettings":
        return self

    def build(self, context: int) -> tuple[nn.Module, int | None]:
        return NextWord(), None


@dataclass
class Nothing:
    """What `next_word` remembers: only how far it has come."""

    length: int = 0


class NextWord(nn.Module):
    """Remembers nothing: the embedding of the last token is all there is."""

    def forward(
        self, x: Float[Tensor, "batch time dim"], view: BatchView, state: Nothing | None = None
    ) -> Float[Tensor, "batch time dim"]:
        if state is not None:
            state.length += x.shape[1]
        return x

    def new_state(self, batch: int, max_time: int) -> Nothing:
        return Nothing()
