"""Preference tuning: chosen answers gain on rejected ones, measured from the parent."""

import logging
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from foundling.base.config import ConfigError
from foundling.base.runtime import derive_seed
from foundling.data.conversations import SourcedPair
from foundling.data.encoded_pairs import PROMPT, EncodedPairs
from foundling.data.pairs import PreferenceData
from foundling.data.prompt_split import split_by_prompt
from foundling.data.reading import read_pairs
from foundling.metrics.answers import measure_answers
from foundling.metrics.continuations import sampled_continuations
from foundling.metrics.pairs import Preferences, measure_preferences
from foundling.models.batch import Batch, PreferenceBatch
from foundling.objectives import Dpo
from foundling.objectives.dpo import at_the_reference
from foundling.objectives.reference import DisabledAdapter, FrozenModel
from foundling.objectives.reference_log_probs import (
    LiveLogProbs,
    ReferenceLogProbs,
    StoredLogProbs,
    store_log_probs,
    verify_log_probs,
)
from foundling.runs.run import Run
from foundling.stages.assembly import Machine, Parts, train
from foundling.stages.dpo_config import DpoConfig
from foundling.stages.forgetting import Forgetting
from foundling.stages.parent import Parent
from foundling.stages.samples import prompt_of, samples
from foundling.stages.tuned import Tuned
from foundling.stages.votes import Votes, is_database
from foundling.text.tokenizer import END_OF_TURN
from foundling.training.interrupt import Interrupted
from foundling.training.loop import Record, Seam, untouched

logger = logging.getLogger(__name__)

NUM_VERIFIED = 8
AT_START = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""How far loss and margin may be off at step 0, where the model still is the reference, with β up
to 0.1; a larger one makes more of the same rounding."""
USUAL_BETA = 0.1


def dpo(config: DpoConfig, out: Path, *, resume: bool = False, seam: Seam = untouched) -> Run:
    """Tune a model on preferences, or go on where the run in `out` stopped.

    Raises:
        ConfigError: the settings or the data are at fault; nothing was changed.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
        TrainingStopped: training stopped itself; the last good checkpoint is intact.
    """
    parent = Parent.of(config.parent, out, resume=resume)
    return _Dpo(config, parent, out, resume).run(resume, seam)


class _Dpo:
    """The parts of one run, each made when it is first needed."""

    def __init__(self, config: DpoConfig, parent: Parent, out: Path, resume: bool) -> None:
        self.parent, self.out = parent, out
        self.tokenizer = parent.tokenizer_for(config.data.style)
        self.tuned = Tuned(config, parent, self.tokenizer)
        self.votes: dict[str, tuple[str, Votes]] = {}  # by place: the name of its file in the run
        self.model, self.context = self.tuned.model, self.tuned.context
        run = out if resume else None
        self.machine = Machine.of(config.training, self.model, self.context, run)
        self.shared_prompts = self._shares(config.data.shared_prompts)
        self.train, self.validation = self._data(config)
        self.config = self._resolved(config)
        self.forgetting = Forgetting(
            self.config.forgetting,
            parent,
            self.tokenizer,
            self.context,
            config.validation.batch_size,
            self.machine,
        )

    def run(self, resume: bool, seam: Seam) -> Run:
        config, data = self.config, self.train
        for prompt in config.validation.prompts:
            # One that cannot be encoded is an error now, not hours later.
            prompt_of(prompt, self.tokenizer, config.data.style)
        steps = config.training.steps
        assert steps is not None, "resolved"
        epochs = steps * config.training.batch_size / data.rows_per_epoch
        each = len(data.pairs) / data.rows_per_epoch * config.training.batch_size
        rows = f"{config.training.batch_size} rows, about {each:.0f} pairs"
        prompts = "once a pair" if self.shared_prompts else "once an answer"
        parts = Parts(
            stage="dpo",
            model=self.model,
            tokenizer=self.tokenizer,
            data=data,
            objective=lambda: self._started(resume),
            facts={
                "parent": dict(self.parent.facts),
                "data": list(config.data.files),
                "votes": [votes.name for _, votes in self.votes.values()],
                "pretraining_data": config.forgetting.data,
                "data_fingerprint": data.fingerprint,
                "pairs": len(data.pairs),
                "packing_efficiency": round(data.efficiency, 4),
            },
            steps=steps,
            plan=f"{rows}, prompts {prompts}, {epochs:.1f} epochs; {self._loss_in_words()}",
            validate=self._validate,
            load_model=self.tuned.load,
            restart_model=self.tuned.restart,
            save_more=self.tuned.save_more,
            begin=self._begin,
            validate_first=True,
            canary=self._canary,
        )
        return train(config, parts, self.machine, self.out, resume=resume, seam=seam)

    def _loss_in_words(self) -> str:
        settings = self.config.dpo
        return f"loss {settings.loss}, β = {settings.beta:g}"

    # ------------------------------------------------------------------ the data

    def _shares(self, wished: bool | None) -> bool:
        can = self.model.supports_tree_mask
        rung = self.model.spec["rung"]
        if wished and not can:
            raise ConfigError(
                f"data.shared_prompts = true: the rung {rung} cannot keep two answers to one "
                "prompt apart; leave it out, or give false."
            )
        if wished is None and not can:
            logger.info(f"the rung {rung} cannot share a prompt: each answer reads its own.")
        return can if wished is None else wished

    def _data(self, config: DpoConfig) -> tuple[PreferenceData, PreferenceData]:
        settings = config.data
        if not settings.files:
            raise ConfigError("data.files: give --data FILE, the preferences to learn from.")
        learned = self._read(config, settings.files, "votes")
        if settings.validation:
            held_out = self._read(config, settings.validation, "validation-votes")
        else:
            learned, held_out = split_by_prompt(
                learned, settings.validation_fraction, config.seed, "pairs"
            )
        splits = [self._encoded(config, some) for some in (learned, held_out)]
        longest = max(int(some.row_lengths(shared=self.shared_prompts).max()) for some in splits)
        row_length = settings.row_length or max(self.context, longest)
        train, validation = (self._packed(config, some, row_length) for some in splits)
        return train, validation

    def _read(self, config: DpoConfig, files: tuple[str, ...], name: str) -> list[SourcedPair]:
        """The pairs of the files, then those that the votes in databases amount to."""
        settings, found, lines = config.data, list[SourcedPair](), list[str]()
        rows = [file for file in files if not is_database(file)]
        if rows:
            some, report = read_pairs(rows, format=settings.format, on_error=settings.on_error)
            found, lines = found + some, report.lines()
        for number, place in enumerate((file for file in files if is_database(file)), 1):
            votes = Votes.read(place)
            self.votes[place] = (f"{name}-{number}.jsonl", votes)
            found, lines = found + votes.pairs, [*lines, *votes.report]
        for line in lines:
            logger.info(line)
        return found

    def _begin(self, folder: Path) -> None:
        """What the run starts from is kept in it: the parent, and what was voted until now."""
        self.parent.copy_to(folder)
        for name, votes in self.votes.values():
            votes.write(folder / name)

    def _kept(self, files: tuple[str, ...]) -> tuple[str, ...]:
        """The same files, but databases by what the run keeps of them."""
        kept = {place: str((self.out / name).resolve()) for place, (name, _) in self.votes.items()}
        return tuple(kept.get(file, file) for file in files)

    def _encoded(self, config: DpoConfig, sourced: list[SourcedPair]) -> EncodedPairs:
        settings = config.data
        pairs, report = EncodedPairs.make(
            sourced,
            self.tokenizer,
            max_length=min(settings.max_length or self.context, self.context),
            style=settings.style,
            on_long=settings.on_long,
        )
        for line in report.lines():
            logger.info(line)
        return pairs

    def _packed(self, config: DpoConfig, pairs: EncodedPairs, row_length: int) -> PreferenceData:
        return PreferenceData(
            pairs,
            row_length=row_length,
            batch_size=config.training.batch_size,
            seed=config.seed,
            packing=config.data.packing,
            shared_prompts=self.shared_prompts,
            decode=self.tokenizer.decode,
        )

    def _resolved(self, config: DpoConfig) -> DpoConfig:
        """With all that follows from parent and data written out."""
        steps = config.training.steps_for(self.train.rows_per_epoch, 1)
        data = {
            "files": self._kept(config.data.files),
            "validation": self._kept(config.data.validation),
            "row_length": self.train.row_length,
            "shared_prompts": self.shared_prompts,
        }
        return config.model_copy(
            update={
                "parent": self.parent.facts["source"],
                "context": self.context,
                "data": config.data.model_copy(update=data),
                "dpo": config.dpo.resolved(),
                "training": config.training.model_copy(update={"steps": steps, "epochs": None}),
                "forgetting": config.forgetting.resolved(self.parent),
            }
        )

    # ------------------------------------------------------------------ objective and reference

    @cached_property
    def objective(self) -> Dpo:
        """Of training."""
        return Dpo(self.config.dpo, self._log_probs_of(self.train))

    @cached_property
    def held_out(self) -> Dpo:
        """Of validation: the same loss on pairs whose reference is looked up elsewhere."""
        return Dpo(self.config.dpo, self._log_probs_of(self.validation))

    @cached_property
    def reference(self) -> FrozenModel | DisabledAdapter:
        return self.tuned.reference(self.machine)

    def _log_probs_of(self, data: PreferenceData) -> ReferenceLogProbs | None:
        if not self.config.dpo.has_reference:
            return None
        if self.config.reference.kind == "live":
            return LiveLogProbs(self.reference)
        return self._stored(data)

    def _stored(self, data: PreferenceData) -> StoredLogProbs:
        """The reference's log-probabilities of all pairs, computed once and checked now."""
        device, precision = self.machine.device, self.machine.precision
        model = self.tuned.untuned().to(device)
        folder = Path(self.config.reference.store or self.out / "reference")
        key = {
            "weights": self.parent.facts["fingerprint"],
            "pairs": data.pairs.fingerprint,
            "precision": str(precision),
            "device": device.type,
            "torch": torch.__version__,
        }
        stored = store_log_probs(
            model,
            data.ordered_batches(),
            len(data.pairs),
            folder,
            key,
            device=device,
            precision=precision,
        )
        generator = torch.Generator().manual_seed(self.config.seed)
        some = torch.randperm(len(data.pairs), generator=generator)[:NUM_VERIFIED].tolist()
        verify_log_probs(stored, model, data.of(some), device=device, precision=precision)
        return stored

    def _started(self, resume: bool) -> Dpo:
        """The objective, whose loss at the start is what it must be at the reference.

        Raises:
            ConfigError: it is not: the reference is not the model that training starts from.
        """
        if resume or not self.config.dpo.has_reference:
            return self.objective
        settings = self.config.dpo
        assert settings.beta is not None, "resolved"
        allowed = AT_START[self.machine.precision] * max(1.0, settings.beta / USUAL_BETA)
        plain = Dpo(settings.model_copy(update={"nll": 0.0}), self.objective.reference)
        found = self._measured(plain, [self.train.batch(0)])
        expected = at_the_reference(settings)
        off = abs(found.loss_nats - expected)
        if not (off <= allowed * max(1.0, expected) and abs(found.margin) <= allowed):
            raise ConfigError(
                f"at step 0 the loss is {found.loss_nats:.6f} and the margin {found.margin:.6f} "
                f"where {expected:.6f} and 0 are due: the reference is not the model that training "
                f"starts from; delete {self.out} and the stored reference, and start anew."
            )
        return self.objective

    def _canary(self, batch: Batch) -> float:
        assert isinstance(batch, PreferenceBatch)
        return self._measured(self.objective, [batch]).loss_nats

    def _measured(self, objective: Dpo, batches: list[PreferenceBatch]) -> Preferences:
        return measure_preferences(
            self.model,
            objective,
            batches,
            device=self.machine.device,
            precision=self.machine.precision,
        )

    # ------------------------------------------------------------------ validation

    def _validate(self, interrupted: Callable[[], bool]) -> Iterator[Record]:
        def check() -> None:
            if interrupted():
                raise Interrupted

        settings = self.config.validation
        found = measure_preferences(
            self.model,
            self.held_out,
            self.validation.ordered_batches(settings.batch_size),
            device=self.machine.device,
            precision=self.machine.precision,
            check=check,
        )
        record: dict[str, Any] = {
            "split": "validation",
            **found.values(),
            "bits_per_byte": None,
            "kl_nats": self._kl(check),
            "alarm": self._alarm(found),
        }
        yield record | self.forgetting.measure(self.model, check)
        if settings.prompts:
            check()
            style = self.config.data.style
            told = samples(self.model, self.tokenizer, settings, style)
            yield {"split": "samples", "samples": told}

    def _alarm(self, found: Preferences) -> str | None:
        """What is wrong where the chosen answers, too, have become less likely."""
        change, allowed = found.chosen_change_per_token, self.config.validation.max_chosen_fall
        if change is None or change >= -allowed:
            return None
        return (
            f"displacement: the chosen answers have become less likely by {-change:.3f} nats per "
            f"token, more than {allowed:g}; a lower learning rate, a higher dpo.beta or dpo.nll "
            "hold them."
        )

    def _kl(self, check: Callable[[], None]) -> float | None:
        """KL(model ‖ parent) per token on continuations that the model samples itself."""
        settings, pairs = self.config.validation, self.validation.pairs
        prompts = [
            pairs.part(index, PROMPT)[0].tolist()
            for index in range(min(settings.kl_prompts, len(pairs)))
        ]
        ends = (self.tokenizer.end_of_text, self.tokenizer.find(END_OF_TURN))
        batches = list(
            sampled_continuations(
                self.model,
                prompts,
                max_tokens=settings.kl_tokens,
                ends=frozenset(end for end in ends if end is not None),
                seed=derive_seed(self.config.seed, "continuations"),
                check=check,
            )
        )
        if not batches:
            return None
        found = measure_answers(
            self.model,
            batches,
            self.reference,
            device=self.machine.device,
            precision=self.machine.precision,
            check=check,
        )
        return found.kl_nats
