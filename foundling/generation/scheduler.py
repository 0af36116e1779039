"""Which sequences are read next: every step continues all that run, and reads a piece of a prompt.

Sequences come and go between steps.
"""

from collections import deque

import torch
from torch import Tensor

from foundling.generation.runners import Runner, Span
from foundling.generation.sequence import Sequence


class Scheduler:
    """Continuous batching over a runner; used by one thread at a time.

    Args:
        max_batch: the most sequences that run at once.
        prefill_chunk: the most tokens of prompts that are read in a step.
        vocab_size: how many of the logits belong to tokens.
    """

    def __init__(
        self, runner: Runner, *, max_batch: int, prefill_chunk: int, vocab_size: int
    ) -> None:
        self.runner = runner
        self.running: list[Sequence] = []
        self.waiting = deque[Sequence]()
        self._max_batch, self._chunk, self._vocab_size = max_batch, prefill_chunk, vocab_size

    @property
    def has_work(self) -> bool:
        return bool(self.running or self.waiting)

    def step(self) -> None:
        """Read the next tokens of the sequences that run, and draw what follows them."""
        self.drop_cancelled()
        while self.waiting and len(self.running) < self._max_batch:
            self.running.append(self.waiting.popleft())
        planned = self._plan()
        if not planned:
            return
        logits = self.runner.forward([span for _, span in planned])[:, : self._vocab_size]
        rows = torch.split(logits, [span.num_logits for _, span in planned])
        for (sequence, span), own in zip(planned, rows, strict=True):
            self._take(sequence, span, own)

    def drop_cancelled(self) -> None:
        """Free what cancelled requests hold."""
        for sequence in [one for one in (*self.running, *self.waiting) if one.stream.cancelled]:
            sequence.finish("cancelled")
            self._release(sequence)

    def _plan(self) -> list[tuple[Sequence, Span]]:
        """Every sequence's next token, and pieces of prompts, each whole, while there is room.

        Where a prompt is cut depends on nothing but the prompt. The piece of one prompt per step
        may be as long as there is room for; the prompts take turns.
        """
        planned, room, turns = [], self._chunk, list[Sequence]()
        for sequence in list(self.running):
            unread = len(sequence.tokens) - sequence.read
            piece = min(unread, self._chunk)
            if unread > 1:
                if piece > room:
                    continue
                room -= piece
                turns.append(sequence)
            stop = sequence.read + piece
            wanted = int(stop == len(sequence.tokens))
            if sequence.reads_prompt:
                wanted = piece
            span = Span(
                sequence.number,
                sequence.tokens[sequence.read : stop],
                sequence.read,
                wanted,
                sequence.blocks,
                sequence.room,
            )
            planned.append((sequence, span))
        self.running.sort(key=lambda one: one in turns)  # stable
        return planned

    def _take(self, sequence: Sequence, span: Span, logits: Tensor) -> None:
        try:
            if sequence.reads_prompt:
                sequence.score_prompt(logits, span.start)
            sequence.read += len(span.tokens)
            if sequence.read == len(sequence.tokens):
                if sequence.budget:
                    sequence.draw(logits[-1])
                else:
                    sequence.finish("length")
        except Exception as error:  # this request's fault, not the others'
            sequence.fail(error)
        if sequence.stream.finish is not None:
            self._release(sequence)
        elif sequence.slide():
            self.runner.forget(sequence.number)

    def _release(self, sequence: Sequence) -> None:
        for line in (self.running, self.waiting):
            if sequence in line:
                line.remove(sequence)
        self.runner.forget(sequence.number)
