"""Brings models into memory; adapters of one base share it."""

from collections.abc import Callable, Sequence
from functools import cache

from foundling.base.runtime import pick_device
from foundling.generation.engine import Engine
from foundling.generation.opening import tell_rounding
from foundling.generation.packed import PackedModel, PackedRunner
from foundling.models.adapters import merge
from foundling.runs.model_folder import base_of, fingerprint, open_model, open_over
from foundling.serving.registry import Served, Source
from foundling.serving.settings import ServingSettings


def opener(settings: ServingSettings) -> Callable[[Source, Sequence[Served]], Engine]:
    """What opens the models of a server; see Registry.

    Where our kernels run, a base is in memory once, for itself and for all adapters of it.
    """
    device, named = pick_device(settings.device), cache(fingerprint)

    def base_in_memory(name: str, in_memory: Sequence[Served]) -> PackedModel | None:
        for served in in_memory:
            runner = served.engine.runner
            own = served.source.base or named(served.source.folder)
            if isinstance(runner, PackedRunner) and own == name:
                return runner.packed.base or runner.packed
        return None

    def open_engine(source: Source, in_memory: Sequence[Served]) -> Engine:
        shared, model = None, None
        if source.base is not None:
            shared = base_in_memory(source.base, in_memory)
        elif any(served.source.base for served in in_memory):
            shared = base_in_memory(named(source.folder), in_memory)
        if source.base is None:
            model = open_model(source.folder).to(device) if shared is None else shared.model
        else:
            base = open_model(base_of(source.folder)) if shared is None else shared.model
            model = open_over(source.folder, base)
            if shared is None and PackedRunner.supports(base.to(device)):
                shared = PackedModel.pack(base, settings.engine.format)
            if shared is None:
                merge(model.to(device))
            else:
                shared = shared.with_adapters(model)
        memory = settings.engine.cache_bytes
        runner = None if shared is None else PackedRunner(shared, cache_bytes=memory)
        engine = Engine(model, source.tokenizer, settings.engine, runner=runner)
        tell_rounding(engine, source.folder)
        return engine

    return open_engine
