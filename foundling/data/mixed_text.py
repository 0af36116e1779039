"""Pretraining batches from a mixture: whose turn a sample is, and which row of that source."""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from foundling.base.config import ConfigError
from foundling.base.intervals import Intervals, kept
from foundling.base.runtime import derive_seed
from foundling.data.mixture import Mixture
from foundling.data.text import Place, TextData, rows_of
from foundling.data.turns import Turns
from foundling.models.batch import TokenBatch


class MixedText:
    """Samples of several sources in the order of their turns, each in the order of its epochs.

    A sample is a row of `context` tokens of one source. All rows are equally long, so shares of
    samples are shares of tokens.

    Args:
        num_samples: of the training that the mixture's stages are shares of; afterwards the last
            stage goes on.

    Raises:
        ConfigError: a source is shorter than a row, or a stage's rows cannot be cut as it says.
    """

    def __init__(
        self,
        mixture: Mixture,
        *,
        context: int,
        batch_size: int,
        seed: int,
        num_samples: int,
        decode: Callable[[Sequence[int]], str] = str,
    ) -> None:
        self.mixture, self.context, self.batch_size = mixture, context, batch_size
        self.names = mixture.names
        self.texts: list[TextData] = []
        for name, store in mixture.stores.items():
            try:
                text = TextData(
                    store.split("train"),
                    context=context,
                    batch_size=batch_size,
                    seed=derive_seed(seed, "source", name),
                    decode=decode,
                )
            except ConfigError as error:
                raise ConfigError(f"{name}: {error}") from None
            self.texts.append(text)
        self.rows_per_epoch = sum(text.rows_per_epoch for text in self.texts)
        """As many rows as all sources have together."""
        mixture.check_context(context)
        self.stretches = mixture.stretches(num_samples)
        legs = [leg for stretch in self.stretches for leg in stretch.legs]
        self.turns = Turns(legs)
        self._firsts = [stretch.first for stretch in self.stretches]
        identity = {
            "texts": {
                name: text.fingerprint for name, text in zip(self.names, self.texts, strict=True)
            },
            "legs": [(leg.first, leg.parts) for leg in legs],
            "lengths": [(stretch.first, stretch.length) for stretch in self.stretches],
        }
        self.fingerprint = hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def batch(self, index: int, skipped: Intervals = ()) -> TokenBatch:
        indices = range(index * self.batch_size, (index + 1) * self.batch_size)
        return self.samples([kept(skipped, i) for i in indices])

    def samples(self, samples: Sequence[int]) -> TokenBatch:
        """The rows of these samples."""
        return rows_of([self._place(sample) for sample in samples], self.context)

    def describe(self, sample: int) -> dict[str, Any]:
        """The source of a sample, where in it the sample lies, and its text."""
        source, row = self.turns.turn(sample)
        return {"source": self.names[source], **self.texts[source].describe(row)}

    def _place(self, sample: int) -> Place:
        source, row = self.turns.turn(sample)
        text = self.texts[source]
        stretch = self.stretches[bisect_right(self._firsts, sample) - 1]
        return Place(text.split, text.start_of(row), stretch.length)


def text_data(
    mixture: Mixture,
    *,
    context: int,
    batch_size: int,
    seed: int,
    num_samples: int = 0,
    decode: Callable[[Sequence[int]], str] = str,
) -> TextData | MixedText:
    """The training text of a mixture in batches; without `num_samples`, its last stage alone.

    Raises:
        ConfigError: as `TextData` and `MixedText`.
    """
    if mixture.is_plain:
        (store,) = mixture.stores.values()
        return TextData(
            store.split("train"),
            context=context,
            batch_size=batch_size,
            seed=seed,
            decode=decode,
        )
    return MixedText(
        mixture,
        context=context,
        batch_size=batch_size,
        seed=seed,
        num_samples=num_samples,
        decode=decode,
    )
