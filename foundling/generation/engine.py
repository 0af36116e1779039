"""The generator: requests in, text out, of any rung, one or many at a time."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from foundling.base.config import ConfigError
from foundling.generation.limits import Limits
from foundling.generation.packed import PackedModel
from foundling.generation.packed_runner import PackedRunner
from foundling.generation.request import Chunk, QueueFull, Request, Result, Stream
from foundling.generation.runners import Runner
from foundling.generation.sampling import Sampling
from foundling.generation.scheduler import Scheduler
from foundling.generation.sequence import Sequence as Served
from foundling.generation.settings import EngineSettings, make_runner
from foundling.generation.speculation import make_speculation
from foundling.models.language_model import LanguageModel
from foundling.text.chat import Message
from foundling.text.stream_decoder import StreamDecoder
from foundling.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


class Engine:
    """Generates with any rung; the same request gives the same tokens, alone and in a crowd.

    Without a thread, whoever waits for a stream's next chunk does the work, for all streams.
    """

    def __init__(
        self,
        model: LanguageModel | PackedModel,
        tokenizer: Tokenizer,
        settings: EngineSettings | None = None,
        *,
        runner: Runner | None = None,
        draft: tuple[LanguageModel | PackedModel, Tokenizer] | None = None,
    ) -> None:
        """`runner`: what reads tokens; None: what suits the model and the settings. `draft`: a
        smaller model of the same tokenizer, whose guesses are checked several at once.

        The weights are read now: a model that learns further needs a new engine. One that is
        packed already is read as it is packed, and may be shared with other engines.

        Raises:
            ConfigError: the model cannot be run in the precision of the settings, or the draft
                model has another tokenizer or cannot take tokens back.
        """
        self.settings = settings or EngineSettings()
        self.runner: Runner = runner or make_runner(model, self.settings)
        whole = model.model if isinstance(model, PackedModel) else model
        self.model, self.tokenizer = whole.eval(), tokenizer
        """Its matrices are in memory where it was not given packed."""
        self._speculation = make_speculation(self.runner, whole, tokenizer, self.settings, draft)
        self._scheduler = Scheduler(
            self.runner,
            max_batch=self.settings.most_at_once(whole.device),
            prefill_chunk=self.settings.prefill_chunk,
            vocab_size=tokenizer.vocab_size,
            prefix_cache=self.settings.prefix_cache,
            proposer=self._speculation,
        )
        pool = self._scheduler.pool
        self._limits = Limits(
            max_context=whole.max_context,
            vocab_size=tokenizer.vocab_size,
            cache_tokens=None if pool is None else pool.num_tokens,
        )
        self._stepping = threading.Lock()  # held while the scheduler is used
        self._news = threading.Condition()  # held for moments
        self._arrived: list[Served] = []
        self._thread: threading.Thread | None = None
        self._closing = False
        self._cancelled: list[Stream] = []

    # ------------------------------------------------------------------ one text

    def generate(self, prompt: str | Sequence[int], **options: Any) -> str:
        """The whole continuation of `prompt`; the options are those of `stream`."""
        return "".join(chunk.text for chunk in self.stream(prompt, **options))

    def stream(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int | None = None,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        slide: bool = False,
        **settings: Any,
    ) -> Iterator[Chunk]:
        """The continuation of `prompt` as it is made.

        Text that may be the beginning of a stop string is held back, and a character is never
        split.

        Args:
            prompt: a text, or tokens (a rendered chat).
            max_tokens: None for as many as the model's context holds (256 where it has no bound).
            sampling: how tokens are drawn; default: from the whole distribution.
            stop: the text ends before any of these.
            slide: continue past a bounded context: whenever it is full, its newest half is read
                again.
            settings: of `Sampling`, by name: temperature, top_k, top_p, min_p, seed and others.

        Raises:
            ConfigError: the prompt and `max_tokens` do not fit the context, a stop string is
                empty, or there is no such setting.
        """
        request = self.request(
            prompt, max_tokens=max_tokens, sampling=sampling, stop=stop, slide=slide, **settings
        )
        self.budget(request)
        return self._chunks(request)

    def request(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int | None = None,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        slide: bool = False,
        **settings: Any,
    ) -> Request:
        """What `stream` asks for, to be submitted or run beside others.

        Raises:
            ConfigError: the tokenizer cannot write the prompt, or there is no such setting.
        """
        return Request(
            tuple(self._read(prompt) if isinstance(prompt, str) else prompt),
            max_tokens,
            (sampling or Sampling()).changed(settings),
            tuple(stop),
            continues=isinstance(prompt, str) and prompt != "",
            slide=slide,
        )

    def _chunks(self, request: Request) -> Iterator[Chunk]:
        with self.submit(request) as stream:
            yield from stream

    def chat(
        self,
        messages: str | Sequence[Message | Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        **options: Any,
    ) -> str:
        """The answer to a message, or to a conversation that ends with one; options of `stream`.

        Args:
            messages: a text, or messages. They may be given as in a row of data:
                {"role": ..., "content": ...}, with tool_calls and reasoning_content where the
                assistant calls a tool or thinks, and tool_call_id and name where a tool answers.
            tools: descriptions of functions, as JSON schemas.

        Raises:
            ConfigError: the last message does not fit the context, the roles are out of order, a
                message has other keys, or the chat template takes no tools.
        """
        from foundling.data.tool_calls import tools_of
        from foundling.generation.conversation import answer

        given = [Message("user", messages)] if isinstance(messages, str) else messages
        asked = [
            one if isinstance(one, Message) else _message(one, f"messages[{index}]")
            for index, one in enumerate(given)
        ]
        return "".join(answer(self, asked, tools=tools_of(list(tools), "tools"), **options))

    def _read(self, prompt: str) -> list[int]:
        ids = [*self.tokenizer.begin_ids, *self.tokenizer.encode(prompt)]
        # Without a begin mark, what ends one text stands before the next one, as in GPT-2.
        return ids or [self.tokenizer.end_of_text]

    # ------------------------------------------------------------------ many requests

    def run(self, requests: Sequence[Request]) -> list[Result]:
        """The results of all requests, generated side by side; the queue's bound does not apply.

        Raises:
            ConfigError: a request does not fit the context.
            NotFiniteError: the model computed NaN or infinity.
        """
        for request in requests:
            self.budget(request)
        streams = [self._submit(request) for request in requests]
        try:
            return [stream.result() for stream in streams]
        finally:
            for stream in streams:
                stream.cancel()

    def submit(self, request: Request, on_chunk: Callable[[Chunk], None] | None = None) -> Stream:
        """Take a request; its chunks come from the stream, or `on_chunk` is called with each.

        `on_chunk` is called by the thread that generates, and must not take long.

        Raises:
            ConfigError: the prompt and `max_tokens` do not fit the context, or a setting is wrong.
            QueueFull: too many requests wait.
        """
        return self._submit(request, on_chunk, self.settings.queue_size)

    def _submit(
        self,
        request: Request,
        on_chunk: Callable[[Chunk], None] | None = None,
        queue_size: int | None = None,
    ) -> Stream:
        budget, bound = self.budget(request), self.model.max_context
        stream = Stream(request, self, on_chunk)
        served = Served(
            stream,
            budget,
            () if request.ignore_end else self.tokenizer.stop_ids,
            StreamDecoder(self.tokenizer, continues=request.continues, shown=request.shown),
            bound if request.slide else None,
        )
        served.slide()
        with self._news:
            waiting = len(self._arrived) + len(self._scheduler.waiting)
            running, places = len(self._scheduler.running), self._scheduler.max_batch
            # As many as there are places begin with the next step.
            if queue_size is not None and waiting >= queue_size + max(0, places - running):
                raise QueueFull(f"{waiting} requests wait, as many as may; ask again later.")
            self._arrived.append(served)
            self._news.notify_all()
        return stream

    @property
    def capacity(self) -> int:
        """The most requests that are taken at a time: generated or waiting."""
        return self._scheduler.max_batch + self.settings.queue_size

    def budget(self, request: Request) -> int:
        """Check a request; the most tokens that it may generate.

        Raises:
            ConfigError: the prompt and `max_tokens` do not fit the context, a stop string is
                empty, or a token or a number of alternatives is out of range.
        """
        return self._limits.budget(request)

    # ------------------------------------------------------------------ work

    def start(self) -> None:
        """Generate on a thread of its own from now on."""
        assert self._thread is None, "it has been started"
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def close(self, timeout: float | int = 0) -> None:
        """Finish what was taken, for `timeout` seconds at most; then cancel the rest, and stop."""
        with self._news:
            self._news.wait_for(lambda: self._is_idle, timeout if self._thread else 0)
            self._closing = True
            self._news.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with self._stepping:
            self._take_arrivals()
            self._scheduler.drop(one.stream for one in self._scheduler.sequences())
        self._tell()

    @property
    def _is_idle(self) -> bool:
        return not (self._arrived or self._scheduler.has_work)

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._closing or not self._is_idle)
                if self._closing:
                    return
            self.step()

    def step(self) -> None:
        """Read and draw once for all requests that run; there need not be any."""
        with self._stepping:
            self._take_arrivals()
            try:
                with torch.inference_mode():
                    self._scheduler.step()
            except Exception as error:  # the engine goes on with what comes
                logger.exception("a step failed, and all requests with it")
                self._scheduler.fail(error)
        self._tell()
        self._drop_cancelled()

    def _take_arrivals(self) -> None:
        with self._news:
            self._scheduler.add(self._arrived)
            self._arrived.clear()

    def _tell(self) -> None:
        with self._news:
            self._news.notify_all()

    def wait_for(self, stream: Stream) -> None:
        """Return when the stream has a chunk or has ended; without a thread, work for it."""
        while not stream.has_news:
            if self._thread is None:
                self.step()
            else:
                with self._news:
                    self._news.wait_for(lambda: stream.has_news or self._thread is None)

    def cancel(self, stream: Stream) -> None:
        """End a stream's request, at once or when the step that is being worked ends."""
        if stream.finish is None:
            with self._news:
                stream.cancelled = True
                self._cancelled.append(stream)
            self._drop_cancelled()

    def _drop_cancelled(self) -> None:
        """Free what cancelled requests hold, unless whoever is at work will do it."""
        while self._cancelled and self._stepping.acquire(blocking=False):
            try:
                with self._news:
                    cancelled, self._cancelled = self._cancelled, []
                self._take_arrivals()
                self._scheduler.drop(cancelled)
            finally:
                self._stepping.release()
            self._tell()

    # ------------------------------------------------------------------ figures

    def stats(self) -> dict[str, int]:
        """How many requests run and wait, and of blocks, how many are held, free and findable.

        `prompt_tokens` counts those of prompts that began to run, `cached_tokens` those of them
        that the prefix cache had, and `preempted` how often a request gave its memory up for an
        older one and was read again. `guessed_tokens` and `accepted_tokens` are those of drafts.
        """
        waiting = len(self._arrived) + len(self._scheduler.waiting)
        found = {"running": len(self._scheduler.running), "waiting": waiting}
        if self._speculation is not None:
            found["guessed_tokens"] = self._speculation.guessed
            found["accepted_tokens"] = self._speculation.accepted
        pool = self._scheduler.pool
        if pool is None:
            return found
        return found | {
            "blocks_held": pool.num_held,
            "blocks_free": pool.num_free,
            "blocks_cached": pool.num_cached,
            "prompt_tokens": pool.lookups,
            "cached_tokens": pool.hits,
            "preempted": self._scheduler.num_preempted,
        }

    @torch.inference_mode()
    def embed(self, tokens: Sequence[int]) -> Float[Tensor, " dim"]:
        """The mean of the hidden vectors after the final norm, on the CPU in fp32.

        Raises:
            ConfigError: there are no tokens, or more than the model reads.
        """
        bound = self.model.max_context
        if not tokens or (bound is not None and len(tokens) > bound):
            most = "any number" if bound is None else f"at most {bound}"
            raise ConfigError(f"a text of {len(tokens)} tokens: the model reads 1 or more, {most}.")
        if isinstance(self.runner, PackedRunner):
            return self.runner.hidden(tokens).mean(0)
        read = torch.tensor([list(tokens)], device=self.model.device)
        return self.model.hidden(read)[0].float().mean(0).cpu()


def _message(given: Mapping[str, Any], where: str) -> Message:
    from foundling.data.messages import message_of, unread_keys

    said = "role" in given and not {"content", "tool_calls"}.isdisjoint(given)
    if not said or unread_keys([dict(given)]):
        raise ConfigError(
            f"a message has the keys {', '.join(given) or 'none'}: give role and content; the "
            "assistant's may have tool_calls and reasoning_content, a tool's tool_call_id and name."
        )
    return message_of(dict(given), where)
