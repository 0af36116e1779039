"""How likely the answers stay that a parent gave itself: what is left of its old behaviour."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from foundling.base.config import ConfigError, load_json
from foundling.base.ranks import on_first
from foundling.data.conversations import SourcedConversation
from foundling.data.reading import read_conversations
from foundling.data.rendering import Rendering
from foundling.data.source_errors import SourceError
from foundling.generation.sampling import Sampling
from foundling.metrics.answers import measure_answers
from foundling.metrics.continuations import sampled_continuations
from foundling.models.batch import IGNORE, TokenBatch
from foundling.text.chat import Message, render_prompt

if TYPE_CHECKING:
    from foundling.stages.job import Job

logger = logging.getLogger(__name__)

FILE = "parent_answers.json"


class ParentAnswers:
    """The answers, given once when the run begins and kept in its folder.

    Raises:
        ConfigError: a file has no prompt that can be rendered, or that leaves room for an answer.
    """

    def __init__(self, job: "Job[Any, Any]") -> None:
        self.job = job
        settings = job.config.forgetting
        key = {
            "prompts": list(settings.prompts),
            "num_prompts": settings.num_prompts,
            "answer_tokens": settings.answer_tokens,
        }
        self.answers: list[dict[str, Any]] = []
        if not settings.prompts or job.parent is None:
            return
        kept = job.out / FILE
        found = load_json(kept) if job.resume and kept.is_file() else {}
        if found.get("key") == key:
            self.answers = found["answers"]
            return
        self.answers = on_first(self._given)
        content = json.dumps({"key": key, "answers": self.answers})

        def write(file: Path) -> None:
            file.write_text(content, "utf-8")

        job.kept[FILE] = write

    def _given(self) -> list[dict[str, Any]]:
        job, settings = self.job, self.job.config.forgetting
        rows, _ = read_conversations(list(settings.prompts), blank_answers=True)
        rows = rows[: settings.num_prompts]
        prompts = list(map(self._prompt, rows))
        for row, prompt in zip(rows, prompts, strict=True):
            if job.model.max_context is not None and len(prompt) >= job.model.max_context:
                raise ConfigError(
                    f"forgetting.prompts: {row.where}: the prompt has {len(prompt)} tokens and "
                    f"the model reads at most {job.model.max_context}; leave it out."
                )
        logger.info(f"the parent answers {len(prompts)} prompts of forgetting.prompts.")
        given = []
        with job.origin.untuned(job.machine) as model:
            batches = sampled_continuations(
                model,
                prompts,
                max_tokens=settings.answer_tokens,
                ends=frozenset(job.tokenizer.stop_ids),
                seed=0,
                sampling=Sampling(temperature=0),
            )
            for batch in batches:
                answer = batch.targets[batch.targets != IGNORE].tolist()
                tokens = [*batch.tokens[0].tolist(), answer[-1]]
                text = job.tokenizer.decode(answer)
                given.append({"text": text, "given": len(tokens) - len(answer), "tokens": tokens})
        return given

    def _prompt(self, row: SourcedConversation) -> list[int]:
        """The tokens before an answer, in the style in which the run learns."""
        job, data = self.job, self.job.config.data
        if data.style == "chat":
            return render_prompt(row.prompt, job.tokenizer, tools=row.tools)
        rendering = Rendering(job.tokenizer, data.style, special_tokens=data.special_tokens)
        answered = replace(row, messages=(*row.prompt, Message("assistant", "Yes.")))
        try:
            rendered = rendering.again(answered)
        except SourceError as error:
            raise ConfigError(f"forgetting.prompts: {error}") from None
        return rendered.tokens[: rendered.learned.index(True)]

    def batches(self) -> list[TokenBatch]:
        """One row for each answer, whose tokens are the targets."""
        made = []
        for answer in self.answers:
            row = torch.tensor([answer["tokens"]])
            targets = row[:, 1:].clone()
            targets[:, : answer["given"] - 1] = IGNORE
            positions = torch.arange(row.shape[1] - 1)[None]
            made.append(TokenBatch(row[:, :-1], targets, positions))
        return made

    def measure(self, check: Callable[[], None]) -> dict[str, float | None]:
        """Loss of the answers and KL(model ‖ parent) on them, per token; none where none are."""
        if not self.answers:
            return {}
        job = self.job
        found = measure_answers(
            job.model,
            self.batches(),
            job.passing_reference,
            device=job.machine.device,
            precision=job.machine.precision,
            check=check,
        )
        return {
            "parent_answers_loss_nats": found.loss_nats,
            "parent_answers_kl_nats": found.kl_nats,
        }
