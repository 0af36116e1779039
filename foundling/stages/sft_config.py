"""The settings of instruction tuning."""

from typing import Literal

from pydantic import Field, model_validator

from foundling.base.config import Section
from foundling.data.examples import OnLong, Style
from foundling.data.sources import OnError
from foundling.models.adapters import AdapterSettings
from foundling.stages.forgetting import ForgettingSettings
from foundling.stages.settings import EpochSettings, StageConfig, ValidationSettings
from foundling.text.chat import Learn
from foundling.training.optimizers import OptimizerSettings
from foundling.training.schedules import ScheduleSettings


class InstructionData(Section):
    """What is learned from, and how it becomes rows of tokens."""

    files: tuple[str, ...] = ()
    """.jsonl, .json, .csv, .tsv, .parquet, folders of them, globs, hub:owner/name."""
    format: str = "auto"
    """auto: told by the columns."""
    on_error: OnError = "stop"
    style: Style = "chat"
    """chat: roles and turns; plain: a prompt and its completion as one text."""
    learn: Learn = "all"
    """The answers that are learned of a conversation of several turns: all, or the last."""
    max_length: int | None = Field(None, gt=1)
    """Tokens of one conversation; None: as many as the context holds."""
    on_long: OnLong = "error"
    """What becomes of a longer one: drop, truncate_prompt (never the answer) or error."""
    packing: bool = True
    """Several conversations in a row, none of which sees another; false: one a row."""
    validation: tuple[str, ...] = ()
    """Files of the validation split; none: a share of the prompts is held out."""
    validation_fraction: float = Field(0.05, gt=0, lt=1)


class AnchorSettings(Section):
    """How the model is held near the one it started from: + strength · KL(model ‖ parent)."""

    strength: float = Field(0.1, ge=0)
    """λ; 0 is plain instruction tuning."""
    reference: Literal["model", "stored"] = "model"
    """model: the parent reads every batch too; stored: its hidden states, computed once."""
    store: str | None = None
    """The folder of the stored ones; None: in the run. Runs that differ in λ may share it."""

    text_rows: int = Field(0, ge=0)
    """Rows of pretraining text in each step beside the answers, where the KL alone is due; read
    only where strength is above 0."""

    @model_validator(mode="after")
    def _used(self) -> "AnchorSettings":
        if self.reference == "stored" and self.text_rows:
            raise ValueError('reference = "stored" holds no text: text_rows needs "model"')
        if self.reference == "model" and self.store is not None:
            raise ValueError('reference = "model" does not use store')
        return self


class SftTraining(EpochSettings):
    """How long, how precisely and on what the loop runs; 3 epochs where nothing is said."""

    batch_size: int = Field(16, gt=0)


class SftValidation(ValidationSettings):
    """When and on how much the model is validated, and what it answers then."""

    every: int = Field(50, gt=0)
    patience: int = Field(4, ge=0)
    prompts: tuple[str, ...] = ()


class SftConfig(StageConfig):
    """Everything that an instruction-tuning run is made of."""

    parent: str | None = None
    """The run, checkpoint, model folder or hub:owner/name to start from."""
    context: int | None = Field(None, gt=1)
    """Tokens in a row; None: the longest that the parent reads."""
    dropout: float = Field(0.0, ge=0, lt=1)
    freeze: tuple[str, ...] = ()
    """Patterns of the names of parameters that do not learn."""
    data: InstructionData = InstructionData()
    anchor: AnchorSettings = AnchorSettings()
    adapter: AdapterSettings | None = None
    """Learn low-rank adapters in place of all weights."""
    forgetting: ForgettingSettings = ForgettingSettings()
    training: SftTraining = SftTraining()
    optimizer: OptimizerSettings = OptimizerSettings(kind="adamw", learning_rate=2e-4)
    schedule: ScheduleSettings = ScheduleSettings(decay_share=1.0)
    validation: SftValidation = SftValidation()
