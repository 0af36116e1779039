"""Work, time and cost of a run, and the sizes that make the best of a budget."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from foundling.base.config import ConfigError, suggest

UNITS = {"": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
         "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip
COUNTS = {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
DAY = 86_400
HOUR = 3_600


@dataclass(frozen=True)
class Gpu:
    """What a data sheet says of a GPU."""

    bf16: float
    """FLOP/s of dense products in bf16."""
    fp32: float
    """FLOP/s in fp32, outside the tensor cores."""
    memory: float
    """Bytes."""


GPUS: Mapping[str, Gpu] = {
    "a100": Gpu(312e12, 19.5e12, 80e9),
    "b200": Gpu(2250e12, 75e12, 180e9),
    "h100": Gpu(989e12, 67e12, 80e9),
    "h200": Gpu(989e12, 67e12, 141e9),
    "l4": Gpu(121e12, 30.3e12, 24e9),
    "l40s": Gpu(362e12, 91.6e12, 48e9),
    "mi300x": Gpu(1307e12, 163e12, 192e9),
    "rtx4090": Gpu(165e12, 82.6e12, 24e9),
}
"""Source: the makers' data sheets, of the SXM or OAM form where there are several, without
sparsity."""


@dataclass(frozen=True)
class ParametricLoss:
    """L(N, D) = E + A / N^alpha + B / D^beta, in nats a token, of N parameters and D tokens."""

    source: str
    e: float
    a: float
    b: float
    alpha: float
    beta: float

    def loss_nats(self, parameters: float, tokens: float) -> float:
        size: float = self.a / parameters**self.alpha
        data: float = self.b / tokens**self.beta
        return self.e + size + data

    def optimum(self, flops: float) -> tuple[float, float]:
        """The parameters and tokens of the lowest loss for so much work, counted as 6 N D.

        Source: Hoffmann et al. 2022, equation 4.
        """
        total = self.alpha + self.beta
        factor = (self.alpha * self.a / (self.beta * self.b)) ** (1 / total)
        parameters = factor * (flops / 6) ** (self.beta / total)
        return parameters, flops / 6 / parameters


RULES = (
    ParametricLoss("Hoffmann et al. 2022, approach 3", 1.69, 406.4, 410.7, 0.34, 0.28),
    ParametricLoss(
        "Besiroglu et al. 2024, refit of the same runs", 1.8172, 482.01, 2085.43, 0.3478, 0.3658
    ),
)
"""Both assume runs of under one epoch on web text with Chinchilla's tokenizer of 32,000, a learning
rate that decays over exactly the run, models of 70 million to 16 billion parameters, all of them
counted, and training alone: a model that will answer much is better smaller and trained longer."""
ASSUMES = (
    "less than one epoch of web text, a learning rate that decays over exactly the run, models of "
    "0.07 to 16 billion parameters, and no cost of inference"
)


def days(flops: float, rate: float) -> float:
    """How long so much work takes at a rate in FLOP/s."""
    return flops / rate / DAY


def gpu_of(name: str) -> Gpu:
    """Raises ConfigError: it is not in the table."""
    if name.lower() not in GPUS:
        raise ConfigError(f"--gpu {name}: not in the table {suggest(name.lower(), list(GPUS))}")
    return GPUS[name.lower()]


def read_bytes(text: str) -> float:
    """80GB, 79.6GiB or 16000000000. Raises ConfigError."""
    return _read(text, UNITS, "--memory", "80GB or 24GiB")


def read_count(text: str, option: str) -> float:
    """300B, 1.5T or 1e12. Raises ConfigError."""
    return _read(text, COUNTS, option, "300B, 1.5T or 1e12")


def _read(text: str, units: Mapping[str, float], option: str, example: str) -> float:
    found = re.fullmatch(r"([0-9.]+(?:[eE][+]?[0-9]+)?)\s*([A-Za-z]*)", text.strip())
    try:
        value = float(found[1]) * units[found[2].upper()] if found else 0.0
    except (ValueError, KeyError):
        value = 0.0
    if not 0 < value < float("inf"):
        raise ConfigError(f"{option} {text}: expected an amount such as {example}.")
    return value
