"""The command line: one verb a command, which builds the parts and wires them."""

from foundling.cli import (
    adapters,
    adapting,
    attending,
    chatting,
    classifying,
    comparing,
    data,
    evaluating,
    exporting,
    hamlet,
    importing,
    mixing,
    planning,
    preferences,
    serving,
    training,
    using,
)
from foundling.cli.app import app, exit_code

training.add_package_verbs()

__all__ = [
    "adapters",
    "adapting",
    "app",
    "attending",
    "chatting",
    "classifying",
    "comparing",
    "data",
    "evaluating",
    "exit_code",
    "exporting",
    "hamlet",
    "importing",
    "mixing",
    "planning",
    "preferences",
    "serving",
    "training",
    "using",
]
