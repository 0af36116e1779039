"""The table of objectives."""

from foundling.objectives.contract import LossSum, Objective
from foundling.objectives.dpo import Dpo
from foundling.objectives.pretrain import Pretrain
from foundling.objectives.sft import Sft

OBJECTIVES: dict[str, type[Objective]] = {"pretrain": Pretrain, "sft": Sft, "dpo": Dpo}

__all__ = ["OBJECTIVES", "Dpo", "LossSum", "Objective", "Pretrain", "Sft"]
