"""Starts a verb again in several processes of this machine, by torch's own elastic launcher."""

import logging
import os
import sys
import tempfile
import time
from pathlib import Path

from foundling.base.process import INTERRUPTED, process_number, world_size

ENDED = "FOUNDLING_ENDED"
"""The file in which the first process leaves the exit code of an end that no restart would mend."""
FINAL = (2, 3, INTERRUPTED)
PATIENCE = 10.0  # seconds
SAVING_SECONDS = 600
"""How long interrupted processes may save."""


def is_launched() -> bool:
    """Whether `launch` started this process."""
    return ENDED in os.environ


def end(code: int) -> int:
    """What this process is to end with, so that no end is repeated that a restart would not mend.

    A launcher starts again whatever ends with another code than 0.
    """
    if is_launched() and process_number() == 0 and code in FINAL:
        Path(os.environ[ENDED]).write_text(str(code))
    return 0 if has_ended() else code


def has_ended() -> bool:
    """Whether the first process has left for good."""
    return is_launched() and Path(os.environ[ENDED]).exists()


def waited_for_end() -> bool:
    """Wait a while for the first process to leave, which ends this one, too, under torchrun."""
    until = time.monotonic() + PATIENCE
    while not has_ended() and time.monotonic() < until:
        time.sleep(0.05)
    return has_ended()


def restarted() -> bool:
    """Whether this process stands in for one that `launch` started and that crashed.

    The run that it finds is then one that this launch began or resumed. Another launcher repeats
    refusals, too: what it finds may be any run.
    """
    return is_launched() and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def launch(processes: int, max_restarts: int) -> int:
    """Run this command in so many processes; the exit code is that of the first one.

    Raises:
        ConfigError: a launcher started this process already.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from foundling.base.config import ConfigError
    from foundling.base.process import cores

    if world_size() > 1:
        raise ConfigError(
            "--nproc: a launcher has started several processes already; leave out one of the two."
        )
    for name in logging.root.manager.loggerDict:  # each has a level of its own
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // processes)))
    with tempfile.TemporaryDirectory() as folder:
        ended = Path(folder) / "ended"
        os.environ[ENDED] = str(ended)
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id="foundling",
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=max_restarts,
            shutdown_timeout=SAVING_SECONDS,
        )
        command = ("-m", "foundling", *sys.argv[1:])
        try:
            elastic_launch(config, sys.executable)(*command)
        except SignalException:
            return INTERRUPTED
        except ChildFailedError as error:
            number, failure = error.get_first_failure()
            if failure.exitcode < 0:
                print(f"error: process {number} ended by {failure.signal_name()}", file=sys.stderr)
            return max(1, failure.exitcode)
        finally:
            del os.environ[ENDED]
        return int(ended.read_text()) if ended.exists() else 0
