"""TruthfulQA's questions: one best answer, other true ones, and false ones that many believe."""

from dataclasses import dataclass
from pathlib import Path

from foundling.base.config import ConfigError
from foundling.evaluation.choices import Choice
from foundling.evaluation.columns import read_columns, text_in
from foundling.evaluation.scorer import Question
from foundling.evaluation.tasks import key_of

COLUMNS = ("Question", "Best Answer", "Correct Answers", "Incorrect Answers")


@dataclass(frozen=True)
class Truthful:
    """A question with its answers, each once and with a full stop; the best is among `true`."""

    id: str
    question: str
    best: str
    true: tuple[str, ...]
    false: tuple[str, ...]

    def choice(self) -> Choice:
        """The best answer against all false ones, as MC1 asks."""
        prompt = Question(self.question)
        pairs = tuple((prompt, answer) for answer in (self.best, *self.false))
        return Choice(self.id, pairs, gold=0, group=key_of(self.question)).in_drawn_order()

    def masses(self) -> Choice:
        """All true answers, then all false ones, as MC2 asks; the gold is the best one."""
        prompt = Question(self.question)
        answers = (*self.true, *self.false)
        pairs = tuple((prompt, answer) for answer in answers)
        gold = self.true.index(self.best)
        return Choice(f"{self.id}/all", pairs, gold, group=key_of(self.question))


def read_truthful_qa(path: Path) -> tuple[list[Truthful], int]:
    """The questions of a file with the columns of TruthfulQA.csv, and on how many of them an
    answer stands among the true and the false ones, where it counts as true.

    Source: Lin et al. 2022, TruthfulQA: Measuring How Models Mimic Human Falsehoods.

    Raises:
        ConfigError: a column is not there, or a question has no true or no false answer.
    """
    items, both = [], 0
    for number, (where, row) in enumerate(read_columns(path, COLUMNS), 1):
        best = sentence(text_in(where, row, "Best Answer"))
        true = _answers(text_in(where, row, "Correct Answers"))
        listed = _answers(text_in(where, row, "Incorrect Answers"))
        true = true if best in true else (best, *true)
        false = tuple(answer for answer in listed if answer not in true)
        if not false:
            raise ConfigError(f'{where}: "Incorrect Answers" has none that is not a correct one.')
        both += len(false) < len(listed)
        question = text_in(where, row, "Question")
        items.append(Truthful(f"{path.stem}/{number}", question, best, true, false))
    return items, both


def _answers(text: str) -> tuple[str, ...]:
    parts = (part.strip() for part in text.split(";"))
    return tuple(dict.fromkeys(sentence(part) for part in parts if part))


def sentence(text: str) -> str:
    """The text with a full stop, where it has no mark at its end."""
    return text if text.endswith((".", "!", "?")) else text + "."
