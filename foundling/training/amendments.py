"""What a run does differently from its plain course: samples left out, learning rates lowered."""

from pydantic import field_validator

from foundling.base import intervals
from foundling.base.config import Section
from foundling.base.intervals import Intervals


class Amendments(Section):
    """With its settings and its seed, all that a run's weights depend on.

    A run that healed itself therefore equals, bit for bit, one that is given the same amendments
    from the start.
    """

    skipped: Intervals = ()
    """Global indices of samples that are never trained on: [first, one past the last]."""
    rate_cuts: tuple[tuple[int, float, int], ...] = ()
    """From this step on, the learning rate times this, reached again over so many steps."""

    @field_validator("skipped")
    @classmethod
    def _sorted(cls, value: Intervals) -> Intervals:
        return intervals.union(value)

    @field_validator("rate_cuts")
    @classmethod
    def _lower(
        cls, value: tuple[tuple[int, float, int], ...]
    ) -> tuple[tuple[int, float, int], ...]:
        for step, factor, warmup in value:
            if step < 0 or not 0 < factor < 1 or warmup < 0:
                raise ValueError(
                    f"[{step}, {factor}, {warmup}]: expected a step from 0, a factor between 0 and "
                    "1, and a number of warm-up steps from 0"
                )
        return value

    def skip(self, start: int, stop: int) -> "Amendments":
        return self.model_copy(update={"skipped": intervals.union([*self.skipped, (start, stop)])})

    def cut(self, step: int, factor: float, warmup: int) -> "Amendments":
        return self.model_copy(update={"rate_cuts": (*self.rate_cuts, (step, factor, warmup))})

    def rate_share(self, step: int) -> float:
        """What the scheduled learning rate is multiplied by at a step."""
        share, ramp = 1.0, 1.0
        for start, factor, warmup in self.rate_cuts:
            if start <= step:
                share *= factor
                ramp = min(ramp, (step - start + 1) / (warmup + 1))
        return share * ramp
