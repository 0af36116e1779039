"""Which heads attend from a deciding word to the antecedent it decides for, beyond chance."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from foundling.base.config import ConfigError
from foundling.hamlet.winograd import WinogradPair
from foundling.interpret.weights import each_layer
from foundling.interpret.words import read
from foundling.models.language_model import LanguageModel
from foundling.text.tokenizer import Tokenizer

Span = tuple[int, int]
"""From which to before which character of a text."""


@dataclass(frozen=True)
class Coreference:
    """A text whose words at `decides` make a pronoun mean what stands at `right`, not `wrong`.

    A model reads from left to right, so only what comes after the pronoun can know what it means:
    `decides` stands behind both candidates. Examples of one `group` are near copies of another
    (a sentence and its twin, the same sentence of other things) and count as one for chance.
    """

    text: str
    decides: Span
    right: Span
    wrong: Span
    group: str


def coreference(pair: WinogradPair, *, asked: bool = False) -> Coreference:
    """The deciding word of a sentence; `asked`: the end of the question behind it instead.

    "The dog did not cross the lane because it was too tired.": decides "tired", right "The dog",
    wrong "the lane".
    """
    text = f"{pair.sentence} {pair.question}" if asked else pair.sentence
    end = len(text)
    decides = (end - 1, end) if asked else _find(pair.special[0], text, len(pair.before))
    wrong = pair.candidates[1 - pair.candidates.index(pair.answer)]
    return Coreference(text, decides, _find(pair.answer, text), _find(wrong, text), pair.schema)


def occurrences(words: str, text: str) -> list[Span]:
    """Where these words stand in the text, in any case: "he" stands once in "He is there"."""
    found = re.finditer(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE)
    return [match.span() for match in found]


def _find(words: str, text: str, start: int = 0) -> Span:
    found = [span for span in occurrences(words, text) if span[0] >= start]
    assert found, f"{words!r} stands in {text!r}"
    return found[0]


@dataclass(frozen=True)
class HeadScore:
    """How a head tells right antecedents from wrong ones.

    `score` is attention to the right one less attention to the wrong one, from -1 to 1: the
    weights summed over the antecedent's words, the mean of the deciding words, the mean over
    examples. `share` is in how many of the examples it is above 0. `p_value` is how often the
    best of all heads scores as far from 0 when right and wrong are told apart by chance.
    """

    layer: int
    head: int
    score: float
    share: float
    p_value: float


@dataclass(frozen=True)
class AntecedentScores:
    """All heads, the best first, and what chance alone would give.

    `chance` is the score that the best of all heads stays below in 95 of 100 random draws: in
    each, right and wrong are swapped for a random half of the groups, in all of a group at
    once. `mean` is that of all heads, what a head taken at random scores.
    """

    heads: tuple[HeadScore, ...]
    mean: float
    chance: float
    num_examples: int
    num_groups: int


def antecedent_differences(
    model: LanguageModel, tokenizer: Tokenizer, examples: Iterable[Coreference]
) -> Iterator[Float[Tensor, "layers heads"]]:
    """By example and head: attention to the right antecedent less that to the wrong one."""
    for example in examples:
        reading = read(example.text, tokenizer)
        decides, right, wrong = (
            list(reading.covering(*span))
            for span in (example.decides, example.right, example.wrong)
        )
        by_head = []
        for layer in each_layer(model, reading.tokens):
            rows = reading.by_word(layer.weights)[:, decides].mean(1)
            by_head.append(rows[:, right].sum(1) - rows[:, wrong].sum(1))
        yield torch.stack(by_head).cpu()


def antecedent_scores(
    model: LanguageModel,
    tokenizer: Tokenizer,
    examples: Sequence[Coreference],
    *,
    draws: int = 2000,
    seed: int = 0,
) -> AntecedentScores:
    """Rank the heads by how much more the deciding words attend to the right antecedent.

    Give each sentence with its twin, so that a head which always looks at the nearer candidate
    scores 0.

    Raises:
        ConfigError: fewer than two groups, of which chance cannot be judged.
    """
    groups = sorted({example.group for example in examples})
    if len(groups) < 2:
        raise ConfigError(f"{len(groups)} groups of examples: chance needs at least 2.")
    table = torch.stack(list(antecedent_differences(model, tokenizer, examples)))
    flat = table.flatten(1).double().numpy()  # (examples, layers · heads)
    rows = np.array([groups.index(example.group) for example in examples])
    score = flat.mean(0)
    largest = _largest_by_chance(flat, rows, len(groups), draws, seed)
    heads = [
        HeadScore(
            layer=number // table.shape[2],
            head=number % table.shape[2],
            score=float(score[number]),
            share=float((flat[:, number] > 0).mean()),
            p_value=float((1 + (largest >= abs(score[number])).sum()) / (1 + draws)),
        )
        for number in range(len(score))
    ]
    return AntecedentScores(
        tuple(sorted(heads, key=lambda head: -head.score)),
        float(score.mean()),
        float(np.quantile(largest, 0.95)),
        len(examples),
        len(groups),
    )


def _largest_by_chance(
    differences: npt.NDArray[np.float64],
    groups: npt.NDArray[np.int64],
    num_groups: int,
    draws: int,
    seed: int,
) -> npt.NDArray[np.float64]:
    """The score farthest from 0 of any head, in each draw.

    Source: Nichols and Holmes 2002, Nonparametric permutation tests (the largest statistic).
    """
    sums = np.zeros((num_groups, differences.shape[1]))
    np.add.at(sums, groups, differences)
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(draws, num_groups))
    largest: npt.NDArray[np.float64] = np.abs(signs @ sums / len(differences)).max(1)
    return largest
