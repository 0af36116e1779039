"""How a model lies on several processes: replicated, sharded, or sharded within replicas."""

from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from foundling.base import ranks
from foundling.base.config import ConfigError, Section
from foundling.base.sharded import sharded_modules
from foundling.models.language_model import LanguageModel


class DistributedSettings(Section):
    """How the processes that a launcher started share a run; of no effect on one process."""

    shard: Literal["none", "full", "hybrid"] = "none"
    """none: each process holds the whole model; full: each a part of weights, gradients and
    optimizer; hybrid: each of several replicas is sharded by itself."""
    replicas: int | None = Field(None, gt=0)
    """Of hybrid; None: one for each machine."""
    gather: Literal["auto", "layer", "pass", "step"] = "auto"
    """How long gathered weights are kept: while their layer is worked (least memory), through a
    forward and backward pass, or through all passes of a step (least traffic; gradients, too, are
    then summed once a step). auto: step where nothing is sharded, or adapters learn over frozen
    weights; else layer."""
    cpu_offload: bool = False
    """Keep the shards and the optimizer in the host's memory, for models that the GPUs cannot
    hold."""
    timeout_seconds: float = Field(600.0, gt=0)
    """How long any part of a step may take, the first step three times as long; else the process
    is taken for hanging: the watchdog says which it is, and all end."""

    @model_validator(mode="after")
    def _used(self) -> "DistributedSettings":
        if self.replicas is not None and self.shard != "hybrid":
            raise ValueError(f'shard = "{self.shard}" does not use replicas ("hybrid" does)')
        return self

    def shape(self, world: int, processes_of_a_machine: int) -> tuple[int, int]:
        """How many replicas there are, and how many processes share one.

        Raises:
            ConfigError: so many replicas do not divide the processes.
        """
        if self.shard == "none" or world == 1:
            return world, 1
        if self.shard == "full":
            return 1, world
        replicas = self.replicas or max(1, world // processes_of_a_machine)
        if world % replicas:
            raise ConfigError(
                f"distributed.replicas = {replicas}: {world} processes do not divide into so many; "
                "give a divisor."
            )
        return replicas, world // replicas

    def gathers(self, model: nn.Module, shards: int) -> str:
        """How long the weights of a model are kept when they are gathered."""
        if self.gather != "auto":
            return self.gather
        frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
        mostly_frozen = 2 * frozen > sum(p.numel() for p in model.parameters())
        return "step" if shards == 1 or mostly_frozen else "layer"


class Sharding:
    """Spreads models over the processes; with one process they stay as they are.

    Gradients are summed over all processes, never averaged: the caller divides once by the count
    of all targets.

    Raises:
        ConfigError: the settings do not fit the number of processes or the device.
    """

    def __init__(
        self, settings: DistributedSettings, device: torch.device, precision: torch.dtype
    ) -> None:
        self.settings, self.device, self.precision = settings, device, precision
        self.replicas, self.shards = settings.shape(ranks.world(), ranks.on_this_machine())
        if settings.cpu_offload and device.type == "cpu":
            raise ConfigError(
                "distributed.cpu_offload: the run is on the CPU already; leave it out."
            )
        self._mesh: Any = None

    def shard(self, model: LanguageModel) -> None:
        """Bring a model to the device and spread it: one that learns, or one that is only read.

        Its blocks are gathered one by one; all else, tied weights among it, with the model. What is
        sharded comes to the device block by block: no device ever holds the whole model.
        """
        learns = any(parameter.requires_grad for parameter in model.parameters())
        if self.shards == 1:
            model.to(self.device)
        if ranks.world() == 1 or (self.shards == 1 and not learns):
            return
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        # No backward pass lets go of what a model that is only read has gathered.
        keeps = learns and self.gathers(model) != "layer"
        for block in [*getattr(model.context, "blocks", ()), model]:
            options = self._options(block)
            fully_shard(block, reshard_after_forward=block is not model and not keeps, **options)
        for module in sharded_modules(model):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
        register_fsdp_forward_method(model, "hidden")

    def require_fit(self, model: nn.Module) -> None:
        """Raise ConfigError where a model that learns cannot be spread."""
        if ranks.world() > 1 and torch.bfloat16 in {
            p.dtype for p in model.parameters() if p.requires_grad
        }:
            raise ConfigError(
                'training.weights = "bf16": several processes keep the weights in fp32; leave it '
                'out (distributed.shard = "full" saves more memory).'
            )

    def in_words(self) -> str:
        """What is added to a description of the machine."""
        if ranks.world() == 1:
            return ""
        how = {"none": "replicated", "full": "sharded"}.get(
            self.settings.shard, f"{self.replicas} replicas of {self.shards}"
        )
        return f" in each of {ranks.world()} processes ({how})"

    def gathers(self, model: nn.Module) -> str:
        """How long the weights of a model are kept when they are gathered."""
        return self.settings.gathers(model, self.shards)

    def begin_pass(self, model: nn.Module, is_last: bool) -> None:
        """Say, before a forward and backward pass, whether it is the last one of its step."""
        if not (modules := sharded_modules(model)):
            return
        if self.gathers(model) == "step":
            modules[0].set_requires_gradient_sync(is_last)
            modules[0].set_reshard_after_backward(is_last)
        else:  # gradients stay sharded between passes; replicas are summed once
            modules[0].set_requires_all_reduce(is_last)

    def _options(self, module: nn.Module) -> dict[str, Any]:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy

        if self._mesh is None:
            names = ("replicate", "shard")
            shape = (self.replicas, self.shards)
            self._mesh = init_device_mesh(self.device.type, shape, mesh_dim_names=names)
        options: dict[str, Any] = {"mesh": self._mesh}
        if self.shards == 1:  # what is frozen is the same everywhere already
            frozen = {p for p in module.parameters() if not p.requires_grad}
            options["ignored_params"] = frozen
        if self.device.type == "cuda" and self.precision != torch.float32:
            options["mp_policy"] = MixedPrecisionPolicy(
                param_dtype=self.precision, reduce_dtype=torch.float32, cast_forward_inputs=False
            )
        if self.settings.cpu_offload:
            options["offload_policy"] = CPUOffloadPolicy()
        return options
