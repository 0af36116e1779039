"""Brings models into memory."""

from collections.abc import Callable, Sequence

from foundling.base.runtime import pick_device
from foundling.generation.engine import Engine
from foundling.runs.model_folder import open_model
from foundling.serving.registry import Served, Source
from foundling.serving.settings import ServingSettings


def opener(settings: ServingSettings) -> Callable[[Source, Sequence[Served]], Engine]:
    """What opens the models of a server; see Registry."""
    device = pick_device(settings.device)

    def open_engine(source: Source, in_memory: Sequence[Served]) -> Engine:
        model = open_model(source.folder).to(device)
        return Engine(model, source.tokenizer, settings.engine)

    return open_engine
