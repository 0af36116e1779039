"""An act of the demonstration: the model of each stage is measured by every probe."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from foundling.evaluation.evaluate import evaluate, parse_evaluation
from foundling.reports.evaluation_report import write_evaluation_report
from foundling.reports.evaluation_table import headlines

say = logging.getLogger(__name__).info

EVERY = 10.0  # seconds between two words about a probe that takes long
SETTINGS = {
    "in_context": {"shots": [0, 2, 8]},
    "consistency": {"num_samples": 4},
    "toxicity": {"num_samples": 4},
}


def measure(runs: Sequence[Path], out: Path, num_items: int) -> Path:
    """The report of the runs side by side; nothing is read but the embedded village."""
    config, probes = parse_evaluation({**SETTINGS, "limit": num_items})
    content = evaluate([str(run) for run in runs], probes, config, out, watch=_watch())
    Console(stderr=True).print(headlines(content))
    return write_evaluation_report(content, out, "From text to a model that is preferred")


def _watch() -> Callable[[str, int, int], None]:
    """Say each probe as it begins, and how far one is that takes long."""
    asked, answered = Counter[str](), Counter[str]()
    told = time.monotonic()

    def watch(what: str, new: int, done: int) -> None:
        nonlocal told
        began = what not in asked
        asked[what] += new
        answered[what] += done
        if began or time.monotonic() - told > EVERY:
            counts = "" if began else f" {answered[what]:,} of {asked[what]:,} answered"
            say(f"   {what} …{counts}")
            told = time.monotonic()

    return watch
