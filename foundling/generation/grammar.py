"""What a grammar permits at each token."""

from typing import Protocol, runtime_checkable

from jaxtyping import Bool
from torch import Tensor


@runtime_checkable
class Constraint(Protocol):
    """A grammar and where in it a text stands."""

    @property
    def finished(self) -> bool:
        """The text is complete: nothing but its end is permitted."""

    def mask(self) -> Bool[Tensor, " vocab"]:
        """The tokens that may come next."""

    def accept(self, token: int) -> None:
        """Move on by a token."""

    def rollback(self, num_tokens: int) -> None:
        """Go back by so many tokens."""
