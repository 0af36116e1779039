"""The settings of preference tuning."""

from typing import Literal

from pydantic import Field, model_validator

from foundling.base.config import Section
from foundling.data.examples import OnLong, Style
from foundling.data.sources import OnError
from foundling.models.adapters import AdapterSettings
from foundling.objectives.dpo import DpoSettings
from foundling.stages.forgetting import ForgettingSettings
from foundling.stages.settings import EpochSettings, StageConfig, ValidationSettings
from foundling.training.guard.settings import GuardSettings
from foundling.training.optimizers import OptimizerSettings
from foundling.training.schedules import ScheduleSettings


class PreferenceSettings(Section):
    """What is learned from, and how it becomes rows of tokens."""

    files: tuple[str, ...] = ()
    """.jsonl, .json, .csv, .tsv, .parquet, folders of them, globs, hub:owner/name; or the database
    of votes, a file or a URL, which is read once and kept in the run as a file."""
    format: str = "auto"
    """auto: told by the columns and what they hold."""
    on_error: OnError = "stop"
    style: Style = "chat"
    """chat: roles and turns; plain: a prompt and its answers as text."""
    max_length: int | None = Field(None, gt=1)
    """Tokens of a prompt with one answer; None: as many as the context holds."""
    on_long: OnLong = "error"
    """What becomes of a longer one: drop, truncate_prompt (never an answer) or error."""
    packing: bool = True
    """Several pairs in a row, none of which sees another; false: one a row."""
    row_length: int | None = Field(None, gt=1)
    """Tokens in a row; None: the context, or the longest pair if that is more."""
    shared_prompts: bool | None = None
    """A prompt is computed once for both answers; None: where the rung can."""
    validation: tuple[str, ...] = ()
    """Files of the validation split; none: a share of the prompts is held out."""
    validation_fraction: float = Field(0.1, gt=0, lt=1)


class ReferenceSettings(Section):
    """The model that the answers' gain is measured from: always the parent."""

    kind: Literal["stored", "live"] = "stored"
    """stored: its log-probabilities, computed once; live: it reads every batch too (under adapters
    it is the model without them)."""
    store: str | None = None
    """The folder of the stored ones; None: in the run. Runs of one parent may share it."""

    @model_validator(mode="after")
    def _used(self) -> "ReferenceSettings":
        if self.kind == "live" and self.store is not None:
            raise ValueError('kind = "live" does not use store')
        return self


class DpoTraining(EpochSettings):
    """How long, how precisely and on what the loop runs; 1 epoch where nothing is said."""

    batch_size: int = Field(8, gt=0)
    """Rows; with data.packing a row holds several pairs."""


class DpoValidation(ValidationSettings):
    """When and on how much the model is validated, and what it answers then."""

    every: int = Field(50, gt=0)
    batch_size: int = Field(8, gt=0)
    patience: int = Field(4, ge=0)
    prompts: tuple[str, ...] = ()
    kl_prompts: int = Field(8, ge=0)
    """Held-out prompts that are continued to measure the KL to the parent; 0: it is not."""
    kl_tokens: int = Field(32, gt=0)
    """Tokens of each continuation."""
    max_chosen_fall: float = Field(0.1, gt=0)
    """Nats per token by which the chosen answers may become less likely without an alarm."""


class DpoGuard(GuardSettings):
    """When a step is taken for sick, and what is done about it.

    A pair's loss begins at ln 2, the same for all, and spreads as the model learns: some batches
    then have twice the loss of others and are healthy.
    """

    loss_floor: float = Field(3.0, gt=1)


class DpoConfig(StageConfig):
    """Everything that a preference-tuning run is made of."""

    parent: str | None = None
    """The run, checkpoint, model folder or hub:owner/name to start from."""
    context: int | None = Field(None, gt=1)
    """The longest prompt with one answer; None: the longest that the parent reads."""
    dropout: float = Field(0.0, ge=0, lt=1)
    freeze: tuple[str, ...] = ()
    """Patterns of the names of parameters that do not learn."""
    data: PreferenceSettings = PreferenceSettings()
    dpo: DpoSettings = DpoSettings()
    reference: ReferenceSettings = ReferenceSettings()
    adapter: AdapterSettings | None = None
    """Learn low-rank adapters in place of all weights."""
    forgetting: ForgettingSettings = ForgettingSettings()
    training: DpoTraining = DpoTraining()
    optimizer: OptimizerSettings = OptimizerSettings(kind="adamw", learning_rate=2e-5)
    schedule: ScheduleSettings = ScheduleSettings(decay_share=1.0)
    validation: DpoValidation = DpoValidation()
    guard: DpoGuard = DpoGuard()

    @model_validator(mode="after")
    def _used(self) -> "DpoConfig":
        if not self.dpo.has_reference and self.reference != ReferenceSettings():
            raise ValueError(f'loss = "{self.dpo.loss}" does not use reference')
        return self
