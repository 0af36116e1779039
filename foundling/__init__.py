"""Foundling trains language models, from raw text to models that people prefer.

    import foundling

    model = foundling.load("runs/mine")
    print(model.generate("The miller", max_tokens=40, temperature=0.8))

Each name is imported when it is first used: `import foundling` alone takes no time.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foundling.api import (
        Comparison,
        Evaluation,
        TrainedRun,
        compare,
        dpo,
        evaluate,
        load,
        prepare,
        pretrain,
        sft,
        train,
    )
    from foundling.base.config import ConfigError, Section
    from foundling.evaluation.findings import Findings, Metric
    from foundling.evaluation.probes.contract import Probe
    from foundling.generation.engine import Engine
    from foundling.stages.job import Stage

__version__ = "0.2.0"

__all__ = [
    "Comparison",
    "ConfigError",
    "Engine",
    "Evaluation",
    "Findings",
    "Metric",
    "Probe",
    "Section",
    "Stage",
    "TrainedRun",
    "compare",
    "dpo",
    "evaluate",
    "load",
    "prepare",
    "pretrain",
    "sft",
    "train",
]

_HOMES = {
    "ConfigError": "base.config",
    "Engine": "generation.engine",
    "Findings": "evaluation.findings",
    "Metric": "evaluation.findings",
    "Probe": "evaluation.probes.contract",
    "Section": "base.config",
    "Stage": "stages.job",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
