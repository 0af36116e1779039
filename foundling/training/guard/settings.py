"""The guard's settings."""

from pydantic import Field

from foundling.base.config import Section
from foundling.training.guard.detector import LOSS_FLOOR


class GuardSettings(Section):
    """When a step counts as abnormal, and what is done about it."""

    enabled: bool = True
    """false: nothing is skipped or rewound; a loss that is not finite stops the run."""
    threshold: float = Field(8.0, gt=0)
    """Robust standard deviations above the expected value that a signal may reach."""
    loss_floor: float = Field(LOSS_FLOOR, gt=1)
    """How many times as high as expected the loss may be however quiet it has been."""
    window: int = Field(64, ge=24)
    """Accepted steps that the expected value and its spread are taken from."""
    canary_every: int = Field(50, gt=0)
    """Steps between looks at the canary, a fixed batch: is the data hard or the model damaged?"""
    snapshot_every: int = Field(25, gt=0)
    """Steps between two states kept in memory, which are also the steps to roll back to."""
    snapshots: int = Field(4, ge=0)
    """States kept in memory; 0: a rollback reads checkpoints alone."""
    snapshot_mb: int = Field(256, ge=0)
    """Memory for all of them, in MB: a large model has fewer, or none, and a rollback then reads a
    checkpoint, with the same result."""
    healthy_after: int = Field(25, ge=0)
    """A state is rolled back to only if so many steps were accepted between it and the anomaly."""
    patience: int = Field(8, gt=0)
    """Batches skipped within ten steps before the model is rolled back instead."""
    cooldown: int = Field(100, gt=0)
    """Steps past the last anomaly after which a new one is no recurrence."""
    rate_cut: float = Field(0.5, gt=0, lt=1)
    """What the learning rate is multiplied by when rolling back alone did not help."""
    warmup_steps: int = Field(20, ge=0)
    """Steps over which the cut learning rate is reached again from 0."""
    max_skips: int = Field(100, ge=0)
    max_rewinds: int = Field(20, ge=0)
    """Acts in a whole run after which it stops."""
