"""The same task learned from examples in the prompt and by gradient descent, side by side."""

import json
import logging
import math
import shutil
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from foundling.base import durable
from foundling.base.config import Section, load_json
from foundling.evaluation.few_shot import (
    answer_shortly,
    answer_tokens,
    classify,
    num_too_long,
    prompt_tokens,
    room_of,
)
from foundling.evaluation.likelihood import TokenPair, likelihoods
from foundling.evaluation.tasks import Example, Task, without
from foundling.experiments.measurements import Measurements
from foundling.models import interchange
from foundling.models.adapters import AdapterSettings
from foundling.models.language_model import LanguageModel
from foundling.reports.adapt_report import write_adapt_report
from foundling.runs import checkpoint
from foundling.runs.run import Run, is_run
from foundling.stages.assembly import Machine
from foundling.stages.parent import Parent
from foundling.stages.settings import TrainingSettings
from foundling.stages.sft import sft
from foundling.stages.sft_config import SftConfig
from foundling.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

Way = Literal["in_context", "full", "lora"]
FREE = ("shots", "sizes", "seeds", "ways")
"""Settings that say what is measured, not how; with others, the same folder holds more."""
SHORTENED = 0.1
"""The largest share of prompts that may hold fewer examples than the others, for want of room."""
WATCHED = 32  # examples on which a run shows its own loss; nothing is chosen by it


class TuneSettings(Section):
    """How gradient descent learns: a fixed number of steps, the last weights, whatever `n`."""

    steps: int = Field(100, gt=0)
    """At the least; of many examples, as many as make `epochs`."""
    epochs: float = Field(3.0, gt=0)
    batch_size: int = Field(16, gt=0)
    """Examples in one step, or all of them where there are fewer."""
    learning_rate: float = Field(3e-4, gt=0)
    lora_learning_rate: float = Field(3e-3, gt=0)
    adapter: AdapterSettings = AdapterSettings()
    anchor: float = Field(0.0, ge=0)
    """λ · KL(model ‖ parent)."""


class AdaptConfig(Section):
    """What is measured, and how."""

    shots: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 32, 64)
    """Examples in the prompt; those that do not fit the context are left out, and it is said."""
    sizes: tuple[int, ...] = (8, 32, 128, 512)
    """Examples to fine-tune on; those of which there are not so many are left out."""
    seeds: int = Field(3, gt=0)
    """Draws, orders and initial adapters."""
    ways: tuple[Way, ...] = ("in_context", "full", "lora")
    seed: int = Field(1, ge=0, lt=2**63)
    device: str = "auto"
    precision: str = "auto"
    tune: TuneSettings = TuneSettings()

    @model_validator(mode="after")
    def _sensible(self) -> "AdaptConfig":
        for name, least in (("shots", 0), ("sizes", 1)):
            values = getattr(self, name)
            if any(value < least for value in values) or len(set(values)) < len(values):
                raise ValueError(f"{name} must be different whole numbers from {least}")
        if not self.ways or len(set(self.ways)) < len(self.ways):
            raise ValueError("ways must be different, one at the least")
        return self


def adapt(
    source: str,
    task: Task,
    config: AdaptConfig,
    out: Path,
    *,
    keep_runs: bool = False,
) -> Path:
    """Measure the task by every way, number and seed that `out` does not hold yet; the report.

    The examples of a seed are the same for all ways: the first ones of one order. The runs of
    fine-tuning are removed once they are measured, unless `keep_runs`.

    Raises:
        ConfigError: the settings are at fault, or `out` holds something else.
        Interrupted: SIGINT or SIGTERM came; what was measured is there.
        TrainingStopped: fine-tuning stopped itself.
    """
    training = TrainingSettings(device=config.device, precision=config.precision)
    parent = Parent.find(source)
    model = parent.load()
    machine = Machine.of(training, model, model.max_context or 256)
    bench = _Bench(parent, machine, task, config, out)
    book = Measurements.open(out, bench.identity, bench.facts, free=FREE)
    for note in bench.task.notes:
        logger.info(note)
    if "in_context" in config.ways:
        bench.learn_in_context(book)
    for way in ("full", "lora"):
        if way in config.ways:
            bench.fine_tune(book, way, keep_runs)
    return write_adapt_report(out)


def read_adapt(out: Path) -> dict[str, Any]:
    """What `adapt` wrote."""
    return load_json(out / "adapt.json")


class _Bench:
    """A model, a task and a machine, on which each measurement is made."""

    def __init__(
        self,
        parent: Parent,
        machine: Machine,
        task: Task,
        config: AdaptConfig,
        out: Path,
    ) -> None:
        self.parent, self.machine, self.config = parent, machine, config
        self.out = out
        self.tokenizer: Tokenizer = parent.tokenizer()
        self.max_context = parent.load().max_context
        self.task, self.longest = self._fitting(task)

    @cached_property
    def model(self) -> LanguageModel:
        return self.parent.load().to(self.machine.device)

    @cached_property
    def room(self) -> int | None:
        return room_of(self.model, self.task, self.tokenizer)

    @property
    def identity(self) -> dict[str, Any]:
        """All that a measurement depends on."""
        settings = self.config.values()
        settings |= {
            "device": self.machine.device.type,
            "precision": str(self.machine.precision).removeprefix("torch."),
        }
        return {
            "model": self.parent.facts["fingerprint"],
            "task": self.task.fingerprint,
            **{key: value for key, value in settings.items() if key not in FREE},
        }

    @property
    def facts(self) -> dict[str, Any]:
        task, model = self.task, self.model
        return {
            "model": {
                "source": self.parent.facts["source"],
                "rung": model.spec["rung"],
                "num_parameters": model.num_parameters(),
                "max_context": self.max_context,
            },
            "task": {
                "name": task.name,
                "labels": task.labels,
                "template": task.template.pattern,
                "num_train": len(task.train),
                "num_test": len(task.test),
                "chance": task.chance,
                "majority": task.majority,
                "notes": task.notes,
            },
            "left_out": [],
            "shortened": [],
        }

    def learn_in_context(self, book: Measurements) -> None:
        for number in sorted(self.config.shots):
            if not self._fits(number, book):
                return  # more would not fit either: the first ones are the same
            for seed in self._seeds(number):
                if book.has("in_context", number, seed):
                    continue
                begun = time.perf_counter()
                ways = self._ask(self.model, self._draw(number, seed))
                seconds = time.perf_counter() - begun
                book.add(number, seed, ways, seconds)
                told = ", ".join(f"{sum(of) / len(of):.1%} {way}" for way, of in ways.items())
                logger.info(f"k = {number}, seed {seed}: {told} ({seconds:.1f} s)")

    def fine_tune(self, book: Measurements, way: Way, keep_runs: bool) -> None:
        for number in sorted(self.config.sizes):
            if number > len(self.task.train):
                note = f"n = {number:,}: there are {len(self.task.train):,} examples to learn from"
                book.note("left_out", note)
                logger.info(note)
                return
            for seed in self._seeds(number):
                if book.has(way, number, seed):
                    continue
                begun = time.perf_counter()
                folder = self.out / "runs" / f"{way}-{number}-{seed}"
                model = self._tuned(way, self._draw(number, seed), folder)
                right = self._ask(model, ())["in_context"]
                seconds = time.perf_counter() - begun
                book.add(number, seed, {way: right}, seconds)
                if not keep_runs:
                    shutil.rmtree(folder)
                share = f"{sum(right) / len(right):.1%}"
                logger.info(f"{way}, n = {number}, seed {seed}: {share} ({seconds:.1f} s)")
        runs = self.out / "runs"
        if runs.is_dir() and not any(runs.iterdir()):
            runs.rmdir()

    def _seeds(self, number: int) -> range:
        """Nothing is drawn where there are no examples, so one measurement is all there is."""
        return range(1, 2 if number == 0 else self.config.seeds + 1)

    def _fits(self, number: int, book: Measurements) -> bool:
        """Whether so many examples can stand in the prompt of (nearly) every test item."""
        if number > len(self.task.train):
            note = f"k = {number}: there are {len(self.task.train):,} examples to learn from"
        else:
            long = sum(
                num_too_long(self.task, self.tokenizer, self._draw(number, seed), self.room)
                for seed in self._seeds(number)
            )
            every = len(self._seeds(number)) * len(self.task.test)
            if not long:
                return True
            fit = long <= SHORTENED * every
            note = f"k = {number}: {long:,} of {every:,} prompts are longer than the context"
            note += ", and hold as many examples as fit" if fit else ""
            if fit:
                book.note("shortened", note)
                logger.info(note)
                return True
        book.note("left_out", note)
        logger.info(note)
        return False

    def _draw(self, number: int, seed: int) -> tuple[Example, ...]:
        """The examples of a seed, the same for every way."""
        return self.task.draw(number, self.config.seed, seed)

    def _ask(self, model: LanguageModel, shots: Sequence[Example]) -> dict[str, list[bool]]:
        """Which test items come out right, by way of reading the answer."""
        if self.task.labels is None:
            return {"in_context": answer_shortly(model, self.task, self.tokenizer, shots)}

        def score(pairs: Sequence[TokenPair]) -> list[float]:
            found = likelihoods(model, pairs, precision=self.machine.precision)
            return [one.nats for one in found]

        plain, corrected = classify(score, self.task, self.tokenizer, shots, self.room)
        return {"in_context": plain, "calibrated": corrected}

    # ------------------------------------------------------------------ gradient descent

    def _tuned(self, way: Way, examples: Sequence[Example], folder: Path) -> LanguageModel:
        """The model after fine-tuning on the examples, its adapters folded in."""
        files = folder.with_name(f"{folder.name}.data")
        files.mkdir(parents=True, exist_ok=True)
        config = self._sft_config(way, examples, files, seed=int(folder.name.rpartition("-")[2]))
        with (self.out / "tuning.log").open("a") as log, redirect_stderr(log):
            run = sft(config, folder, resume=is_run(folder))
        shutil.rmtree(files)
        last = checkpoint.committed(Run.open(run.folder).checkpoints)[-1]
        return interchange.load(last.model).to(self.machine.device)

    def _sft_config(
        self, way: Way, examples: Sequence[Example], files: Path, seed: int
    ) -> SftConfig:
        tune, count = self.config.tune, len(examples)
        batch_size = min(tune.batch_size, count)
        steps = max(tune.steps, math.ceil(tune.epochs * count / batch_size))
        learned = self._write(files / "train.jsonl", examples)
        rates = {"full": tune.learning_rate, "lora": tune.lora_learning_rate}
        values: dict[str, Any] = {
            "seed": seed,
            "parent": str(self.parent.folder),
            "context": self.max_context or self.longest,
            "data": {
                "files": [learned],
                "validation": [self._write(files / "watched.jsonl", examples[:WATCHED])],
                "style": "plain",
                "packing": False,
            },
            "anchor": {"strength": tune.anchor},
            "forgetting": {"max_tokens": 2048},
            "training": {
                "steps": steps,
                "batch_size": batch_size,
                "device": self.config.device,
                "precision": self.machine.values["precision"],
            },
            "optimizer": {"kind": "adamw", "learning_rate": rates[way]},
            "schedule": {"warmup_steps": steps // 10, "decay_share": 1.0},
            "validation": {"every": steps},
            "checkpoint": {"every": steps, "keep_best": False, "keep_last": 1},
        }
        if way == "lora":
            values["adapter"] = tune.adapter.values()
        return SftConfig.parse(values)

    def _write(self, path: Path, examples: Sequence[Example]) -> str:
        template = self.task.template
        rows = (
            {"prompt": template.prompt(e.text), "completion": template.completion(e.answer)}
            for e in examples
        )
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        durable.replace(path, "".join(lines).encode())
        return str(path.resolve())

    def _fitting(self, task: Task) -> tuple[Task, int]:
        """The task without what is too long for the model, and the longest example that is left."""
        most = answer_tokens(task, self.tokenizer) + 1  # and the end of the text

        def lengths(side: Sequence[Example]) -> list[int]:
            texts = [example.text for example in side]
            return [len(t) + most for t in prompt_tokens(task, self.tokenizer, (), texts)]

        every = (*task.train, *task.test)
        of = dict(zip(every, lengths(every), strict=True))
        bound = self.max_context or max(of.values())
        long = {example for example, length in of.items() if length > bound}
        less = without(task, long, f"longer than the {bound:,} tokens of the context")
        return less, max(of[example] for example in (*less.train, *less.test))
