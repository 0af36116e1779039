"""Brings models into memory; adapters of one base share it."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from foundling.base.runtime import pick_device
from foundling.generation.engine import Engine
from foundling.generation.opening import tell_rounding
from foundling.generation.packed import PackedModel
from foundling.generation.packed_runner import PackedRunner
from foundling.generation.speculation import open_draft
from foundling.models.language_model import LanguageModel
from foundling.runs.model_folder import base_of, fingerprint, open_model, open_stored
from foundling.serving.registry import Served, Source
from foundling.serving.settings import ServingSettings


def opener(settings: ServingSettings) -> Callable[[Source, Sequence[Served]], Engine]:
    """What opens the models of a server; see Registry.

    Where our kernels run, a base is in memory once, for itself and for all adapters of it. A draft
    model is in memory once, for all models.
    """
    device, named = pick_device(settings.device), cache(fingerprint)
    open_draft_once = cache(lambda source: open_draft(source, device, settings.engine))

    def base_in_memory(name: str, in_memory: Sequence[Served]) -> PackedModel | None:
        for served in in_memory:
            runner = served.engine.runner
            own = served.source.base or named(served.source.folder)
            if isinstance(runner, PackedRunner) and own == name:
                return runner.packed.base or runner.packed
        return None

    def packed(folder: Path) -> PackedModel | None:
        stored = open_stored(folder)
        if not PackedModel.supports(stored.model):
            return None
        return PackedModel.pack(stored, settings.engine.format)

    def opened(source: Source, in_memory: Sequence[Served]) -> LanguageModel | PackedModel:
        if device.type != "cpu":
            return open_model(source.folder).to(device)
        shared = None
        if source.base is not None:
            shared = base_in_memory(source.base, in_memory) or packed(base_of(source.folder))
            shared = shared and shared.with_adapters(open_stored(source.folder))
        elif any(served.source.base for served in in_memory):
            shared = base_in_memory(named(source.folder), in_memory)
        return shared or packed(source.folder) or open_model(source.folder)

    def open_engine(source: Source, in_memory: Sequence[Served]) -> Engine:
        draft = settings.engine.draft
        engine = Engine(
            opened(source, in_memory),
            source.tokenizer,
            settings.engine,
            draft=None if draft is None else open_draft_once(draft),
        )
        tell_rounding(engine, source.folder)
        return engine

    return open_engine
