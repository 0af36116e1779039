"""Completions: continued texts, and scored ones as lm-evaluation-harness reads them."""

from typing import Any

import pytest
import torch
from events import events
from fastapi.testclient import TestClient
from openai.types import Completion

from foundling.generation.engine import Engine
from foundling.serving.logprobs import token_texts

SCORE = {"max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": True, "seed": 1234}


def ask(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    if not (body.get("echo") and "logprobs" in body):  # the types know no null, which OpenAI sends
        Completion.model_validate(answer.json(), strict=True)
    return answer.json()


def refused(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]


def log_probs(engine: Engine, tokens: list[int]) -> torch.Tensor:
    with torch.no_grad():
        model = engine.model
        logits = model.logits(model.hidden(torch.tensor([tokens])))[0]
    return logits[:, : engine.tokenizer.vocab_size].log_softmax(-1)


def test_a_text_is_continued_as_the_engine_does(client: TestClient, engine: Engine) -> None:
    made = ask(client, prompt="the mill", max_tokens=20, seed=3)
    expected = engine.generate("the mill", max_tokens=20, seed=3)
    assert made["choices"][0]["text"] == expected
    tokens = [*engine.tokenizer.begin_ids, *engine.tokenizer.encode("the mill")]
    again = ask(client, prompt=tokens, max_tokens=20, seed=3)
    assert again["choices"][0]["text"] == expected
    assert made["usage"]["prompt_tokens"] == again["usage"]["prompt_tokens"] == len(tokens)


def test_by_default_few_tokens_are_made(client: TestClient) -> None:
    made = ask(client, prompt="the mill", ignore_eos=True)
    assert made["usage"]["completion_tokens"] == 16
    full = [1] * 60  # of 64: five more can be made
    assert ask(client, prompt=full, ignore_eos=True)["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize("as_tokens", [False, True])
def test_lists_of_prompts_and_several_samples(
    client: TestClient, engine: Engine, as_tokens: bool
) -> None:
    texts = ["the mill", "the baker by"]
    prompts: list[Any] = [
        [*engine.tokenizer.begin_ids, *engine.tokenizer.encode(text)] for text in texts
    ]
    made = ask(client, prompt=prompts if as_tokens else texts, n=2, max_tokens=9, seed=4)
    assert [one["index"] for one in made["choices"]] == [0, 1, 2, 3]
    assert made["usage"]["prompt_tokens"] == sum(map(len, prompts))
    for place, text in enumerate(texts):
        alone = ask(client, prompt=text, n=2, max_tokens=9, seed=4)["choices"]
        both = made["choices"][2 * place : 2 * place + 2]
        assert [one["text"] for one in both] == [one["text"] for one in alone]


@pytest.mark.parametrize("top", [0, 1, 5])
def test_scores_are_the_model_s_log_probabilities(
    client: TestClient, engine: Engine, top: int
) -> None:
    tokens = [*engine.tokenizer.begin_ids, *engine.tokenizer.encode("the miller 🦆 met")]
    expected = log_probs(engine, tokens)
    [choice] = ask(client, prompt=[tokens], **{**SCORE, "logprobs": top})["choices"]
    told = choice["logprobs"]
    assert all(len(values) == len(tokens) + 1 for values in told.values())
    assert (told["token_logprobs"][0], told["top_logprobs"][0]) == (None, None)
    for place, token in enumerate(tokens[1:]):
        value = told["token_logprobs"][place + 1]
        assert value == pytest.approx(float(expected[place, token]), abs=1e-5)
        likeliest = told["top_logprobs"][place + 1]
        assert value in likeliest.values()  # the very same number
        assert len(likeliest) in (max(top, 1), top + 1)
        if top:
            assert max(likeliest.values()) == pytest.approx(float(expected[place].max()), abs=1e-5)


def test_greedy_is_seen_by_comparing_numbers(client: TestClient, engine: Engine) -> None:
    """As lm-evaluation-harness does: the token is the likeliest if its value is the largest."""
    begin = [*engine.tokenizer.begin_ids, *engine.tokenizer.encode("the")]
    greedy = int(log_probs(engine, begin)[-1].argmax())
    for token in (greedy, (greedy + 1) % engine.tokenizer.vocab_size):
        [choice] = ask(client, prompt=[[*begin, token]], **SCORE)["choices"]
        value = choice["logprobs"]["token_logprobs"][len(begin)]
        largest = max(choice["logprobs"]["top_logprobs"][len(begin)].values())
        assert (value == largest) == (token == greedy)


def test_a_prompt_is_scored_alone(client: TestClient) -> None:
    """With `max_tokens` 0 nothing is made; the scores are those beside a made token."""
    both = [
        ask(client, prompt="the miller met", **{**SCORE, "max_tokens": most}) for most in (0, 1)
    ]
    alone, with_one = (one["choices"][0] for one in both)
    assert alone["text"] == "the miller met"
    assert alone["finish_reason"] == "length"
    for key, values in alone["logprobs"].items():
        assert values == with_one["logprobs"][key][:-1]
    assert both[0]["usage"]["completion_tokens"] == 0


def test_scores_do_not_depend_on_the_cache(client: TestClient) -> None:
    prompt = "the miller met the baker by the bridge"
    first = ask(client, prompt=prompt, **SCORE)["choices"]
    ask(client, prompt=prompt, max_tokens=5)
    assert ask(client, prompt=prompt, **SCORE)["choices"] == first


def test_a_full_context_can_be_scored(client: TestClient) -> None:
    [choice] = ask(client, prompt=[[1] * 64], **SCORE)["choices"]
    assert len(choice["logprobs"]["token_logprobs"]) == 65
    error = refused(client, prompt=[[1] * 65], **SCORE)
    assert error["code"] == "context_length_exceeded"
    assert "at most 64 tokens, and prompt has 65" in error["message"]


def test_a_token_that_ends_the_text_is_scored_too(client: TestClient, engine: Engine) -> None:
    end = engine.tokenizer.end_of_text
    made = ask(client, prompt="the", max_tokens=5, logprobs=0, logit_bias={str(end): 100})
    [choice] = made["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("", "stop")
    assert choice["logprobs"]["tokens"] == [engine.tokenizer.name_of(end)]
    assert made["usage"]["completion_tokens"] == 1


def test_offsets_are_of_the_text(client: TestClient) -> None:
    [choice] = ask(client, prompt="the mill", max_tokens=12, echo=True, logprobs=0, seed=2)[
        "choices"
    ]
    offsets, text = choice["logprobs"]["text_offset"], choice["text"]
    assert offsets == sorted(offsets)
    assert offsets[-1] <= len(text)
    asked = [one for one in zip(choice["logprobs"]["tokens"], offsets, strict=True) if one[1] < 8]
    begin, *tokens = asked
    assert begin == ("<|begin_of_text|>", 0)
    assert "".join(token for token, _ in tokens) == "the mill"
    assert all(text.startswith(token, start) for token, start in tokens)


def test_texts_of_tokens_are_different(engine: Engine) -> None:
    texts = token_texts(range(engine.tokenizer.vocab_size), engine.tokenizer)
    assert len(set(texts.values())) == engine.tokenizer.vocab_size
    assert any(text.startswith("bytes:\\x") for text in texts.values())


@pytest.mark.parametrize("settings", [{}, {"n": 2}, {"stop": "e"}, {"logprobs": 2}, {"echo": True}])
def test_a_stream_says_the_same(client: TestClient, settings: dict[str, Any]) -> None:
    body = {"prompt": ["the mill", "the baker"], "max_tokens": 15, "seed": 5, **settings}
    whole = ask(client, **body)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *pieces, last = events(client.post("/v1/completions", json={**body, **options}).text)
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], whole["usage"]["total_tokens"])
    for choice in whole["choices"]:
        own = [c for p in pieces for c in p["choices"] if c["index"] == choice["index"]]
        assert "".join(one["text"] for one in own) == choice["text"]
        assert [one["finish_reason"] for one in own if one["finish_reason"]] == [
            choice["finish_reason"]
        ]
        if choice["logprobs"]:
            for key, values in choice["logprobs"].items():
                assert [v for one in own for v in one["logprobs"][key]] == values


def test_special_tokens_that_a_prompt_spells_are_read(client: TestClient, engine: Engine) -> None:
    """The prompt is raw: clients render chat templates into it."""
    begin = engine.tokenizer.name_of(engine.tokenizer.begin_ids[0])
    plain, spelled = (ask(client, prompt=text) for text in ("the mill", f"{begin}the mill"))
    assert plain["usage"]["prompt_tokens"] == spelled["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": []}, "prompt"), ({"prompt": [[]]}, "prompt"), ({"prompt": 3}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"), ({"prompt": [99999]}, "prompt"),
        ({"prompt": [-1]}, "prompt"), ({"prompt": [True]}, "prompt"), ({}, "prompt"),
        ({"prompt": None}, "prompt"), ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": ["a"] * 257}, "prompt"), ({"prompt": "a", "max_tokens": -1}, "max_tokens"),
        ({"prompt": "a", "logprobs": 50}, "logprobs"), ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "best_of": 2}, "best_of"), ({"prompt": "a" * 99}, "prompt"),
        ({"prompt": "a", "echo": True, "logprobs": 1, "stream": True}, "stream"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(client: TestClient, body: dict[str, Any], param: str) -> None:
    assert refused(client, **body)["param"] == param


def test_an_empty_text_begins_anew(client: TestClient, engine: Engine) -> None:
    assert ask(client, prompt="", max_tokens=5, seed=1)["choices"][0]["text"] == engine.generate(
        "", max_tokens=5, seed=1
    )


def test_offsets_count_the_special_tokens_of_a_prompt(client: TestClient, engine: Engine) -> None:
    tokenizer = engine.tokenizer
    prompt = [*tokenizer.begin_ids, *tokenizer.encode("the mill"), tokenizer.end_of_text]
    prompt += tokenizer.encode("by")
    for given in (prompt, tokenizer.decode(prompt, show_special=True)):
        asked = {"max_tokens": 3, "echo": True, "logprobs": 0, "seed": 2}
        [choice] = ask(client, prompt=given, **asked)["choices"]
        told, text = choice["logprobs"], choice["text"]
        parts = zip(told["tokens"], told["text_offset"], strict=True)
        assert [text[at : at + len(token)] for token, at in parts][: len(prompt)] == (
            told["tokens"][: len(prompt)]
        )
        assert told["text_offset"][len(prompt)] == len("".join(told["tokens"][: len(prompt)]))


def test_only_a_stream_is_read_too_slowly(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foundling.serving.generating.UNREAD", 0)
    assert ask(client, prompt="the mill", n=4, max_tokens=8)["choices"]
