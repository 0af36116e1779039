"""The promise: the same request gives the same tokens alone and in any crowd, warm and cold."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foundling import models
from foundling.generation.engine import Engine
from foundling.generation.kernels.library import available
from foundling.generation.kernels.weights import Format
from foundling.generation.packed import PackedModel
from foundling.generation.packed_runner import PackedRunner
from foundling.generation.request import Request, Result, Stream
from foundling.generation.runners import Runner, StateRunner
from foundling.generation.sampling import Sampling
from foundling.generation.settings import EngineSettings
from foundling.generation.torch_runner import TorchRunner
from foundling.models.language_model import LanguageModel
from foundling.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train_bytes(["the miller met the baker by the bridge"], vocab_size=270)
CONTEXT = 64
MODELS: dict[str, dict[str, Any]] = {
    "plain": {"rung": "transformer", "dim": 32, "num_layers": 2},
    "windows": {
        "rung": "transformer", "dim": 32, "num_layers": 3, "window": 7, "full_layers": (1,),
        "attention_softcap": 5.0, "logit_softcap": 8.0, "num_kv_heads": 2,
    },
    "stretched": {
        "rung": "transformer", "dim": 32, "num_layers": 2,
        "rope_scaling": {"type": "dynamic", "factor": 2.0, "original_context": 16},
    },
    "attention": {"rung": "attention", "dim": 32},
    "finite_lag": {"rung": "finite_lag", "dim": 32},
    "bag_of_words": {"rung": "bag_of_words", "dim": 32},
}  # fmt: skip


def model_of(name: str) -> LanguageModel:
    torch.manual_seed(7)
    model = models.build(MODELS[name], vocab_size=TOKENIZER.vocab_size, context=CONTEXT)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)  # away from uniform
    return model


STEMS = [torch.randint(8, 260, (40,), generator=torch.Generator().manual_seed(n)) for n in (1, 2)]


@st.composite
def crowds(draw: st.DrawFn) -> list[dict[str, Any]]:
    """What `arrivals` reads, in plain values."""
    return draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "stem": st.integers(0, 1),
                    "length": st.integers(1, 40),
                    "tail": st.lists(st.integers(8, 30), max_size=6),
                    "max_tokens": st.integers(1, 12),
                    "scores": st.sampled_from([None, None, 0, 1]),
                    "sampling": st.fixed_dictionaries(
                        {
                            "temperature": st.sampled_from([0.0, 0.7, 1.5]),
                            "seed": st.integers(0, 3),
                            "top_k": st.sampled_from([None, 5]),
                            "top_p": st.sampled_from([None, 0.8]),
                            "repetition_penalty": st.sampled_from([1.0, 1.3]),
                            "frequency_penalty": st.sampled_from([0.0, 0.5]),
                            "logit_bias": st.sampled_from([{}, {9: 3.0, 20: -50.0}]),
                        }
                    ),
                    "stop": st.sampled_from([(), ("e", "\ufffd")]),
                    "logprobs": st.sampled_from([None, 0, 2]),
                    "sample": st.integers(0, 2),
                    "slide": st.booleans(),
                    "ignore_end": st.booleans(),
                    "comes": st.integers(0, 8),
                    "stays": st.sampled_from([None, None, *range(12)]),
                }
            ),
            min_size=1,
            max_size=8,
        )
    )


Arrival = tuple[Request, int, int | None]
"""A request, the step at which it comes, and the one at which it is cancelled, if it is."""


def arrivals(crowd: list[dict[str, Any]]) -> list[Arrival]:
    """Prompts often begin alike; `scores` None is no prompt_logprobs, 0 nothing but these."""
    found = []
    for values in crowd:
        stem, length, scores = values["stem"], values["length"], values["scores"]
        request = Request(
            (*STEMS[stem][:length].tolist(), *values["tail"]),
            0 if scores == 0 else values["max_tokens"],
            Sampling(**values["sampling"]),
            prompt_logprobs=None if scores is None else 1,
            **{key: values[key] for key in ("stop", "logprobs", "sample", "slide", "ignore_end")},
        )
        comes, stays = values["comes"], values["stays"]
        found.append((request, comes, None if stays is None else comes + stays))
    return found


def engine_of(
    runner: Runner, model: LanguageModel, num_blocks: int | None = None, **options: Any
) -> Engine:
    if runner.num_blocks is not None:
        runner.num_blocks = num_blocks or 64
    return Engine(model, TOKENIZER, EngineSettings(**options), runner=runner)


def together(engine: Engine, crowd: list[Arrival]) -> list[Stream]:
    """Their streams, when all have ended."""
    streams: dict[int, Stream] = {}
    last = max(leaves or comes for _, comes, leaves in crowd)
    for step in range(last + 1):
        for index, (request, comes, leaves) in enumerate(crowd):
            if comes == step:
                streams[index] = engine.submit(request)
            if leaves == step:
                streams[index].cancel()
                assert streams[index].finish is not None
        engine.step()
    while any(stream.finish is None for stream in streams.values()):
        engine.step()
    return [streams[index] for index in range(len(crowd))]


def compare(stream: Stream, alone: Result) -> None:
    if stream.finish == "cancelled":
        tokens = [token for chunk in stream for token in chunk.tokens]
        assert tuple(tokens) == alone.tokens[: len(tokens)]
    else:
        assert replace(stream.result(), cached_tokens=0) == alone


def check(
    runner: Runner, model: LanguageModel, crowd: list[Arrival], num_blocks: int, **options: Any
) -> None:
    alone = [
        engine_of(runner, model, prefix_cache=False).run([request])[0] for request, _, _ in crowd
    ]
    engine = engine_of(runner, model, num_blocks, **options)
    for _ in range(2):  # the second time with what the first left in the prefix cache
        for stream, result in zip(together(engine, crowd), alone, strict=True):
            compare(stream, result)
        stats = engine.stats()
        assert stats["running"] == stats["waiting"] == stats.get("blocks_held", 0) == 0


FEW_AND_MANY = [8, pytest.param(100, marks=pytest.mark.slow)]
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "crowd": crowds(),
    "num_blocks": st.integers(4, 12),  # 4 hold one full context
    "max_batch": st.integers(1, 8),
    "prefill_chunk": st.integers(1, 50),
    "prefix_cache": st.booleans(),
    "lookup": st.booleans(),
}


@pytest.mark.skipif(not available(), reason="needs a C++ compiler")
@pytest.mark.parametrize("examples", FEW_AND_MANY)
@pytest.mark.parametrize(
    ("name", "format"),
    [("plain", "fp32"), ("windows", "fp32"), ("attention", "fp32"), ("plain", "bf16"),
     ("windows", "int8"), ("plain", "int4")],
)  # fmt: skip
def test_blocks_change_nothing_bit_by_bit(name: str, format: Format, examples: int) -> None:
    model = model_of(name)
    packed = PackedModel.pack(model, format)
    runner = PackedRunner(packed, cache_bytes=1 << 20, block_size=16)

    @settings(deadline=None, max_examples=examples, derandomize=True)
    @given(**OPTIONS)
    def holds(crowd: list[Any], num_blocks: int, **options: Any) -> None:
        check(runner, model, arrivals(crowd), num_blocks, **options)

    holds()


@pytest.mark.parametrize("examples", FEW_AND_MANY)
@pytest.mark.parametrize("name", ["stretched", "finite_lag", "bag_of_words"])
def test_states_change_nothing_bit_by_bit(name: str, examples: int) -> None:
    model = model_of(name)

    @settings(deadline=None, max_examples=examples, derandomize=True)
    @given(crowd=crowds(), max_batch=st.integers(1, 8), prefill_chunk=st.integers(1, 50))
    def holds(crowd: list[Any], max_batch: int, prefill_chunk: int) -> None:
        crowd = arrivals(crowd)
        runner, options = StateRunner(model), {"prefill_chunk": prefill_chunk}
        alone = [Engine(model, TOKENIZER, EngineSettings(**options), runner=runner).run([one])[0]
                 for one, _, _ in crowd]  # fmt: skip
        engine = engine_of(runner, model, max_batch=max_batch, **options)
        for stream, result in zip(together(engine, crowd), alone, strict=True):
            compare(stream, result)
        assert not runner._states

    holds()


@pytest.mark.parametrize("examples", FEW_AND_MANY)
@pytest.mark.parametrize("name", ["plain", "windows", "attention"])
def test_the_runner_by_torch_is_the_model_itself(name: str, examples: int) -> None:
    """In double precision the order of additions moves no draw."""
    model = model_of(name).double()
    runner = TorchRunner(model, cache_bytes=1 << 20)

    @settings(deadline=None, max_examples=examples, derandomize=True)
    @given(**OPTIONS)
    def holds(crowd: list[Any], num_blocks: int, **options: Any) -> None:
        crowd = arrivals(crowd)
        alone = [Engine(model, TOKENIZER, runner=StateRunner(model)).run([one])[0].tokens
                 for one, _, _ in crowd]  # fmt: skip
        for stream, tokens in zip(
            together(engine_of(runner, model, num_blocks, **options), crowd), alone, strict=True
        ):
            found = tuple(token for chunk in stream for token in chunk.tokens)
            assert found == (tokens[: len(found)] if stream.finish == "cancelled" else tokens)

    holds()


@pytest.mark.skipif(not available(), reason="needs a C++ compiler")
def test_too_little_memory_makes_the_youngest_wait() -> None:
    model = model_of("plain")
    runner = PackedRunner(model, cache_bytes=1 << 20, block_size=16)
    wanted = [
        Request(tuple(range(10 * n, 10 * n + 20)), 40, Sampling(seed=n), ignore_end=True)
        for n in range(1, 6)
    ]
    alone = [engine_of(runner, model).run([one])[0].tokens for one in wanted]
    engine = engine_of(runner, model, 6)
    streams = [engine.submit(one) for one in wanted]
    ended: list[int] = []
    while len(ended) < len(wanted):
        engine.step()
        ended += [n for n, one in enumerate(streams) if one.finish is not None and n not in ended]
    assert ended == sorted(ended)  # the oldest never waits
    assert engine.stats()["preempted"] > 0
    assert engine.stats()["blocks_held"] == 0
    assert [stream.result().tokens for stream in streams] == alone
    assert streams[-1].cached_tokens == 0  # what it read itself before does not count
