"""Files that survive a crash."""

import os
import subprocess
import sys
from pathlib import Path

from foundling.base import durable


def test_a_lock_holds_against_others_and_ends_with_its_process(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom foundling.base import durable\n"
        "with durable.locked(Path(sys.argv[1])) as is_free:\n"
        "    print(is_free, flush=True)\n    sys.stdin.read()"
    )
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": root},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        with durable.locked(tmp_path) as is_free:
            assert not is_free
        process.kill()
        process.wait()
    with durable.locked(tmp_path) as first, durable.locked(tmp_path) as second:
        assert (first, second) == (True, False)
    with durable.locked(tmp_path) as is_free:
        assert is_free
