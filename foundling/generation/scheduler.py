"""Which sequences are read next: every step continues all that run, and reads pieces of prompts.

Sequences come and go between steps.
"""

import logging
from collections import OrderedDict
from collections.abc import Iterable
from collections.abc import Sequence as Many
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from foundling.generation.blocks import BlockPool
from foundling.generation.request import Stream
from foundling.generation.runners import Runner, Span
from foundling.generation.sequence import Sequence

logger = logging.getLogger(__name__)

SCORED_LOGITS = 1 << 24
"""The most logits of a prompt that are in memory at once."""


@runtime_checkable
class Proposer(Protocol):
    """Guesses how texts continue, for the model to check several tokens in one step.

    What is generated does not depend on the guesses: a draft is kept as far as it is what the
    model draws.
    """

    def propose(self, sequences: Many[Sequence], most: Many[int]) -> Many[Many[int]]:
        """A draft for each sequence: at most so many tokens that may follow its `tokens`."""

    def forget(self, sequence: int) -> None:
        """Nothing more of the sequence with this number is asked."""


class Scheduler:
    """Continuous batching over a runner; used by one thread at a time.

    Args:
        max_batch: the most sequences that run at once.
        prefill_chunk: the most tokens of prompts that are read in a step.
        vocab_size: how many of the logits belong to tokens.
        prefix_cache: whether what was read is used again.
        proposer: drafts what the runner checks; None: no speculation.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        max_batch: int,
        prefill_chunk: int,
        vocab_size: int,
        prefix_cache: bool = True,
        proposer: Proposer | None = None,
    ) -> None:
        self.runner, self.proposer = runner, proposer
        self.running: list[Sequence] = []
        """In the order in which their prompts take turns."""
        self.waiting = OrderedDict[Stream, Sequence]()
        """Those that came first stand first."""
        self.pool: BlockPool | None = (
            None
            if runner.num_blocks is None
            else BlockPool(runner.num_blocks, runner.block_size, keeps=prefix_cache)
        )
        self.num_preempted = 0
        """How often a sequence gave its memory up for an older one."""
        self.max_batch = max_batch
        self._chunk, self._vocab_size = prefill_chunk, vocab_size
        assert proposer is None or runner.can_rewind, "a refused draft is taken back"

    @property
    def has_work(self) -> bool:
        return bool(self.running or self.waiting)

    def add(self, sequences: Iterable[Sequence]) -> None:
        """Let them wait behind all others."""
        self.waiting.update((sequence.stream, sequence) for sequence in sequences)

    def step(self) -> None:
        """Read the next tokens of the sequences that run, and draw what follows them."""
        self._end([one for one in self.running if one.stream.cancelled])
        self._admit()
        planned = self._plan()
        if not planned:
            return
        try:
            logits = self.runner.forward([span for _, span in planned])[:, : self._vocab_size]
        except Exception as error:  # such as too little memory: those that wait may fare better
            logger.exception("a step failed, and its %d requests with it", len(planned))
            self._fail([sequence for sequence, _ in planned], error)
            return
        rows = torch.split(logits, [span.num_logits for _, span in planned])
        for (sequence, span), own in zip(planned, rows, strict=True):
            self._take(sequence, span, own)

    def drop(self, streams: Iterable[Stream]) -> None:
        """Free what these requests hold, which were cancelled; those that have ended are no more.

        However many wait, only those are looked at.
        """
        running = {sequence.stream: sequence for sequence in self.running}
        found = [running.get(stream) or self.waiting.get(stream) for stream in streams]
        self._end([sequence for sequence in found if sequence is not None])

    def _end(self, cancelled: list[Sequence]) -> None:
        for sequence in cancelled:
            sequence.finish("cancelled")
            self._remove(sequence)

    def fail(self, error: Exception) -> None:
        """End all requests with this error."""
        self._fail(self.sequences(), error)

    def _fail(self, sequences: list[Sequence], error: Exception) -> None:
        for sequence in sequences:
            sequence.fail(error)
            self._remove(sequence)

    def sequences(self) -> list[Sequence]:
        return [*self.running, *self.waiting.values()]

    # ------------------------------------------------------------------ who runs

    def _admit(self) -> None:
        """Let those run that wait, the first first, while there is memory for their prompts."""
        if self.pool is None:
            while self.waiting and len(self.running) < self.max_batch:
                self.running.append(self.waiting.popitem(last=False)[1])
        elif self.waiting and len(self.running) < self.max_batch:
            self._admit_with_blocks(self.pool)

    def _admit_with_blocks(self, pool: BlockPool) -> None:
        """One whose prompt begins as one that is being read waits until it can use that."""
        free = pool.num_free - sum(self._lacking(one, len(one.tokens) + 1) for one in self.running)
        being_read = {
            key
            for one in self.running
            if len(one.tokens) - one.read > 1
            for key in one.keys[one.read // pool.block_size :]
        }
        for sequence in list(self.waiting.values()):
            if len(self.running) >= self.max_batch:
                break
            pool.extend(sequence.keys, sequence.tokens, len(sequence.tokens) - 1)
            found = list[int]()
            if pool.keeps and not sequence.reads_prompt:
                found = pool.find(sequence.keys)
                if being_read.intersection(sequence.keys[len(found) : len(found) + 1]):
                    continue
            idle = pool.hold(found)
            sequence.blocks = found
            free -= idle + self._lacking(sequence, len(sequence.tokens) + 1)
            if free < 0 and self.running:
                pool.release(found)
                sequence.blocks = []
                break
            self._begin(sequence)
            being_read.update(sequence.keys[len(found) :])

    def _lacking(self, sequence: Sequence, num_tokens: int) -> int:
        """How many blocks it needs for so many tokens in all, beside those that it holds."""
        return 0 if self.pool is None else self.pool.blocks_for(num_tokens) - len(sequence.blocks)

    def _begin(self, sequence: Sequence) -> None:
        assert self.pool is not None
        sequence.read = len(sequence.blocks) * self.pool.block_size
        sequence.num_published = len(sequence.blocks)
        if not sequence.begun:  # what it read itself before it had to wait does not count
            sequence.begun = True
            sequence.stream.cached_tokens = sequence.read
            self.pool.hits += sequence.read
            self.pool.lookups += len(sequence.tokens)
        del self.waiting[sequence.stream]
        self.running.append(sequence)

    def _preempt(self, sequence: Sequence) -> None:
        """Let a sequence wait, and free its memory; it will be read again as far as it has come."""
        self.num_preempted += 1
        self._free(sequence)
        self.running.remove(sequence)
        self.waiting[sequence.stream] = sequence
        self.waiting.move_to_end(sequence.stream, last=False)

    def _free(self, sequence: Sequence) -> None:
        self.runner.forget(sequence.number)
        if self.proposer is not None:
            self.proposer.forget(sequence.number)
        if self.pool is not None:
            self.pool.release(sequence.blocks)
        sequence.blocks, sequence.read, sequence.num_published = [], 0, 0

    def _remove(self, sequence: Sequence) -> None:
        self._free(sequence)
        if self.waiting.pop(sequence.stream, None) is None and sequence in self.running:
            self.running.remove(sequence)

    # ------------------------------------------------------------------ what is read

    def _plan(self) -> list[tuple[Sequence, Span]]:
        """Every sequence's next token, with a draft of more, and pieces of prompts.

        The prompts take turns. Where one is cut depends on nothing but the prompt, so that whoever
        reads beside it changes nothing.
        """
        room, chosen, later = self._chunk, list[tuple[Sequence, int]](), list[Sequence]()
        for sequence in self.running:
            piece = len(sequence.tokens) - sequence.read
            if piece > 1:
                piece = min(piece, self._piece(sequence))
                if piece > room:
                    continue
                room -= piece
                later.append(sequence)
            chosen.append((sequence, piece))
        self.running = [one for one in self.running if one not in later] + later
        drafts = self._drafts([one for one, piece in chosen if piece == 1 and not one.reads_prompt])
        planned = []
        # The oldest is given memory first, and the youngest gives it up first.
        for sequence, piece in sorted(chosen, key=lambda one: one[0].number):
            draft = drafts.get(sequence.number, ())
            stop = sequence.read + piece
            if draft and self._lacks_memory(sequence, stop + len(draft)):
                draft = ()
            if sequence in self.running and self._reserve(sequence, stop + len(draft)):
                planned.append((sequence, self._span(sequence, piece, draft)))
        return planned

    def _piece(self, sequence: Sequence) -> int:
        """The most tokens of a prompt that are read at once."""
        if not sequence.reads_prompt:
            return self._chunk
        return min(self._chunk, max(1, SCORED_LOGITS // self._vocab_size))

    def _drafts(self, sequences: list[Sequence]) -> dict[int, Many[int]]:
        if self.proposer is None or not sequences:
            return {}
        most = [one.most_ahead for one in sequences]
        drafts = self.proposer.propose(sequences, most)
        return {one.number: draft for one, draft in zip(sequences, drafts, strict=True)}

    def _lacks_memory(self, sequence: Sequence, num_tokens: int) -> bool:
        return self.pool is not None and self._lacking(sequence, num_tokens) > self.pool.num_free

    def _reserve(self, sequence: Sequence, num_tokens: int) -> bool:
        """Give a sequence the blocks for so many tokens in all; whether it could be done."""
        while self.pool is not None and self._lacking(sequence, num_tokens) > 0:
            if self.pool.num_free:
                sequence.blocks.append(self.pool.take())
                continue
            youngest = max(self.running, key=lambda one: one.number)
            self._preempt(youngest)
            if youngest is sequence:
                return False
        return True

    def _span(self, sequence: Sequence, piece: int, draft: Many[int]) -> Span:
        stop = sequence.read + piece
        tokens = [*sequence.tokens[sequence.read : stop], *draft]
        wanted = 0 if stop < len(sequence.tokens) else 1 + len(draft)
        if sequence.reads_prompt:
            wanted = piece
        start, room = sequence.read, sequence.room
        return Span(sequence.number, tokens, start, wanted, sequence.blocks, room)

    def _take(self, sequence: Sequence, span: Span, logits: Tensor) -> None:
        try:
            if sequence.reads_prompt:
                sequence.score_prompt(logits, span.start)
                logits = logits[-1:]
            sequence.read = min(span.start + len(span.tokens), len(sequence.tokens))
            if sequence.read == len(sequence.tokens):
                self._draw(sequence, span, logits)
        except Exception as error:  # this request's fault, not the others'
            sequence.fail(error)
        self._publish(sequence)
        if sequence.stream.finish is not None:
            self._remove(sequence)
        elif sequence.slide():
            self._free(sequence)

    def _draw(self, sequence: Sequence, span: Span, logits: Tensor) -> None:
        """Draw a token for each row, as long as the draft that was read is what is drawn."""
        if not sequence.budget:
            sequence.finish("length")
            return
        known = len(sequence.tokens)
        draft = span.tokens[known - span.start :]
        for row, guess in zip(logits, (*draft, None), strict=True):
            token = sequence.draw(row)
            sequence.read = len(sequence.tokens) - 1
            if token != guess or sequence.stream.finish is not None:
                break

    def _publish(self, sequence: Sequence) -> None:
        """Let the blocks be found that are full now."""
        if self.pool is not None:
            self.pool.extend(sequence.keys, sequence.tokens, sequence.read)
            full = sequence.read // self.pool.block_size
            for index in range(sequence.num_published, full):
                self.pool.publish(sequence.blocks[index], sequence.keys[index])
            sequence.num_published = max(full, sequence.num_published)
