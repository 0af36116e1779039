"""The same task learned from examples in the prompt and by gradient descent, side by side."""

import json
import logging
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from foundling.base import durable
from foundling.base.config import ConfigError, Section, load_json
from foundling.base.precision import PRECISIONS
from foundling.evaluation.few_shot import SHORTENED, Learner, Prompts, shot_of, shot_task
from foundling.evaluation.findings import UNREADABLE
from foundling.evaluation.model_scorer import ModelScorer
from foundling.evaluation.tasks import Example, Task, TaskSettings, Template, read_task
from foundling.experiments.measurements import Measurements
from foundling.experiments.template_trial import fitting, right_by_way, try_templates
from foundling.models.adapters import AdapterSettings
from foundling.models.language_model import LanguageModel
from foundling.reports.adapt_report import write_adapt_report
from foundling.runs import checkpoint
from foundling.runs.model_folder import open_model
from foundling.runs.run import Run, is_run
from foundling.stages.machine import Machine
from foundling.stages.parent import Parent
from foundling.stages.settings import TrainingSettings
from foundling.stages.sft import SftConfig, sft
from foundling.training.progress import reporting_to

logger = logging.getLogger(__name__)

Way = Literal["in_context", "full", "lora"]
FREE = ("shots", "sizes", "seeds", "ways")
"""Settings that say what is measured, not how; with others, the same folder holds more."""
WATCHED, WATCHED_EVERY = 32, 5
"""The examples learned from that say when they are known, and the steps between two looks."""


class TuneSettings(Section):
    """How gradient descent learns: until the examples are known, or for a number of steps.

    The test items say nothing of when it ends; the last weights count.
    """

    steps: int = Field(100, gt=0)
    """The most; with many examples, as many as `epochs` takes."""
    stop_below: float = Field(0.05, ge=0)
    """The loss in nats a token, on examples learned from, below which it ends; 0: all steps."""
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
    """Numbers of examples in the prompt; those that do not fit the context are reported."""
    sizes: tuple[int, ...] = (8, 32, 128, 512)
    """Numbers of examples to fine-tune on, as far as the task has so many."""
    seeds: int = Field(3, gt=0)
    """Draws, orders and initial adapters."""
    ways: tuple[Way, ...] = ("in_context", "full", "lora")
    seed: int = Field(1, ge=0, lt=2**63)
    device: str = "auto"
    precision: str = "auto"
    chat: bool = False
    """Whether each example is two turns of a conversation, by the model's own chat template."""
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


class AdaptTask(TaskSettings):
    """The files of a task, and how they are read."""

    file: Path
    """Labelled examples to learn from."""
    test: Path | None = None
    """The test items; None: some of `file`."""
    templates: tuple[str, ...] = ()
    """Several in place of `template`: that with which examples in the prompt help most is taken,
    as measured on 64 of the examples to learn from; the test items are not looked at."""
    limit: int = Field(200, gt=0)
    """The most test items."""


def parse_adapt(values: Mapping[str, Any]) -> tuple[AdaptConfig, Task, tuple[Template, ...]]:
    """The settings of a TOML file, the task that its section `task` describes, its templates.

    Raises:
        ConfigError: a setting is wrong, or the task cannot be read.
    """
    config = AdaptConfig.parse({key: value for key, value in values.items() if key != "task"})
    if "task" not in values:
        raise ConfigError("task: give --task FILE, the labelled examples to learn from.")
    task = AdaptTask.parse(values["task"], "task")
    templates = tuple(map(Template, task.templates or (task.template,)))
    how = task.model_copy(update={"template": templates[0].pattern})
    found = read_task(task.file, task.test, how, limit=task.limit, seed=config.seed)
    return config, found, templates


def adapt(
    source: str,
    task: Task,
    config: AdaptConfig,
    out: Path,
    *,
    templates: Sequence[Template] = (),
    keep_runs: bool = False,
) -> Path:
    """Measure the task by every way, number and seed that `out` lacks, and write the report.

    The examples of a seed are the same for all ways: the first ones of one order. The runs of
    fine-tuning are removed once they are measured, unless `keep_runs`. Of several `templates` the
    best one is taken for all, see `AdaptTask`.

    Raises:
        ConfigError: the settings are at fault, or `out` holds something else.
        Interrupted: SIGINT or SIGTERM came; what was measured is there.
        TrainingStopped: fine-tuning stopped itself.
    """
    training = TrainingSettings(device=config.device, precision=_precision(config, out))
    parent = Parent.find(source)
    model = parent.load()
    machine = Machine.of(training, model, model.max_context or 256)
    bench = _Bench(parent, model, machine, task, config, out, templates)
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


def _precision(config: AdaptConfig, out: Path) -> str:
    """Where it is `auto`, that of the measurements that are there."""
    path = out / "adapt.json"
    before = load_json(path).get("identity") if path.is_file() else None
    if config.precision != "auto" or not isinstance(before, dict):
        return config.precision
    names = {str(kind).removeprefix("torch."): name for name, kind in PRECISIONS.items()}
    return names.get(str(before.get("precision")), "auto")


class _Bench:
    """A model, a task and a machine, and all measurements made with them."""

    def __init__(
        self,
        parent: Parent,
        model: LanguageModel,
        machine: Machine,
        task: Task,
        config: AdaptConfig,
        out: Path,
        templates: Sequence[Template] = (),
    ) -> None:
        self.parent, self.machine, self.config, self.out = parent, machine, config, out
        self.model, self.max_context = model.to(machine.device), model.max_context
        self.scorer = ModelScorer(
            self.model, parent.tokenizer().dated(), str(parent.folder), "",
            chats=config.chat, precision=machine.precision,
        )  # fmt: skip
        self.tried = try_templates(task, templates, self.scorer) if len(templates) > 1 else []
        for one in self.tried:
            logger.info(
                f"template {one['template']!r}: {one['accuracy']:.1%} of {one['items']} examples "
                f"to learn from, k = {one['number']}"
            )
        if self.tried:
            best = max(self.tried, key=lambda one: one["accuracy"])
            task = replace(task, template=Template(best["template"]))
        self.task, self.longest = fitting(task, self.scorer)
        self.learner = Learner(self.scorer, shot_task(self.task, in_turns=config.chat))

    @property
    def identity(self) -> dict[str, Any]:
        """All that a measurement depends on."""
        settings = self.config.values()
        if not self.config.chat:  # as folders say that were written before there was a choice
            del settings["chat"]
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
                "templates": self.tried,
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
            prompts = self._prompts(number, book)
            if prompts is None:
                return  # more would not fit either: the first ones are the same
            for seed, of in prompts.items():
                if book.has("in_context", number, seed):
                    continue
                begun = time.perf_counter()
                ways = right_by_way(self.learner, of)
                seconds = time.perf_counter() - begun
                book.add(number, seed, ways, seconds)
                accuracies = ", ".join(f"{sum(of) / len(of):.1%} {way}" for way, of in ways.items())
                logger.info(f"k = {number}, seed {seed}: {accuracies} ({seconds:.1f} s)")

    def fine_tune(self, book: Measurements, way: Way, keep_runs: bool) -> None:
        for number in sorted(self.config.sizes):
            if number > len(self.task.train):
                note = f"n = {number:,}: there are {len(self.task.train):,} examples to learn from"
                book.note("left_out", note)
                return
            for seed in self._seeds(number):
                if book.has(way, number, seed):
                    continue
                begun = time.perf_counter()
                folder = self.out / "runs" / f"{way}-{number}-{seed}"
                model = self._tuned(way, self._draw(number, seed), folder)
                tuned = replace(self.learner, scorer=replace(self.scorer, model=model))
                right = right_by_way(tuned, self._behind(()))["in_context"]
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
        """Without examples nothing is drawn, so one seed is enough."""
        return range(1, 2 if number == 0 else self.config.seeds + 1)

    def _prompts(self, number: int, book: Measurements) -> dict[int, Prompts] | None:
        """The test items behind so many examples of each seed, if (nearly) all of them fit."""
        if number > len(self.task.train):
            note = f"k = {number}: there are {len(self.task.train):,} examples to learn from"
            book.note("left_out", note)
            return None
        prompts = {seed: self._behind(self._draw(number, seed)) for seed in self._seeds(number)}
        long = sum(of.num_shortened for of in prompts.values())
        every = len(prompts) * len(self.task.test)
        note = f"k = {number}: {long:,} of {every:,} prompts are longer than the context"
        if long > SHORTENED * every:
            book.note("left_out", note)
            return None
        if long:
            book.note("shortened", f"{note}, and hold as many examples as fit")
        return prompts

    def _behind(self, examples: Sequence[Example]) -> Prompts:
        shots = [shot_of(self.task, example) for example in examples]
        prompts = self.learner.behind([shots] * len(self.task.test))
        if None in prompts.items:
            item = self.task.test[prompts.items.index(None)]
            raise ConfigError(f'"{item.text[:60]}": {UNREADABLE}.')
        return prompts

    def _draw(self, number: int, seed: int) -> tuple[Example, ...]:
        """The examples of a seed, the same for every way."""
        return self.task.draw(number, self.config.seed, seed)

    # ------------------------------------------------------------------ gradient descent

    def _tuned(self, way: Way, examples: Sequence[Example], folder: Path) -> LanguageModel:
        """The model after fine-tuning on the examples, its adapters folded in."""
        files = folder.with_name(f"{folder.name}.data")
        files.mkdir(parents=True, exist_ok=True)
        config = self._sft_config(way, examples, files, seed=int(folder.name.rpartition("-")[2]))
        with (self.out / "tuning.log").open("a", encoding="utf-8") as log, reporting_to(log):
            run = sft(config, folder, resume=is_run(folder))
        shutil.rmtree(files)
        last = checkpoint.committed(Run.open(run.folder).checkpoints)[-1]
        return open_model(last.model).to(self.machine.device)

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
                "style": "chat" if self.config.chat else "plain",
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
            "guard": {"enabled": False},
            "validation": {
                "every": WATCHED_EVERY if tune.stop_below else steps,
                "batch_size": WATCHED,
                "patience": 0,
                "stop_below": tune.stop_below,
            },
            "checkpoint": {"every": steps, "keep_best": False, "keep_last": 1},
            "followers": {"report": False},  # `foundling report` draws that of a run kept
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
        if self.config.chat:
            rows = ({key: text.strip() for key, text in row.items()} for row in rows)
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        durable.replace(path, "".join(lines).encode())
        return str(path.resolve())
