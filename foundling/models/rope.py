"""Rotary positions: how far each pair of a query or key turns, and how that stretches.

The scalings are those of `transformers.modeling_rope_utils`, number for number.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Discriminator, Field, Tag
from torch import Tensor

from foundling.base.config import Section
from foundling.models.batch import BatchView
from foundling.models.positions import rotary_angles


class _Scaling(Section):
    """Stretches rotary frequencies, so that a model reads further than it was trained to.

    `depends_on_length`: the frequencies change with the length of the document.
    """

    depends_on_length: ClassVar[bool] = False

    @property
    def magnitude(self) -> float:
        """What the cosines and sines are multiplied by."""
        return 1.0

    def frequencies(
        self, theta: float, exponents: Float[Tensor, " half"], lengths: Tensor | None
    ) -> Float[Tensor, "*#batch half"]:
        """The angle of each pair per position; `lengths` of the documents where they matter."""
        raise NotImplementedError


class LinearScaling(_Scaling):
    """All frequencies divided by `factor`. Source: Chen et al. 2023, Position Interpolation."""

    type: Literal["linear"] = "linear"
    factor: float = Field(gt=0)

    def frequencies(self, theta: float, exponents: Tensor, lengths: Tensor | None) -> Tensor:
        return 1.0 / theta**exponents / self.factor


class Llama3Scaling(_Scaling):
    """Low frequencies divided by `factor`, high ones kept, a ramp between. Source: Llama 3.1."""

    type: Literal["llama3"] = "llama3"
    factor: float = Field(gt=0)
    low_freq_factor: float = Field(gt=0)
    high_freq_factor: float = Field(gt=0)
    original_context: int = Field(gt=0)

    def frequencies(self, theta: float, exponents: Tensor, lengths: Tensor | None) -> Tensor:
        plain = 1.0 / theta**exponents
        wavelengths = 2 * math.pi / plain
        low, high = self.low_freq_factor, self.high_freq_factor
        share = (self.original_context / wavelengths - low) / (high - low)
        between = (1 - share) * plain / self.factor + share * plain
        stretched = torch.where(
            wavelengths > self.original_context / low, plain / self.factor, between
        )
        return torch.where(wavelengths < self.original_context / high, plain, stretched)


class YarnScaling(_Scaling):
    """Frequencies divided by `factor` below a band of rotations. Source: Peng et al. 2023, YaRN."""

    type: Literal["yarn"] = "yarn"
    factor: float = Field(gt=0)
    original_context: int = Field(gt=0)
    attention_factor: float | None = Field(None, gt=0)
    """None: 0.1 · ln(factor) + 1, as in the paper."""
    beta_fast: float = Field(32.0, gt=0)
    beta_slow: float = Field(1.0, gt=0)
    truncate: bool = True
    """The band's ends are rounded to whole pairs."""

    @property
    def magnitude(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        return yarn_magnitude(self.factor)

    def frequencies(self, theta: float, exponents: Tensor, lengths: Tensor | None) -> Tensor:
        half = len(exponents)
        low, high = (self._pair(beta, theta, half) for beta in (self.beta_fast, self.beta_slow))
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, 2 * half - 1)
        pairs = torch.arange(half, dtype=torch.float32, device=exponents.device)
        ramp = ((pairs - low) / ((high - low) or 0.001)).clamp(0, 1)
        powers = theta**exponents
        kept = 1 - ramp
        return 1.0 / (self.factor * powers) * (1 - kept) + 1.0 / powers * kept

    def _pair(self, rotations: float, theta: float, half: int) -> float:
        """Which pair turns so many times within the original context."""
        turns = self.original_context / (rotations * 2 * math.pi)
        return 2 * half * math.log(turns) / (2 * math.log(theta))


def yarn_magnitude(factor: float, weight: float = 1.0) -> float:
    """YaRN's rule for the cosines and sines. Source: Peng et al. 2023, equation 22."""
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


class DynamicScaling(_Scaling):
    """The base grows with the length of a document beyond the original context.

    Source: NTK-aware scaling, as in `transformers` (`rope_type` "dynamic").
    """

    depends_on_length: ClassVar[bool] = True

    type: Literal["dynamic"] = "dynamic"
    factor: float = Field(ge=1)
    original_context: int = Field(gt=0)

    def regime(self, lengths: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
        """Documents of one regime have the same frequencies."""
        return lengths.clamp(min=self.original_context)

    def frequencies(self, theta: float, exponents: Tensor, lengths: Tensor | None) -> Tensor:
        assert lengths is not None
        dim, longest = 2 * len(exponents), self.regime(lengths)[..., None]
        growth = self.factor * longest / self.original_context - (self.factor - 1)
        return 1.0 / (theta * growth ** (dim / (dim - 2))) ** exponents


class LongRopeScaling(_Scaling):
    """A divisor for each pair, of two lists: for documents up to the original context, or longer.

    Source: Ding et al. 2024, LongRoPE, as in Phi-3.
    """

    depends_on_length: ClassVar[bool] = True

    type: Literal["longrope"] = "longrope"
    short_factor: tuple[float, ...] = Field(min_length=1)
    long_factor: tuple[float, ...] = Field(min_length=1)
    original_context: int = Field(gt=0)
    attention_factor: float = Field(1.0, gt=0)

    @property
    def magnitude(self) -> float:
        return self.attention_factor

    def regime(self, lengths: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
        """Documents of one regime have the same frequencies."""
        return (lengths > self.original_context).long()

    def frequencies(self, theta: float, exponents: Tensor, lengths: Tensor | None) -> Tensor:
        assert lengths is not None
        factors = torch.tensor((self.short_factor, self.long_factor), device=exponents.device)
        return 1.0 / (factors[self.regime(lengths)] * theta**exponents)


def _type_of(given: Any) -> Any:
    return given.get("type") if isinstance(given, Mapping) else getattr(given, "type", None)


RopeScaling = Annotated[
    Annotated[LinearScaling, Tag("linear")]
    | Annotated[DynamicScaling, Tag("dynamic")]
    | Annotated[Llama3Scaling, Tag("llama3")]
    | Annotated[YarnScaling, Tag("yarn")]
    | Annotated[LongRopeScaling, Tag("longrope")],
    Discriminator(
        _type_of,
        custom_error_type="rope_type",
        custom_error_message="type must be linear, dynamic, llama3, yarn or longrope",
    ),
]


@dataclass(frozen=True)
class Rope:
    """Turns the first `dim` numbers of each query and key by their position.

    Source: Su et al. 2021, RoFormer, equation 15; halves rotate together as in Llama and Qwen.
    """

    dim: int
    theta: float
    scaling: RopeScaling | None = None

    @property
    def depends_on_length(self) -> bool:
        """The frequencies change with the length of the document."""
        return self.scaling is not None and self.scaling.depends_on_length

    def frequencies(
        self, lengths: Tensor | None = None, device: torch.device | None = None
    ) -> Float[Tensor, "*#batch half"]:
        """The angle of each pair per position, in fp32; `lengths` where the scaling needs them."""
        exponents = torch.arange(0, self.dim, 2, device=device).float() / self.dim
        if self.scaling is None:
            return 1.0 / self.theta**exponents
        return self.scaling.frequencies(self.theta, exponents, lengths)

    def angles(
        self, view: BatchView
    ) -> tuple[Float[Tensor, "batch 1 time half"], Float[Tensor, "batch 1 time half"]]:
        """Cosine and sine of position · frequency, in fp32."""
        if self.scaling is None:
            return rotary_angles(view.positions, self.dim, self.theta)
        lengths = document_lengths(view)[:, None] if self.depends_on_length else None
        frequencies = self.frequencies(lengths, view.positions.device)
        angles = view.positions.float()[:, None, :, None] * frequencies
        magnitude = self.scaling.magnitude
        return angles.cos() * magnitude, angles.sin() * magnitude

    def regime(self, view: BatchView) -> Int[Tensor, " batch"]:
        """Which frequencies the one document of each row is read with."""
        assert isinstance(self.scaling, DynamicScaling | LongRopeScaling)
        return self.scaling.regime(document_lengths(view).amax(1))


def document_lengths(view: BatchView) -> Int[Tensor, "batch time"]:
    """How long each token's document is; a tree is as long as its longest branch."""
    ends = view.positions + 1
    if view.documents is None:
        return ends.amax(1, keepdim=True).expand_as(ends)
    longest = torch.zeros_like(ends).scatter_reduce(1, view.documents, ends, "amax")
    return longest.gather(1, view.documents)
