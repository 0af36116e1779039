"""Streams of requests: threads, cancels, full queues, errors, log-probabilities, held-back text."""

import threading
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from foundling import models
from foundling.base.config import ConfigError
from foundling.generation.engine import Engine
from foundling.generation.grammar import Grammar
from foundling.generation.request import Cancelled, Chunk, QueueFull, Request
from foundling.generation.runners import Runner, Span, StateRunner
from foundling.generation.sampling import Sampling
from foundling.generation.settings import EngineSettings
from foundling.generation.torch_runner import TorchRunner
from foundling.models.finite import NotFiniteError
from foundling.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train_bytes(
    ["naïve café, 林 and 🦆: the miller met the baker"], vocab_size=280
)
GREEDY = Sampling(temperature=0)
PROMPT = tuple(TOKENIZER.encode("the miller met the baker"))


def model_of(context: int = 64) -> models.LanguageModel:
    torch.manual_seed(5)
    model = models.build({"dim": 16}, vocab_size=TOKENIZER.vocab_size, context=context)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)  # away from uniform
    return model


MODEL = model_of()


def engine(runner: Runner | None = None, **settings: Any) -> Engine:
    blocks = TorchRunner(MODEL, cache_bytes=1 << 18)
    return Engine(MODEL, TOKENIZER, EngineSettings(**settings), runner=runner or blocks)


def request(max_tokens: int = 20, **options: Any) -> Request:
    return Request(PROMPT, max_tokens, ignore_end=True, **options)


class Told(StateRunner):
    """A runner whose model says these ids, whatever it has read."""

    def __init__(self, ids: Sequence[int]) -> None:
        super().__init__(MODEL)
        self._ids = list(ids)

    def forward(self, spans: Sequence[Span]) -> torch.Tensor:
        logits = torch.zeros(len(spans), TOKENIZER.vocab_size)
        for row, span in zip(logits, spans, strict=True):
            row[self._ids[span.start + len(span.tokens) - 1]] = 5
        return logits


# ---------------------------------------------------------------------- threads and cancels


def test_a_thread_gives_what_stepping_gives() -> None:
    wanted = [request(seed, sampling=Sampling(seed=seed)) for seed in range(1, 12)]
    alone = [engine().run([one])[0] for one in wanted]
    made = engine(max_batch=4)
    made.start()
    try:
        found = [stream.result() for stream in map(made.submit, wanted)]
        assert [one.tokens for one in found] == [one.tokens for one in alone]
        assert [one.tokens for one in made.run(wanted)] == [one.tokens for one in alone]
    finally:
        made.close()
    assert made.run(wanted[:1])[0].tokens == alone[0].tokens  # without a thread again


def test_chunks_are_handed_to_whoever_listens() -> None:
    made, chunks, ended = engine(), list[Chunk](), threading.Event()

    def listen(chunk: Chunk) -> None:
        chunks.append(chunk)
        if chunk.finish is not None:
            ended.set()

    made.start()
    made.submit(request(), listen)
    assert ended.wait(30)
    made.close()
    assert "".join(chunk.text for chunk in chunks) == made.run([request()])[0].text
    assert [chunk.finish for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


def test_a_listener_that_fails_is_cancelled_alone() -> None:
    made = engine()

    def listen(chunk: Chunk) -> None:
        raise RuntimeError("gone")

    gone, other = made.submit(request(), listen), made.submit(request())
    assert other.result().text
    assert gone.finish == "cancelled"


def test_closing_waits_and_then_cancels() -> None:
    made = engine()
    made.start()
    quick, later = made.submit(request(2)), made.submit(request(2))
    made.close(timeout=60)
    assert quick.finish == later.finish == "length"
    made.start()
    streams = [made.submit(request(40)) for _ in range(3)]
    made.close()
    assert streams[-1].finish == "cancelled"
    assert made.stats()["blocks_held"] == 0
    with pytest.raises(Cancelled):
        streams[-1].result()


def test_cancelling_frees_memory_at_once_whatever_a_request_does() -> None:
    made = engine(max_batch=2, prefill_chunk=8)
    prompt = tuple(range(8, 48))
    wanted = Request(prompt, 20, ignore_end=True)
    decoding, reading, waiting = (made.submit(wanted) for _ in range(3))
    next(decoding)
    held = made.stats()["blocks_held"]
    assert held > 0
    for stream in (waiting, reading, decoding):
        stream.cancel()
        assert stream.finish == "cancelled"
        stream.cancel()  # again changes nothing
    assert made.stats()["blocks_held"] == made.stats()["waiting"] == 0
    again = made.submit(wanted)
    list(again)
    assert again.cached_tokens >= 32  # what was read stays findable


def test_a_generator_that_is_left_frees_its_memory() -> None:
    made = engine()
    chunks = made.stream("the miller met the baker", max_tokens=30, temperature=0)
    assert made.stats()["running"] == made.stats()["waiting"] == 0
    next(chunks)
    assert made.stats()["running"] == 1
    del chunks
    assert made.stats()["running"] == made.stats()["blocks_held"] == 0


def test_a_full_queue_says_so() -> None:
    made = engine(queue_size=1, max_batch=1)
    streams = [made.submit(request(2)) for _ in range(2)]
    with pytest.raises(QueueFull, match="2 requests wait"):
        made.submit(request(2))
    assert made.capacity == 2
    streams[0].cancel()
    streams.append(made.submit(request(2)))
    assert [stream.result().finish for stream in streams[1:]] == ["length"] * 2
    assert len(made.run([request(2)] * 9)) == 9  # run feeds itself


def test_who_has_a_place_in_the_batch_does_not_wait() -> None:
    made = engine(queue_size=1, max_batch=3)
    streams = [made.submit(request(20)) for _ in range(4)]
    for _ in range(2):
        with pytest.raises(QueueFull):
            made.submit(request(2))
        made.step()
    assert (made.stats()["running"], made.stats()["waiting"]) == (3, 1)
    assert [stream.result().finish for stream in streams] == ["length"] * 4


def test_ids_beyond_the_tokenizers_are_refused_though_the_model_has_rows() -> None:
    size = TOKENIZER.vocab_size
    padded = models.build({"dim": 16}, vocab_size=size + 20, context=64)
    made = Engine(padded, TOKENIZER)
    assert len(made.run([Request((size - 1,), 2, Sampling(repetition_penalty=2))])) == 1
    with pytest.raises(ConfigError, match=f"token {size}: ids end at {size - 1}"):
        made.submit(Request((size,), 2, Sampling(repetition_penalty=2)))


def test_a_long_prompt_stalls_the_others_by_a_chunk_at_most() -> None:
    read: list[int] = []

    class Counting(TorchRunner):
        def forward(self, spans: Sequence[Span]) -> torch.Tensor:
            read.append(sum(len(span.tokens) for span in spans))
            return super().forward(spans)

    made = engine(Counting(MODEL, cache_bytes=1 << 18), prefill_chunk=8)
    first = made.submit(request(30))
    next(first)
    before = made._scheduler.running[0].drawn
    read.clear()
    long = made.submit(Request(tuple(range(8, 58)), 2))
    for _ in range(7):
        made.step()
    assert long.finish is None or long.finish == "end"
    assert max(read) <= 8 + 1
    assert made._scheduler.running[0].drawn == before + 7  # it was continued in every step


def test_prompts_take_turns() -> None:
    """A short prompt does not wait until a long one is read."""
    made = engine(prefill_chunk=8)
    long = made.submit(Request(tuple(range(8, 64)), 1))
    short = made.submit(Request(tuple(range(70, 76)), 1))
    made.step()
    made.step()
    assert short.finish is not None
    assert long.finish is None


# ---------------------------------------------------------------------- errors


def test_a_row_that_is_not_finite_fails_its_request_alone() -> None:
    bad = Request((9, 9, 9), 20, GREEDY, ignore_end=True)

    class Damaged(StateRunner):
        def forward(self, spans: Sequence[Span]) -> torch.Tensor:
            logits = super().forward(spans)
            for row, span in zip(logits, spans, strict=True):
                if span.tokens[0] == 9 and span.start == 0:
                    row[4] = torch.nan
            return logits

    alone = engine().run([request()])[0]
    made = engine(Damaged(MODEL))
    failing, other = made.submit(bad), made.submit(request())
    assert other.result().tokens == alone.tokens
    assert failing.finish == "error"
    with pytest.raises(NotFiniteError, match="not finite"):
        failing.result()


def test_a_step_that_fails_ends_its_requests_and_not_the_engine() -> None:
    class Broken(StateRunner):
        broken = True

        def forward(self, spans: Sequence[Span]) -> torch.Tensor:
            if self.broken:
                raise RuntimeError("out of memory")
            return super().forward(spans)

    runner = Broken(MODEL)
    made = engine(runner, max_batch=1)
    first, second = made.submit(request(2)), made.submit(request(2))
    made.step()
    runner.broken = False
    assert (first.finish, second.result().finish) == ("error", "length")
    runner.broken = True
    made.start()
    with pytest.raises(RuntimeError, match="out of memory"):
        made.submit(request()).result()
    runner.broken = False
    assert made.submit(request()).result().finish == "length"
    made.close()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"prompt": ()}, "the prompt has no tokens"),
        ({"prompt": (1, 999)}, "the prompt has token 999: ids end at"),
        ({"prompt": (-1,)}, "the prompt has token -1"),
        ({"max_tokens": 0}, "max_tokens = 0: must be at least 1"),
        ({"max_tokens": -1, "prompt_logprobs": 0}, "max_tokens = -1"),
        ({"logprobs": -1}, "logprobs = -1: give a number from 0 to"),
        ({"prompt_logprobs": 10**6}, "prompt_logprobs = 1000000"),
        ({"stop": ("",)}, "a stop string must not be empty"),
        ({"sampling": Sampling(logit_bias={10**6: 1})}, "logit_bias of token 1000000"),
        ({"prompt": (1,) * 65}, "the prompt has 65 tokens and the model reads at most 64"),
        ({"prompt": (1,) * 65, "slide": True, "prompt_logprobs": 1}, "prompt_logprobs: the prompt"),
    ],
)
def test_what_cannot_be_served_is_refused_at_once(wrong: dict[str, Any], words: str) -> None:
    made = engine()
    with pytest.raises(ConfigError, match=words):
        made.submit(Request(**{"prompt": PROMPT, **wrong}))
    assert made.stats()["waiting"] == 0


def test_what_the_cache_cannot_hold_is_refused_and_what_is_free_is_cut() -> None:
    runner = TorchRunner(MODEL)
    runner.num_blocks = 2
    made = engine(runner)
    with pytest.raises(ConfigError, match=r"more than the cache's 32; ask for fewer"):
        made.submit(Request(PROMPT, 33 - len(PROMPT) + 1))
    assert made.budget(Request(PROMPT)) == 33 - len(PROMPT)
    assert len(made.run([Request(PROMPT, ignore_end=True)])[0].tokens) == 33 - len(PROMPT)


# ---------------------------------------------------------------------- log-probabilities


@pytest.mark.parametrize("chunk", [3, 512])
def test_log_probabilities_are_the_models_own(chunk: int) -> None:
    wanted = request(
        5, sampling=Sampling(temperature=0.3, top_k=1, logit_bias={7: 5}), logprobs=2,
        prompt_logprobs=3,
    )  # fmt: skip
    made = engine(prefill_chunk=chunk)
    made.run([request(5)])  # the prefix cache is warm
    found = made.run([wanted])[0]
    assert found.cached_tokens == 0  # a prompt is scored in full
    ids = [*PROMPT, *found.tokens]
    with torch.no_grad():
        exact = MODEL.logits(MODEL.hidden(torch.tensor([ids])))[0].log_softmax(-1)
    assert found.prompt_logprobs is not None
    assert found.prompt_logprobs[0] is None
    told = [*found.prompt_logprobs[1:], *found.logprobs]
    assert len(told) == len(ids) - 1
    for place, one in enumerate(told):
        assert one is not None
        assert one.token == ids[place + 1]
        assert one.logprob == pytest.approx(float(exact[place, one.token]), abs=1e-4)
        assert len(one.top) == (3 if place < len(PROMPT) - 1 else 2)
        assert one.top[0][1] == pytest.approx(float(exact[place].max()), abs=1e-4)
        assert dict(one.top).get(one.token, one.logprob) == one.logprob


def test_scoring_alone_makes_no_token() -> None:
    made = engine()
    (found,) = made.run([Request(PROMPT, 0, prompt_logprobs=0)])
    assert (found.text, found.tokens, found.finish) == ("", (), "length")
    assert found.prompt_logprobs is not None
    assert len(found.prompt_logprobs) == len(PROMPT)
    assert made.run([Request(PROMPT[:1], 0, prompt_logprobs=0)])[0].prompt_logprobs == (None,)
    assert made.stats()["blocks_held"] == 0


def test_log_probabilities_are_finite_numbers() -> None:
    class Masked(Told):
        def forward(self, spans: Sequence[Span]) -> torch.Tensor:
            logits = super().forward(spans)
            logits[:, :100] = -torch.inf
            return logits

    made = engine(Masked([200] * 64))
    found = made.run([request(2, sampling=GREEDY, logprobs=TOKENIZER.vocab_size)])[0]
    assert min(value for _, value in found.logprobs[0].top) == -9999.0


# ---------------------------------------------------------------------- text that is held back


@pytest.mark.parametrize("way", ["length", "cancelled", "end"])
def test_half_a_character_is_flushed_at_every_end(way: str) -> None:
    ids = TOKENIZER.encode("a 🦙")
    ids = ids[:-1]  # the last byte does not come
    assert TOKENIZER.decode(ids).endswith("\ufffd")
    made = engine(Told([*ids, TOKENIZER.end_of_text, *[0] * 64]))
    stream = made.submit(Request((ids[0],), 64 if way != "length" else len(ids), GREEDY))
    # The model reads ids[0], so that the text begins at ids[0] as it was told for position 0.
    chunks = []
    if way == "cancelled":
        while len([token for chunk in chunks for token in chunk.tokens]) + _unsent(made) < len(ids):
            made.step()
            chunks += list(stream._chunks)
            stream._chunks.clear()
        stream.cancel()
    chunks += list(stream)
    assert "".join(chunk.text for chunk in chunks) == TOKENIZER.decode(ids)
    assert chunks[-1].finish == way
    assert all("\ufffd" not in chunk.text for chunk in chunks[:-1])


def _unsent(made: Engine) -> int:
    return sum(len(one._unsent) for one in made._scheduler.running)


def test_a_stop_string_in_the_token_that_completes_a_grammar_is_found() -> None:
    told = Told([*TOKENIZER.encode("the miller"), *[0] * 64])
    first = TOKENIZER.encode("the miller")[0]
    grammar = Grammar.regex("the miller").constraint(TOKENIZER)
    stream = engine(told).submit(Request((first,), 40, GREEDY, ("r",), constraint=grammar))
    assert stream.result().text == "the mille"
    assert (stream.finish, stream.stopped_by) == ("stop", "r")


@pytest.mark.parametrize("stop", [("zz",), ("ler m", "xyz"), ("baker!",), ("the", "m"), ("kerx",)])
@pytest.mark.parametrize("max_tokens", [3, 60])
def test_pieces_and_the_whole_say_the_same_for_every_stop(
    stop: tuple[str, ...], max_tokens: int
) -> None:
    text = "the miller met the baker"
    ids = TOKENIZER.encode(text)
    told = Told([*ids, TOKENIZER.end_of_text, *[0] * 64])
    wanted = Request((ids[0],), max_tokens, GREEDY, stop=stop)
    chunks = list(engine(told).submit(wanted))
    said = TOKENIZER.decode(ids[:max_tokens])
    places = [place for place in map(said.find, stop) if place >= 0]
    assert "".join(chunk.text for chunk in chunks) == (said[: min(places)] if places else said)
    assert chunks[-1].finish == ("stop" if places else "length" if max_tokens == 3 else "end")


# ---------------------------------------------------------------------- shared prompts


def test_what_a_prompt_read_itself_before_it_had_to_wait_is_not_cached() -> None:
    made = engine(prefill_chunk=16)
    stream = made.submit(Request(tuple(range(8, 58)), 2, ignore_end=True))
    made.step()
    made._scheduler._preempt(made._scheduler.running[0])
    stream.result()
    assert stream.cached_tokens == made.stats()["cached_tokens"] == 0
    assert made.stats()["prompt_tokens"] == 50


def test_samples_share_the_blocks_of_their_prompt() -> None:
    prompt = tuple(range(8, 58))
    wanted = [Request(prompt, 4, Sampling(seed=1), sample=n, ignore_end=True) for n in range(4)]
    made = engine()
    streams = [made.submit(one) for one in wanted]
    held = 0
    while any(stream.finish is None for stream in streams):
        made.step()
        held = max(held, made.stats()["blocks_held"])
    assert [stream.cached_tokens for stream in streams] == [0, 48, 48, 48]
    assert held == 3 + 4  # three full blocks once, the last one of each
    assert len({stream.result().tokens for stream in streams}) > 1


def test_an_embedding_is_the_mean_of_the_hidden_vectors() -> None:
    with torch.no_grad():
        wanted = MODEL.hidden(torch.tensor([PROMPT]))[0].mean(0)
    assert torch.equal(engine().embed(PROMPT), wanted)
    for tokens in ((), (1,) * 65):
        with pytest.raises(ConfigError, match=f"a text of {len(tokens)} tokens"):
            engine().embed(tokens)
