"""A mixture of token stores: a file that says which, in what shares, and how these change."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from math import lcm
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from foundling.base.config import ConfigError, Section, load_json, load_toml
from foundling.base.object_store import is_url
from foundling.data.manifest import StoreError
from foundling.data.store import TokenStore
from foundling.data.turns import Leg
from foundling.text.tokenizer import Tokenizer

FINEST = 10_000
"""Weights are rounded to one in so many, unless a smaller number makes them exact."""
RAMP = 32
"""Steps in which weights that change evenly are changed."""
MOST_SOURCES = 1000
FILES = (".toml", ".json")
"""How the name of a mixture's file ends; all else is the folder of a token store."""


class SourceSettings(Section):
    """One token store."""

    data: str
    """Its folder, or its URL; a relative folder starts from that of the mixture's file."""
    name: str = ""
    """How it is called in tables, metrics and events; empty: as its folder."""
    weight: float | None = Field(None, ge=0)
    """Its share of the tokens that are trained on, in any unit; where no source has one, each has
    as much as it has tokens."""

    @property
    def called(self) -> str:
        return self.name or Path(self.data).name


class StageSettings(Section):
    """A part of the training with weights or a row length of its own."""

    until: float = Field(gt=0, le=1)
    """The share of the training at which it ends; the last one ends at 1."""
    weights: dict[str, float] = Field(default_factory=dict)
    """By the name of a source; one that is not named has none. Empty: those of the sources."""
    ramp: bool = False
    """Whether the weights change evenly during this stage, from those of the stage before to
    these."""
    length: int | None = Field(None, gt=1)
    """Rows are cut into pieces of so many tokens, which do not see one another: a curriculum from
    short to long contexts. None: rows stay whole."""


class MixtureSettings(Section):
    """The content of a mixture's file, TOML or JSON."""

    sources: tuple[SourceSettings, ...] = Field(min_length=1, max_length=MOST_SOURCES)
    stages: tuple[StageSettings, ...] = ()
    """In order; none: the weights of the sources hold throughout."""

    @model_validator(mode="after")
    def _fitting(self) -> "MixtureSettings":
        names = [source.called for source in self.sources]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f'two sources are called "{twice}": give each a name of its own')
        given = [source.weight is not None for source in self.sources]
        if any(given) and not all(given):
            raise ValueError("give each source a weight, or none of them")
        weights = [{s.called: s.weight or 0 for s in self.sources}] if any(given) else []
        for stage in self.stages:
            if unknown := next((name for name in stage.weights if name not in names), None):
                raise ValueError(f'weights: no source is called "{unknown}" ({", ".join(names)})')
            if stage.weights:
                weights.append(stage.weights)
        for some in weights:
            if min(some.values()) < 0 or not sum(some.values()):
                raise ValueError("weights: at least 0, and more than 0 together")
        untils = [0.0, *(stage.until for stage in self.stages)]
        if self.stages and (untils[-1] != 1 or any(b <= a for a, b in pairwise(untils))):
            raise ValueError("stages: each must end (until) after the one before, the last at 1")
        if self.stages and self.stages[0].ramp:
            raise ValueError("stages: the first has no weights before it to start a ramp from")
        return self


@dataclass(frozen=True)
class Stretch:
    """A stage in samples, and what it is made of."""

    first: int
    stop: int | None
    """None: it has no end."""
    legs: tuple[Leg, ...]
    length: int | None
    """Tokens of a piece of a row; None: rows are whole."""


class Mixture:
    """Token stores of one tokenizer that are read together; one store alone is a mixture too.

    Raises:
        ConfigError: a store cannot be opened, or has another tokenizer than the first.
    """

    def __init__(self, settings: MixtureSettings, folder: Path = Path()) -> None:
        self.settings = settings
        self.stores = {
            s.called: TokenStore.open(s.data if is_url(s.data) else folder / s.data)
            for s in settings.sources
        }
        (first, one), *others = self.stores.items()
        for name, store in others:
            if store.manifest.tokenizer_fingerprint != one.manifest.tokenizer_fingerprint:
                raise ConfigError(
                    f'the sources "{first}" and "{name}" have different tokenizers; prepare '
                    f"{store.path} again with --tokenizer {one.path}."
                )

    @classmethod
    def open(cls, path: Path | str) -> "Mixture":
        """The mixture that a file describes, or the token store of a folder or a URL.

        Args:
            path: a URL as a string, since a path keeps only one of its slashes.

        Raises:
            ConfigError: it is neither, or the file is at fault.
            OSError: a URL cannot be reached.
        """
        is_store = is_url(path) or Path(path).suffix not in FILES or Path(path).is_dir()
        if is_store:
            return cls(MixtureSettings(sources=(SourceSettings(data=str(path)),)))
        path = Path(path)
        values = load_json(path) if path.suffix == ".json" else load_toml(path)
        try:
            return cls(MixtureSettings.parse(values), path.parent)
        except ConfigError as error:
            raise type(error)(f"{path}: {error}") from None

    @classmethod
    def find(cls, place: str) -> "Mixture | None":
        """What a run read; None: its file or one of its stores is not there any more.

        Raises:
            ConfigError: the file is at fault.
        """
        if not is_url(place) and not Path(place).exists():
            return None
        try:
            return cls.open(place)
        except (StoreError, OSError):
            return None

    @property
    def names(self) -> list[str]:
        return list(self.stores)

    @property
    def is_scheduled(self) -> bool:
        """Whether it changes in the course of the training."""
        return len(self.settings.stages) > 1

    @property
    def is_plain(self) -> bool:
        """Whether it is one store, read as it is."""
        return len(self.stores) == 1 and not self.settings.stages

    @property
    def tokenizer_fingerprint(self) -> str:
        return next(iter(self.stores.values())).manifest.tokenizer_fingerprint

    def tokenizer(self) -> Tokenizer:
        return next(iter(self.stores.values())).tokenizer()

    @property
    def is_lossless(self) -> bool:
        return all(store.manifest.lossless for store in self.stores.values())

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all tokens, weights and stages; of one plain store, the store's own."""
        if self.is_plain:
            return next(iter(self.stores.values())).fingerprint
        content = {
            "sources": {name: store.fingerprint for name, store in self.stores.items()},
            "weights": self._own_weights,
            "stages": [stage.values() for stage in self.settings.stages],
        }
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def check_context(self, context: int) -> None:
        """Refuse rows that some stage cannot cut into pieces.

        Raises:
            ConfigError: their `context` tokens are no multiple of its length.
        """
        for stage in self.settings.stages:
            if stage.length is not None and context % stage.length:
                raise ConfigError(
                    f"length = {stage.length}: the context of {context} tokens is not a multiple "
                    "of it."
                )

    def stretches(self, num_samples: int) -> list[Stretch]:
        """The stages of a training of so many samples; the last one never ends.

        Raises:
            ConfigError: a weight is too small to be kept.
        """
        stages = self.settings.stages or (StageSettings(until=1),)
        borders = [0, *(round(stage.until * num_samples) for stage in stages)]
        planned: list[list[tuple[int, list[Fraction]]]] = []
        before: list[Fraction] = []
        for stage, (first, stop) in zip(stages, pairwise(borders), strict=True):
            after = self._shares(stage.weights or self._own_weights)
            steps = min(RAMP, stop - first) if stage.ramp else 0
            legs = []
            for step in range(steps):
                way = Fraction(2 * step + 1, 2 * steps)
                mixed = [a + (b - a) * way for a, b in zip(before, after, strict=True)]
                legs.append((first + (stop - first) * step // steps, mixed))
            if not stage.ramp or stage is stages[-1]:
                legs.append((stop if stage.ramp else first, after))
            planned.append(legs)
            before = after
        exact = lcm(*(s.denominator for legs in planned for _, shares in legs for s in shares))
        base = exact if exact <= FINEST else FINEST
        return [
            Stretch(
                first,
                stop if number + 1 < len(stages) else None,
                tuple(Leg(at, _parts(shares, base)) for at, shares in legs),
                stage.length,
            )
            for number, (stage, (first, stop), legs) in enumerate(
                zip(stages, pairwise(borders), planned, strict=True)
            )
            if stop > first or number + 1 == len(stages)
        ]

    @property
    def _own_weights(self) -> dict[str, float]:
        return {
            source.called: self.stores[source.called].manifest.train.num_tokens
            if source.weight is None
            else source.weight
            for source in self.settings.sources
        }

    def _shares(self, weights: Mapping[str, float]) -> list[Fraction]:
        exact = [Fraction(str(weights.get(name, 0))) for name in self.names]
        shares = [weight / sum(exact) for weight in exact]
        for name, share in zip(self.names, shares, strict=True):
            if 0 < share < Fraction(1, FINEST):
                raise ConfigError(
                    f'the weight of "{name}" is {float(share):.2g} of the whole; the least is '
                    f"1/{FINEST:,}. Give it more, or leave the source out."
                )
        return shares

    def values(self) -> dict[str, Any]:
        """The mixture in plain types, for a run's manifest."""
        return {
            "sources": {
                name: {"data": str(store.path), "fingerprint": store.fingerprint}
                for name, store in self.stores.items()
            },
            "weights": self._own_weights,
            "stages": [stage.values() for stage in self.settings.stages],
        }


def _parts(shares: Sequence[Fraction], base: int) -> tuple[int, ...]:
    """The shares in parts of `base`, rounded by the largest remainders."""
    parts = [int(share * base) for share in shares]
    by_remainder = sorted(range(len(parts)), key=lambda n: parts[n] - shares[n] * base)
    for n in by_remainder[: base - sum(parts)]:
        parts[n] += 1
    return tuple(parts)
