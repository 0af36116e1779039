"""How often a classifier of offensive text is wrong, on texts that it has not seen."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sklearn.model_selection import StratifiedGroupKFold

from foundling.base.config import ConfigError
from foundling.evaluation.probes.toxicity.classifier import THRESHOLD, Classifier, digest, train
from foundling.evaluation.probes.toxicity.labelled_texts import Labelled, read_labelled
from foundling.statistics.wilson import wilson

logger = logging.getLogger(__name__)

NUM_FOLDS = 5


def train_classifier(files: Sequence[Path], out: Path, hatecheck: Path | None) -> dict[str, Any]:
    """Train on the files, measure, write the classifier's folder, and return its errors.

    Of a text that occurs twice the first copy counts.

    Raises:
        ConfigError: a file is broken, one text has both labels, or a label is missing.
    """
    rows: dict[str, Labelled] = {}
    for file in files:
        for row in read_labelled(file):
            known = rows.setdefault(digest(row.text), row)
            if known.offensive != row.offensive:
                raise ConfigError(f"{file}: {row.text[:60]!r} has both labels; keep one of them.")
    labelled = list(rows.values())
    logger.info(
        f"{len(labelled):,} texts, {sum(row.offensive for row in labelled):,} of them offensive"
    )
    classifier = train(labelled)
    classifier.errors["trained_on"] = {
        "files": [file.name for file in files],
        "num_texts": len(labelled),
        "num_offensive": sum(row.offensive for row in labelled),
    }
    crossed = cross_validate(labelled)
    if crossed is None:
        logger.info("cross-validation: too few groups of texts; left out")
    else:
        classifier.errors["cross_validation"] = crossed
        logger.info("cross-validation: " + in_a_line(crossed))
    if hatecheck is not None:
        errors = validate_on_hatecheck(classifier, hatecheck)
        classifier.errors["hatecheck"] = errors
        if errors["left_out"]:
            logger.info(
                f"LEFT OUT of {hatecheck.name}: {errors['left_out']:,} texts that the classifier "
                "was trained on, or near copies of them"
            )
        logger.info("HateCheck: " + in_a_line(errors))
    classifier.save(out)
    return classifier.errors


def cross_validate(rows: Sequence[Labelled]) -> dict[str, Any] | None:
    """The errors on texts of groups that were left out of training; None for too few groups.

    Texts without a group are one each.
    """
    groups = [row.group or digest(row.text) for row in rows]
    labels = [row.offensive for row in rows]
    of_label = [
        {g for g, is_so in zip(groups, labels, strict=True) if is_so is label}
        for label in (True, False)
    ]
    folds = min(NUM_FOLDS, *map(len, of_label))
    if folds < 2:
        return None
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    tested: list[Labelled] = []
    probabilities: list[float] = []
    for fitted, left_out in splitter.split(groups, labels, groups):
        if len({labels[n] for n in fitted}) < 2:
            return None
        classifier = train([rows[n] for n in fitted])
        part = [rows[n] for n in left_out]
        tested += part
        probabilities += classifier.probability([row.text for row in part])
    return {**errors_of(tested, probabilities), "folds": folds, "groups": len(set(groups))}


def validate_on_hatecheck(classifier: Classifier, path: Path) -> dict[str, Any]:
    """The errors on a file of HateCheck's form, and by what each text tests.

    Texts that the classifier was trained on, and those of the same template, are left out;
    `left_out` says how many.

    Source: Röttger et al. 2021, HateCheck: Functional Tests for Hate Speech Detection Models.

    Raises:
        ConfigError: the file is broken, or the classifier was trained on all of its texts.
    """
    rows = read_labelled(path)
    seen = {row.group or digest(row.text) for row in rows if classifier.has_seen(row.text)}
    unseen = [row for row in rows if (row.group or digest(row.text)) not in seen]
    if not unseen:
        raise ConfigError(
            f"{path}: the classifier was trained on all {len(rows):,} texts, or on near copies "
            "of them, which cannot show its errors; give texts that it has not seen."
        )
    probabilities = classifier.probability([row.text for row in unseen])
    names = sorted({row.functionality for row in unseen if row.functionality})
    by_name = {
        name: _share(
            [
                (p >= THRESHOLD) == row.offensive
                for row, p in zip(unseen, probabilities, strict=True)
                if row.functionality == name
            ]
        )
        for name in names
    }
    return {
        **errors_of(unseen, probabilities),
        "file": path.name,
        "left_out": len(rows) - len(unseen),
        "accuracy_by_functionality": by_name,
    }


def errors_of(rows: Sequence[Labelled], probabilities: Sequence[float]) -> dict[str, Any]:
    """Accuracy, the share of harmless texts classified as offensive, and of offensive missed."""
    found = [(row.offensive, p >= THRESHOLD) for row, p in zip(rows, probabilities, strict=True)]
    counts = Counter(row.offensive for row in rows)
    return {
        "n": len(rows),
        "accuracy": _share([is_so == said for is_so, said in found]),
        "majority": max(counts.values()) / len(rows),
        "false_positive_rate": _share([said for is_so, said in found if not is_so]),
        "false_negative_rate": _share([not said for is_so, said in found if is_so]),
    }


def known_errors(classifier: Classifier) -> str:
    """The classifier's measured errors, shown beside every figure that it gives."""
    found = [
        f"{name}: {in_a_line(classifier.errors[key])}"
        for key, name in (("hatecheck", "HateCheck"), ("cross_validation", "cross-validation"))
        if key in classifier.errors
    ]
    return "; ".join(found) or "its errors were never measured"


def in_a_line(errors: dict[str, Any]) -> str:
    """The errors in one line."""

    def share(name: str) -> str:
        found = errors[name]
        if found["value"] is None:
            return "not known"
        low, high = found["interval"]
        return f"{found['value']:.1%} ({low:.1%} to {high:.1%})"

    return (
        f"accuracy {share('accuracy')} on {errors['n']:,} texts (always the commoner label: "
        f"{errors['majority']:.1%}), harmless ones taken for offensive "
        f"{share('false_positive_rate')}, offensive ones missed {share('false_negative_rate')}"
    )


def _share(hits: Sequence[bool]) -> dict[str, Any]:
    """A share with Wilson's interval."""
    if not hits:
        return {"value": None, "interval": None, "n": 0}
    found = wilson(sum(hits), len(hits))
    return {
        "value": sum(hits) / len(hits),
        "interval": None if found is None else list(found),
        "n": len(hits),
    }
