"""Where a process is, and that one process alone is not watched."""

import signal
import threading
import time

from foundling.training.pulse import Pulse
from foundling.training.watchdog import Watchdog


def test_phases_are_counted_and_timed() -> None:
    pulse = Pulse()
    pulse.at("data", step=7)
    assert pulse.is_first_step()
    time.sleep(0.02)
    pulse.at("passes")
    assert pulse.place[:3] == (2, 7, "passes")
    assert pulse.idle_seconds() < 0.02
    pulse.at("data", step=8)
    assert not pulse.is_first_step()
    taken = pulse.taken()
    assert taken["data"] >= 0.02 > taken["passes"] >= 0
    assert not pulse.taken()


def test_one_process_is_not_watched() -> None:
    before = threading.active_count(), signal.set_wakeup_fd(-1)
    with Watchdog(Pulse(), limit=0.01):
        time.sleep(0.05)
        assert (threading.active_count(), signal.set_wakeup_fd(-1)) == before
