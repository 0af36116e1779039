"""AdamW, and Muon for matrices, as one optimizer whose state is named by parameter."""

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from foundling.base.config import ConfigError, Section
from foundling.base.sharded import like, whole
from foundling.training.low_bits import join, split

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
        matrices = [p for p, name in self.names.items() if _is_matrix(name, p)]
        by_muon = matrices if settings.kind == "muon" else []
        by_adamw = [p for p in self.names if not any(p is matrix for matrix in by_muon)]
        decaying = [p for p in by_adamw if _is_matrix(self.names[p], p)]
        plain = [p for p in by_adamw if not _is_matrix(self.names[p], p)]
        groups = [
            {"params": decaying, "weight_decay": settings.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.parts: dict[str, torch.optim.Optimizer] = {}
        if by_adamw:
            self.parts["adamw"] = torch.optim.AdamW(
                [group for group in groups if group["params"]],
                lr=settings.learning_rate,
                betas=(settings.beta1, settings.beta2),
                eps=settings.eps,
                fused=True,
            )
        if by_muon:
            self.parts["muon"] = torch.optim.Muon(
                by_muon,
                lr=settings.muon_learning_rate,
                weight_decay=settings.weight_decay,
                momentum=settings.muon_momentum,
                adjust_lr_fn="match_rms_adamw",
            )
        narrow = [p for p in self.names if p.dtype == torch.bfloat16]
        self.low_bits = {p: torch.zeros_like(p, dtype=torch.int16) for p in narrow}
        for parameter in narrow if sums_gradients else ():
            parameter.grad_dtype = torch.float32
        self.clip = settings.clip
        self._rates = {"adamw": settings.learning_rate, "muon": settings.muon_learning_rate}
        self.full_rates = dict(self._rates)

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
        """
        gradients = [p.grad for p in self.names if p.grad is not None]
        if self.low_bits:
            norms = torch._foreach_norm(gradients, 2, dtype=torch.float32)
            total = torch.linalg.vector_norm(torch.stack(norms))
        else:
            total = torch.nn.utils.get_total_norm(gradients)
        norm: float = whole(total).item() / count
        scale = self.clip / norm if 0 < self.clip < norm else 1.0
        torch._foreach_mul_(gradients, scale / count)
        return norm

    def step(self) -> None:
        if not self.low_bits:
            self._step_parts()
            return
        gradients = {p: p.grad for p in self.low_bits if p.grad is not None}
        for parameter in gradients:
            parameter.grad = None
        self._step_parts()
        self.zero_grad()
        for parameter, gradient in gradients.items():
            # One at a time: the fp32 weights of one parameter are in memory, not those of all.
            upper, lower = parameter.data, self.low_bits[parameter]
            parameter.data, parameter.grad = join(upper, lower), gradient.float()
            self._step_parts()
            for half, changed in zip((upper, lower), split(parameter.data), strict=True):
                half.copy_(changed)
            parameter.grad, parameter.data = None, upper

    def _step_parts(self) -> None:
        for optimizer in self.parts.values():
            optimizer.step()

    def step_measured(self) -> tuple[float, float]:
        """Step; returns the norm of the change and the norm of what was changed.

        Both are estimated from a sixteenth of each parameter: a copy of all of them would cost
        memory and, on small models, a hundredth of a step.
        """
        before = [part.clone() for part in self._parts_of_weights()]
        self.step()
        parts = self._parts_of_weights()
        changes = torch._foreach_norm(torch._foreach_sub(parts, before))
        norms = torch.stack([torch.stack(changes), torch.stack(torch._foreach_norm(before))])
        shares = [p.numel() / len(part) for p, part in zip(self.names, parts, strict=True)]
        weights = torch.tensor(shares, device=norms.device).sqrt()
        change, weight = torch.linalg.vector_norm(norms.float() * weights, dim=1).tolist()
        return change, weight

    def _parts_of_weights(self) -> list[Tensor]:
        parts = []
        for parameter in self.names:
            size = max(1, parameter.numel() // 16)
            part = whole(parameter.detach()).flatten()[:size]
            if parameter in self.low_bits:
                part = join(part, self.low_bits[parameter].flatten()[:size])
            parts.append(part)
        return parts

    def zero_grad(self) -> None:
        for optimizer in self.parts.values():
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Every tensor of the state, by `part/parameter/name`."""
        return {f"{part}/{self.names[p]}/{key}": value for part, p, key, value in self._entries()}

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
            bits.copy_(kept.get("bits", torch.zeros(())))
        for part, optimizer in self.parts.items():
            optimizer.state.clear()
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    entries = found.pop((part, self.names[parameter]), None)
                    if entries is not None:
                        optimizer.state[parameter] = {
                            k: like(v, parameter).to(parameter.device, copy=True)
                            if v.shape == parameter.shape
                            else v.to(parameter.device, copy=True)
                            for k, v in entries.items()
                        }
        if found:
            part, name = next(iter(found))
            raise ConfigError(
                f"the saved optimizer state has {part} of {name}, which this run's optimizer has "
                "not: resume with the settings the run was started with."
            )

    def _entries(self) -> Iterator[tuple[str, Tensor, str, Tensor]]:
        for part, optimizer in self.parts.items():
            for parameter, entries in optimizer.state.items():
                for key, value in entries.items():
                    yield part, parameter, key, value
        for parameter, bits in self.low_bits.items():
            yield LOW_BITS, parameter, "bits", bits


def _is_matrix(name: str, parameter: Tensor) -> bool:
    """A matrix that maps vectors to vectors; embeddings look up, the unembedding scores words.

    An adapter's are thin factors of one: to make each orthogonal, or to decay it, is another thing.
    """
    return parameter.ndim == 2 and "embed" not in name and "lora_" not in name
