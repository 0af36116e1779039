"""OpenAI's own client gets what it expects: answers, streams, errors, retries and time limits."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from live import Live, running, until
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from foundling.serving.answering import event

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "the mill"}]
ASKED: dict[str, Any] = {"model": "tiny", "messages": MESSAGES, "max_tokens": 12, "seed": 7}
# A text of the long model that does not end by itself.
ENDLESS: dict[str, Any] = {
    "model": "long", "messages": MESSAGES, "max_tokens": 7500, "extra_body": {"ignore_eos": True}
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[Live]:
    with running([tiny_model]) as live:
        yield live


@pytest.fixture(scope="module")
def client(server: Live) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.api, api_key="any", max_retries=0) as opened:
        yield opened


@pytest.fixture(scope="module")
def narrow(long_model: Path) -> Iterator[Live]:
    """A server that generates one text at a time, and lets one wait."""
    with running([long_model], engine={"max_batch": 1, "queue_size": 1}, keys=["key"]) as live:
        yield live


def test_models(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "foundling"


EVERY_PARAMETER = [
    {},
    {"n": 3, "temperature": 1.5},
    {"stop": ["e", "th"], "top_p": 0.9},
    {"presence_penalty": 1.0, "frequency_penalty": -0.5, "logit_bias": {"70": 4}},
    {"extra_body": {"top_k": 9, "min_p": 0.02, "repetition_penalty": 1.3}},
    {"logprobs": True, "top_logprobs": 4, "temperature": 0},
    {"max_tokens": openai.omit, "max_completion_tokens": 5, "user": "me", "store": False},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "the mill"}]}]},
    {"messages": [{"role": "developer", "content": "be brief"}, *MESSAGES], "metadata": {"a": "b"}},
]


@pytest.mark.parametrize("changes", EVERY_PARAMETER)
def test_a_chat_is_the_same_whole_and_streamed(client: OpenAI, changes: dict[str, Any]) -> None:
    asked = {**ASKED, **changes}
    whole = client.chat.completions.create(**asked)
    texts = [""] * len(whole.choices)
    finishes: list[Any] = [None] * len(whole.choices)
    logprobs: list[list[Any]] = [[] for _ in whole.choices]
    usage = None
    chunks = client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            finishes[choice.index] = choice.finish_reason or finishes[choice.index]
            if choice.logprobs is not None:
                logprobs[choice.index] += choice.logprobs.content or []
    assert [choice.index for choice in whole.choices] == list(range(asked.get("n", 1)))
    assert texts == [choice.message.content for choice in whole.choices]
    assert finishes == [choice.finish_reason for choice in whole.choices]
    assert usage is not None
    assert whole.usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    for choice, found in zip(whole.choices, logprobs, strict=True):
        wanted = None if choice.logprobs is None else choice.logprobs.content
        assert found == (wanted or [])
        assert (wanted is not None) == bool(changes.get("logprobs"))


def test_the_helper_for_streams_collects_the_answer(client: OpenAI) -> None:
    with client.chat.completions.stream(**ASKED) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    whole = client.chat.completions.create(**ASKED)
    assert final.choices[0].message.content == whole.choices[0].message.content
    assert {"chunk", "content.delta", "content.done"} <= set(kinds)


@pytest.mark.parametrize("prompt", ["the mill", [60, 61, 62], ["the", "mill"], [[60], [61, 62]]])
def test_a_completion_is_the_same_whole_and_streamed(client: OpenAI, prompt: Any) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": prompt, "seed": 3, "n": 2}
    asked |= {"logprobs": 2, "max_tokens": 6}
    whole = client.completions.create(**asked)
    texts, tokens = [""] * len(whole.choices), [list[str]() for _ in whole.choices]
    for chunk in client.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            tokens[choice.index] += (choice.logprobs and choice.logprobs.tokens) or []
    assert texts == [choice.text for choice in whole.choices]
    assert tokens == [choice.logprobs and choice.logprobs.tokens for choice in whole.choices]


def test_a_prompt_is_scored(client: OpenAI) -> None:
    made = client.completions.create(
        model="tiny", prompt="the mill", echo=True, logprobs=1, max_tokens=0
    )
    [choice] = made.choices
    assert choice.text == "the mill"
    scored = choice.logprobs
    assert scored is not None
    assert scored.tokens is not None
    assert scored.token_logprobs is not None
    assert len(scored.tokens) == len(scored.token_logprobs) == made.usage.prompt_tokens  # type: ignore[union-attr]
    assert scored.token_logprobs[0] is None
    assert all(value < 0 for value in scored.token_logprobs[1:])


def test_one_token_more_than_the_prompt_is_scored(client: OpenAI) -> None:
    """As scorers ask that forbid max_tokens = 0."""
    made = client.completions.create(
        model="tiny", prompt="the mill", echo=True, logprobs=1, max_tokens=1
    )
    scored, usage = made.choices[0].logprobs, made.usage
    assert scored is not None
    assert usage is not None
    assert len(scored.token_logprobs or []) == usage.prompt_tokens + 1


@pytest.mark.parametrize(
    ("changes", "kind", "param"),
    [
        ({"temperature": -1}, openai.BadRequestError, "temperature"),
        ({"max_tokens": 500}, openai.BadRequestError, "max_tokens"),
        ({"messages": [{"role": "user", "content": "mill " * 99}]}, openai.BadRequestError,
         "messages"),
        ({"model": "none"}, openai.NotFoundError, "model"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_errors_have_their_classes(
    client: OpenAI,
    changes: dict[str, Any],
    kind: type[openai.APIStatusError],
    param: str,
    stream: bool,
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**{**ASKED, **changes}, stream=stream)
    assert caught.value.param == param
    assert caught.value.body["message"]  # type: ignore[index]


def test_a_wrong_key_and_a_path_that_is_not_there(narrow: Live) -> None:
    with (
        OpenAI(base_url=narrow.api, api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.models.list()
    assert caught.value.code == "invalid_api_key"
    with (
        OpenAI(base_url=narrow.api, api_key="key", max_retries=0) as client,
        pytest.raises(openai.NotFoundError),
    ):
        client.images.generate(prompt="a mill")


@pytest.fixture
def keyed(narrow: Live) -> Iterator[OpenAI]:
    with OpenAI(base_url=narrow.api, api_key="key", max_retries=0) as opened:
        yield opened
    narrow.settle()


def test_a_full_queue_is_asked_again(narrow: Live, keyed: OpenAI) -> None:
    running_one = keyed.chat.completions.create(**ENDLESS, stream=True)
    next(iter(running_one))
    waiting_one = keyed.chat.completions.create(**ENDLESS, stream=True)
    with pytest.raises(openai.RateLimitError) as caught:
        keyed.chat.completions.create(**{**ENDLESS, "max_tokens": 3})
    assert caught.value.response.headers["retry-after"] == "1"
    until(lambda: narrow.answered(429) == 1)

    def make_room() -> None:
        until(lambda: narrow.answered(429) == 2)
        running_one.close()
        waiting_one.close()

    helper = threading.Thread(target=make_room)
    helper.start()
    patient = keyed.with_options(max_retries=2)
    made = patient.chat.completions.create(**{**ENDLESS, "max_tokens": 3})
    helper.join()
    assert made.usage is not None
    assert made.usage.completion_tokens == 3


def test_a_client_out_of_patience_ends_the_work(narrow: Live, keyed: OpenAI) -> None:
    gone = narrow.answered(499)
    with pytest.raises(openai.APITimeoutError):
        keyed.with_options(timeout=0.3).chat.completions.create(**ENDLESS)
    assert narrow.settle()["running"] == 0
    until(lambda: narrow.answered(499) == gone + 1)


def test_a_stream_that_is_closed_ends_the_work(narrow: Live, keyed: OpenAI) -> None:
    gone = narrow.answered(499)
    with keyed.chat.completions.create(**ENDLESS, stream=True) as stream:
        texts = [next(iter(stream)) for _ in range(3)]
    assert len({chunk.id for chunk in texts}) == 1
    assert narrow.settle()["running"] == 0
    until(lambda: narrow.answered(499) == gone + 1)


@pytest.mark.parametrize("name", [None, "delta"])
def test_no_event_breaks_its_line(name: str | None) -> None:
    """Clients that split text at all line ends of Unicode, as httpx does, read whole values."""
    values = {"text": "a\u0085b\u2028c\u2029d\x1ce\nf 林🦆"}
    *_, data = event(values, name).decode().splitlines()[:-1]
    assert json.loads(data.removeprefix("data: ")) == values
