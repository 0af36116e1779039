"""The device and the precision that a run computes with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import torch
from torch import nn

from foundling.base import ranks, runtime
from foundling.base.config import ConfigError
from foundling.base.precision import PRECISIONS, pick_precision
from foundling.base.ranks import on_first
from foundling.runs.run import Run
from foundling.stages.settings import StageConfig, TrainingSettings

MEMORY_SHARE = 1 / 6

Config = TypeVar("Config", bound=StageConfig)


@dataclass(frozen=True)
class Machine:
    """What a run computes on."""

    device: torch.device
    precision: torch.dtype
    weights: torch.dtype = torch.float32
    """Of the matrices that learn."""

    @classmethod
    def of(
        cls, settings: TrainingSettings, model: nn.Module, context: int, run: Path | None = None
    ) -> Self:
        """Make the machine ready to train `model`.

        Where the precision is `auto`, a run that is resumed (`run`) keeps the one it began with.

        Raises:
            ConfigError: there is no such device or precision here, or weights that products in this
                precision cannot take.
        """
        runtime.keep_memory()
        runtime.use_threads(settings.threads)
        device = runtime.pick_device(settings.device)
        runtime.use_deterministic_sums(device)
        name = settings.precision
        if name == "auto" and run is not None:
            began = Run.open(run).manifest
            if began.get("device") == device.type:
                name = began["precision"]
        if settings.weights == "bf16" and name != "bf16":
            if name != "auto":
                raise ConfigError(
                    f'training.weights = "bf16" with training.precision = "{name}": weights in '
                    'bf16 are multiplied in bf16; set both to "bf16", or weights to "fp32".'
                )
            name = "bf16"
        num_tokens = (settings.micro_batch_size or settings.batch_size) * context
        precision = on_first(lambda: pick_precision(name, device, model, num_tokens))
        return cls(device, precision, PRECISIONS[settings.weights])

    @property
    def values(self) -> dict[str, str]:
        """For the manifest."""
        (precision,) = (name for name, kind in PRECISIONS.items() if kind == self.precision)
        return {"device": self.device.type, "precision": precision}


def tokens_at_once(model: nn.Module, device: torch.device) -> int:
    """How many tokens may be worked at a time, so that what is kept for the gradient fits.

    That is about what goes into and comes out of each matrix, in fp32; it may take a sixth of the
    memory, beside weights, gradients and other programs; processes share that of a machine.
    """
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    # The last one is the head, whose losses are worked out chunk by chunk.
    kept = 4 * sum(module.in_features + module.out_features for module in linears[:-1])
    memory = runtime.memory_bytes(device) * MEMORY_SHARE
    if device.type == "cpu":
        memory /= ranks.on_this_machine()
    return int(memory / max(kept, 1))


def with_precision(config: Config, precision: str) -> Config:
    """The settings with `auto` as it was measured: runs that are compared compute alike."""
    if config.training.precision != "auto":
        return config
    training = config.training.model_copy(update={"precision": precision})
    return config.model_copy(update={"training": training})
