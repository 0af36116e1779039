"""`python -m foundling` is the command `foundling`."""

from foundling.cli import main

main()
