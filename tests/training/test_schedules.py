"""Schedules against their formulas at the points that matter."""

import math

import pytest

from foundling.base.config import ConfigError
from foundling.training.schedules import ScheduleSettings, rate_share


def test_wsd_warms_up_stays_and_decays_linearly() -> None:
    settings = ScheduleSettings(kind="wsd", warmup_steps=4, decay_share=0.5, final=0.2)
    shares = [rate_share(settings, step, 20) for step in range(21)]
    assert shares[:4] == [0.2, 0.4, 0.6, 0.8]
    assert shares[4:11] == [1.0] * 7
    assert shares[15] == pytest.approx(0.6)
    assert shares[20] == pytest.approx(0.2)


def test_cosine_halves_midway() -> None:
    settings = ScheduleSettings(kind="cosine", warmup_steps=10, final=0.1)
    assert rate_share(settings, 10, 110) == 1.0
    assert rate_share(settings, 60, 110) == pytest.approx(0.55)
    assert rate_share(settings, 35, 110) == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi / 4)))
    assert rate_share(settings, 110, 110) == pytest.approx(0.1)


def test_every_share_is_positive_until_the_end_and_never_above_one() -> None:
    for kind in ("wsd", "cosine", "constant"):
        settings = ScheduleSettings(kind=kind)
        shares = [rate_share(settings, step, 100) for step in range(100)]
        assert 0 < min(shares) <= max(shares) <= 1


def test_a_setting_that_a_schedule_does_not_use_is_refused() -> None:
    with pytest.raises(ConfigError, match="cosine schedule does not use decay_share"):
        ScheduleSettings.parse({"kind": "cosine", "decay_share": 0.1})


def test_a_decay_over_all_steps_begins_where_the_warm_up_ends() -> None:
    settings = ScheduleSettings(kind="wsd", warmup_steps=4, decay_share=1.0)
    shares = [rate_share(settings, step, 12) for step in range(12)]
    assert shares == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, *((12 - step) / 8 for step in range(4, 12))]
    )
    assert rate_share(settings, 4, 4) == 1.0


def test_a_warm_up_that_the_run_would_not_outlast_takes_a_tenth_of_it() -> None:
    settings = ScheduleSettings(kind="constant", warmup_steps=20)
    assert rate_share(settings, 0, 20) == pytest.approx(1 / 21)
    assert [rate_share(settings, step, 19) for step in (0, 1)] == pytest.approx([1 / 2, 1])
    assert rate_share(settings, 0, 8) == 1
