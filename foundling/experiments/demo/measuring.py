"""An act of the demonstration: the model of each stage is measured by every probe."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from foundling.evaluation.evaluate import evaluate, parse_evaluation
from foundling.reports.evaluation_report import write_evaluation_report
from foundling.reports.evaluation_table import headlines

SETTINGS = {
    "in_context": {"shots": [0, 2, 8]},
    "consistency": {"num_samples": 4},
    "toxicity": {"num_samples": 4},
}


def measure(runs: Sequence[Path], out: Path, num_items: int) -> Path:
    """The report of the runs side by side; nothing is read but the embedded village."""
    config, probes = parse_evaluation({**SETTINGS, "limit": num_items})
    content = evaluate([str(run) for run in runs], probes, config, out)
    Console(stderr=True).print(headlines(content))
    return write_evaluation_report(content, out, "From text to a model that is preferred")
