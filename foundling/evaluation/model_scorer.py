"""A Foundling model as probes see it: texts in, log-probabilities and texts out."""

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from foundling.base.config import ConfigError, load_toml
from foundling.base.precision import autocast, pick_precision
from foundling.base.runtime import pick_device
from foundling.evaluation.likelihood import Likelihood, TokenPair, likelihoods
from foundling.evaluation.scorer import Pair, Prompt, Question, Scored, TextScore, Writing, in_plain
from foundling.generation.batched import Request, write_all
from foundling.models.batch import IGNORE
from foundling.models.language_model import LanguageModel
from foundling.objectives.losses import linear_cross_entropy
from foundling.runs.model_folder import fingerprint
from foundling.runs.run import Run, find_model, is_run, load_model
from foundling.text.chat import Message, render_prompt
from foundling.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

WINDOW = 1024
"""Tokens of a window for models without a longest context."""
READ_TOKENS = 4096
"""Tokens of one forward pass over a text."""
VERSION = 2
"""The version of the arithmetic; raise it when old answers in a cache become wrong."""


@dataclass
class ModelScorer:
    """The Scorer of any rung, on the device that holds the model.

    A prompt and its continuation are encoded as one text and parted where the prompt's own tokens
    end; white space at the prompt's end goes to the continuation. So does lm-evaluation-harness,
    and both give the same log-probabilities.

    Source: Gao et al., lm-evaluation-harness, `TemplateLM._encode_pair`.
    """

    model: LanguageModel
    tokenizer: Tokenizer
    name: str
    fingerprint: str
    chats: bool = False
    precision: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if self.chats and not self.tokenizer.knows_roles:
            raise ConfigError(
                f"{self.name}: its tokenizer has no tokens for the roles of a conversation, so "
                "nothing can be asked in turns; use --no-chat."
            )

    def score(self, pairs: Sequence[Pair]) -> list[Scored | None]:
        encoded = self._readable(pairs)
        kept = [pair for pair in encoded if pair is not None]
        found = iter(likelihoods(self.model, kept, precision=self.precision))
        return [None if pair is None else _scored(next(found), pair) for pair in encoded]

    def fits(self, pairs: Sequence[Pair]) -> list[bool]:
        return [pair is not None for pair in self._readable(pairs)]

    def encode(self, pairs: Sequence[Pair]) -> list[TokenPair]:
        """The tokens of each pair, split into prompt and continuation.

        Raises:
            ConfigError: a continuation is empty, or holds what the tokenizer does not know.
        """
        plain: list[tuple[str, str]] = []
        for prompt, continuation in pairs:
            before, after = in_plain(prompt), continuation
            if isinstance(prompt, Question) and not self.chats:
                after = " " + after.lstrip()
            kept = before.rstrip()
            plain.append((kept, before[len(kept) :] + after))
            if not after:
                raise ConfigError(f"{before[-60:]!r}: its continuation is empty.")
        wholes = self.tokenizer.encode_batch([before + after for before, after in plain])
        fronts = self.tokenizer.encode_batch([before for before, _ in plain])
        result: list[TokenPair] = []
        for (prompt, _), (_, after), whole, front in zip(pairs, plain, wholes, fronts, strict=True):
            if isinstance(prompt, Question) and self.chats:
                result.append((self._turn(prompt), self.tokenizer.encode(after)))
            else:  # where one token holds the seam, nothing is left of the whole
                rest = whole[len(front) :] or self.tokenizer.encode(after)
                result.append(([*self._begin(front), *front], rest))
        return result

    def read(self, text: str) -> TextScore:
        """Windows of the model's context, or of WINDOW tokens, that overlap by half."""
        ids, offsets = self.tokenizer.encode_with_offsets(text)
        tokens = [*self._begin(()), *ids]
        window = max(1, min(self.model.max_context or WINDOW, len(ids)))
        stride = max(1, window // 2)
        starts = list(range(0, len(ids) - window + stride, stride))
        nats = np.full(len(ids), np.nan)
        sums, counts = np.zeros(window), np.zeros(window)
        at_once = max(1, READ_TOKENS // window)
        for first in range(0, len(starts), at_once):
            some = starts[first : first + at_once]
            for start, found in zip(some, self._windows(tokens, some, window), strict=True):
                sums[: len(found)] += found
                counts[: len(found)] += 1
                new = 0 if start == 0 else window - stride
                nats[start + new : start + len(found)] = found[new:]
        return TextScore(
            nats=nats.tolist(),
            ends=[stop for _, stop in offsets],
            window=window,
            stride=stride,
            by_position=(sums / counts).tolist() if len(ids) else [],
        )

    @torch.inference_mode()
    def _windows(
        self, tokens: Sequence[int], starts: Sequence[int], window: int
    ) -> list[npt.NDArray[np.float64]]:
        """The nats of each window's targets, as many as the text has."""
        device = self.model.unembed.weight.device
        parts = [tokens[start : start + window + 1] for start in starts]
        rows = torch.full((len(parts), window + 1), IGNORE)
        for row, part in zip(rows, parts, strict=True):
            row[: len(part)] = torch.tensor(part)
        rows = rows.to(device)
        with autocast(device, self.precision):
            hidden = self.model.eval().hidden(rows[:, :-1].clamp(min=0))
            _, nats, _ = linear_cross_entropy(
                hidden.flatten(0, 1), self.model.unembed.weight, rows[:, 1:].flatten()
            )
        table = nats.view(len(parts), window).double().cpu().numpy()
        return [row[: len(part) - 1] for row, part in zip(table, parts, strict=True)]

    def generate(self, prompts: Sequence[Prompt], writing: Writing) -> list[list[str] | None]:
        bound = self.model.max_context
        room = math.inf if bound is None else bound + 1 - writing.max_tokens
        requests = [self._request(prompt, room) for prompt in prompts]
        written = iter(
            write_all(
                self.model,
                self.tokenizer,
                [request for request in requests if request is not None],
                num_samples=writing.num_samples,
                max_tokens=writing.max_tokens,
                sampling=writing.sampling,
                stop=writing.stop,
            )
        )
        return [None if request is None else next(written) for request in requests]

    # ------------------------------------------------------------------ inside

    def _readable(self, pairs: Sequence[Pair]) -> list[TokenPair | None]:
        """The tokens of each pair; None where it does not fit or a character has no token."""
        knows, bound = self.tokenizer.knows, self.model.max_context
        known = [knows(in_plain(prompt)) and knows(after) for prompt, after in pairs]
        encoded = iter(self.encode(list(compress(pairs, known))))
        found = [next(encoded) if is_known else None for is_known in known]
        most = math.inf if bound is None else bound
        return [None if pair is None or _length(pair) > most else pair for pair in found]

    def _turn(self, question: Question) -> list[int]:
        return render_prompt((Message("user", question.text),), self.tokenizer)

    def _request(self, prompt: Prompt, room: float) -> Request | None:
        if not self.tokenizer.knows(in_plain(prompt)):
            return None
        tokens = tuple(self._prompt_tokens(prompt))
        inside = isinstance(prompt, str) and prompt != ""
        return Request(tokens, inside) if len(tokens) <= room else None

    def _prompt_tokens(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, Question) and self.chats:
            return self._turn(prompt)
        ids = self.tokenizer.encode(in_plain(prompt))
        return [*self._begin(ids), *ids]

    def _begin(self, ids: Sequence[int]) -> list[int]:
        """What precedes a text: the begin mark, or before an empty text the end of another one."""
        if self.tokenizer.begin_ids or ids:
            return self.tokenizer.begin_ids
        return [self.tokenizer.end_of_text]


def load_scorer(
    source: str, *, device: str = "auto", chats: bool | None = None, precision: str = "fp32",
) -> ModelScorer:  # fmt: skip
    """The scorer of a run's best checkpoint, a checkpoint, a model folder or `hub:owner/name`.

    Args:
        chats: whether questions are turns of a conversation; None: as the run was tuned, and of
            a model folder, which does not know how it was tuned, whether its tokenizer has the
            tokens of turns; that is logged.

    Raises:
        ConfigError: there is no such model, device or precision, or it cannot chat.
    """
    folder = find_model(source)
    model, tokenizer = load_model(folder)
    where = pick_device(device)
    number = pick_precision(precision, where, model, READ_TOKENS)
    if chats is None:
        run = folder.parent.parent.parent
        chats = tokenizer.knows_roles and (not is_run(run) or _was_tuned_on_turns(run))
        if chats and not is_run(run):
            logger.info(
                f"{source}: a model folder, whose tokenizer has the tokens of turns: asked in "
                "turns. If it was not tuned on conversations, give --no-chat."
            )
    how = f"chats {chats} precision {number} device {where.type} version {VERSION}"
    return ModelScorer(
        model.to(where).eval(),
        tokenizer,
        name=str(source),
        fingerprint=hashlib.sha256(f"{fingerprint(folder)} {how}".encode()).hexdigest(),
        chats=chats,
        precision=number,
    )


def _was_tuned_on_turns(run: Path) -> bool:
    if Run.open(run).manifest["stage"] == "pretrain":
        return False
    data = load_toml(run / "config.toml").get("data", {})
    return bool(data.get("style", "chat") == "chat")


def _length(pair: TokenPair) -> int:
    """The tokens to read of a prompt and its continuation."""
    return len(pair[0]) + len(pair[1]) - 1


def _scored(found: Likelihood, pair: TokenPair) -> Scored:
    return Scored(found.nats, len(pair[1]), found.is_greedy)
