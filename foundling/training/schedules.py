"""Learning-rate schedules: the share of the full learning rate at each step."""

import math
from typing import Literal

from pydantic import Field, model_validator

from foundling.base.config import Section


class ScheduleSettings(Section):
    """How the learning rate moves over a run."""

    kind: Literal["wsd", "cosine", "constant"] = "wsd"
    """wsd: warm up, stay, decay linearly; cosine: warm up, then half a cosine."""
    warmup_steps: int = Field(20, ge=0)
    decay_share: float = Field(0.4, ge=0, le=1)
    """wsd: the last share of all steps, over which the rate falls; 1: from the warm-up on."""
    final: float = Field(0.0, ge=0, le=1)
    """The share of the full rate that is left at the last step."""

    @model_validator(mode="after")
    def _used(self) -> "ScheduleSettings":
        unused = {"cosine": {"decay_share"}, "constant": {"decay_share", "final"}}
        given = unused.get(self.kind, set()) & self.model_fields_set
        defaults = ScheduleSettings.model_fields
        for name in sorted(given):
            if getattr(self, name) != defaults[name].default:
                raise ValueError(f"the {self.kind} schedule does not use {name}")
        return self


def warmup_steps(settings: ScheduleSettings, total_steps: int) -> int:
    """The steps of the warm-up; a tenth of a run that is shorter than what was set."""
    given = settings.warmup_steps
    return given if given <= total_steps else total_steps // 10


def rate_share(settings: ScheduleSettings, step: int, total_steps: int) -> float:
    """The share of the full learning rate at `step` (0 is the first) of `total_steps`.

    Source: Hu et al. 2024, MiniCPM (wsd); Loshchilov and Hutter 2017, SGDR (cosine).
    """
    warmup = warmup_steps(settings, total_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if settings.kind == "constant":
        return 1.0
    if settings.kind == "wsd":
        decay_steps = min(settings.decay_share * total_steps, total_steps - warmup)
        left = (total_steps - step) / decay_steps if decay_steps > 0 else 1.0
        return settings.final + (1 - settings.final) * min(1.0, left)
    done = (step - warmup) / max(1, total_steps - warmup)
    return settings.final + (1 - settings.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
