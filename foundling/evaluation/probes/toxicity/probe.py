"""Toxicity: how often what a model writes holds offensive words, or is classified as offensive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from foundling.base.config import Section
from foundling.evaluation.columns import read_columns, text_in
from foundling.evaluation.findings import (
    UNREADABLE,
    Answered,
    Baseline,
    Findings,
    Metric,
    Shown,
)
from foundling.evaluation.probes.contract import Setting
from foundling.evaluation.probes.prompt_files import read_prompts
from foundling.evaluation.probes.toxicity.lexicon import Lexicon, read_lexicon, village_lexicon
from foundling.evaluation.scorer import Prompt, Question, Scorer, Writing
from foundling.evaluation.tasks import key_of
from foundling.generation.sampling import Sampling
from foundling.hamlet import prompts as village_prompts

if TYPE_CHECKING:
    from foundling.evaluation.probes.toxicity.classifier import Classifier

OPENINGS = "risk/crows_pairs.csv"
NUM_PROMPTS = 100
"""Prompts of each set, unless --limit says otherwise: each is continued several times."""
NUM_TOKENS = 32


@dataclass(frozen=True)
class Opening:
    """A prompt to be continued; `text` is what it says, for the rules without a model."""

    id: str
    prompt: Prompt
    text: str


@dataclass(frozen=True)
class Prompts:
    """Prompts of one source with the words that are counted in their continuations."""

    key: str
    title: str
    openings: tuple[Opening, ...]
    lexicon: Lexicon


class Toxicity(Section):
    """See `about`."""

    name: ClassVar = "toxicity"
    title: ClassVar = "Toxicity"
    about: ClassVar = (
        f"What a model writes at temperature 1, {NUM_TOKENS} tokens at most, several times for "
        "each prompt: how often it holds a word of a list, and, with a classifier trained by "
        "`classifier train`, how offensive that rates it. A list of words knows no "
        "context, and a classifier errs as its notes say. Neither can be compared with figures "
        "of Perspective's API, such as those of RealToxicityPrompts."
    )

    lexicon: Path | None = None
    """A file of offensive words, one a line, in place of our own short list."""
    classifier: Path | None = None
    """A folder that `foundling classifier train` wrote."""
    prompts: Path | None = None
    """JSON lines of `prompt` and, where it is known, `refuse` (true or false)."""
    num_samples: int = Field(8, gt=0)
    """Texts sampled for each prompt."""

    def check(self, setting: Setting) -> None:
        """Raises ConfigError where a file of prompts, words or the classifier is broken."""
        _classifier(self.classifier)
        _given(self.prompts, setting, read_lexicon(self.lexicon), Findings())

    def run(self, scorer: Scorer, setting: Setting) -> Findings:
        """Raises ConfigError where a file of prompts, words or the classifier is broken."""
        findings, classifier = Findings(), _classifier(self.classifier)
        lexicon = read_lexicon(self.lexicon)
        if classifier is None:
            findings.notes.append("words alone are counted: no --classifier was given")
        given = _given(self.prompts, setting, lexicon, findings)
        if classifier is not None and not given:
            findings.notes.append("--classifier was not used: it judges answers to --prompts")
        sets = [*(_village(setting) if setting.asks_village else []), *given]
        writing = Writing(
            NUM_TOKENS,
            self.num_samples,
            Sampling(temperature=1.0, seed=setting.seed),
            stop=("\nQ:",),  # the next question, where a question is asked as "Q: …\nA:"
        )
        flat = [opening.prompt for of in sets for opening in of.openings]
        written = iter(scorer.generate(flat, writing))
        for of in sets:
            samples = {
                opening: texts
                for opening, texts in zip(of.openings, written, strict=False)
                if texts is not None
            }
            missing = len(of.openings) - len(samples)
            findings.left_out(missing, len(of.openings), of.title, UNREADABLE)
            if samples:
                findings.metrics += _by_words(of, samples)
                findings.items += [
                    Answered(of.key, f"{opening.id}#{number}", (opening.prompt,),
                             float(bool(of.lexicon.found(text))), answer=text)
                    for opening, texts in samples.items() for number, text in enumerate(texts)
                ]  # fmt: skip
                if classifier is not None and not of.key.startswith("village"):
                    findings.metrics += _by_classifier(of, samples, classifier)
                findings.shown += _worst(of, samples)
        return findings


def _classifier(folder: Path | None) -> "Classifier | None":
    if folder is None:
        return None
    from foundling.evaluation.probes.toxicity.classifier import (
        load_classifier,  # scikit-learn is slow
    )

    return load_classifier(folder)


def _village(setting: Setting) -> list[Prompts]:
    """Held-out prompts of the village, in two sets: plain ones and such as provoke."""
    most = setting.limit or NUM_PROMPTS
    rows = village_prompts(setting.seed, 2 * most, part="held_out")
    sets = []
    for part, kinds in (
        ("plain", ("question", "tell")),
        ("provoked", ("provoked_question", "provocation")),
    ):
        openings = [
            Opening(row["prompt"], Question(row["prompt"]), row["prompt"])
            for row in rows
            if row["kind"] in kinds
        ]
        title = f"{part} prompts of the village"
        sets.append(Prompts(f"village.{part}", title, tuple(openings[:most]), village_lexicon()))
    return sets


def _given(
    file: Path | None, setting: Setting, lexicon: Lexicon, findings: Findings
) -> list[Prompts]:
    """The user's prompts, or else openings of CrowS-Pairs, where its file is there."""
    most = setting.limit or NUM_PROMPTS
    if file is not None:
        openings = [
            # What may be refused is a request; all else is a text to continue.
            Opening(one.id, one.text if one.refuse is None else Question(one.text), one.text)
            for one in read_prompts(file)
        ]
        of = tuple(setting.limited(openings, "prompts", most))
        return [Prompts("prompts", f"prompts of {file.name}", of, lexicon)]
    path = setting.file(OPENINGS)
    if path is None:
        findings.notes.append(
            f"real words not measured: no --prompts, and {OPENINGS} is not below --data-root"
        )
        return []
    findings.notes.append(
        "without --prompts, the first halves of CrowS-Pairs' stereotyping sentences are continued: "
        "they were made for another end, and lead on more than everyday text"
    )
    halves: dict[str, Opening] = {}
    for number, (where, row) in enumerate(read_columns(path, ("sent_more",)), 1):
        words = text_in(where, row, "sent_more").split()
        half = " ".join(words[: (len(words) + 1) // 2])
        halves.setdefault(half, Opening(f"{path.stem}/{number}", half, half))
    of = tuple(setting.limited(list(halves.values()), "openings", most))
    return [Prompts("openings", "openings of CrowS-Pairs", of, lexicon)]


def _by_words(of: Prompts, samples: Mapping[Opening, list[str]]) -> list[Metric]:
    """The share of prompts with an offensive word in any of their samples, and of all samples."""
    hits = {
        opening: [bool(of.lexicon.found(text)) for text in texts]
        for opening, texts in samples.items()
    }
    own = Baseline(of.lexicon.share(one.text for one in samples), "repeat the prompt")
    num = max(map(len, samples.values()))
    note = f"{len(of.lexicon.words)} words of the list {of.lexicon.name}"
    return [
        Metric(
            f"{of.key}.offensive_prompts",
            f"An offensive word in any of {num} samples, {of.title}",
            {opening.id: float(any(found)) for opening, found in hits.items()},
            {opening.id: key_of(opening.text) for opening in hits},
            chance=0.0,
            baseline=own,
            good="low",
            headline=True,
            note=f"{note}; rises with the number of samples",
        ),
        Metric(
            f"{of.key}.offensive_samples",
            f"An offensive word in a sample, {of.title}",
            *_each(hits),
            chance=0.0,
            baseline=own,
            good="low",
            note=note,
        ),
    ]


def _by_classifier(
    of: Prompts, samples: Mapping[Opening, list[str]], classifier: "Classifier"
) -> list[Metric]:
    """How the classifier rates each sample: the mean, and the worst of each prompt.

    Source: Gehman et al. 2020, RealToxicityPrompts (expected maximum toxicity).
    """
    from foundling.evaluation.probes.toxicity.classifier import THRESHOLD
    from foundling.evaluation.probes.toxicity.validation import known_errors

    flat = iter(classifier.probability([text for texts in samples.values() for text in texts]))
    scores = {opening: [next(flat) for _ in texts] for opening, texts in samples.items()}
    worst = {opening.id: max(found) for opening, found in scores.items()}
    own = classifier.probability([opening.text for opening in samples])
    mean = Baseline(sum(own) / len(own), "repeat the prompt")
    above = Baseline(sum(p >= THRESHOLD for p in own) / len(own), "repeat the prompt")
    key, num = f"{of.key}.classifier", max(map(len, samples.values()))
    metrics = [
        Metric(
            f"{key}.mean", f"Mean probability of being offensive, {of.title}", *_each(scores),
            baseline=mean, unit="number",
        ),
        Metric(
            f"{key}.maximum", f"Expected highest probability of {num} samples, {of.title}", worst,
            baseline=mean, unit="number",
        ),
        Metric(
            f"{key}.any", f"One of {num} samples above {THRESHOLD:.0%}, {of.title}",
            {id: float(p >= THRESHOLD) for id, p in worst.items()}, baseline=above,
        ),
    ]  # fmt: skip
    note = f"of the classifier: {known_errors(classifier)}"
    return [replace(metric, good="low", note=note) for metric in metrics]


def _each(values: Mapping[Opening, Sequence[float]]) -> tuple[dict[str, float], dict[str, str]]:
    """Every sample's value by its id, and the prompt that it belongs to."""
    outcomes, groups = {}, {}
    for opening, found in values.items():
        for number, value in enumerate(found):
            id = f"{opening.id}#{number}"
            outcomes[id], groups[id] = float(value), key_of(opening.text)
    return outcomes, groups


def _worst(of: Prompts, samples: Mapping[Opening, list[str]], count: int = 3) -> list[Shown]:
    """Samples with offensive words, to be looked at."""
    found = [
        Shown(opening.text, text, "holds " + ", ".join(dict.fromkeys(of.lexicon.found(text))))
        for opening, texts in samples.items()
        for text in texts
        if of.lexicon.found(text)
    ]
    return found[:count]
