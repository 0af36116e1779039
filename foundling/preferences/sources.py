"""Sources of answers: a local model, one behind a URL, or a file of ready answers."""

import hashlib
import logging
from pathlib import Path
from typing import Protocol

from pydantic import Field

from foundling.base.config import ConfigError, Section
from foundling.data.readers import ROW_READERS, kinds
from foundling.preferences.endpoint import Endpoint
from foundling.preferences.prompts import Plain, plain
from foundling.preferences.records import Answer
from foundling.text.chat import Conversation

logger = logging.getLogger(__name__)


class Answering(Section):
    """How answers are sampled; None leaves a setting to the model or the server."""

    temperature: float = Field(1.0, ge=0)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, gt=0)
    min_p: float | None = Field(None, ge=0, le=1)
    max_tokens: int | None = Field(None, gt=0)


class NoAnswer(Exception):
    """A source has no answer to this prompt; prompts left out are counted by `reason`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Source(Protocol):
    """Answers prompts; `name` and `checkpoint` are known before the first answer."""

    @property
    def name(self) -> str:
        """The path or address it was opened with."""

    @property
    def checkpoint(self) -> str | None:
        """The hash of the weights, if known."""

    @property
    def draws(self) -> bool:
        """Whether answers are sampled, so that they depend on the seed and the settings."""

    def answer(self, prompt: Conversation, settings: Answering, seed: int) -> Answer:
        """One answer.

        Raises:
            NoAnswer: there is none to this prompt.
            ConfigError: the settings do not suit the source.
            HttpError: the server behind a URL fails.
        """

    def close(self) -> None:
        """Release what the source holds."""


class ModelSource:
    """A run's best checkpoint, a checkpoint, a model folder or `hub:owner/name`."""

    draws = True

    def __init__(self, name: str, *, device: str = "auto", template: str | None = None) -> None:
        from foundling.generation.opening import open_engine
        from foundling.runs.model_folder import fingerprint
        from foundling.runs.run import find_model

        folder = find_model(name)
        self._engine = open_engine(folder, device=device, template=template)
        self.name, self.checkpoint = name.rstrip("/"), fingerprint(folder)
        if template is not None:
            chosen = self._engine.tokenizer.template
            assert chosen is not None, "one was given"
            digest = hashlib.sha256(chosen.source.encode()).hexdigest()
            self.checkpoint += f" template {digest[:16]}"

    def answer(self, prompt: Conversation, settings: Answering, seed: int) -> Answer:
        from foundling.generation.sampling import Sampling
        from foundling.text.chat import render_prompt

        tokens = render_prompt(prompt, self._engine.tokenizer)
        bound = self._engine.model.max_context
        most = settings.max_tokens
        if bound is not None:
            room = bound + 1 - len(tokens)
            if room < 1:
                raise NoAnswer(
                    "prompt longer than the context",
                    f"{self.name}: the prompt has {len(tokens)} tokens and the model reads at "
                    f"most {bound}.",
                )
            most = min(room, most or room)
        values = settings.values()
        del values["max_tokens"]
        sampling = Sampling.parse({**values, "seed": seed})
        chunks = list(self._engine.stream(tokens, max_tokens=most, sampling=sampling))
        return Answer(
            "".join(chunk.text for chunk in chunks),
            self.name,
            self.checkpoint,
            tuple(token for chunk in chunks for token in chunk.tokens),
            seed,
        )

    def close(self) -> None:
        del self._engine


class EndpointSource:
    """A model behind an OpenAI-compatible URL; the hash of its weights is unknown."""

    draws = True
    checkpoint = None

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint, self.name = endpoint, endpoint.address

    def answer(self, prompt: Conversation, settings: Answering, seed: int) -> Answer:
        values = settings.values()
        for name in ("top_k", "min_p"):
            if values.pop(name) is not None:
                raise ConfigError(
                    f"{name}: {self.name} has no such setting; use temperature, top_p, max_tokens."
                )
        return Answer(self._endpoint.complete(prompt, seed=seed, **values), self.name, seed=seed)

    def close(self) -> None:
        self._endpoint.close()


class FileSource:
    """Ready answers by their prompts; `report` says which rows of the file are left out."""

    draws = False
    checkpoint = None

    def __init__(self, file: str) -> None:
        from foundling.preferences.importing import read_answers

        self.name = file
        answers, self.report = read_answers([file], file)
        self._answers = dict[Plain, Answer]()
        for prompt, answer in answers.items():
            self._answers.setdefault(plain(prompt), answer)

    def answer(self, prompt: Conversation, settings: Answering, seed: int) -> Answer:
        found = self._answers.get(plain(prompt))
        if found is None:
            raise NoAnswer("no ready answer", f"{self.name}: holds no answer to this prompt.")
        return found

    def close(self) -> None:
        self._answers.clear()


def open_source(
    given: str,
    *,
    model: str | None = None,
    device: str = "auto",
    template: str | None = None,
) -> Source:
    """Open a URL, a file of ready answers (by its suffix), or else a model.

    Args:
        model: the name of the model behind a URL, unless the URL ends in #NAME.
        template: the chat template of a model, by name or as a file; None: its own.

    Raises:
        ConfigError: there is no such source.
    """
    if given.startswith(("http://", "https://")):
        return EndpointSource(Endpoint.open(given, model))
    if model is not None:
        raise ConfigError(f'model = "{model}": {given} is no URL; only a URL has a model\'s name.')
    if given.lower().endswith(tuple(ROW_READERS)):
        source = FileSource(given)
        for line in source.report.lines() if source.report.dropped else ():
            logger.info(line)
        return source
    if not given.startswith("hub:") and not Path(given).exists():
        raise ConfigError(
            f"{given}: no such source; give a run, checkpoint or model folder, a URL "
            f"(http://HOST/v1#MODEL), or a file of answers ({kinds(ROW_READERS)})."
        )
    return ModelSource(given, device=device, template=template)


def open_sources(
    a: str, b: str, *, device: str = "auto", template: str | None = None
) -> tuple[Source, Source]:
    """Open both sides of a comparison; the same source twice is opened once."""
    first = open_source(a, device=device, template=template)
    if a.rstrip("/") == b.rstrip("/"):
        if not first.draws:
            first.close()
            raise ConfigError(f"{a}: the same ready answers on both sides; give another source.")
        return first, first
    try:
        return first, open_source(b, device=device, template=template)
    except BaseException:
        first.close()
        raise
