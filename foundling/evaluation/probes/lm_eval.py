"""Tasks of lm-evaluation-harness, with its prompts and its scores, beside our own probes."""

from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import version
from typing import Any, ClassVar

from pydantic import Field, model_validator

from foundling.base.config import ConfigError, Section
from foundling.evaluation.findings import Findings, Good, Metric
from foundling.evaluation.model_scorer import ModelScorer
from foundling.evaluation.probes.contract import Setting
from foundling.evaluation.score_cache import Remembered
from foundling.evaluation.scorer import Scorer

SMALL = 1e-6
Values = Mapping[str, Any]


class LmEval(Section):
    """Tasks by lm-eval's names, and local ones (`lm_eval_adapter.task_names`)."""

    name: ClassVar = "lm_eval"
    title: ClassVar = "lm-evaluation-harness"
    about: ClassVar = (
        "Standard tasks as lm-evaluation-harness asks and scores them; --limit takes the first "
        "items of each. A context that is too long loses its front, as there."
    )

    tasks: tuple[str, ...] = ()
    """Names of tasks; without any, nothing is measured."""
    shots: int | None = Field(None, ge=0)
    """Examples before each item; without a number as each task says."""

    @model_validator(mode="after")
    def _has_tasks(self) -> "LmEval":
        if self.shots is not None and not self.tasks:
            raise ValueError("shots is the number of examples of tasks: give both")
        return self

    def check(self, setting: Setting) -> None:
        """Raises ConfigError: lm-eval is not there, has no such task, or a file is missing."""
        from foundling.evaluation.lm_eval_adapter import find_tasks

        find_tasks(self.tasks, setting.data_root)

    def run(self, scorer: Scorer, setting: Setting) -> Findings:
        """Raises ConfigError: lm-eval is not there, has no such task, or a file is missing."""
        from foundling.evaluation.lm_eval_adapter import local_files, run_lm_eval

        inner = scorer.scorer if isinstance(scorer, Remembered) else scorer
        if not isinstance(inner, ModelScorer):
            raise ConfigError(f"{scorer.name}: lm-eval asks models of ours alone.")

        def ask() -> Any:
            return _kept(
                run_lm_eval(
                    inner, self.tasks, setting.data_root, setting.limit, self.shots,
                    chat_template=inner.chats,
                )
            )  # fmt: skip

        files = local_files(setting.data_root, self.tasks)
        what = ["lm-eval", version("lm-eval"), self.tasks, self.shots, setting.limit,
                [sha256(file.read_bytes()).hexdigest() for file in files]]  # fmt: skip
        results = scorer.once(what, ask) if isinstance(scorer, Remembered) else ask()
        findings = Findings()
        for task in results["samples"]:
            _report(findings, task, results)
        cut = results["config"].get("contexts_cut", 0)
        if cut:
            findings.notes.append(
                f"{cut:,} requests were longer than the context and lost their front"
            )
        return findings


def _kept(results: Values) -> Values:
    """What the findings need of lm-eval's results: numbers, not documents."""
    return {
        "results": {task: {k: v for k, v in of.items() if isinstance(v, int | float | str)}
                    for task, of in results["results"].items()},
        "samples": {
            task: [
                {"doc_id": one["doc_id"], "filter": one["filter"], "num": len(one["arguments"]),
                 "values": {name: one[name] for name in one["metrics"]
                            if isinstance(one[name], int | float)}}
                for one in samples
            ]
            for task, samples in results["samples"].items()
        },
        "higher_is_better": results["higher_is_better"],
        "types": {task: of["output_type"] for task, of in results["configs"].items()},
        "shots": results["n-shot"],
        "config": {"contexts_cut": results["config"].get("contexts_cut", 0)},
    }  # fmt: skip


def _report(findings: Findings, task: str, results: Values) -> None:
    samples, found = results["samples"][task], results["results"][task]
    shots = results["shots"].get(task, 0)
    for key, value in found.items():
        name, _, filtered = key.partition(",")
        if not filtered or name.endswith("_stderr"):
            continue
        outcomes = {f"{task}/{one['doc_id']}": float(one["values"][name]) for one in samples
                    if one["filter"] == filtered and name in one["values"]}  # fmt: skip
        what = f"{task}: {name}" + ("" if filtered == "none" else f" ({filtered})")
        is_mean = outcomes and abs(sum(outcomes.values()) / len(outcomes) - value) < SMALL
        if not is_mean:
            error = found.get(f"{name}_stderr,{filtered}", "N/A")
            findings.notes.append(f"{what}: {value} (standard error by lm-eval: {error})")
            continue
        are_hits = set(outcomes.values()) <= {0.0, 1.0}  # else a mass, as truthfulqa_mc2's acc is
        is_multiple = results["types"].get(task) == "multiple_choice"
        is_choice = is_multiple and are_hits and name.startswith("acc")
        of = [1 / one["num"] for one in samples if one["filter"] == filtered]
        higher = results["higher_is_better"].get(task, {}).get(name)
        good: Good = "neither" if higher is None else "high" if higher else "low"
        findings.metrics.append(
            Metric(
                f"{task}.{name}" + ("" if filtered == "none" else f".{filtered}"),
                what,
                outcomes,
                chance=sum(of) / len(of) if is_choice else None,
                good=good,
                unit="share" if are_hits else "number",
                headline=name == "acc",
                note=f"{shots}-shot",
            )
        )
