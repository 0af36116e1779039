"""Rows of well-known benchmarks as their data sets have them, put as lm-evaluation-harness does.

Prompts and continuations are those of its tasks hellaswag, arc_easy, boolq, piqa, copa and
lambada_openai; winogrande is a schema, scored by partial evaluation as there.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from foundling.base.config import ConfigError
from foundling.evaluation.items import Completion, Item, MultipleChoice, Schema

Values = Mapping[str, Any]

BLANK = "_"
COPA_WORDS = {"cause": "because", "effect": "therefore"}


def _hellaswag(where: str, row: Values) -> Item:
    before, after = _text(where, row, "ctx_a"), _text(where, row, "ctx_b")
    query = f"{_text(where, row, 'activity_label')}: {before} {after.capitalize()}"
    endings = tuple(f" {_cleaned(ending)}" for ending in _texts(where, row["endings"], "endings"))
    return MultipleChoice(_cleaned(query), endings, _index(where, row, "label", len(endings)))


def _cleaned(text: str) -> str:
    """Without WikiHow's marks, as lm-evaluation-harness has it."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def _arc(where: str, row: Values) -> Item:
    choices = row["choices"]
    if not isinstance(choices, Mapping) or not {"text", "label"} <= set(choices):
        raise ConfigError(f"{where}: choices = {choices!r}: expected lists of text and label.")
    labels = [str(label) for label in choices["label"]]
    texts = tuple(f" {text}" for text in _texts(where, choices["text"], "choices"))
    if row["answerKey"] not in labels or len(labels) != len(texts):
        raise ConfigError(f"{where}: answerKey = {row['answerKey']!r}: expected one of {labels}.")
    query = f"Question: {_text(where, row, 'question')}\nAnswer:"
    return MultipleChoice(query, texts, labels.index(row["answerKey"]))


def _boolq(where: str, row: Values) -> Item:
    passage, question = _text(where, row, "passage"), _text(where, row, "question")
    gold = _index(where, row, "answer" if "answer" in row else "label", 2)
    return MultipleChoice(f"{passage}\nQuestion: {question}?\nAnswer:", (" no", " yes"), gold)


def _piqa(where: str, row: Values) -> Item:
    choices = tuple(f" {_text(where, row, key)}" for key in ("sol1", "sol2"))
    query = f"Question: {_text(where, row, 'goal')}\nAnswer:"
    return MultipleChoice(query, choices, _index(where, row, "label", 2))


def _copa(where: str, row: Values) -> Item:
    word = COPA_WORDS.get(row["question"])
    if word is None:
        raise ConfigError(f"{where}: question = {row['question']!r}: expected cause or effect.")
    query = f"{_text(where, row, 'premise').strip()[:-1]} {word}"
    texts = [_text(where, row, key) for key in ("choice1", "choice2")]
    choices = tuple(f" {text[:1].lower()}{text[1:]}" for text in texts)
    return MultipleChoice(query, choices, _index(where, row, "label", 2))


def _winogrande(where: str, row: Values) -> Item:
    before, blank, after = _text(where, row, "sentence").partition(BLANK)
    if not blank or row["answer"] not in ("1", "2"):
        raise ConfigError(f'{where}: expected "_" in sentence, and 1 or 2 as answer.')
    contexts = tuple(before + _text(where, row, key) for key in ("option1", "option2"))
    return Schema(contexts, f" {after.strip()}", int(row["answer"]) - 1)


def lambada(where: str, row: Values) -> Item:
    """The last word of a passage."""
    context, space, word = _text(where, row, "text").rpartition(" ")
    if not space or not word:
        raise ConfigError(f"{where}: text: expected a passage that ends in a word.")
    return Completion(context, f" {word}")


def _text(where: str, row: Values, key: str) -> str:
    if not isinstance(row[key], str):
        raise ConfigError(f"{where}: {key} = {row[key]!r}: expected a text.")
    return str(row[key])


def _texts(where: str, values: Any, key: str) -> list[str]:
    if not isinstance(values, list) or len(values) < 2:
        raise ConfigError(f"{where}: {key} = {values!r}: expected two or more texts.")
    return [str(value) for value in values]


def _index(where: str, row: Values, key: str, count: int) -> int:
    """The right choice, which data sets have as a number, as a text, or as true and false."""
    value = str(int(row[key]) if isinstance(row[key], bool) else row[key])
    if not value.isdecimal() or int(value) >= count:
        raise ConfigError(f"{where}: {key} = {row[key]!r}: expected 0 to {count - 1}.")
    return int(value)


NATIVE: dict[tuple[str, ...], Callable[[str, Values], Item]] = {
    ("activity_label", "ctx_a", "ctx_b", "endings", "label"): _hellaswag,
    ("question", "choices", "answerKey"): _arc,
    ("passage", "question", "answer"): _boolq,
    ("passage", "question", "label"): _boolq,
    ("goal", "sol1", "sol2", "label"): _piqa,
    ("premise", "choice1", "choice2", "question", "label"): _copa,
    ("sentence", "option1", "option2", "answer"): _winogrande,
}
"""By the keys that must be there."""
TEXT_ALONE: tuple[str, ...] = ("text",)
"""LAMBADA's rows, where a row has nothing else."""
