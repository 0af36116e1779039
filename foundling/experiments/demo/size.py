"""How much the demonstration trains and asks: a short one by default, a full one on demand."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """What the acts are made of; the lessons are the same at either size."""

    minutes: int
    """About how long all acts take on 2 CPU cores."""
    steps: int
    """Steps of the transformer, and `batch_size` rows in each."""
    batch_size: int
    instructions: int
    """Rows of instructions to learn from."""
    prompts: int
    """Prompts whose answers are voted on."""
    held_out: int
    """Prompts on which the model before and the model after are compared."""
    items: int
    """Items that a probe asks each model."""


SHORT = Size(5, 500, batch_size=16, instructions=3600, prompts=200, held_out=80, items=32)
FULL = Size(10, 600, batch_size=32, instructions=6000, prompts=300, held_out=100, items=100)
