"""The probes: one file each, and a table of them."""

from foundling.evaluation.probes.bias import Bias
from foundling.evaluation.probes.common_sense.probe import CommonSense
from foundling.evaluation.probes.consistency.probe import Consistency
from foundling.evaluation.probes.contract import Probe, Setting
from foundling.evaluation.probes.in_context.probe import InContext
from foundling.evaluation.probes.language_modelling import LanguageModelling
from foundling.evaluation.probes.long_context.probe import LongContext
from foundling.evaluation.probes.refusal.probe import Refusal
from foundling.evaluation.probes.toxicity.probe import Toxicity
from foundling.evaluation.probes.truthfulness.probe import Truthfulness

PROBES: tuple[Probe, ...] = (
    LanguageModelling(),
    LongContext(),
    InContext(),
    CommonSense(),
    Consistency(),
    Truthfulness(),
    Bias(),
    Toxicity(),
    Refusal(),
)
"""In the order of the report."""

__all__ = ["PROBES", "Probe", "Setting"]
