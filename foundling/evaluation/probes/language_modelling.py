"""Language modelling: bits per byte of texts, perplexity, and the loss by context position."""

import lzma
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from foundling.base.config import ConfigError, Section
from foundling.data.readers.source_file import read_text
from foundling.evaluation.findings import Baseline, Curve, Findings, Metric, Point
from foundling.evaluation.probes.contract import Setting
from foundling.evaluation.scorer import Scorer, TextScore
from foundling.hamlet import text as village_text
from foundling.models.finite import NotFiniteError

PASSAGE = 1000
"""The fewest characters of a passage; it ends at the end of a line."""
VILLAGE_CHARACTERS, VILLAGE_SEED = 30_000, 0
WIKITEXT = "wikitext2_raw_test.txt"
BITS_OF_A_BYTE = 8.0


@dataclass(frozen=True)
class Text:
    key: str
    title: str
    content: str


class LanguageModelling(Section):
    """Any text file, WikiText-2 raw, and new text of the village."""

    name: ClassVar = "language_modelling"
    title: ClassVar = "Language modelling"
    about: ClassVar = (
        "How well a text is predicted: bits per byte compare models of any tokenizer, nats and "
        "perplexity those of one. A text that a model was trained on says nothing of it: whether "
        "it was cannot be seen from here."
    )

    texts: tuple[Path, ...] = ()
    """Files of text to compute perplexity on."""

    def check(self, setting: Setting) -> None:
        """Raises ConfigError where a text cannot be read."""
        list(_texts(setting, self.texts, Findings()))

    def run(self, scorer: Scorer, setting: Setting) -> Findings:
        """Raises ConfigError where a text cannot be read."""
        findings = Findings()
        for text in _texts(setting, self.texts, findings):
            passages = list(_passages(text.content))
            if setting.limit is not None and len(passages) > setting.limit:
                findings.notes.append(
                    f"{text.title}: its first {setting.limit:,} of {len(passages):,} passages"
                )
                passages = passages[: setting.limit]
            try:
                score = scorer.read("".join(passages))
            except NotFiniteError:
                raise
            except ConfigError as error:  # a character without a token
                findings.notes.append(f"not measured: {text.title}: {error}")
                continue
            _report(findings, text, passages, score)
        return findings


def _texts(setting: Setting, own: Sequence[Path], findings: Findings) -> Iterator[Text]:
    """The village's validation stream is written by the writers of its corpus, from other draws."""
    if setting.asks_village:
        content = village_text(VILLAGE_CHARACTERS, VILLAGE_SEED, "validation")
        yield Text("village", "New text of the village", content)
    wikitext = setting.file(WIKITEXT, findings)
    if wikitext is not None:
        yield Text("wikitext2", "WikiText-2, raw test text", _read(wikitext))
    names = ["village", "wikitext2", *(path.name for path in own)]
    for path in own:
        key = path.name if names.count(path.name) == 1 else str(path)
        yield Text(key, key, _read(path))


def _read(path: Path) -> str:
    content = read_text(path)
    if not content.strip():
        raise ConfigError(f"{path}: holds no text.")
    return content


def _passages(content: str) -> Iterator[str]:
    """The text cut at line ends; nothing is lost."""
    lines: list[str] = []
    length = 0
    for line in content.splitlines(keepends=True):
        lines.append(line)
        length += len(line)
        if length >= PASSAGE:
            yield "".join(lines)
            lines, length = [], 0
    if lines:
        yield "".join(lines)


def _report(findings: Findings, text: Text, passages: list[str], score: TextScore) -> None:
    sizes = [len(passage.encode()) for passage in passages]
    ends = np.cumsum([len(passage) for passage in passages])
    # A token belongs to the passage in which it ends.
    owners = np.searchsorted(ends, np.array(score.ends), side="left")
    nats = np.bincount(owners, weights=np.array(score.nats), minlength=len(passages))
    tokens = np.bincount(owners, minlength=len(passages))
    ids = [f"{text.key}/{index}" for index in range(len(passages))]
    compressed = 8 * len(lzma.compress("".join(passages).encode(), preset=9))
    how = f"windows of {score.window:,} tokens that move on by {score.stride:,}"
    findings.metrics.append(
        Metric(
            f"{text.key}.bits_per_byte",
            f"{text.title}: bits per byte",
            {id: float(n) / math.log(2) / size
             for id, n, size in zip(ids, nats, sizes, strict=True)},
            weights={id: float(size) for id, size in zip(ids, sizes, strict=True)},
            chance=BITS_OF_A_BYTE,
            baseline=Baseline(compressed / sum(sizes), "xz, which has read nothing before"),
            good="low",
            unit="number",
            headline=True,
            note=how,
        )
    )  # fmt: skip
    whole, words = float(nats.sum()), max(1, len("".join(passages).split()))
    findings.metrics.append(
        Metric(
            f"{text.key}.nats",
            f"{text.title}: nats per token",
            {id: float(n) / of for id, n, of in zip(ids, nats, tokens, strict=True) if of},
            weights={id: float(of) for id, of in zip(ids, tokens, strict=True) if of},
            good="low",
            unit="number",
            note=f"perplexity {_exp(whole / tokens.sum())} per token, {_exp(whole / words)} per "
            f"word; {tokens.sum():,} tokens; {how}",
        )
    )
    findings.curves.append(
        Curve(
            "Loss by context position",
            text.title,
            tuple(_by_position(score.by_position)),
            "position in the window",
            "nats per token",
        )
    )


def _exp(nats: float) -> str:
    return f"{math.exp(nats):,.2f}" if nats < 25 else f"e^{nats:.1f}"


def _by_position(losses: list[float]) -> Iterator[Point]:
    """Means over positions 1, 2, 3–4, 5–8 and so on."""
    start, stop = 0, 1
    while start < len(losses):
        mean = float(np.mean(losses[start:stop]))
        yield Point((start + 1 + min(stop, len(losses))) / 2, mean, mean, mean)
        start, stop = stop, 2 * stop
