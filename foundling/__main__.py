"""`python -m foundling` and the command `foundling`."""

import sys
from typing import NoReturn

from foundling.base.process import guard_interrupts


def main() -> NoReturn:
    """Run a verb; faults of the input are one line and exit code 2, never a traceback."""
    guard_interrupts()
    from foundling.cli import app, exit_code  # takes a moment

    sys.exit(exit_code(app))


if __name__ == "__main__":
    main()
