"""Makes pairs of answers, prompt by prompt, skipping pairs that the store has."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from foundling.base.config import ConfigError
from foundling.preferences.checks import check_text
from foundling.preferences.prompts import Prompt
from foundling.preferences.records import SIDES, Answer, Pair, Side, digest
from foundling.preferences.sources import Answering, NoAnswer, Source


@dataclass
class ProducingReport:
    """How many prompts gave a pair so far, and why others did not."""

    num_prompts: int = 0
    num_made: int = 0
    num_known: int = 0  # whose pair the store has
    left_out: Counter[str] = field(default_factory=Counter)  # by reason
    first_of: dict[str, str] = field(default_factory=dict)  # the first message of each reason

    def lines(self) -> list[str]:
        """The report for people."""
        lines = [f"{self.num_prompts:,} prompts: {self.num_made:,} new pairs"]
        if self.num_known:
            lines.append(f"there already: {self.num_known:,}")
        lines += [
            f"left out {count:,}: {reason}, first {self.first_of[reason]}"
            for reason, count in self.left_out.most_common()
        ]
        return lines

    def values(self) -> dict[str, Any]:
        """The report in plain types, for `--json`."""
        return {
            "prompts": self.num_prompts,
            "made": self.num_made,
            "known": self.num_known,
            "left_out": dict(self.left_out),
            "first_of": self.first_of,
        }


class Producer:
    """Both sources answer each prompt under the same settings, each with its own seed.

    The seed of an answer is a function of `seed`, the side and the prompt: the order of prompts
    does not matter, and the same model on both sides answers differently.

    Args:
        known: pairs of the store. One with the same prompt, sources, checkpoints, settings and
            seeds is not made again.
        skip_same: leave out a prompt whose answers are the same but for white space at the ends:
            no person needs to see it.
    """

    def __init__(
        self,
        a: Source,
        b: Source,
        prompts: Sequence[Prompt],
        *,
        settings: Answering | None = None,
        seed: int = 0,
        known: Iterable[Pair] = (),
        skip_same: bool = True,
    ) -> None:
        self._sources: dict[Side, Source] = {"A": a, "B": b}
        self._prompts, self._seed, self._skip_same = prompts, seed, skip_same
        self.settings = settings or Answering()
        # Settings that affected no answer are not recorded.
        self._sampling = self.settings.values() if a.draws or b.draws else {}
        self._known = {_pair_key(pair) for pair in known}
        self.report = ProducingReport(len(prompts))

    def __iter__(self) -> Iterator[Pair]:
        """Make the pairs that are missing, in the order of the prompts.

        A prompt is left out and counted in `report` where a source has no answer, an answer is
        not Unicode, or both answers are the same.

        Raises:
            ConfigError, HttpError: a source fails.
        """
        self.report = ProducingReport(len(self._prompts))
        for prompt in self._prompts:
            if self._key(prompt) in self._known:
                self.report.num_known += 1
                continue
            try:
                a, b = (self._answer(prompt, side) for side in SIDES)
                if self._skip_same and a.text.strip() == b.text.strip():
                    raise NoAnswer("the same answer twice", f"{a.source} and {b.source} agree.")
            except NoAnswer as error:
                self.report.left_out[error.reason] += 1
                self.report.first_of.setdefault(error.reason, f"{prompt.where}: {error}")
                continue
            self.report.num_made += 1
            self._known.add(self._key(prompt))
            yield Pair(prompt.messages, a, b, prompt.where, self._sampling)

    def close(self) -> None:
        for source in {id(source): source for source in self._sources.values()}.values():
            source.close()

    def _answer(self, prompt: Prompt, side: Side) -> Answer:
        seed = self._side_seed(prompt, side)
        answer = self._sources[side].answer(prompt.messages, self.settings, seed or 0)
        try:
            check_text(answer.source, answer.text)
        except ConfigError as error:
            raise NoAnswer("not Unicode", str(error)) from None
        return answer

    def _side_seed(self, prompt: Prompt, side: Side) -> int | None:
        from foundling.base.runtime import derive_seed

        if not self._sources[side].draws:
            return None
        words = digest([[message.role, message.content] for message in prompt.messages])
        # 31 bits: other servers read no more.
        return derive_seed(self._seed, "answer", side, words) % 2**31

    def _key(self, prompt: Prompt) -> str:
        sides = [
            [source.name, source.checkpoint, self._side_seed(prompt, side)]
            for side, source in self._sources.items()
        ]
        words = digest([[message.role, message.content] for message in prompt.messages])
        return digest([words, *sides, self._sampling])


def _pair_key(pair: Pair) -> str:
    sides = [[answer.source, answer.checkpoint, answer.seed] for answer in (pair.a, pair.b)]
    return digest([pair.prompt_digest, *sides, dict(pair.sampling)])
