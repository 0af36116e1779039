"""The file of items: what was asked, answered and judged, a JSON line each."""

from collections.abc import Callable, Iterator
from typing import Any

from foundling.evaluation.findings import Answered, Findings
from foundling.evaluation.scorer import Prompt


def item_rows(
    model: str, probe: str, findings: Findings, shown: Callable[[Prompt], str]
) -> Iterator[dict[str, Any]]:
    """A row of each item that the findings hold.

    Args:
        shown: a prompt as the model reads it, special tokens included.
    """
    for item in findings.items:
        prompts = [shown(prompt) for prompt in item.prompts]
        row = {
            "model": model,
            "probe": probe,
            "set": item.set,
            "id": item.id,
            "prompt": prompts[0] if len(prompts) == 1 else prompts,
        }
        yield (
            row
            | (_choice(item) if item.choices else {"answer": item.answer})
            | {"outcome": item.outcome}
        )


def _choice(item: Answered) -> dict[str, Any]:
    """The alternatives with their log-probabilities in nats, by each way to score."""
    return {
        "choices": list(item.choices),
        "scores": {way: list(scores) for way, scores in item.scores.items()},
        "answer": item.chosen,
        "gold": item.gold,
    }
