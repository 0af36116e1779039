"""A Foundling model as probes see it: texts in, log-probabilities and texts out."""

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress

import numpy as np
import numpy.typing as npt
import torch

from foundling.base.config import ConfigError
from foundling.base.precision import autocast, pick_precision
from foundling.base.runtime import pick_device
from foundling.evaluation.likelihood import Likelihood, TokenPair, likelihoods, look_up
from foundling.evaluation.scorer import Pair, Prompt, Question, Scored, TextScore, Writing, in_plain
from foundling.generation.engine import Engine
from foundling.generation.request import Request
from foundling.models.batch import IGNORE
from foundling.models.language_model import LanguageModel
from foundling.runs.model_folder import fingerprint
from foundling.runs.run import find_model, load_model, tuned_on_turns
from foundling.text.chat import Message, render_prompt
from foundling.text.template import TODAY
from foundling.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

WINDOW = 1024
"""Tokens of a window for models without a longest context."""
READ_TOKENS = 4096
"""Tokens of one forward pass over a text."""
VERSION = 3
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
    marks_begin: bool | None = None
    """Whether the begin mark stands before a text; None: as the tokenizer itself has it."""

    def __post_init__(self) -> None:
        if self.chats and self.tokenizer.template is None:
            raise ConfigError(
                f"{self.name}: has no chat template, so nothing can be asked in turns; use "
                "--no-chat."
            )
        if self.marks_begin and self.tokenizer.begin_name is None:
            raise ConfigError(
                f"{self.name}: its tokenizer has no begin mark; use --no-begin-mark or neither."
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
            if isinstance(prompt, Question) and not self.chats and not after[:1].isspace():
                after = " " + after
            kept = before.rstrip()
            plain.append((kept, before[len(kept) :] + after))
            if not after:
                raise ConfigError(f"{before[-60:]!r}: its continuation is empty.")
        wholes = self.tokenizer.encode_batch([before + after for before, after in plain])
        before_ids = self.tokenizer.encode_batch([before for before, _ in plain])
        result: list[TokenPair] = []
        for (prompt, _), (_, after), whole, front in zip(
            pairs, plain, wholes, before_ids, strict=True
        ):
            if isinstance(prompt, Question) and self.chats:
                result.append((self._turn(prompt), self.tokenizer.encode(after)))
            else:  # where one token holds the seam, nothing is left of the whole
                rest = whole[len(front) :] or self.tokenizer.encode(after)
                result.append(([*self._begin(front), *front], rest))
        return result

    def shown(self, prompt: Prompt) -> str:
        """A prompt as the model reads it, special tokens included."""
        if not self.tokenizer.knows(in_plain(prompt)):
            return in_plain(prompt)
        return self.tokenizer.decode(self._prompt_tokens(prompt), show_special=True)

    @property
    def template_name(self) -> str:
        """The chat template by which questions are asked; empty: they are asked in plain text."""
        template = self.tokenizer.template
        return template.name if self.chats and template is not None else ""

    @property
    def today(self) -> str:
        """The date that the chat template writes, as YYYY-MM-DD; empty: it writes none."""
        template = self.tokenizer.template
        return str(template.options.get(TODAY, "")) if self.chats and template else ""

    @property
    def begin_mark(self) -> str:
        """What stands before a text; empty: nothing."""
        return "".join(map(self.tokenizer.name_of, self.begin_ids))

    @property
    def begin_ids(self) -> list[int]:
        """The begin mark, or nothing."""
        if self.marks_begin is None:
            return self.tokenizer.begin_ids
        return [self.tokenizer.begin_of_text] if self.marks_begin else []

    @property
    def prefix_id(self) -> int:
        """What stands before an empty prompt: the begin mark, or else the end of another text.

        Source: lm-evaluation-harness, `HFLM.prefix_token_id`.
        """
        tokenizer = self.tokenizer
        has_mark = tokenizer.begin_name is not None
        return tokenizer.begin_of_text if has_mark else tokenizer.end_of_text

    def token_ends(self, text: str) -> list[int]:
        return [stop for _, stop in self.tokenizer.encode_with_offsets(text)[1]]

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
            batch = starts[first : first + at_once]
            for start, found in zip(batch, self._windows(tokens, batch, window), strict=True):
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
        rows = np.full((len(parts), window + 1), IGNORE)
        for row, part in zip(rows, parts, strict=True):
            row[: len(part)] = part
        read = torch.from_numpy(rows[:, :-1].clip(min=0)).to(device)
        with autocast(device, self.precision):
            hidden = self.model.eval().hidden(read)
        wanted = rows[:, 1:] != IGNORE
        log_probs, _ = look_up(self.model, hidden[torch.from_numpy(wanted)], rows[:, 1:][wanted])
        return np.split(-log_probs, np.cumsum(wanted.sum(1))[:-1])

    def generate(self, prompts: Sequence[Prompt], writing: Writing) -> list[list[str] | None]:
        bound = self.model.max_context
        room = math.inf if bound is None else bound + 1 - writing.max_tokens
        requests = [self._request(prompt, writing, room) for prompt in prompts]
        kept = [request for request in requests if request is not None]
        written = iter(samples_of(self.engine, kept, writing.num_samples))
        return [None if request is None else next(written) for request in requests]

    @cached_property
    def engine(self) -> Engine:
        """What writes the model's texts."""
        return Engine(self.model, self.tokenizer)

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
        messages = []
        for asked, answer in question.before:
            messages += [Message("user", asked), Message("assistant", answer)]
        return render_prompt([*messages, Message("user", question.text)], self.tokenizer)

    def _request(self, prompt: Prompt, writing: Writing, room: float) -> Request | None:
        if not self.tokenizer.knows(in_plain(prompt)):
            return None
        tokens = tuple(self._prompt_tokens(prompt))
        if len(tokens) > room:
            return None
        return request_of(tokens, writing, continues=isinstance(prompt, str) and prompt != "")

    def _prompt_tokens(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, Question) and self.chats:
            return self._turn(prompt)
        ids = self.tokenizer.encode(in_plain(prompt))
        return [*self._begin(ids), *ids]

    def _begin(self, ids: Sequence[int]) -> list[int]:
        """What precedes a text, of these tokens; something must precede an empty one."""
        return self.begin_ids if self.begin_ids or ids else [self.prefix_id]


def request_of(tokens: tuple[int, ...], writing: Writing, *, continues: bool) -> Request:
    """The first sample of a prompt."""
    how = (writing.max_tokens, writing.sampling, writing.stop)
    return Request(tokens, *how, continues=continues)


def samples_of(engine: Engine, requests: Sequence[Request], num_samples: int) -> list[list[str]]:
    """So many texts of each request; at temperature 0 they are one."""
    wanted = [
        replace(request, sample=sample)
        for request in requests
        for sample in range(1 if request.sampling.temperature == 0 else num_samples)
    ]
    written = iter(engine.run(wanted))
    return [
        [next(written).text] * num_samples
        if request.sampling.temperature == 0
        else [next(written).text for _ in range(num_samples)]
        for request in requests
    ]


def load_scorer(
    source: str,
    *,
    device: str = "auto",
    chats: bool | None = None,
    precision: str = "fp32",
    begin_mark: bool | None = None,
    template: str | None = None,
) -> ModelScorer:
    """The scorer of a run's best checkpoint, a checkpoint, a model folder or `hub:owner/name`.

    Args:
        chats: whether questions are turns of a conversation; None: as the run was tuned, and of
            a model folder, which does not know how it was tuned, whether it has a chat template;
            that is logged.
        begin_mark: whether the begin mark stands before a text; None: as the tokenizer has it.
        template: the chat template, by name or as a file; None: the model's own.

    Raises:
        ConfigError: there is no such model, device or precision, it cannot chat, or a template is
            given to one that is not asked in turns.
    """
    folder = find_model(source)
    model, tokenizer = load_model(folder)
    tokenizer = tokenizer.with_known_template(template).dated()
    where = pick_device(device)
    number = pick_precision(precision, where, model, READ_TOKENS)
    if chats is None:
        tuned = tuned_on_turns(folder)
        chats = tokenizer.template is not None and tuned is not False
        if chats and tuned is None:
            logger.info(
                f"{source}: a model folder with a chat template: asked in turns. If it was not "
                "tuned on conversations, give --no-chat."
            )
    if template is not None and not chats:
        raise ConfigError(
            f'{source}: template = "{template}": is of no use where questions are asked in plain '
            "text; give --chat too, or leave out --template."
        )
    how = (
        f"chats {chats} begin mark {begin_mark} precision {number} device {where.type} "
        f"version {VERSION}"
    )
    if template is not None and tokenizer.template is not None:
        how += f" template {tokenizer.template.source}"
    if chats and tokenizer.template is not None and TODAY in tokenizer.template.options:
        how += f" today {tokenizer.template.options[TODAY]}"
    return ModelScorer(
        model.to(where).eval(),
        tokenizer,
        name=str(source),
        fingerprint=hashlib.sha256(f"{fingerprint(folder)} {how}".encode()).hexdigest(),
        chats=chats,
        precision=number,
        marks_begin=begin_mark,
    )


def _length(pair: TokenPair) -> int:
    """The tokens to read of a prompt and its continuation."""
    return len(pair[0]) + len(pair[1]) - 1


def _scored(found: Likelihood, pair: TokenPair) -> Scored:
    return Scored(found.nats, len(pair[1]), found.is_greedy)
