"""The table of objectives."""

from foundling.objectives.contract import LossSum, Objective
from foundling.objectives.pretrain import Pretrain

OBJECTIVES: dict[str, type[Objective]] = {"pretrain": Pretrain}

__all__ = ["OBJECTIVES", "LossSum", "Objective", "Pretrain"]
