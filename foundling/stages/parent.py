"""The model that a stage starts from: kept in the run's own folder, named by its hash."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from foundling.base.config import ConfigError, load_json
from foundling.models import widened
from foundling.models.language_model import LanguageModel
from foundling.runs.model_folder import copy_model, fingerprint, max_context, open_model
from foundling.runs.run import Run, find_model, tuned_on_turns
from foundling.stages.settings import TunedData
from foundling.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

FOLDER = "parent"


@dataclass(frozen=True)
class Parent:
    """A model folder that is not going to change, and where it came from.

    A run keeps a copy: its reference is then this model for good, whatever becomes of the run it
    came from.
    """

    folder: Path
    facts: Mapping[str, Any]
    """For the manifest: `source` as it was given, `fingerprint` of the files."""
    pretraining_data: str | None = None
    """The token store that the first of its line was trained on, if a run's manifest says so."""
    seed: int | None = None
    """The seed of the run that it comes from."""
    chats: bool | None = None
    """Whether the run that it comes from learned from conversations; None: it comes from none."""

    @classmethod
    def find(cls, source: str) -> Self:
        """A run's best checkpoint, a checkpoint, a model folder or `hub:owner/name`.

        Raises:
            ConfigError: there is none.
        """
        folder = find_model(source)
        facts = {"source": source, "fingerprint": fingerprint(folder)}
        manifest = _manifest(folder)
        key = "data" if manifest.get("stage") == "pretrain" else "pretraining_data"
        data, chats = manifest.get(key), tuned_on_turns(folder)
        return cls(folder, facts, data, manifest.get("seed"), chats)

    @classmethod
    def kept_by(cls, run: Run) -> Self:
        """The copy in a run's folder.

        Raises:
            ConfigError: it is gone or was changed.
        """
        facts, folder = run.manifest["parent"], run.folder / FOLDER
        if not folder.is_dir() or fingerprint(folder) != facts["fingerprint"]:
            raise ConfigError(
                f"{folder}: not the model that this run started from; put it back from "
                f"{facts['source']}, or start a new run."
            )
        return cls(folder, facts, run.manifest.get("pretraining_data"))

    @classmethod
    def of(cls, given: str | None, out: Path, *, resume: bool) -> Self:
        """The parent that a new run was given, or the one that a resumed run keeps in `out`.

        Raises:
            ConfigError: none was given, or there is no such parent.
        """
        if resume:
            return cls.kept_by(Run.open(out))
        if given is None:
            raise ConfigError("parent: give --from RUN, the model to start from.")
        return cls.find(given)

    def tokenizer_for(self, data: TunedData) -> Tokenizer:
        """The parent's tokenizer, with the chat template that is learned and the tokens it needs.

        A date that the template writes is fixed, so that a run has the same data tomorrow.

        Raises:
            ConfigError: there is no such template, or it reads no such option.
        """
        tokenizer, name, options = self.tokenizer(), data.template, dict(data.template_options)
        if data.style != "chat":
            if name is not None or options:
                raise ConfigError('data.template: is of no use with data.style = "plain".')
            return tokenizer
        if name is None and tokenizer.template is None:
            name = "foundling"
            logger.info(
                "the parent has no chat template: Foundling's own is learned, with its tokens "
                '(data.template = "chatml" for another).'
            )
        if name is not None or options:
            tokenizer = tokenizer.with_template(name or "default", **options)
        return tokenizer.dated()

    def copy_to(self, run_folder: Path) -> None:
        """Put the copy into the folder of a new run."""
        copy_model(self.folder, run_folder / FOLDER, link=bool(_manifest(self.folder)))

    def load(
        self,
        tokenizer: Tokenizer | None = None,
        *,
        dropout: float = 0.0,
        dtype: torch.dtype | None = torch.float32,
    ) -> LanguageModel:
        """The model, with this dropout in place of the one it was trained with.

        Its rows for the tokens of `tokenizer` that its own has not are new ones.

        Args:
            dtype: of the matrices; None: as they are stored.
        """
        model = open_model(self.folder, dtype)
        if tokenizer is not None:
            known = self.tokenizer().vocab_size
            if tokenizer.vocab_size > known:
                model = widened(model, tokenizer.vocab_size, known)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
        if "dropout" in model.spec:
            model.spec["dropout"] = dropout
        elif dropout:
            raise ConfigError(f"dropout = {dropout}: the rung {model.spec['rung']} has none.")
        return model

    @property
    def max_context(self) -> int | None:
        """Tokens of the longest text that the model reads; None: it reads any length."""
        return max_context(self.folder)

    def tokenizer(self) -> Tokenizer:
        return Tokenizer.load(self.folder)


def _manifest(model_folder: Path) -> dict[str, Any]:
    """The manifest of the run that a model folder lies in; empty where it lies in none."""
    file = model_folder.parent.parent.parent / "manifest.json"
    return load_json(file) if file.is_file() else {}
