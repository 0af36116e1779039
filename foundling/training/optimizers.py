"""AdamW, and Muon for matrices, as one optimizer whose state is named by parameter."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from foundling.base.config import ConfigError, Section
from foundling.base.ranks import sum_over_ranks
from foundling.base.sharded import local
from foundling.training import shards
from foundling.training.low_bits import join, split
from foundling.training.muon import ShardedMuon

LOW_BITS = "low_bits"


class OptimizerSettings(Section):
    """How gradients become updates."""

    kind: Literal["adamw", "muon"] = "muon"
    """muon: matrices of the context module by Muon, the rest by AdamW; adamw: all by AdamW."""
    learning_rate: float = Field(3e-3, gt=0)
    """AdamW's."""
    muon_learning_rate: float = Field(5e-3, gt=0)
    """Muon's, scaled so that its updates are as large as AdamW's (match_rms_adamw)."""
    weight_decay: float = Field(0.1, ge=0)
    """For matrices; vectors and embeddings do not decay."""
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.95, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)
    muon_momentum: float = Field(0.95, ge=0, lt=1)
    clip: float = Field(1.0, ge=0)
    """The largest norm of the whole gradient; 0: no clipping."""

    @model_validator(mode="after")
    def _used(self) -> "OptimizerSettings":
        if self.kind == "adamw":
            for name in ("muon_learning_rate", "muon_momentum"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"the adamw optimizer does not use {name}")
        return self


class Optimizer:
    """One or two torch optimizers moved together.

    Parameters in bf16 are updated as the fp32 weights that they are the upper half of.

    Args:
        sums_gradients: a step has several backward passes; their gradients are summed in fp32.

    Source: Loshchilov and Hutter 2019 (AdamW); Jordan et al. 2024 (Muon); Liu et al. 2025, Muon is
    Scalable for LLM Training, section 2.2 (the scale of its updates).
    """

    def __init__(
        self, model: nn.Module, settings: OptimizerSettings, *, sums_gradients: bool = False
    ) -> None:
        self.names: dict[Tensor, str] = {
            p: name for name, p in model.named_parameters() if p.requires_grad
        }
        if not self.names:
            raise ConfigError("there is nothing to train: every parameter is frozen.")
        narrow = [p for p in self.names if p.dtype == torch.bfloat16]
        self.low_bits = {
            p: torch.zeros_like(local(p), dtype=torch.int16, requires_grad=False) for p in narrow
        }
        self.moved: dict[Tensor, Tensor] = {p: self._moved_for(p) for p in self.names}
        """What torch's optimizers move for each parameter: this rank's part of it, in fp32."""
        self.parts: dict[str, torch.optim.Optimizer] = {}
        by_muon = self._by_muon() if settings.kind == "muon" else []
        taken = set(map(id, by_muon))
        by_adamw = [p for p in self.names if id(p) not in taken]
        if by_adamw:
            self.parts["adamw"] = self._adamw(by_adamw, settings)
        if by_muon:
            self.parts["muon"] = self._muon(by_muon, settings)
        for parameter in narrow if sums_gradients else ():
            if not isinstance(parameter, DTensor):  # FSDP sums its own, as sharding says
                parameter.grad_dtype = torch.float32
        self.clip = settings.clip
        self._rates = {"adamw": settings.learning_rate, "muon": settings.muon_learning_rate}
        self.full_rates = dict(self._rates)
        self._turns = self._portions(by_muon, by_adamw)

    def _by_muon(self) -> list[Tensor]:
        """The matrices for Muon; sharded ones by size, so that their owners work equally long."""
        found = [p for p, name in self.names.items() if _is_matrix(name, p)]
        if any(isinstance(p, DTensor) for p in found):
            found.sort(key=lambda p: (p.numel(), p.shape))
        return found

    def _adamw(self, parameters: list[Tensor], settings: OptimizerSettings) -> torch.optim.AdamW:
        decaying = [p for p in parameters if _is_matrix(self.names[p], p)]
        plain = [p for p in parameters if not _is_matrix(self.names[p], p)]
        return torch.optim.AdamW(
            [
                {"params": [self.moved[p] for p in group], "weight_decay": decay}
                for group, decay in ((decaying, settings.weight_decay), (plain, 0.0))
                if group
            ],
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            eps=settings.eps,
            fused=True,
        )

    def _muon(self, matrices: list[Tensor], settings: OptimizerSettings) -> torch.optim.Muon:
        moved = [self.moved[p] for p in matrices]
        values: dict[str, Any] = {
            "lr": settings.muon_learning_rate,
            "weight_decay": settings.weight_decay,
            "momentum": settings.muon_momentum,
            "adjust_lr_fn": "match_rms_adamw",
        }
        sharded = [p for p in matrices if isinstance(p, DTensor)]
        if sharded:
            return ShardedMuon(moved, sharded, **values)
        return torch.optim.Muon(moved, **values)

    def _moved_for(self, parameter: Tensor) -> Tensor:
        """A whole parameter in fp32 itself, else one that is filled when it is moved."""
        if not self.low_bits and not isinstance(parameter, DTensor):
            return parameter
        return local(parameter).new_empty([0] * parameter.ndim, dtype=torch.float32)

    def _portions(self, by_muon: list[Tensor], by_adamw: list[Tensor]) -> list[list[Tensor]]:
        """What is moved at a time.

        What has low bits is made fp32 in small portions: one parameter, or as many shards as there
        are ranks, which is what Muon's owners work at together.
        """
        portions = [[p for p in [*by_muon, *by_adamw] if p not in self.low_bits]]
        for group in (by_muon, by_adamw):
            narrow = [p for p in group if p in self.low_bits]
            size = max([1, *(p.device_mesh.size() for p in narrow if isinstance(p, DTensor))])
            portions += [narrow[start : start + size] for start in range(0, len(narrow), size)]
        return portions

    def set_rate_share(self, share: float) -> None:
        """Set every learning rate to `share` of its full value."""
        for part, optimizer in self.parts.items():
            for group in optimizer.param_groups:
                group["lr"] = share * self.full_rates[part]

    def learning_rates(self) -> dict[str, float]:
        """The learning rate of each part now."""
        return {part: float(o.param_groups[0]["lr"]) for part, o in self.parts.items()}

    def finish_gradients(self, count: float) -> float:
        """Divide the summed gradients by the count of targets and clip them.

        Returns the norm of the divided gradients before clipping.

        Args:
            count: of all ranks.
        """
        having = [p for p in self.names if p.grad is not None]
        gradients = [local(gradient) for p in having if (gradient := p.grad) is not None]
        norms = torch._foreach_norm(gradients, 2, dtype=torch.float32)
        (whole,) = _norms_over_ranks(having, torch.stack(norms)[None])
        norm = whole / count
        scale = self.clip / norm if 0 < self.clip < norm else 1.0
        torch._foreach_mul_(gradients, scale / count)
        return norm

    @torch.no_grad()
    def step(self) -> None:
        for parameters in self._turns:
            for parameter in parameters:
                self._take(parameter)
            for optimizer in self.parts.values():
                optimizer.step()
            for parameter in parameters:
                self._put_back(parameter)

    def _take(self, parameter: Tensor) -> None:
        """Give torch's optimizer the weights and the gradient that it moves."""
        moved = self.moved[parameter]
        if moved is parameter:
            return
        weight, gradient = local(parameter), parameter.grad
        if parameter in self.low_bits:
            weight = join(weight, self.low_bits[parameter])
        moved.data, moved.grad = weight, None if gradient is None else local(gradient).float()

    def _put_back(self, parameter: Tensor) -> None:
        """Give the model the weights that were moved."""
        moved = self.moved[parameter]
        if parameter in self.low_bits:
            halves = local(parameter), self.low_bits[parameter]
            for half, changed in zip(halves, split(moved), strict=True):
                half.copy_(changed)
        if moved is not parameter:
            moved.grad = None
            moved.data = moved.new_empty([0] * moved.ndim)

    def step_measured(self) -> tuple[float, float]:
        """Step; returns the norm of the change and the norm of what was changed.

        Both are estimated from the first sixteenth of each parameter: a copy of all of them would
        cost memory and, on small models, a hundredth of a step.
        """
        before = [part.clone() for part in self._parts_of_weights()]
        self.step()
        changes = torch._foreach_sub(self._parts_of_weights(), before)
        norms = [torch.stack(torch._foreach_norm(parts)).float() for parts in (changes, before)]
        shares = [p.numel() / _measured_size(p) for p in self.names]
        weights = torch.tensor(shares, device=norms[0].device).sqrt()
        change, whole = _norms_over_ranks(self.names, torch.stack(norms) * weights)
        return change, whole

    def _parts_of_weights(self) -> list[Tensor]:
        """What of this rank's weights is measured: of the model the same, however many ranks."""
        parts = []
        for parameter in self.names:
            size = max(0, _measured_size(parameter) - shards.first_element(parameter))
            part = local(parameter).detach().flatten()[:size]
            if parameter in self.low_bits:
                part = join(part, self.low_bits[parameter].flatten()[:size])
            parts.append(part)
        return parts

    def zero_grad(self) -> None:
        for parameter in self.names:
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """Every tensor of the state, by `part/parameter/name`."""
        return {
            f"{part}/{self.names[p]}/{key}": value
            if value.ndim == 0
            else shards.sharded_like(p, value)
            for part, p, key, value in self._entries()
        }

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the state that `state` gave.

        The learning rates are those of the settings again.

        Raises:
            ConfigError: it belongs to another model or other optimizer settings.
        """
        self.full_rates = dict(self._rates)
        found: dict[tuple[str, str], dict[str, Tensor]] = {}
        for key, value in tensors.items():
            part, name, entry = key.split("/")
            found.setdefault((part, name), {})[entry] = value
        for parameter, bits in self.low_bits.items():
            kept = found.pop((LOW_BITS, self.names[parameter]), {})
            bits.copy_(shards.part_of(parameter, kept.get("bits", torch.zeros(()))))
        for optimizer in self.parts.values():
            optimizer.state.clear()
        for parameter, (part, moved) in self._places().items():
            for key, value in found.pop((part, self.names[parameter]), {}).items():
                mine = shards.part_of(parameter, value).to(moved.device, copy=True)
                self.parts[part].state[moved][key] = mine
        if found:
            part, name = next(iter(found))
            raise ConfigError(
                f"the saved optimizer state has {part} of {name}, which this run's optimizer has "
                "not: resume with the settings the run was started with."
            )

    def _entries(self) -> Iterator[tuple[str, Tensor, str, Tensor]]:
        for parameter, (part, moved) in self._places().items():
            for key, value in self.parts[part].state.get(moved, {}).items():
                yield part, parameter, key, value
        for parameter, bits in self.low_bits.items():
            yield LOW_BITS, parameter, "bits", bits

    def _places(self) -> dict[Tensor, tuple[str, Tensor]]:
        """By which of torch's optimizers, and as what, each parameter is moved."""
        wholes = {moved: parameter for parameter, moved in self.moved.items()}
        return {
            wholes[moved]: (part, moved)
            for part, optimizer in self.parts.items()
            for group in optimizer.param_groups
            for moved in group["params"]
        }


def _measured_size(parameter: Tensor) -> int:
    """How many of a parameter's elements, the first ones, stand for all."""
    return max(1, parameter.numel() // 16)


def _norms_over_ranks(parameters: Iterable[Tensor], norms: Tensor) -> list[float]:
    """The norms of whole parameters together, row by row, of those of this rank's parts."""
    holders = norms.new_tensor([shards.num_holders(parameter) for parameter in parameters])
    mine = torch.linalg.vector_norm(norms / holders.sqrt(), dim=1).tolist()
    return [math.sqrt(square) for square in sum_over_ranks(*(norm * norm for norm in mine))]


def _is_matrix(name: str, parameter: Tensor) -> bool:
    """A matrix that maps vectors to vectors; embeddings look up, the unembedding scores words.

    An adapter's are thin factors of one: to make each orthogonal, or to decay it, is another thing.
    """
    return parameter.ndim == 2 and "embed" not in name and "lora_" not in name
