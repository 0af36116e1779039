"""The run folder: the settings, manifest, metrics and models of one run."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from foundling.base import durable
from foundling.base.config import ConfigError, load_json, load_toml
from foundling.models.language_model import LanguageModel
from foundling.runs import checkpoint
from foundling.runs.hub import download
from foundling.runs.model_folder import is_model, open_model
from foundling.runs.records import (
    best_validation,
    by_split,
    count_kinds,
    merge_events,
    read_records,
    samples_left_out,
)
from foundling.text.tokenizer import Tokenizer


class Run:
    """An existing run folder; `metrics.jsonl` is the source of truth."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.metrics = folder / "metrics.jsonl"
        self.event_log = folder / "events.jsonl"

    @classmethod
    def create(
        cls,
        folder: Path,
        config_toml: str,
        manifest: Mapping[str, Any],
        fill: Callable[[Path], None] = lambda folder: None,
    ) -> "Run":
        """Create a run; `fill` writes what else its folder holds from the start.

        Raises:
            ConfigError: the folder holds something already.
        """
        folder = folder.resolve()
        require_free(folder)
        # Made under a temporary name: a folder of the final name is always a complete run.
        temporary = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
        (temporary / "checkpoints").mkdir(parents=True)
        (temporary / "metrics.jsonl").touch()
        durable.replace(temporary / "config.toml", config_toml.encode())
        durable.replace(temporary / "manifest.json", _json(manifest, indent=2))
        try:
            fill(temporary)
        except BaseException:
            shutil.rmtree(temporary)
            raise
        os.replace(temporary, folder)
        return cls(folder)

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """An existing run.

        Raises:
            ConfigError: there is none.
        """
        if not is_run(folder):
            raise ConfigError(f"{folder}: not a run (a run has a manifest.json).")
        return cls(folder)

    @property
    def manifest(self) -> dict[str, Any]:
        return load_json(self.folder / "manifest.json")

    def amend(self, values: Mapping[str, Any]) -> None:
        """Change entries of the manifest."""
        content = _json({**self.manifest, **values}, indent=2)
        durable.replace(self.folder / "manifest.json", content)

    def log(self, event: Mapping[str, Any]) -> None:
        """Append one record to the events; it is on the disk when this returns."""
        with self.event_log.open("ab") as file:
            file.write(_json(event) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def events(self) -> list[dict[str, Any]]:
        """What the guard did, in order."""
        return merge_events(read_records(self.event_log)) if self.event_log.exists() else []

    def mend_events(self) -> None:
        """Remove the unfinished line that a crash left at the end of the events."""
        if not self.event_log.exists():
            return
        content = self.event_log.read_bytes()
        if (whole := content.rfind(b"\n") + 1) < len(content):
            with self.event_log.open("r+b") as file:
                file.truncate(whole)
                os.fsync(file.fileno())

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record to the metrics."""
        with self.metrics.open("ab") as file:
            file.write(_json(record) + b"\n")

    def sync_metrics(self) -> int:
        """Force the metrics onto the disk; how many bytes there are now."""
        with self.metrics.open("ab") as file:
            os.fsync(file.fileno())
            return file.tell()

    def truncate_metrics(self, size: int) -> None:
        """Cut the metrics back to their first `size` bytes.

        Raises:
            ConfigError: they are shorter than that, or gone.
        """
        found = self.metrics.stat().st_size if self.metrics.exists() else -1
        if found < size:
            raise ConfigError(
                f"{self.metrics}: has {max(found, 0)} bytes where the checkpoint remembers {size}; "
                "put the file back, or start a new run."
            )
        with self.metrics.open("r+b") as file:
            file.truncate(size)
            os.fsync(file.fileno())

    def records(self) -> dict[str, list[dict[str, Any]]]:
        """The records of each split; a last line that a crash cut short is left out."""
        return by_split(read_records(self.metrics))

    def summary(self) -> dict[str, Any]:
        """The last and the best figures, for a list of runs."""
        manifest = self.manifest
        config = load_toml(self.folder / "config.toml")
        records, events = self.records(), self.events()
        steps = [record["step"] for record in records["train"]]
        best = best_validation(records["validation"])
        return {
            "stage": manifest["stage"],
            "parent": manifest["parent"],
            "rung": manifest["model"]["rung"],
            "num_parameters": manifest["num_parameters"],
            "step": max(steps, default=0),
            "steps": config["training"]["steps"],
            "best_loss_nats": best and best["loss_nats"],
            "bits_per_byte": best and best["bits_per_byte"],
            "guard": count_kinds(events),
            "samples_left_out": samples_left_out(events),
        }


class WatchedRun(Run):
    """A run that another process writes; what this one would write it only remembers."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._manifest = super().manifest
        self._events = list(read_records(self.event_log)) if self.event_log.exists() else []

    @property
    def manifest(self) -> dict[str, Any]:
        return dict(self._manifest)

    def amend(self, values: Mapping[str, Any]) -> None:
        self._manifest |= values

    def log(self, event: Mapping[str, Any]) -> None:
        self._events.append(dict(event))

    def events(self) -> list[dict[str, Any]]:
        return merge_events(self._events)

    def mend_events(self) -> None:
        pass

    def append(self, record: Mapping[str, Any]) -> None:
        pass

    def sync_metrics(self) -> int:
        return 0

    def truncate_metrics(self, size: int) -> None:
        pass


def load_model(source: Path | str) -> tuple[LanguageModel, Tokenizer]:
    """The model and tokenizer of a run's best checkpoint, a checkpoint, or a model folder.

    `hub:owner/name` is a model of the Hugging Face hub, downloaded or taken from its cache.

    Raises:
        ConfigError: there is none.
    """
    folder = find_model(source)
    model = open_model(folder)
    return model, tokenizer_of(folder, model)


def tokenizer_of(folder: Path, model: LanguageModel) -> Tokenizer:
    """The tokenizer of a model folder, whose model is this one.

    Raises:
        ConfigError: it has more tokens than the model knows.
    """
    tokenizer = Tokenizer.load(folder)
    if tokenizer.vocab_size > model.vocab_size:
        raise ConfigError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens and the model knows "
            f"{model.vocab_size}; they do not belong together."
        )
    return tokenizer


def find_model(source: Path | str) -> Path:
    """The folder of the model that `load_model` loads.

    Raises:
        ConfigError: there is none.
    """
    folder = download(str(source)) if str(source).startswith("hub:") else Path(source)
    if (folder / "checkpoints").is_dir():
        found = checkpoint.best_whole(folder / "checkpoints")
        if found is None:
            raise ConfigError(f"{folder}: this run has no whole checkpoint yet.")
        folder = found.model
    elif (folder / checkpoint.MARKER).is_file():
        try:
            folder = checkpoint.open_whole(folder).model
        except checkpoint.BrokenCheckpoint as error:
            raise ConfigError(f"broken checkpoint: {error}.") from None
    if not is_model(folder):
        raise ConfigError(f"{folder}: neither a run, a checkpoint nor a model folder.")
    return folder


def tuned_on_turns(model: Path) -> bool | None:
    """Whether the run that a model's folder lies in tuned it on conversations; None: in no run."""
    run = model.parent.parent.parent
    if not is_run(run):
        return None
    if Run.open(run).manifest["stage"] == "pretrain":
        return False
    data = load_toml(run / "config.toml").get("data", {})
    return bool(data.get("style", "chat") == "chat")


def find_runs(folder: Path) -> list[Run]:
    """Every run at or below a folder, by name."""
    folders = sorted(path.parent for path in folder.rglob("manifest.json"))
    return [Run(path) for path in folders if is_run(path) and not path.name.startswith(".")]


def require_free(folder: Path) -> None:
    """Raise ConfigError where a folder holds something already."""
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "holds a run; continue it with --resume or" if is_run(folder) else "is not empty;"
        raise ConfigError(f"{folder}: {what} give another --out.")


def is_run(folder: Path) -> bool:
    return (folder / "manifest.json").is_file() and (folder / "checkpoints").is_dir()


def _json(value: Mapping[str, Any], indent: int | None = None) -> bytes:
    return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False).encode()
