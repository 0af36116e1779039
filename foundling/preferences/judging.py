"""A language model as a judge, asked about each pair in both orders."""

from dataclasses import dataclass
from typing import Any

from foundling.base.config import ConfigError
from foundling.preferences.client import HttpError
from foundling.preferences.endpoint import Endpoint
from foundling.preferences.opinions import BlindPair, Opinion, PageVerdict
from foundling.text.chat import Conversation, Message

CRITERIA = "Prefer the answer that is true, helpful and polite. Length is no merit."
VERDICTS = ("1", "2", "tie")
_TASK = (
    "You compare two answers to the last message of a conversation. {criteria}\n"
    "Reply with exactly one of these and nothing else: 1 if answer 1 is better, 2 if answer 2 is "
    "better, tie if neither is."
)
_SHOWN = "Conversation:\n{prompt}\n\nAnswer 1:\n{first}\n\nAnswer 2:\n{second}"


@dataclass
class JudgeReport:
    """How consistent the judge is, and how much it favours the answer shown first."""

    num_items: int = 0
    num_consistent: int = 0  # the same verdict in both orders
    num_decided: int = 0  # requests, two an item, that were not a tie
    num_first: int = 0  # of those, won by the answer shown first

    def values(self) -> dict[str, Any]:
        """The report in plain types, for `--json`."""
        return {
            "items": self.num_items,
            "consistent": self.num_consistent,
            "decided": self.num_decided,
            "first_won": self.num_first,
        }

    def lines(self) -> list[str]:
        """The report for people."""
        return [
            f"judge: the same verdict in both orders on {self.num_consistent:,} of "
            f"{self.num_items:,} items; the first answer won {self.num_first:,} of "
            f"{self.num_decided:,} requests without a tie"
        ]


class Judge:
    """A model behind a URL; verdicts that differ between the two orders count as a tie."""

    def __init__(self, endpoint: Endpoint, criteria: str = CRITERIA) -> None:
        self._endpoint, self._criteria = endpoint, criteria
        self.report = JudgeReport()

    def compare(self, shown: BlindPair) -> Opinion:
        """The verdict on a pair, from two requests.

        Raises:
            HttpError: the server fails, or the model says anything but a verdict.
        """
        ahead = self._ask(shown.prompt, shown.left, shown.right)
        behind = self._ask(shown.prompt, shown.right, shown.left)
        sides: tuple[PageVerdict, ...] = (
            {"1": "left", "2": "right"}.get(ahead, "tie"),
            {"1": "right", "2": "left"}.get(behind, "tie"),
        )  # type: ignore[assignment]
        self.report.num_items += 1
        self.report.num_consistent += sides[0] == sides[1]
        self.report.num_decided += (ahead != "tie") + (behind != "tie")
        self.report.num_first += (ahead == "1") + (behind == "1")
        return Opinion(sides[0] if sides[0] == sides[1] else "tie", f"{ahead}, {behind}")

    def rate(self, shown: BlindPair) -> tuple[int, int]:
        raise ConfigError("a judge compares and does not rate; leave --rate out.")

    def _ask(self, prompt: Conversation, first: str, second: str) -> str:
        told = "\n".join(f"{message.role}: {message.content}" for message in prompt)
        content = _SHOWN.format(prompt=told, first=first, second=second)
        messages = [
            Message("system", _TASK.format(criteria=self._criteria)), Message("user", content),
        ]  # fmt: skip
        said = self._endpoint.complete(messages, temperature=0)
        verdict = said.strip().lower().removesuffix(".")
        if verdict not in VERDICTS:
            raise HttpError(
                f"judge {self._endpoint.address}: said {said[:80]!r} where only "
                f"{', '.join(VERDICTS)} is allowed; take a model that follows instructions."
            )
        return verdict
