"""The table of objectives."""

from foundling.objectives.contract import LossSum, Objective
from foundling.objectives.dpo import Dpo
from foundling.objectives.kto import Kto
from foundling.objectives.pretrain import Pretrain
from foundling.objectives.sft import Sft

OBJECTIVES: dict[str, type[Objective]] = {"pretrain": Pretrain, "sft": Sft, "dpo": Dpo, "kto": Kto}

__all__ = ["OBJECTIVES", "Dpo", "Kto", "LossSum", "Objective", "Pretrain", "Sft"]
