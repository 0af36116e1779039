"""The verb evaluate in tests, and probes that ask little."""

import json
from typing import Any

from foundling.cli import app, exit_code
from foundling.evaluation.findings import Findings, Metric
from foundling.evaluation.probes import Setting
from foundling.evaluation.scorer import Scorer


def verb(*arguments: object) -> int:
    words = ["evaluate", *map(str, arguments), "--device", "cpu"]
    return exit_code(lambda: app(words))


def last_line(text: str) -> Any:
    return json.loads(text.strip().splitlines()[-1])


class Asking:
    """Two questions; each answer is an outcome."""

    name, title, about = "asking", "Asking", "How likely two words are."
    words = (" mill", " pond")

    def run(self, scorer: Scorer, setting: Setting) -> Findings:
        found = scorer.score([("The", word) for word in self.words])
        outcomes = {word: one.log_prob for word, one in zip(self.words, found, strict=True) if one}
        return Findings([Metric(f"{self.name}.nats", "Nats", outcomes, unit="number")])


class Interrupting(Asking):
    """Somebody ends it while it runs."""

    name, title = "interrupting", "Interrupting"
    words = (" mill", " duck")

    def run(self, scorer: Scorer, setting: Setting) -> Findings:
        super().run(scorer, setting)
        raise KeyboardInterrupt


class Watching:
    """How many requests each model and probe had."""

    def __init__(self) -> None:
        self.asked: dict[str, int] = {}

    def __call__(self, what: str, asked: int, answered: int) -> None:
        self.asked[what] = self.asked.get(what, 0) + asked
