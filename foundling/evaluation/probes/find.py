"""Finds probes by name: built-in ones, those of installed packages, and the user's files."""

import logging
import runpy
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from foundling.base.config import ConfigError, Section, suggest
from foundling.evaluation.probes import PROBES, Probe
from foundling.evaluation.probes.lm_eval import LmEval

GROUP = "foundling.probes"

logger = logging.getLogger(__name__)


def find_probes(
    names: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    shared: Sequence[str] = (),
) -> list[Probe]:
    """The probes of these names with their settings; None: all of the table and of entry points.

    A name that ends in .py is a file that holds one class with `name`, `title`, `about` and `run`.
    An entry point names such a class or an object of one. lm-evaluation-harness is among them
    where its settings name tasks.

    Args:
        settings: those of each probe by its name, as the sections of a TOML file.
        shared: the names of the settings that stand beside these, for a message.

    Raises:
        ConfigError: there is none of a name, or two have one, or a setting is wrong.
    """
    known: dict[str, Probe] = {probe.name: probe for probe in (*PROBES, LmEval())}
    for point in entry_points(group=GROUP):
        try:
            value = point.load()
        except Exception as error:
            raise ConfigError(
                f"entry point {point.value}: cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        probe = _made(value, f"entry point {point.value}")
        if probe.name in known:
            raise ConfigError(f'{point.value}: a probe "{probe.name}" exists already; rename it.')
        known[probe.name] = probe
    chosen = [name for name in known if name != LmEval.name] if names is None else []
    for name in names or ():
        if name.endswith(".py"):
            probe = _of_file(Path(name))
        elif name in known:
            probe = known[name]
        else:
            raise ConfigError(f'"{name}": no such probe {suggest(name, list(known))}')
        if probe.name in chosen:
            raise ConfigError(f'{name}: there are two probes named "{probe.name}".')
        known[probe.name] = probe
        chosen.append(probe.name)
    return _configured(known, chosen, settings or {}, shared)


def _configured(
    known: dict[str, Probe],
    chosen: list[str],
    settings: Mapping[str, Any],
    shared: Sequence[str],
) -> list[Probe]:
    for name, given in settings.items():
        if name not in known:
            allowed = suggest(name, [*shared, *known])
            raise ConfigError(f"{name}: no such setting or probe {allowed}")
        probe = known[name]
        if not isinstance(given, Mapping):
            raise ConfigError(f"{name} = {given}: a probe; expected {name}.SETTING = VALUE.")
        if not isinstance(probe, Section):
            raise ConfigError(f"{name}: this probe has no settings.")
        known[name] = type(probe).parse({**probe.model_dump(exclude_unset=True), **given}, name)
        if name == LmEval.name and name not in chosen:
            chosen.append(name)
        elif name not in chosen:
            logger.info("[%s]: not read, for it is not among the probes.", name)
    return [known[name] for name in chosen]


def _of_file(path: Path) -> Probe:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file of a probe.")
    try:
        values = runpy.run_path(str(path), run_name=path.stem)
    except Exception as error:
        raise ConfigError(f"{path}: cannot be run: {type(error).__name__}: {error}") from error
    probes = [value for value in values.values() if _is_own(value, path.stem)]
    if len(probes) != 1:
        raise ConfigError(
            f"{path}: {len(probes)} probes; expected one class with name, title, about and run."
        )
    return _made(probes[0], str(path))


def _is_own(value: object, module: str) -> bool:
    """Whether it is a probe class that the file itself defines."""
    return isinstance(value, type) and value.__module__ == module and isinstance(value, Probe)


def _made(value: object, where: str) -> Probe:
    try:
        probe = value() if isinstance(value, type) else value
    except Exception as error:
        raise ConfigError(f"{where}: cannot be created: {type(error).__name__}: {error}") from error
    if not isinstance(probe, Probe):
        raise ConfigError(f"{where}: not a probe: it must have name, title, about and run.")
    return probe
