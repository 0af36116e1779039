"""How an engine uses the machine, and the runner that follows from it."""

from typing import Literal

import torch
from pydantic import Field, model_validator

from foundling.base.config import ConfigError, Section
from foundling.generation.kernels.weights import Format
from foundling.generation.packed import PackedModel
from foundling.generation.packed_runner import PackedRunner
from foundling.generation.runners import Runner, StateRunner
from foundling.generation.torch_runner import TorchRunner
from foundling.models.language_model import LanguageModel
from foundling.models.quantised import QuantisedLora

CPU_BATCH, GPU_BATCH = 32, 256


class EngineSettings(Section):
    """How an engine shares the machine among its requests."""

    max_batch: int | None = Field(None, gt=0)
    """The most requests that are generated at once; None: 32 on a CPU, 256 on a GPU."""
    queue_size: int = Field(1024, gt=0)
    """The most requests that wait beside those that are generated."""
    prefill_chunk: int = Field(512, gt=0)
    """The most tokens of prompts that are read between two generated tokens."""
    cache_bytes: int | None = Field(None, gt=0)
    """Memory for keys and values; None: 1 GiB, or what the longest context needs."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the weights as they are multiplied."""
    quantize: Literal["none", "int8", "int4"] = "none"
    """On a CPU: round the weights to so many bits."""
    prefix_cache: bool = True
    """Keep what was read for requests that begin with the same tokens."""
    lookup: bool = False
    """Check several tokens at once that followed the last few earlier in the same text. What is
    generated is the same; texts that repeat themselves are faster."""
    draft: str | None = None
    """A smaller model of the same tokenizer, whose guesses are checked several at once: a run, a
    checkpoint, a model folder, or hub:owner/name. What is generated is the same. Each engine
    has its own in memory, with `cache_bytes` for its keys and values too."""

    @model_validator(mode="after")
    def _is_rounded_once(self) -> "EngineSettings":
        if self.quantize != "none" and self.precision != "fp32":
            raise ValueError(
                f"precision = {self.precision} and quantize = {self.quantize}: both say how the "
                "weights are rounded; give one of them"
            )
        return self

    @property
    def format(self) -> Format:
        """How the kernels hold the weights."""
        return self.precision if self.quantize == "none" else self.quantize

    def most_at_once(self, device: torch.device) -> int:
        """How many requests are generated at once on a device."""
        return self.max_batch or (CPU_BATCH if device.type == "cpu" else GPU_BATCH)


def make_runner(model: LanguageModel | PackedModel, settings: EngineSettings) -> Runner:
    """The runner that suits a model where it is.

    On a CPU a sequence's logits depend on nothing but its tokens: the kernels work row by row, and
    what they cannot do is read sequence by sequence.

    Raises:
        ConfigError: the model cannot be run in this precision here.
    """
    if isinstance(model, PackedModel):
        return PackedRunner(model, cache_bytes=settings.cache_bytes)
    if model.device.type != "cpu":
        if settings.quantize != "none":
            raise ConfigError(f"quantize = {settings.quantize}: only on a CPU; use --device cpu.")
        if TorchRunner.supports(model):
            return TorchRunner(
                model, cache_bytes=settings.cache_bytes, precision=settings.precision
            )
    elif _may_be_copied(model) and PackedModel.supports(model):
        return PackedRunner(
            model,
            precision=settings.precision,
            quantize=settings.quantize,
            cache_bytes=settings.cache_bytes,
        )
    for name, usual in (("quantize", "none"), ("precision", "fp32")):
        if (given := getattr(settings, name)) != usual:
            raise ConfigError(
                f"{name} = {given}: only for transformers whose rotary frequencies do not depend "
                "on the length, and on a CPU where a C++ compiler is found; leave it out."
            )
    return StateRunner(model)


def _may_be_copied(model: LanguageModel) -> bool:
    """Not where it is held in few bits, for lack of memory, nor in fp64."""
    in_few_bits = any(isinstance(part, QuantisedLora) for part in model.modules())
    return not in_few_bits and model.embed.weight.dtype != torch.float64
