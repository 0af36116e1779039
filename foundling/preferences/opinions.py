"""What an annotator sees on the page, and the verdicts to choose from."""

from dataclasses import dataclass
from typing import Literal, Protocol

from foundling.text.chat import Conversation

PageVerdict = Literal["left", "right", "tie", "both_bad", "skip"]


@dataclass(frozen=True)
class BlindPair:
    """A pair as the page shows it, without the sources of its answers."""

    prompt: Conversation
    left: str
    right: str


@dataclass(frozen=True)
class Opinion:
    verdict: PageVerdict
    reason: str = ""


class Annotator(Protocol):
    """Compares two answers, or rates each from 1 to 7."""

    def compare(self, shown: BlindPair) -> Opinion: ...

    def rate(self, shown: BlindPair) -> tuple[int, int]:
        """Ratings of the left and the right answer.

        Raises:
            ConfigError: this annotator does not rate.
        """
