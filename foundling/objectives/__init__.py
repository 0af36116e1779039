"""What the stages minimise: one file an objective, all by one contract."""

from foundling.objectives.contract import LossSum, Objective
from foundling.objectives.dpo import Dpo
from foundling.objectives.kto import Kto
from foundling.objectives.pretrain import Pretrain
from foundling.objectives.sft import Sft

__all__ = ["Dpo", "Kto", "LossSum", "Objective", "Pretrain", "Sft"]
