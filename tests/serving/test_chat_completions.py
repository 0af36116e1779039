"""Chat completions: whole and streamed, the same text, and the numbers right."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from events import events
from fastapi.testclient import TestClient
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from foundling.generation.engine import Engine
from foundling.text.chat import Message, render_prompt

ASKED = {"messages": [{"role": "user", "content": "the mill"}], "max_tokens": 24, "seed": 7}


def ask(client: TestClient, **changes: Any) -> dict[str, Any]:
    answer = client.post("/v1/chat/completions", json={**ASKED, **changes})
    assert answer.status_code == 200, answer.text
    return answer.json()


def stream(client: TestClient, **changes: Any) -> list[dict[str, Any]]:
    answer = client.post("/v1/chat/completions", json={**ASKED, "stream": True, **changes})
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = events(answer.text)
    for chunk in found:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    return found


def refused(client: TestClient, status: int = 400, **changes: Any) -> dict[str, Any]:
    answer = client.post("/v1/chat/completions", json={**ASKED, **changes})
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def texts(chunks: list[dict[str, Any]]) -> dict[int, str]:
    found: dict[int, str] = {}
    for choice in (one for chunk in chunks for one in chunk["choices"]):
        index = choice["index"]
        found[index] = found.get(index, "") + choice["delta"].get("content", "")
    return found


def test_an_answer_is_the_engine_s_own(client: TestClient, engine: Engine) -> None:
    made = ask(client)
    ChatCompletion.model_validate(made, strict=True)
    prompt = render_prompt([Message("user", "the mill")], engine.tokenizer)
    chunks = list(engine.stream(prompt, max_tokens=24, seed=7))
    [choice] = made["choices"]
    assert choice["message"]["content"] == "".join(chunk.text for chunk in chunks)
    assert made["model"] == "tiny"
    assert made["usage"] == {
        "prompt_tokens": len(prompt),
        "completion_tokens": chunks[-1].num_tokens,
        "total_tokens": len(prompt) + chunks[-1].num_tokens,
        "prompt_tokens_details": made["usage"]["prompt_tokens_details"],
    }


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"stop": ["e", "th"]}, {"stop": " "}, {"temperature": 0}, {"n": 3},
        {"temperature": 1.5, "top_p": 0.9, "top_k": 20, "min_p": 0.01},
        {"presence_penalty": 1, "frequency_penalty": 1, "repetition_penalty": 1.2},
        {"logit_bias": {"70": 5}}, {"top_p": 0}, {"top_k": -1, "stop": None, "user": "me"},
        {"max_tokens": None, "max_completion_tokens": 5},
    ],
)  # fmt: skip
def test_a_stream_says_the_same_as_the_whole(client: TestClient, settings: dict[str, Any]) -> None:
    whole = ask(client, **settings)
    chunks = stream(client, **settings, stream_options={"include_usage": True})
    said = {one["index"]: one["message"]["content"] for one in whole["choices"]}
    assert texts(chunks) == said
    assert len({chunk["id"] for chunk in chunks}) == 1
    *pieces, last = chunks
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert last["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"]
    assert all(chunk["usage"] is None for chunk in pieces)
    for index, choice in enumerate(whole["choices"]):
        own = [c for chunk in pieces for c in chunk["choices"] if c["index"] == index]
        assert own[0]["delta"] == {"role": "assistant", "content": ""}
        assert [c["finish_reason"] for c in own[:-1]] == [None] * (len(own) - 1)
        assert own[-1]["finish_reason"] == choice["finish_reason"]
        assert own[-1]["delta"] == {}


def test_without_a_seed_each_answer_is_drawn_anew(client: TestClient) -> None:
    answers = {ask(client, seed=None)["choices"][0]["message"]["content"] for _ in range(3)}
    assert len(answers) == 3
    assert ask(client)["choices"] == ask(client)["choices"]


def test_the_second_time_the_prompt_is_cached(client: TestClient) -> None:
    long = {"messages": [{"role": "user", "content": "the miller met the baker " * 4}]}
    first, second = (ask(client, max_tokens=4, **long) for _ in range(2))
    assert first["choices"][0]["message"] == second["choices"][0]["message"]
    cached = [one["usage"]["prompt_tokens_details"]["cached_tokens"] for one in (first, second)]
    assert cached[0] == 0
    assert 0 < cached[1] < second["usage"]["prompt_tokens"]


def test_log_probabilities_belong_to_the_text(client: TestClient) -> None:
    whole = ask(client, logprobs=True, top_logprobs=3, temperature=0)
    ChatCompletion.model_validate(whole, strict=True)
    [choice] = whole["choices"]
    content = choice["logprobs"]["content"]
    assert (
        b"".join(bytes(one["bytes"]) for one in content).decode(errors="replace")
        == (choice["message"]["content"])
    )
    for one in content:
        assert -9999 <= one["logprob"] <= 0
        assert len(one["top_logprobs"]) == 3
        assert one["logprob"] == one["top_logprobs"][0]["logprob"]  # greedy
    chunks = stream(client, logprobs=True, top_logprobs=3, temperature=0)
    pieces = [c["logprobs"] for chunk in chunks for c in chunk["choices"] if c["logprobs"]]
    assert [one for piece in pieces for one in piece["content"]] == content
    assert ask(client)["choices"][0]["logprobs"] is None


def test_forbidden_tokens_do_not_come(client: TestClient, engine: Engine) -> None:
    likely = ask(client, temperature=0, logprobs=True)["choices"][0]["logprobs"]["content"][0]
    [banned] = [
        id
        for id in range(engine.tokenizer.vocab_size)
        if list(engine.tokenizer.bytes_of(id)) == likely["bytes"]
    ]
    answer = ask(client, temperature=0, logprobs=True, logit_bias={str(banned): -100})
    found = [one["bytes"] for one in answer["choices"][0]["logprobs"]["content"]]
    assert likely["bytes"] not in found


def test_contents_may_come_in_parts(client: TestClient) -> None:
    parts = [{"type": "text", "text": "the "}, {"type": "text", "text": "mill"}]
    assert (
        ask(client, messages=[{"role": "user", "content": parts}])["choices"]
        == (ask(client)["choices"])
    )
    image = [{"type": "image_url", "image_url": {"url": "http://x"}}]
    error = refused(client, messages=[{"role": "user", "content": image}])
    assert error["param"] == "messages[0].content[0]"
    assert "image_url" in error["message"]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"temperature": -1}, "temperature"), ({"top_p": 2}, "top_p"), ({"n": 0}, "n"),
        ({"n": 99}, "n"), ({"max_tokens": 0}, "max_tokens"), ({"seed": 2**70}, "seed"),
        ({"stop": [""]}, "stop[0]"), ({"stop": ["a"] * 17}, "stop"), ({"stop": 3}, "stop"),
        ({"logit_bias": {"99999": 1}}, "logit_bias"), ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"messages": []}, "messages"), ({"messages": "hi"}, "messages"),
        ({"top_logprobs": 3}, "top_logprobs"), ({"top_logprobs": 99}, "top_logprobs"),
        ({"functions": [{"name": "f"}]}, "functions"), ({"guided_regex": "a+"}, "guided_regex"),
        ({"best_of": 3}, "best_of"), ({"temperature": "hot"}, "temperature"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"chat_template_kwargs": {"no_such": 1}}, "chat_template_kwargs"),
        ({"modalities": ["audio"]}, "modalities[0]"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": "json"}, "response_format"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(client: TestClient, changes: dict[str, Any], param: str) -> None:
    error = refused(client, **changes)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


def test_a_long_conversation_is_refused_with_the_numbers(client: TestClient) -> None:
    long = [{"role": "user", "content": "the mill " * 80}]
    error = refused(client, messages=long)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert "at most 64 tokens" in error["message"]
    error = refused(client, max_tokens=500)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "max_tokens")
    assert "500" in error["message"]


def test_unknown_fields_are_accepted(client: TestClient) -> None:
    assert ask(client, some_new_field={"a": 1}, store=True)["choices"] == ask(client)["choices"]


def test_roles_in_any_order_are_the_template_s_affair(client: TestClient) -> None:
    turns = [{"role": "user", "content": "the mill"}, {"role": "user", "content": "by the bridge"}]
    assert ask(client, messages=turns)["choices"][0]["message"]["content"]


def test_two_models_answer_under_their_names(
    open_client: Callable[..., TestClient], tiny_model: Path, long_model: Path
) -> None:
    client = open_client([tiny_model, long_model])
    both = {
        name: ask(client, model=name)["choices"][0]["message"]["content"]
        for name in ("tiny", "long")
    }
    assert len(set(both.values())) == 2
    assert refused(client)["param"] == "model"
    error = refused(client, status=404, model="none")
    assert (error["code"], error["param"]) == ("model_not_found", "model")
