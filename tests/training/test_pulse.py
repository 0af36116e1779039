"""Where a process is, and that one process alone is not watched."""

import signal
import threading
import time

from foundling.training.pulse import Place, Pulse
from foundling.training.watchdog import FIRST_STEP, STOP_SECONDS, Watchdog, allowed_seconds


def test_phases_are_counted_and_timed() -> None:
    now = 100.0
    pulse = Pulse(clock=lambda: now)
    pulse.at("data", step=7)
    assert pulse.is_first_step()
    now += 0.25
    pulse.at("passes")
    assert pulse.place[:3] == (2, 7, "passes")
    assert pulse.idle_seconds() < 0.02
    pulse.at("data", step=8)
    assert not pulse.is_first_step()
    taken = pulse.taken()
    assert taken["data"] == 0.25
    assert taken["data"] >= 0.02 > taken["passes"] >= 0
    assert not pulse.taken()


def test_one_process_is_not_watched() -> None:
    before = threading.active_count(), signal.set_wakeup_fd(-1)
    with Watchdog(Pulse(), limit=0.01):
        time.sleep(0.05)
        assert (threading.active_count(), signal.set_wakeup_fd(-1)) == before


def test_a_step_is_given_less_time_once_the_run_is_asked_to_stop() -> None:
    passes, saving = Place(9, 3, "passes", since=1000.0), Place(9, 3, "checkpoint", since=1000.0)
    assert allowed_seconds(passes, 600.0, is_first_step=False) == 600.0
    assert allowed_seconds(passes, 600.0, is_first_step=True) == FIRST_STEP * 600.0
    asked = {"is_first_step": False, "stop_asked_at": 1010.0}
    assert allowed_seconds(passes, 600.0, **asked) == 10.0 + STOP_SECONDS
    assert allowed_seconds(passes, 60.0, **asked) == 60.0
    assert allowed_seconds(saving, 600.0, **asked) == FIRST_STEP * 600.0
    asked["stop_asked_at"] = 990.0
    assert allowed_seconds(passes, 600.0, **asked) == STOP_SECONDS
