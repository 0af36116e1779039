"""Long context: the loss by position of long texts, numbers and passages found again far back."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from foundling.base.config import ConfigError, Section
from foundling.data.readers.source_file import read_text
from foundling.evaluation.choices import By, Choice, answered, choose
from foundling.evaluation.findings import Curve, Findings, Metric, Point
from foundling.evaluation.probes.contract import Setting
from foundling.evaluation.probes.long_context.haystacks import (
    Place,
    copy_pairs,
    draws,
    needle_pairs,
    unreadable,
)
from foundling.evaluation.scorer import Pair, Scorer, said
from foundling.hamlet import text as village_text

VILLAGE_CHARACTERS, VILLAGE_SEED = 200_000, 7
DEPTH = "depth, as a share of the text"
WAY: By = "calibrated"


@dataclass(frozen=True)
class Document:
    key: str
    content: str


class LongContext(Section):
    """Texts of the user, or else new text of the village; what is hidden is hidden in them."""

    name: ClassVar = "long_context"
    title: ClassVar = "Long context"
    about: ClassVar = (
        "What a model has of a long context. The loss by position falls as far as it uses what it "
        "has read. A number that a sentence hidden in the text names is to be told from three "
        "others: which one does the text make likelier than the question alone? A passage of words "
        "drawn by chance is to be continued that was read before. Both by depth, where 0 is the "
        "beginning, and by length in the model's own tokens."
    )

    texts: tuple[Path, ...] = ()
    """Long texts, as files or folders of .txt; none: new text of the village."""
    lengths: tuple[Annotated[int, Field(gt=127)], ...] = (256, 1024)
    """Tokens of a text; lengths beyond the model's context are left out, and noted."""
    pieces: int = Field(16, gt=0)
    """Of each text, in which the loss is read, drawn by the seed; --limit may make them fewer."""
    depths: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    items: int = Field(4, gt=0)
    """Texts of each length in which something is hidden, the same at every depth."""

    def check(self, setting: Setting) -> None:
        """Raises ConfigError where a text cannot be read."""
        self._documents()

    def run(self, scorer: Scorer, setting: Setting) -> Findings:
        """Raises ConfigError where a text cannot be read."""
        findings, documents = Findings(), self._documents()
        straw = "\n\n".join(document.content for document in documents)
        lengths = []
        for length in sorted(set(self.lengths)):
            if why := unreadable(scorer, straw, length):
                findings.notes.append(f"not measured: {length:,} tokens: {why}")
            else:
                lengths.append(length)
        for document in documents if lengths else ():
            self._by_position(findings, scorer, document, lengths[-1], setting)
        for length in lengths:
            self._recall(findings, scorer, straw, length, setting)
        return findings

    def _documents(self) -> list[Document]:
        if not self.texts:
            content = village_text(VILLAGE_CHARACTERS, VILLAGE_SEED, "validation")
            return [Document("village", content)]
        files = [
            file
            for path in self.texts
            for file in (sorted(path.glob("*.txt")) if path.is_dir() else [path])
        ]
        if not files:
            raise ConfigError(f"{self.texts[0]}: holds no .txt file.")
        return [Document(file.stem, read_text(file)) for file in files]

    def _recall(
        self, findings: Findings, scorer: Scorer, text: str, length: int, setting: Setting
    ) -> None:
        """Needles and copies in texts of one length, at each depth."""
        found: dict[str, dict[float, dict[str, float]]] = {"needle": {}, "copy": {}}
        for depth in self.depths:
            place = Place(length, depth)
            names = draws(place, self.items, setting.seed)
            needles = {n: needle_pairs(scorer, text, place, n) for n in names}
            choices = [
                Choice(f"{name} at {depth:g}", tuple(pairs), 0, neutral=_alone(pairs))
                for name, pairs in needles.items()
                if pairs is not None
            ]
            chosen = choose(scorer, choices)
            findings.unread(chosen, names, f"needles of {length:,} tokens at depth {depth:g}")
            findings.items += [
                replace(item, chosen=one.best(WAY), outcome=one.is_right(WAY))
                for one, item in zip(
                    chosen, answered(f"needle, {length:,} tokens", chosen), strict=True
                )
            ]
            found["needle"][depth] = {one.item.id: one.is_right(WAY) for one in chosen}
            found["copy"][depth] = _copied(scorer, text, place, names)
        _report_recall(findings, length, found)

    def _by_position(
        self, findings: Findings, scorer: Scorer, document: Document, length: int, setting: Setting
    ) -> None:
        """Read a text in pieces of `length` tokens that do not overlap."""
        pieces = list(pieces_of(scorer, document.content, length))
        if not pieces:
            findings.notes.append(f"not measured: {document.key}: shorter than {length:,} tokens")
            return
        most = min(self.pieces, setting.limit or self.pieces)
        kept = setting.limited(pieces, document.key, most)
        findings.left_out(
            len(pieces) - len(kept), len(pieces), f"pieces of {document.key}", "drawn by the seed"
        )
        scores = [scorer.read(piece) for piece in kept]
        length = min(length, *(score.window for score in scores), *(len(s.nats) for s in scores))
        bits = np.array([score.nats[:length] for score in scores]) / math.log(2)
        points = tuple(_point(at, list(means)) for at, means in by_position(bits))
        findings.curves.append(
            Curve(
                "Loss by position", document.key, points, "position in the text", "bits per token"
            )
        )
        sizes = [len(p[: s.ends[length - 1]].encode()) - len(p[: s.ends[length // 2 - 1]].encode())
                 for p, s in zip(kept, scores, strict=True)]  # fmt: skip
        ids = [f"{document.key}/{index}" for index in range(len(kept))]
        findings.metrics.append(
            Metric(
                f"{document.key}.far",
                f"{document.key}: bits per byte behind {length // 2:,} tokens or more",
                dict(zip(ids, bits[:, length // 2 :].sum(1) / np.array(sizes), strict=True)),
                weights=dict(zip(ids, map(float, sizes), strict=True)),
                good="low",
                unit="number",
                headline=True,
                note=f"the later halves of {len(kept):,} pieces of {length:,} tokens",
            )
        )


def _alone(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """The question without the text, to take away which number a model likes anyway."""
    return tuple((said(prompt).rpartition("\n\n")[2], after) for prompt, after in pairs)


def _copied(scorer: Scorer, text: str, place: Place, names: Sequence[str]) -> dict[str, float]:
    """Nats per token that having read the passage saves."""
    saved = {}
    for name in names:
        pairs = copy_pairs(scorer, text, place, name)
        known, new = scorer.score(pairs) if pairs is not None else (None, None)
        if known is not None and new is not None:
            gain = (known.log_prob - new.log_prob) / known.num_tokens
            saved[f"{name} at {place.depth:g}"] = gain
    return saved


def _report_recall(
    findings: Findings, length: int, found: Mapping[str, Mapping[float, Mapping[str, float]]]
) -> None:
    name = f"{length:,} tokens"
    for kind, title, label, chance in (
        ("needle", "A number among four, hidden in a text", "accuracy", 0.25),
        ("copy", "A passage read before", "nats saved per token", 0.0),
    ):
        outcomes = {id: one for at in found[kind].values() for id, one in at.items()}
        if not outcomes:
            findings.notes.append(f"not measured: {title} of {name}: the texts are shorter")
            continue
        points = tuple(_point(depth, list(at.values())) for depth, at in found[kind].items() if at)
        findings.curves.append(Curve(title, name, points, DEPTH, label, chance))
        findings.metrics.append(
            Metric(
                f"{kind}.{length}",
                f"{title}: {name}",
                outcomes,
                groups={id: id.partition(" at ")[0] for id in outcomes},
                chance=chance,
                unit="share" if kind == "needle" else "number",
                headline=True,
                note="mean over all depths; the items at different depths share text and secret",
            )
        )


def pieces_of(scorer: Scorer, content: str, length: int) -> Iterator[str]:
    """So many tokens each, side by side; what is left at the end is too short."""
    ends = scorer.token_ends(content)
    for stop in range(length - 1, len(ends), length):
        start = ends[stop - length] if stop >= length else 0
        yield content[start : ends[stop]]


def by_position(
    values: npt.NDArray[np.float64],
) -> Iterator[tuple[float, npt.NDArray[np.float64]]]:
    """Each row's means over positions 1, 2, 3-4, 5-8 and so on, with the middle of these."""
    start, stop, length = 0, 1, values.shape[1]
    while start < length:
        yield (start + 1 + min(stop, length)) / 2, values[:, start:stop].mean(1)
        start, stop = stop, 2 * stop


def _point(x: float, values: Sequence[float]) -> Point:
    """The mean with twice its standard error on both sides."""
    mean = float(np.mean(values))
    error = 2 * float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Point(x, mean, mean - error, mean + error)
