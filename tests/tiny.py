"""The settings of a run that takes a second."""

from typing import Any

TINY: dict[str, Any] = {
    "seed": 3,
    "context": 16,
    "model": {"rung": "transformer", "dim": 16, "num_layers": 2, "num_heads": 2, "dropout": 0.1},
    "training": {
        "steps": 12,
        "batch_size": 4,
        "micro_batch_size": 3,
        "precision": "fp32",
        "device": "cpu",
    },
    "schedule": {"warmup_steps": 3},
    "validation": {
        "every": 5,
        "max_tokens": 400,
        "prompts": ["The "],
        "sample_tokens": 6,
    },
    "checkpoint": {"every": 4, "keep_last": 3},
    "followers": {"report": False},  # drawing takes as long as training
}
