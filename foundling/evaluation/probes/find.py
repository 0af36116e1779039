"""Finds probes by name: those here, those that packages bring, and files of one's own."""

import runpy
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from foundling.base.config import ConfigError, suggest
from foundling.evaluation.probes import PROBES, Probe

GROUP = "foundling.probes"


def find_probes(names: Sequence[str] | None = None) -> list[Probe]:
    """The probes of these names; None: all of the table and of entry points.

    A name that ends in .py is a file that holds one class with `name`, `title`, `about` and `run`.
    An entry point names such a class or an object of one.

    Raises:
        ConfigError: there is none of a name, or two have one.
    """
    known = {probe.name: probe for probe in PROBES}
    for point in entry_points(group=GROUP):
        try:
            value = point.load()
        except Exception as error:
            raise ConfigError(
                f"entry point {point.value}: cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        probe = _made(value, f"entry point {point.value}")
        if probe.name in known:
            raise ConfigError(f'{point.value}: a probe "{probe.name}" is already there; rename it.')
        known[probe.name] = probe
    if names is None:
        return list(known.values())
    found: dict[str, Probe] = {}
    for name in names:
        if name.endswith(".py"):
            probe = _of_file(Path(name))
        elif name in known:
            probe = known[name]
        else:
            raise ConfigError(f'"{name}": no such probe {suggest(name, list(known))}')
        if probe.name in found:
            raise ConfigError(f'{name}: there are two probes named "{probe.name}".')
        found[probe.name] = probe
    return list(found.values())


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
    """Whether it is a class of this very file that has what a probe has."""
    return isinstance(value, type) and value.__module__ == module and isinstance(value, Probe)


def _made(value: object, where: str) -> Probe:
    try:
        probe = value() if isinstance(value, type) else value
    except Exception as error:
        raise ConfigError(f"{where}: cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(probe, Probe):
        raise ConfigError(f"{where}: no probe: it must have name, title, about and run.")
    return probe
