"""What a training takes of each source of a mixture: tokens and epochs, stage by stage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foundling.data.mixture import Mixture
from foundling.data.turns import Leg, Turns

MOST_EPOCHS = 4
"""Passes over a text up to which repeated tokens are nearly as good as new ones.

Source: Muennighoff et al. 2023, Scaling Data-Constrained Language Models, arXiv:2305.16264.
"""


@dataclass(frozen=True)
class SourcePart:
    """What one source gives to one stage, or to the whole training."""

    name: str
    held: int
    """Tokens of its training split."""
    weight: tuple[float, float]
    """Its share at the beginning and at the end."""
    taken: int
    """Tokens."""

    @property
    def epochs(self) -> float:
        return self.taken / self.held

    def values(self) -> dict[str, Any]:
        return {
            "source": self.name,
            "tokens": self.held,
            "weight": list(self.weight),
            "tokens_taken": self.taken,
            "epochs": self.epochs,
        }


@dataclass(frozen=True)
class StagePlan:
    """One stage: up to which share of the training it goes, and what it is made of."""

    until: float
    length: int | None
    sources: tuple[SourcePart, ...]

    def values(self) -> dict[str, Any]:
        return {
            "until": self.until,
            "length": self.length,
            "sources": [source.values() for source in self.sources],
        }


@dataclass(frozen=True)
class MixturePlan:
    """All stages, and each source over the whole training."""

    tokens: int
    stages: tuple[StagePlan, ...]
    sources: tuple[SourcePart, ...]

    @classmethod
    def of(
        cls, mixture: Mixture, num_samples: int, context: int, scheduled: int | None = None
    ) -> "MixturePlan":
        """Of a training of so many rows of `context` tokens.

        Args:
            scheduled: rows that the stages are shares of, where they are others.

        Raises:
            ConfigError: a stage cannot cut such rows, or a weight is too small to be kept.
        """
        mixture.check_context(context)
        stretches = mixture.stretches(scheduled or num_samples)
        stretches = [stretch for stretch in stretches if stretch.first < num_samples]
        turns = Turns([leg for stretch in stretches for leg in stretch.legs])
        held = [store.manifest.train.num_tokens for store in mixture.stores.values()]
        stages, before = [], [0] * len(held)
        for stretch in stretches:
            stop = num_samples if stretch.stop is None else min(stretch.stop, num_samples)
            after = turns.counts(stop)
            given = [(b - a) * context for a, b in zip(before, after, strict=True)]
            parts = _parts(mixture.names, held, stretch.legs, turns.base, given)
            stages.append(StagePlan(stop / num_samples, stretch.length, parts))
            before = after
        taken = [count * context for count in before]
        every = [leg for stretch in stretches for leg in stretch.legs]
        whole = _parts(mixture.names, held, every, turns.base, taken)
        return cls(num_samples * context, tuple(stages), whole)

    @property
    def warnings(self) -> list[str]:
        """Sources that are repeated too often."""
        return [
            f"{source.name}: is read {source.epochs:.1f} times; beyond {MOST_EPOCHS} epochs "
            "repeated tokens are worth much less than new ones (Muennighoff et al. 2023, "
            "arXiv:2305.16264). Give it less weight, or more text."
            for source in self.sources
            if source.epochs > MOST_EPOCHS
        ]

    def values(self) -> dict[str, Any]:
        return {
            "tokens": self.tokens,
            "sources": [source.values() for source in self.sources],
            "stages": [stage.values() for stage in self.stages],
            "warnings": self.warnings,
        }


def _parts(
    names: Sequence[str],
    held: Sequence[int],
    legs: Sequence[Leg],
    base: int,
    taken: Sequence[int],
) -> tuple[SourcePart, ...]:
    first, last = legs[0].parts, legs[-1].parts
    return tuple(
        SourcePart(name, tokens, (a / base, b / base), given)
        for name, tokens, a, b, given in zip(names, held, first, last, taken, strict=True)
    )
