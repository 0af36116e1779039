"""What a planned run trains: the model, its objective and a batch, from the settings of a stage."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from foundling import models
from foundling.base.config import ConfigError
from foundling.base.precision import PRECISIONS, hold
from foundling.data.mixture import Mixture
from foundling.models import adapters, interchange
from foundling.models.attending import LONG as LONGEST_MASK
from foundling.models.batch import Batch, BatchView, PreferenceBatch, TokenBatch
from foundling.models.language_model import LanguageModel
from foundling.models.quantised import quantise
from foundling.objectives import Dpo, Objective, Pretrain, Sft
from foundling.objectives.reference import DisabledAdapter, FrozenModel
from foundling.objectives.reference_log_probs import LiveLogProbs
from foundling.runs.run import find_model
from foundling.stages.dpo import DpoConfig
from foundling.stages.pretrain import CONTEXT, PretrainConfig
from foundling.stages.reading import LONG
from foundling.stages.settings import StageConfig, TunedConfig
from foundling.stages.sft import SftConfig
from foundling.training.activations import checkpoint_activations

STAGES = ("pretrain", "sft", "dpo")


@dataclass(frozen=True)
class Subject:
    """A run as far as its memory and its work depend on it."""

    config: StageConfig
    spec: Mapping[str, Any]
    """The model's rung and settings."""
    time: int
    """Tokens in a row."""
    batch_size: int
    """Rows in a step, of all processes."""
    precision: torch.dtype
    supervised: float = 1.0
    """The share of the positions that are learned."""
    checkpoints: bool = False
    """Activations are computed anew in the backward pass."""

    def skeleton(self) -> LanguageModel:
        """The model without memory, with its adapters: there is nothing but its shapes."""
        from torch._subclasses.fake_tensor import FakeTensorMode  # takes a second

        if not isinstance(self.config, TunedConfig):
            return models.skeleton(self.spec)
        with FakeTensorMode(allow_non_fake_inputs=True):
            model = models.rebuild(self.spec)
            self._tuned(self.config, model)
        return model

    def build(self) -> tuple[LanguageModel, Objective, LanguageModel | None]:
        """The model that learns, what is minimised, and the reference beside it, if any."""
        config, model = self.config, models.rebuild(self.spec)
        if isinstance(config, TunedConfig):
            self._tuned(config, model)
        else:
            hold(model, PRECISIONS[config.training.weights])
        if self.checkpoints:
            checkpoint_activations(model)
        if isinstance(config, PretrainConfig):
            return model, Pretrain(config.training.z_loss), None
        reference = self._reference(model) if self.has_live_reference else None
        beside = reference.model if isinstance(reference, FrozenModel) else None
        if isinstance(config, SftConfig):
            anchor, kept = config.anchor, reference or _Stored(model, self.precision)
            return model, Sft(anchor.strength, kept if anchor.strength else None), beside
        assert isinstance(config, DpoConfig)
        values = _StoredLogProbs() if reference is None else LiveLogProbs(reference)
        return model, Dpo(config.dpo, values if config.dpo.has_reference else None), beside

    @property
    def has_live_reference(self) -> bool:
        """Whether a frozen model reads every batch too."""
        config = self.config
        if isinstance(config, SftConfig):
            return config.anchor.strength > 0 and config.anchor.reference == "model"
        if isinstance(config, DpoConfig):
            return config.dpo.has_reference and config.reference.kind == "live"
        return False

    @property
    def adapts(self) -> bool:
        return isinstance(self.config, TunedConfig) and self.config.adapter is not None

    def batch(self, rows: int) -> Batch:
        """Rows as the stage makes them, each with several documents.

        Long rows are of one document: no mask of several is held there, and memory is the same.
        """
        tokens = torch.zeros(rows, self.time, dtype=torch.int64)
        is_long = self.time > LONGEST_MASK
        if not isinstance(self.config, DpoConfig):
            documents = None if is_long else tokens.clone()
            return TokenBatch(tokens, tokens.clone(), tokens.clone(), documents)
        shared = self.config.data.shared_prompts is not False
        until = tokens.clone() if shared else None
        pairs = torch.zeros(rows, max(1, self.time // 512), dtype=torch.int64)
        kind = _LongPreferenceBatch if is_long else PreferenceBatch
        same = (tokens, tokens.clone(), tokens.clone(), tokens.clone(), tokens.clone())
        return kind(*same, pairs, until)

    @property
    def num_steps(self) -> int | None:
        """The steps of the run; None: the size of the data decides."""
        training = self.config.training
        counts_rows = training.epochs is not None or not isinstance(self.config, PretrainConfig)
        return training.steps if counts_rows else training.num_steps(0)

    @property
    def writes_samples(self) -> bool:
        """Whether the model writes something itself at a validation."""
        validation = self.config.validation
        return bool(validation.prompts) or getattr(validation, "kl_prompts", 0) > 0

    def num_supervised(self, rows: int) -> int:
        """How many positions of so many rows are learned."""
        return max(1, round(rows * self.time * self.supervised))

    def with_layers(self, count: int) -> "Subject":
        """The same with so many layers, of which one attends to all if any of it does."""
        spec = {**self.spec, "num_layers": count}
        for name in ("full_layers", "nope_layers"):
            if spec.get(name):
                spec[name] = [0]
        return replace(self, spec=spec)

    @property
    def num_layers(self) -> int | None:
        """How many layers of one kind it is stacked of; None: it is looked at as a whole."""
        config = self.config
        named = isinstance(config, TunedConfig) and (config.freeze or config.adapter)
        return None if named else self.spec.get("num_layers")

    def _tuned(self, config: TunedConfig, model: LanguageModel) -> None:
        if config.adapter is None:
            adapters.freeze(model, config.freeze)
            hold(model, PRECISIONS[config.training.weights])
            return
        adapters.add_adapters(model, config.adapter, config.seed)
        adapters.freeze(model, config.freeze)
        if config.adapter.base != "full":
            quantise(model, config.adapter.base)
        hold(model, self.precision, frozen_only=True)

    def _reference(self, model: LanguageModel) -> FrozenModel | DisabledAdapter:
        if self.adapts:
            return DisabledAdapter(model)
        reference = models.rebuild(self.spec)
        hold(reference, self.precision)
        return FrozenModel(reference)


class _LongPreferenceBatch(PreferenceBatch):
    """One whose rows are read as one document each."""

    @property
    def view(self) -> BatchView:
        return BatchView(self.positions)


class _Stored:
    """The reference's vectors, as they come from the disk for each batch."""

    def __init__(self, model: LanguageModel, precision: torch.dtype) -> None:
        self.weight = model.unembed.weight.detach().to(precision, copy=True)

    def hidden(self, batch: TokenBatch) -> Tensor:
        return self.weight.new_empty(len(batch.indices), self.weight.shape[1])


class _StoredLogProbs:
    """The reference's log-probabilities, as they come from the disk for each batch."""

    def log_probs(self, batch: PreferenceBatch) -> Tensor:
        return torch.empty(*batch.pair_ids.shape, 2)


def subject_of(
    config: StageConfig, vocab_size: int | None = None, supervised: float = 1.0
) -> Subject:
    """What a run with these settings trains.

    Args:
        vocab_size: of the tokenizer; None: as the data or the parent say.
        supervised: the share of positions that are learned (sft, dpo).

    Raises:
        ConfigError: nothing says how large the model is.
    """
    if not isinstance(config, PretrainConfig | SftConfig | DpoConfig):
        raise ConfigError(f"--stage: only {', '.join(STAGES)} can be planned.")
    if config.parent is not None:
        spec = interchange.read_config(find_model(config.parent))[1]
        if vocab_size is not None:
            raise ConfigError("--vocab-size: the parent has its own; leave it out.")
    elif isinstance(config, PretrainConfig):
        settings = models.rung_settings(config.model).resolved().values()
        vocab_size = vocab_size or _vocab_size(config)
        spec = {**settings, "vocab_size": vocab_size, "context": config.context or CONTEXT}
    else:
        raise ConfigError("parent: give --from RUN, the model to start from.")
    if isinstance(config, TunedConfig):
        if "dropout" in spec:
            spec = {**spec, "dropout": config.dropout}
        context = config.context or spec["context"]
        time = config.data.row_length or min(context, LONG)
    else:
        time = config.context or spec["context"]
    rows = config.training.batch_size
    if isinstance(config, SftConfig) and config.anchor.strength:
        rows += config.anchor.text_rows
    name = config.training.precision
    if name not in ("auto", *PRECISIONS):
        raise ConfigError(f'training.precision = "{name}": expected auto, fp32 or bf16.')
    precision = PRECISIONS["bf16" if name == "auto" else name]
    learned = 1.0 if isinstance(config, PretrainConfig) else supervised
    checkpoints = config.training.checkpoint_activations
    return Subject(config, spec, time, rows, precision, learned, checkpoints)


def _vocab_size(config: PretrainConfig) -> int:
    if config.data is None:
        raise ConfigError(
            "--vocab-size: give it, or --data DIR, a token store or a mixture of several."
        )
    return Mixture.open(config.data).tokenizer().vocab_size
