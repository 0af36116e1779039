"""Scorers with a planted mind, to see whether a probe finds what is there."""

import re
import zlib
from collections.abc import Callable, Sequence
from random import Random

from foundling.evaluation.scorer import Pair, Prompt, Scored, TextScore, Writing


class Planted:
    """Scores by a function of prompt text and continuation, and writes by one of the prompt."""

    fingerprint = "planted"

    def __init__(
        self,
        log_prob: Callable[[str, str], float],
        write: Callable[[str, int], str] = lambda prompt, sample: "",
        *,
        name: str = "planted",
        chats: bool = False,
        max_characters: int | None = None,
    ) -> None:
        self.log_prob, self.write = log_prob, write
        self.name, self.chats, self.max_characters = name, chats, max_characters

    def score(self, pairs: Sequence[Pair]) -> list[Scored | None]:
        return [
            Scored(self.log_prob(text(prompt), after), max(1, len(after.split())), False)
            if fits
            else None
            for (prompt, after), fits in zip(pairs, self.fits(pairs), strict=True)
        ]

    def fits(self, pairs: Sequence[Pair]) -> list[bool]:
        most = self.max_characters
        return [most is None or len(text(prompt)) + len(after) <= most for prompt, after in pairs]

    def token_ends(self, text: str) -> list[int]:
        return [word.end() for word in re.finditer(r"\S+", text)]

    def read(self, text: str) -> TextScore:
        words = list(re.finditer(r"\S+", text))
        nats = [-self.log_prob("", word.group()) for word in words]
        ends = [word.end() for word in words]
        return TextScore(nats, ends, window=len(words), stride=len(words), by_position=nats)

    def generate(self, prompts: Sequence[Prompt], writing: Writing) -> list[list[str] | None]:
        return [
            [self.write(text(prompt), sample) for sample in range(writing.num_samples)]
            for prompt in prompts
        ]


def text(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else prompt.text


def uniform(**options: object) -> Planted:
    """Knows nothing: its log-probabilities are noise, a function of the texts alone."""

    def noise(prompt: str, after: str) -> float:
        return -10 * Random(zlib.crc32(f"{prompt}|{after}".encode())).random()

    return Planted(noise, **options)  # type: ignore[arg-type]


def knowing(truths: Sequence[str], **options: object) -> Planted:
    """Finds what ends in one of the truths likely, and all else unlikely."""

    def likes(prompt: str, after: str) -> float:
        return -1.0 if any((prompt + after).endswith(truth) for truth in truths) else -20.0

    return Planted(likes, **options)  # type: ignore[arg-type]
