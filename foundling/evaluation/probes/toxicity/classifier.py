"""A classifier of offensive text, trained here, with its measured errors.

Word and character n-grams, hashed, and logistic regression: it sees words and spellings, not what
a sentence means. It is kept as safetensors and JSON; nothing in it is code.
"""

import hashlib
import json
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save
from scipy.sparse import hstack
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression

from foundling.base import durable
from foundling.base.config import ConfigError, load_json
from foundling.evaluation.probes.toxicity.labelled_texts import Labelled

FORMAT = "foundling toxicity classifier 1"
SETTINGS, WEIGHTS = "classifier.json", "classifier.safetensors"
NUM_FEATURES = 1 << 18  # of words, and again of characters
THRESHOLD = 0.5
C = 4.0
"""The inverse strength of the penalty on squared weights."""


@dataclass(frozen=True)
class Classifier:
    """Weights of the hashed n-grams, words first; `trained_on` are hashes of the texts it saw.

    `errors` is what was measured of it, by name; see `validation`.
    """

    weights: npt.NDArray[np.float64]
    intercept: float
    trained_on: frozenset[str]
    errors: dict[str, Any] = field(default_factory=dict)

    def probability(self, texts: Sequence[str]) -> list[float]:
        """How likely each text is offensive, as this classifier sees it."""
        if not texts:
            return []
        found: npt.NDArray[np.float64] = expit(_features(texts) @ self.weights + self.intercept)
        return [float(value) for value in found]

    def has_seen(self, text: str) -> bool:
        """Whether the text, but for case and blanks, was among those it was trained on."""
        return digest(text) in self.trained_on

    def save(self, folder: Path) -> None:
        """Write the two files of a classifier; the settings, written last, name the weights."""
        folder.mkdir(parents=True, exist_ok=True)
        content = save({"weights": self.weights, "intercept": np.array([self.intercept])})
        settings = {
            "format": FORMAT,
            "features": NUM_FEATURES,
            "weights_sha256": hashlib.sha256(content).hexdigest(),
            "errors": self.errors,
            "trained_on": sorted(self.trained_on),
        }
        durable.replace(folder / WEIGHTS, content)
        durable.replace(folder / SETTINGS, json.dumps(settings, indent=1).encode("utf-8"))


def train(rows: Sequence[Labelled]) -> Classifier:
    """Fit a classifier; both labels weigh the same, however many texts have them.

    The same rows give the same weights.

    Raises:
        ConfigError: all texts have the same label, or the fit does not converge.
    """
    labels = [row.offensive for row in rows]
    if len(set(labels)) < 2:
        raise ConfigError(
            f"{len(rows)} labelled texts, {sum(labels)} of them offensive: a classifier needs "
            "texts of both labels."
        )
    model = LogisticRegression(C=C, max_iter=1000, class_weight="balanced")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            model.fit(_features([row.text for row in rows]), labels)
    except ConvergenceWarning:
        raise ConfigError(
            f"the classifier of {len(rows)} texts did not converge in 1000 steps."
        ) from None
    return Classifier(
        np.array(model.coef_[0], dtype=np.float64),
        float(model.intercept_[0]),
        frozenset(digest(row.text) for row in rows),
    )


def load_classifier(folder: Path) -> Classifier:
    """The classifier that `save` wrote.

    Raises:
        ConfigError: a file is missing, foreign or damaged.
    """
    advice = "give a folder that `foundling classifier train` wrote."
    for name in (SETTINGS, WEIGHTS):
        if not (folder / name).is_file():
            raise ConfigError(f"{folder}: has no {name}; {advice}")
    settings = load_json(folder / SETTINGS)
    expected = {"format", "features", "weights_sha256", "errors", "trained_on"}
    if set(settings) != expected or settings["format"] != FORMAT:
        raise ConfigError(f'{folder / SETTINGS}: is not of the format "{FORMAT}"; {advice}')
    content = (folder / WEIGHTS).read_bytes()
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ConfigError(f"{folder / WEIGHTS}: is not safetensors ({error}); {advice}") from None
    _check(folder / WEIGHTS, tensors)
    if hashlib.sha256(content).hexdigest() != settings["weights_sha256"]:
        raise ConfigError(f"{folder / WEIGHTS}: are not the weights that {SETTINGS} names.")
    seen, errors = settings["trained_on"], settings["errors"]
    whole = settings["features"] == NUM_FEATURES and isinstance(errors, dict)
    if not whole or not isinstance(seen, list) or not all(isinstance(one, str) for one in seen):
        raise ConfigError(f"{folder / SETTINGS}: features, errors or trained_on are broken.")
    return Classifier(tensors["weights"], float(tensors["intercept"][0]), frozenset(seen), errors)


def _check(path: Path, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    shapes = {name: (value.shape, str(value.dtype)) for name, value in tensors.items()}
    expected = {"weights": ((2 * NUM_FEATURES,), "float64"), "intercept": ((1,), "float64")}
    if shapes != expected:
        raise ConfigError(f"{path}: holds {shapes}; a classifier holds {expected}.")
    if not all(np.isfinite(value).all() for value in tensors.values()):
        raise ConfigError(f"{path}: a weight is not finite.")


def digest(text: str) -> str:
    """A short hash of a text that ignores case and white space."""
    return hashlib.sha256(plain(text).encode("utf-8", "replace")).hexdigest()[:16]


def plain(text: str) -> str:
    """The text in NFKC and lower case, with single blanks."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


def _features(texts: Sequence[str]) -> Any:
    """A row of hashed n-grams for each text: words, then characters within words."""
    return hstack([part.transform(texts) for part in _vectorizers()], format="csr")


@lru_cache(maxsize=1)
def _vectorizers() -> tuple[HashingVectorizer, HashingVectorizer]:
    return (
        HashingVectorizer(
            analyzer="word", ngram_range=(1, 2), n_features=NUM_FEATURES, preprocessor=plain,
            token_pattern=r"\S+",
        ),
        HashingVectorizer(
            analyzer="char_wb", ngram_range=(2, 5), n_features=NUM_FEATURES, preprocessor=plain
        ),
    )  # fmt: skip
