"""The command line: one verb a command, which builds the parts and wires them."""

from foundling.cli import data, training, using
from foundling.cli.app import app, exit_code, main

__all__ = ["app", "data", "exit_code", "main", "training", "using"]
