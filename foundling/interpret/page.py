"""The interactive page of a model's attention over one text or two, for files and notebooks."""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from foundling.base import durable
from foundling.base.config import ConfigError
from foundling.interpret.antecedents import (
    AntecedentScores,
    Coreference,
    antecedent_scores,
    occurrences,
)
from foundling.interpret.attributions import GAP
from foundling.interpret.blocks import SCALE, blocks
from foundling.interpret.coreferences import village_coreferences
from foundling.interpret.evidence import Evidence, causal_evidence
from foundling.interpret.text_pairs import aligned, joined, same_words, second
from foundling.interpret.weights import attention_modules
from foundling.interpret.words import Reading, Word, read, read_turn
from foundling.models.language_model import LanguageModel
from foundling.reports.page import page
from foundling.text.tokenizer import Tokenizer

SCRIPTS = ("attention_weights.js", "attention_picture.js", "attention.js")
INLINE = 8_000_000
"""The most characters of weights that stand in the page itself."""
LAYERS = "_layers"
"""What the folder of a long text's layers is called, behind the page's name."""
HEIGHT = 980  # pixels of a notebook's frame
PRONOUNS = ("it", "he", "she", "they", "him", "her", "them")  # one of the text is named on the page


@dataclass(frozen=True)
class AttentionPage:
    """A page that needs nothing but a browser; in a notebook it shows itself.

    `facts` is what it says in numbers: the recomputation error, the best heads, the log-odds.
    `layers` are scripts by file name, for a folder beside the page: those of a long text, of which
    a browser loads one layer when it is looked at.
    """

    html: str
    facts: Mapping[str, Any]
    layers: Mapping[str, str] = field(default_factory=dict)

    def save(self, path: Path | str) -> Path:
        """Write the page, and the layers of a long text into a folder beside it."""
        path = Path(path)
        for name, script in self.layers.items():
            folder = path.with_name(path.stem + LAYERS)
            folder.mkdir(parents=True, exist_ok=True)
            durable.replace(folder / name, script.encode("ascii"))
        durable.replace(path, self.html.encode("utf-8"))
        return path

    def _repr_html_(self) -> str:
        """A frame of its own: the page's style stays in it."""
        if self.layers:
            return "<p>A long text: save the page to a file and open it in a browser.</p>"
        return (
            f'<iframe srcdoc="{escape(self.html)}" title="Attention" '
            'sandbox="allow-scripts allow-downloads" '
            f'style="width: 100%; height: {HEIGHT}px; border: 0"></iframe>'
        )


def attention_page(
    model: LanguageModel,
    tokenizer: Tokenizer,
    text: str,
    *,
    compare: str | None = None,
    suffix: str = "",
    antecedents: tuple[str, str] | None = None,
    examples: Sequence[Coreference] | None = None,
    by_token: bool = False,
    chat: bool = False,
    name: str = "model",
) -> AttentionPage:
    """Who attends to whom in `text`, and in `compare` beside it.

    A `suffix` goes behind both: a word there has read all of them. `antecedents` are two names
    that stand in each text, for the evidence beside attention. Heads are ranked on `examples`:
    without any, on the village's sentences; not at all where the sequence is empty. `by_token`
    shows tokens in place of words. In a `chat` each text is a user's message, in the model's own
    template with its special tokens, and the evidence is of how the answer begins.

    Raises:
        ConfigError: no attention, no text, more than the model reads, or antecedents elsewhere.
    """
    modules = attention_modules(model)
    given = [text] if compare is None else [text, second(text, compare)]
    texts = [joined(one, suffix) for one in given]
    if len(set(texts)) < len(texts):
        raise ConfigError("both texts are the same: there is no difference to look at.")
    how = read_turn if chat else read
    readings = [how(one, tokenizer, by_token=by_token) for one in texts]
    spans = [_antecedent_words(reading, antecedents) for reading in readings]
    made = [list(blocks(model, reading)) for reading in readings]
    is_long = sum(len(block.data) for layers in made for block in layers) > INLINE
    evidence = [
        causal_evidence(model, tokenizer, one, antecedents, chat=chat)
        for one in texts
        if antecedents
    ]
    rankings = list(_rankings(model, tokenizer, examples))
    pairs = aligned(*readings) if compare is not None else []
    known = same_words(*readings) if compare is not None else 0
    error = max(block.error for layers in made for block in layers)
    sentences = [
        _sentence(reading, words, known if compare is not None else None, bool(suffix.strip()))
        for reading, words in zip(readings, spans, strict=True)
    ]
    firsts = [scores.heads[0] for _, scores, _ in rankings]
    best = min(firsts, key=lambda head: head.p_value, default=None)
    script = "\n".join(_asset(one) for one in SCRIPTS)
    told = {
        "name": name,
        "rung": model.spec["rung"],
        "layers": len(modules),
        "heads": modules[0].num_heads,
        "scale": SCALE,
        "sentences": sentences,
        "pairs": pairs,
        "antecedents": antecedents,
        "apart": LAYERS if is_long else None,
        "start": {"layer": best.layer, "head": best.head} if best else None,
    }
    html = page(
        "attention.html.j2",
        **{key: told[key] for key in ("name", "rung", "layers", "heads", "sentences")},
        told=told,
        blocks=[] if is_long else made,
        is_long=is_long,
        known=known,
        pronoun=_pronoun(readings[0].words[: known or None]),
        suffix=suffix.strip(),
        error=error,
        rankings=rankings,
        gap=GAP,
        evidence=[_evidence(one) for one in evidence],
        antecedents=antecedents,
        parameters=model.num_parameters(),
        css=Markup(_asset("attention.css")),
        script=Markup(script),
        script_hash=_hash(script),
    )
    facts = {
        "layers": len(modules),
        "heads": modules[0].num_heads,
        "words": [len(reading.words) for reading in readings],
        "recomputation_error": error,
        "same_words": known if compare is not None else None,
        "rankings": [_ranking_facts(*ranking) for ranking in rankings],
        "continuations": evidence[0].continuations if evidence else None,
        "log_odds": [one.log_odds for one in evidence] or None,
    }
    layers = {
        f"{number}-{block.layer}.js": f'layerRead("{number}-{block.layer}", "{block.data}")\n'
        for number, layers in enumerate(made)
        for block in layers
        if is_long
    }
    return AttentionPage(html, facts, layers)


def _antecedent_words(reading: Reading, antecedents: tuple[str, str] | None) -> list[list[int]]:
    found = []
    for one in antecedents or ():
        there = occurrences(one, reading.text) if one.strip() else []
        if not there:
            raise ConfigError(
                f'antecedents: "{one}" does not stand in "{reading.text}"; '
                "give two names as the text has them."
            )
        found.append(list(reading.covering(*there[0])))
    if found and found[0] == found[1]:
        raise ConfigError(f'antecedents: both are "{reading.text[slice(*there[0])]}"; give two.')
    return found


def _pronoun(words: Sequence[Word]) -> str | None:
    return next((word.text for word in words if word.text.lower() in PRONOUNS), None)


def _sentence(
    reading: Reading, antecedents: list[list[int]], known: int | None, asked: bool
) -> dict[str, Any]:
    """What the browser needs of a text; `row` is the word to look at first."""
    letters = [n for n, word in enumerate(reading.words) if any(c.isalnum() for c in word.text)]
    last = letters[-1] if letters else len(reading.words) - 1
    row = last if asked or known is None else min(known, len(reading.words) - 1)
    spelled = [word.text.strip() or "␣" for word in reading.words]
    if reading.words[0].stop == 0:
        spelled[0] = "⟨begin⟩"
    return {
        "text": reading.text,
        "words": spelled,
        "tokens": [[word.first_token, word.stop_token] for word in reading.words],
        "ids": list(reading.tokens),
        "antecedents": antecedents,
        "same": known,
        "row": row,
    }


def _rankings(
    model: LanguageModel, tokenizer: Tokenizer, examples: Sequence[Coreference] | None
) -> Iterator[tuple[str, AntecedentScores, int]]:
    """Where it was looked from, the scores, and how many examples the model cannot read."""
    if examples is not None:
        if examples:
            yield "from the deciding word", antecedent_scores(model, tokenizer, examples), 0
        return
    for title, asked in (("from the deciding word", False), ("from a question's end", True)):
        told = village_coreferences(asked=asked)
        fit = [example for example in told if _fits(model, tokenizer, example)]
        if len({example.group for example in fit}) > 1:
            yield title, antecedent_scores(model, tokenizer, fit), len(told) - len(fit)


def _fits(model: LanguageModel, tokenizer: Tokenizer, example: Coreference) -> bool:
    """Whether a model of few letters or a short context can read one of our own sentences."""
    try:
        tokens = read(example.text, tokenizer).tokens
    except ConfigError:
        return False
    return model.max_context is None or len(tokens) <= model.max_context


def _ranking_facts(title: str, scores: AntecedentScores, left_out: int) -> dict[str, Any]:
    return {
        "looked": title,
        "best": vars(scores.heads[0]),
        "mean": scores.mean,
        "chance": scores.chance,
        "num_examples": scores.num_examples,
        "num_groups": scores.num_groups,
        "left_out": left_out,
    }


def _evidence(found: Evidence) -> dict[str, Any]:
    hidden = found.integrated is None
    sums = [0.0] * len(found.gradients) if found.integrated is None else found.integrated.tolist()
    words = [
        (word.text.strip() or "␣", gradient, integrated)
        for word, gradient, integrated in zip(
            found.reading.words, found.gradients.tolist(), sums, strict=True
        )
    ]
    if found.reading.words[0].stop == 0:
        words[0] = ("⟨begin⟩", *words[0][1:])
    return {
        "text": found.reading.text,
        "continuations": found.continuations,
        "log_odds": found.log_odds,
        "words": words,
        "hidden": hidden,
        "paths": found.paths,
        "most_gradient": max(abs(word[1]) for word in words) or 1.0,
        "most_integrated": max(abs(word[2]) for word in words) or 1.0,
        "changes": found.changes.tolist(),
        "most_change": float(found.changes.abs().max()) or 1.0,
    }


def _asset(name: str) -> str:
    return files("foundling.interpret").joinpath("assets", name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """What the page's own policy lets run: this script and no other."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
