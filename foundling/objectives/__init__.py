"""The table of objectives."""

from foundling.objectives.contract import LossSum, Objective
from foundling.objectives.pretrain import Pretrain
from foundling.objectives.sft import Sft

OBJECTIVES: dict[str, type[Objective]] = {"pretrain": Pretrain, "sft": Sft}

__all__ = ["OBJECTIVES", "LossSum", "Objective", "Pretrain", "Sft"]
