"""Speculation: guesses of how texts continue, for the model to check several at a time.

A guess is kept as far as it is what the model itself draws, with the random numbers that it would
have drawn with anyway. So a text is the same with speculation and without; only its speed differs.
"""

import logging
from collections.abc import Sequence as Many
from typing import Protocol, runtime_checkable

import torch

from foundling.base.config import ConfigError
from foundling.generation.blocks import BlockPool
from foundling.generation.loading import load_packed
from foundling.generation.packed import PackedModel
from foundling.generation.runners import Runner, Span
from foundling.generation.sequence import Sequence
from foundling.generation.settings import EngineSettings, make_runner
from foundling.models.language_model import LanguageModel
from foundling.runs.run import find_model
from foundling.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

ROW_COST = 0.1
"""What a step takes longer for each row more, in steps of one row. Measured: 0.04 in fp32, 0.11 in
bf16 (135M parameters, one thread); rows beyond 8 cost several times that."""
MOST = 7
"""The most tokens that are guessed at once: with the last one drawn they make 8 rows."""
RECENT, FADING = 0.9, 0.995
"""By which what is known of a text's guesses fades with each guess, and each step without one."""


@runtime_checkable
class Guesser(Protocol):
    """Knows, or has an idea, how a text continues."""

    cost: float
    """Of a guess, in steps of the model itself."""

    def guess(self, sequences: Many[Sequence], most: Many[int]) -> list[list[int]]:
        """What may follow each sequence's tokens: so many of them, or fewer."""

    def forget(self, sequence: int) -> None:
        """Nothing more of the sequence with this number is asked."""


def make_speculation(
    runner: Runner,
    model: LanguageModel,
    tokenizer: Tokenizer,
    settings: EngineSettings,
    draft: tuple[LanguageModel | PackedModel, Tokenizer] | None,
) -> "Speculation | None":
    """What guesses for a model: a draft model, or the text itself; None: nothing does.

    Raises:
        ConfigError: both, the model cannot check guesses, or the draft model does not suit it.
    """
    if settings.draft is not None and draft is None:
        draft = open_draft(settings.draft, model.device, settings)
    if draft is None and not settings.lookup:
        return None
    if draft is not None and settings.lookup:
        raise ConfigError("a draft model and lookup: give one of them.")
    if not runner.can_rewind:
        raise ConfigError(
            "speculation: the model cannot take back a token that it has read; it needs a "
            "transformer whose rotary frequencies do not depend on the length."
        )
    if draft is None:
        return Speculation(Lookup())
    given, own_tokenizer = draft
    small = given.model if isinstance(given, PackedModel) else given
    if small.vocab_size < tokenizer.vocab_size:
        raise ConfigError(
            f"the draft model has {small.vocab_size} tokens and the tokenizer "
            f"{tokenizer.vocab_size}; give one that was trained with the same tokenizer."
        )
    guesser = DraftModel(
        make_runner(given, settings),
        own_tokenizer,
        tokenizer,
        max_context=small.max_context,
        cost=small.num_parameters() / model.num_parameters(),
    )
    return Speculation(guesser)


def open_draft(
    source: str, device: torch.device, settings: EngineSettings
) -> tuple[LanguageModel | PackedModel, Tokenizer]:
    """A draft model by its place, which any number of engines may share.

    Raises:
        ConfigError: there is none.
    """
    return load_packed(find_model(source), device, settings)


class Speculation:
    """Asks a guesser for as many tokens as are worth checking.

    How many is decided text by text, by how many guesses were right so far and how many texts are
    generated at once: the more there are, the less is a row for free.
    """

    def __init__(self, guesser: Guesser) -> None:
        self.guesser = guesser
        self._texts: dict[int, _Text] = {}
        self.guessed = self.accepted = 0
        """Tokens, of all texts."""

    def propose(self, sequences: Many[Sequence], most: Many[int]) -> list[list[int]]:
        """A draft for each sequence: what may follow its tokens, `most` tokens of each or less."""
        lengths = []
        for sequence, bound in zip(sequences, most, strict=True):
            text = self._texts.setdefault(sequence.number, _Text(sequence))
            self._learn(text)
            best = best_length(text.rate, len(sequences), self.guesser.cost)
            if not best:
                text.fade(FADING)
            lengths.append(min(best, bound))
        drafts = self.guesser.guess(sequences, lengths)
        for sequence, draft in zip(sequences, drafts, strict=True):
            text = self._texts[sequence.number]
            text.known, text.draft = sequence.num_slid + len(sequence.tokens), draft
        return drafts

    def forget(self, sequence: int) -> None:
        text = self._texts.pop(sequence, None)
        if text is not None:
            self._learn(text)
        self.guesser.forget(sequence)

    def _learn(self, text: "_Text") -> None:
        self.guessed += len(text.draft)
        self.accepted += text.learn()


class _Text:
    """How good the guesses for one text were: a beta distribution whose past fades."""

    def __init__(self, sequence: Sequence) -> None:
        self._sequence = sequence
        self.known, self.draft = 0, list[int]()
        """The last draft, and how many tokens of the text stand before it."""
        self._right = self._wrong = 0.0

    @property
    def rate(self) -> float:
        """How likely the next token of a guess is right."""
        return (self._right + 1) / (self._right + self._wrong + 2)

    def learn(self) -> int:
        """How many tokens of the last draft came true."""
        draft, self.draft = self.draft, []
        start = self.known - self._sequence.num_slid
        if not draft or start < 0:  # the context has slid past it
            return 0
        right = num_equal(draft, self._sequence.tokens[start:])
        self.fade(RECENT)
        self._right += right
        self._wrong += right < len(draft)
        return right

    def fade(self, by: float) -> None:
        self._right *= by
        self._wrong *= by


def best_length(rate: float, num_texts: int, guess_cost: float) -> int:
    """How many tokens to guess of each text, so that most tokens are generated in a given time.

    A step then yields 1 + r + r² + … + rⁿ tokens of each, for n guesses that are right at rate r.
    """
    best, fastest, made = 0, 0.0, 0.0
    for length in range(MOST + 1):
        made += rate**length
        rows = num_texts * (1 + length)
        speed = made / (1 + ROW_COST * (rows - 1) + guess_cost * length)
        if speed <= fastest:
            break
        best, fastest = length, speed
    return best


def num_equal(one: Many[int], other: Many[int]) -> int:
    """How many tokens two begin with in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


class Lookup:
    """Guesses that what followed the last few tokens earlier in the same text follows again.

    Source: Saxena 2023, prompt lookup decoding; Yang et al. 2023, Inference with Reference.
    """

    cost = 0.0
    LENGTHS = (4, 3, 2)
    """Of the tokens that are looked for, the longest first."""

    def __init__(self) -> None:
        self._found: dict[int, dict[tuple[int, ...], int]] = {}
        self._entered: dict[int, int] = {}

    def guess(self, sequences: Many[Sequence], most: Many[int]) -> list[list[int]]:
        return [
            self._look(sequence, count) if count else []
            for sequence, count in zip(sequences, most, strict=True)
        ]

    def _look(self, sequence: Sequence, count: int) -> list[int]:
        tokens = sequence.tokens
        found = self._found.setdefault(sequence.number, {})
        for stop in range(self._entered.get(sequence.number, 1), len(tokens)):
            for length in self.LENGTHS:
                if length <= stop:
                    found[tuple(tokens[stop - length : stop])] = stop
        self._entered[sequence.number] = len(tokens)
        for length in self.LENGTHS:
            start = found.get(tuple(tokens[-length:]))
            if start is not None:
                period = len(tokens) - start
                return [tokens[start + index % period] for index in range(count)]
        return []

    def forget(self, sequence: int) -> None:
        self._found.pop(sequence, None)
        self._entered.pop(sequence, None)


class DraftModel:
    """Guesses what a smaller model draws with the same random numbers and settings.

    Args:
        runner: of the smaller model; it must have blocks.
        tokenizer: the smaller model's.
        of: the tokenizer of the model that checks.
        max_context: what the smaller model reads at most; None: without bound.
        cost: of a token by the smaller model, in tokens by the one that checks.
        piece: the most tokens that it reads at once.

    Raises:
        ConfigError: the tokenizers differ, or the smaller model's rung cannot take tokens back.

    Source: Leviathan et al. 2023, Fast Inference from Transformers via Speculative Decoding, with
    common random numbers in place of rejection.
    """

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer,
        of: Tokenizer,
        *,
        max_context: int | None,
        cost: float,
        piece: int = 512,
    ) -> None:
        if tokenizer.fingerprint != of.fingerprint:
            raise ConfigError(
                "the draft model has another tokenizer than the model: its tokens would mean other "
                "texts; give one that was trained with the same tokenizer."
            )
        if runner.num_blocks is None or not runner.can_rewind:
            raise ConfigError(
                "the draft model cannot take back what it has read; give a transformer."
            )
        self.cost = cost
        self.runner, self._vocab_size, self._piece = runner, of.vocab_size, piece
        self._bound = max_context
        self._pool = BlockPool(runner.num_blocks, runner.block_size, keeps=False)
        self._texts: dict[int, _Read] = {}

    def guess(self, sequences: Many[Sequence], most: Many[int]) -> list[list[int]]:
        drafts: dict[int, list[int]] = {sequence.number: [] for sequence in sequences}
        active = [
            (sequence, count)
            for sequence, count in zip(sequences, most, strict=True)
            if count and self._reserve(sequence, len(sequence.tokens) + count - 1)
        ]
        ended = set[int]()
        while active:
            spans = [self._span(one, drafts[one.number]) for one, _ in active]
            rows = iter(self.runner.forward(spans)[:, : self._vocab_size])
            for (sequence, _), span in zip(active, spans, strict=True):
                self._texts[sequence.number].tokens += span.tokens
                if not span.num_logits:
                    continue
                draft = drafts[sequence.number]
                try:
                    guess = sequence.guess(next(rows), draft)
                except ConfigError as error:  # a guess is only a guess, and the text goes on
                    logger.debug(f"no guess: {error}")
                    guess = None
                if guess is None:
                    ended.add(sequence.number)
                else:
                    draft.append(guess)
            active = [
                (one, count)
                for one, count in active
                if len(drafts[one.number]) < count and one.number not in ended
            ]
        return [drafts[sequence.number] for sequence in sequences]

    def _reserve(self, sequence: Sequence, num_tokens: int) -> bool:
        """Whether there is memory for so many tokens, and the model reads as many."""
        if self._bound is not None and num_tokens > self._bound:
            return False
        text = self._texts.setdefault(sequence.number, _Read())
        text.take_back(sequence.tokens)
        lacking = self._pool.blocks_for(num_tokens) - len(text.blocks)
        if lacking > self._pool.num_free:
            return False
        text.blocks += [self._pool.take() for _ in range(lacking)]
        return True

    def _span(self, sequence: Sequence, draft: Many[int]) -> Span:
        """What the model has not read of the tokens and the draft, or a piece of it."""
        text = self._texts[sequence.number]
        start = len(text.tokens)
        unread = [*sequence.tokens[start:], *draft[max(0, start - len(sequence.tokens)) :]]
        wanted = int(len(unread) <= self._piece)
        return Span(sequence.number, unread[: self._piece], start, wanted, text.blocks)

    def forget(self, sequence: int) -> None:
        text = self._texts.pop(sequence, None)
        if text is not None:
            self._pool.release(text.blocks)
        self.runner.forget(sequence)


class _Read:
    """What a draft model has read of a text, and where it remembers it."""

    def __init__(self) -> None:
        self.tokens, self.blocks = list[int](), list[int]()
        self._certain = 0

    def take_back(self, tokens: Many[int]) -> None:
        """Keep what was read as far as it came true."""
        certain = self._certain
        equal = num_equal(self.tokens[certain:], tokens[certain:])
        # The last token is read again where all came true: its logits are wanted.
        del self.tokens[min(certain + equal, len(tokens) - 1) :]
        self._certain = len(self.tokens)
