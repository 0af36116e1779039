"""Where answers come from, and the pairs that are made of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from web import Reply, chat_server, serve

from foundling import models
from foundling.base.config import ConfigError
from foundling.data.source_errors import SourceError
from foundling.models import interchange
from foundling.preferences.client import Client, HttpError
from foundling.preferences.endpoint import Endpoint
from foundling.preferences.exchange import write_rows
from foundling.preferences.producing import Producer
from foundling.preferences.prompts import Prompt, read_prompts
from foundling.preferences.records import Answer
from foundling.preferences.sources import (
    Answering,
    EndpointSource,
    NoAnswer,
    open_source,
    open_sources,
)
from foundling.preferences.store import PreferenceStore
from foundling.runs.model_folder import fingerprint
from foundling.text.chat import Conversation, Message
from foundling.text.tokenizer import Tokenizer

TEXT = "the miller met the baker by the bridge and asked what she sold on market day."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = Tokenizer.train_bytes([TEXT], vocab_size=300)
    torch.manual_seed(5)
    spec = {"rung": "transformer", "dim": 16, "num_layers": 1, "num_heads": 2}
    made = models.build(spec, vocab_size=tokenizer.vocab_size, context=24)
    interchange.save(made, folder, tokenizer.mark_ids())
    tokenizer.save(folder)
    return folder


def asked(*texts: str) -> list[Prompt]:
    return [
        Prompt((Message("user", text),), f"prompts.txt:{place}")
        for place, text in enumerate(texts, 1)
    ]


def write(file: Path, *rows: Mapping[str, Any]) -> str:
    write_rows(file, [dict(row) for row in rows])
    return str(file)


def test_a_model_on_both_sides(model: Path, tmp_path: Path) -> None:
    settings = Answering(temperature=1.5, max_tokens=6)
    prompts = asked("the baker", "the miller", "by the bridge")
    a, b = open_sources(str(model), f"{model}/", device="cpu")
    assert a is b
    producer = Producer(a, b, prompts, settings=settings, seed=4)
    pairs = list(producer)
    assert [pair.prompt for pair in pairs] == [prompt.messages for prompt in prompts]
    assert [pair.prompt_source for pair in pairs] == [prompt.where for prompt in prompts]
    tokenizer = Tokenizer.load(model)
    seeds = set()
    for pair in pairs:
        assert pair.sampling == settings.values()
        for answer in (pair.a, pair.b):
            assert answer.checkpoint == fingerprint(model)
            assert answer.tokens is not None
            assert len(answer.tokens) <= 6
            kept = [token for token in answer.tokens if token not in tokenizer.stop_ids]
            assert tokenizer.decode(kept) == answer.text
            seeds.add(answer.seed)
    assert len(seeds) == 6
    assert any(pair.a.text != pair.b.text for pair in pairs)
    # The order of prompts has no part in it, and nothing is made twice.
    again = Producer(a, b, prompts[::-1], settings=settings, seed=4)
    assert [pair.a for pair in again] == [pair.a for pair in pairs[::-1]]
    with PreferenceStore.open(tmp_path / "votes.db") as store:
        store.add_pairs(pairs[:2])
        rest = Producer(a, b, prompts, settings=settings, seed=4, known=store.pairs().values())
        assert list(rest) == pairs[2:]
        assert (rest.report.num_made, rest.report.num_known) == (1, 2)
        store.add_pairs(pairs)
        for change in ({"seed": 5}, {"settings": Answering(max_tokens=6)}):
            kwargs: dict[str, Any] = {"seed": 4, "settings": settings, **change}
            other = Producer(a, b, prompts, known=store.pairs().values(), **kwargs)
            assert len(list(other)) == 3
    producer.close()


def test_answers_are_kept_under_the_template_that_was_read(model: Path, tmp_path: Path) -> None:
    file, kept = tmp_path / "template.jinja", set()
    for text in ("Q: {{ messages[0].content }}", "A: {{ messages[0].content }}"):
        file.write_text(text)
        kept.add(open_source(str(model), device="cpu", template=str(file)).checkpoint)
    moved = tmp_path / "moved.jinja"
    moved.write_text(file.read_text())
    kept.add(open_source(str(model), device="cpu", template=str(moved)).checkpoint)
    assert len(kept) == 2


def test_a_prompt_beyond_the_context_is_reported(model: Path) -> None:
    source = open_source(str(model), device="cpu")
    long = "the baker asked the miller what she sold " * 3
    producer = Producer(source, source, asked(long, "the baker"), settings=Answering(max_tokens=99))
    assert [pair.prompt[0].content for pair in producer] == ["the baker"]
    assert producer.report.left_out == {"prompt longer than the context": 1}
    assert "prompts.txt:1" in producer.report.lines()[-1]


def test_ready_answers_are_matched_by_prompt(tmp_path: Path, said: list[str]) -> None:
    one = write(
        tmp_path / "one.jsonl",
        {"prompt": "p", "answer": "1"},
        {"prompt": [{"role": "user", "content": "q"}], "answer": "2"},
        {"prompt": "never asked", "answer": "3"},
        {"prompt": "p", "answer": "4"},
    )
    (tmp_path / "two.csv").write_text("prompt,response\n p ,one\nq,two\n")
    a, b = open_sources(one, str(tmp_path / "two.csv"))
    assert "second answer" in said[-1]
    producer = Producer(a, b, asked("p", "q", "r"))
    pairs = list(producer)
    assert [(pair.a.text, pair.b.text) for pair in pairs] == [("1", "one"), ("2", "two")]
    assert pairs[0].a == Answer("1", one)
    assert pairs[0].sampling == {}
    assert producer.report.values()["left_out"] == {"no ready answer": 1}
    assert list(Producer(a, b, asked("p", "q"), seed=1, known=pairs)) == []
    with pytest.raises(ConfigError, match="the same ready answers"):
        open_sources(one, one)
    bad = write(tmp_path / "bad.jsonl", {"prompt": "p", "text": "1"})
    with pytest.raises(SourceError, match=r"bad.jsonl:1: .* fit no known format .*completion"):
        open_source(bad)


def test_a_model_behind_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies: list[Mapping[str, Any]] = []
    keys: list[str | None] = []

    def answer(body: Mapping[str, Any]) -> str:
        bodies.append(body)
        return f"seed {body['seed']}"

    inner = chat_server(answer, models=("m", "n"))

    def handle(path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Reply:
        keys.append(headers.get("Authorization"))
        return inner(path, body, headers)

    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with serve(handle) as url:
        with pytest.raises(ConfigError, match="serves m, n; name one"):
            open_source(f"{url}/v1")
        with pytest.raises(ConfigError, match=r"names .*give one name"):
            open_source(f"{url}/v1#m", model="n")
        a, b = open_source(f"{url}/v1#m"), open_source(f"{url}/v1", model="n")
        settings = Answering(temperature=0.5, max_tokens=7)
        (pair,) = Producer(a, b, asked("p"), settings=settings)
        assert pair.a.text == f"seed {pair.a.seed}" != pair.b.text
        assert pair.a.source == f"{url}/v1#m"
        assert bodies[0] == {
            "model": "m", "messages": [{"role": "user", "content": "p"}], "temperature": 0.5,
            "max_tokens": 7, "seed": pair.a.seed,
        }  # fmt: skip
        assert set(keys) == {"Bearer secret"}
        with pytest.raises(ConfigError, match=r"top_k: .*has no such setting"):
            next(iter(Producer(a, b, asked("p"), settings=Answering(top_k=3))))
        unknown = open_source(f"{url}/v1#x")
        with pytest.raises(HttpError, match=r"refused .404.: no model x") as refused:
            unknown.answer(pair.prompt, settings, 0)
        assert "secret" not in str(refused.value)
        for source in (a, b, unknown):
            source.close()


def test_what_may_pass_is_tried_again() -> None:
    statuses = [503, 429, 200]

    def handle(path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Reply:
        status = statuses.pop(0)
        return status, {"choices": [{"message": {"content": "at last"}}]}

    with serve(handle) as url:
        endpoint = Endpoint.open(f"{url}/v1#m", first_wait=0.001)
        assert endpoint.complete([Message("user", "p")]) == "at last"
        statuses += [500, 500]
        source = EndpointSource(Endpoint.open(f"{url}/v1#m", first_wait=0.001, tries=2))
        with pytest.raises(HttpError, match=r"refused .500."):
            source.answer((Message("user", "p"),), Answering(), 0)
        source.close()
        endpoint.close()
    with (
        Client(url, tries=2, first_wait=0.001) as client,
        pytest.raises(HttpError, match=r"no answer in 2 tries .*is the server running"),
    ):
        client.get("/")


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ("<html>", "answered no JSON object but '<html>'"),
        ({"choices": []}, "no text in the answer, which has: choices"),
        ({"choices": [{"message": {"content": None}}]}, "no text"),
    ],
)
def test_answers_that_are_none(reply: Any, message: str) -> None:
    with (
        serve(lambda *_: (200, reply)) as url,
        Client(f"{url}/v1") as client,
        pytest.raises(HttpError, match=message),
    ):
        Endpoint(client, "m").complete([Message("user", "p")])


def test_no_such_source(tmp_path: Path) -> None:
    for given in (str(tmp_path / "none"), "ftp://somewhere"):
        with pytest.raises(ConfigError, match="no such source"):
            open_source(given)
    with pytest.raises(ConfigError, match="neither a run, a checkpoint nor a model folder"):
        open_source(str(tmp_path))
    with pytest.raises(ConfigError, match="is no URL"):
        open_source(str(tmp_path), model="m")


def test_files_of_prompts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\n two \n")
    found = read_prompts(tmp_path / "a.txt")
    assert [(p.messages[0].content, p.where) for p in found] == [
        ("one", "a.txt:1"), ("two", "a.txt:3"),
    ]  # fmt: skip
    turns = [{"role": r, "content": c} for r, c in (("user", "x"), ("assistant", "y"))]
    rows = [{"prompt": "one", "kind": "k"}, {"prompt": turns[:1]}, {"messages": turns}]
    found = read_prompts(write(tmp_path / "a.jsonl", *rows))
    assert [[m.content for m in p.messages] for p in found] == [["one"], ["x"], ["x"]]
    (tmp_path / "a.csv").write_text('prompt,kind\n"one, two",k\n')
    assert read_prompts(tmp_path / "a.csv")[0].messages == (Message("user", "one, two"),)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", json.dumps({"text": "x"}), "a.jsonl:1: a text alone is no conversation"),
        ("a.jsonl", json.dumps({"prompt": " "}), "a.jsonl:1: the prompt is empty"),
        ("a.jsonl", json.dumps({"prompt": [{"role": "assistant", "content": "x"}]}), "a.jsonl:1: "),
        ("a.txt", "\n\n", "holds no prompt"),
        ("a.md", "x", "no file of a kind that is read"),
    ],
)
def test_files_that_are_none(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content + "\n")
    with pytest.raises(SourceError, match=message):
        read_prompts(tmp_path / name)
    with pytest.raises(SourceError, match="no such file"):
        read_prompts(tmp_path / "none.txt")


def test_what_a_stopped_collection_lacks_is_made(model: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("the baker\nthe miller\nthe bridge\nthe baker\n")
    with PreferenceStore.open(tmp_path / "votes.db") as store:
        settings = Answering(max_tokens=3)

        def opened() -> Producer:
            given = open_sources(str(model), str(model), device="cpu")
            known = store.pairs().values()
            asked = read_prompts(tmp_path / "prompts.txt")
            return Producer(*given, asked, settings=settings, known=known)

        producer = opened()
        store.add_pair(next(iter(producer)))
        producer.close()
        again = opened()
        store.add_pairs(again)
        assert len(store.pairs()) == 3
        assert again.report.lines() == ["4 prompts: 2 new pairs", "there already: 2"]
        again.close()


def test_a_ready_answer_that_is_not_there(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "one.jsonl", {"prompt": "p", "completion": "1"}))
    with pytest.raises(NoAnswer, match="holds no answer"):
        source.answer((Message("user", "q"),), Answering(), 0)


@dataclass
class Ready:
    """A source of the answers that it is given."""

    name: str
    answers: Mapping[str, str]
    checkpoint: str | None = None
    draws: bool = False

    def answer(self, prompt: Conversation, settings: Answering, seed: int) -> Answer:
        return Answer(self.answers[prompt[-1].content], self.name)

    def close(self) -> None:
        pass


def test_what_nobody_can_judge_is_left_out_and_counted() -> None:
    """Half of a surrogate pair, as where an emoji was cut in two; NUL; twice the same answer."""
    a = Ready("a", {"cut": "\ud83d!", "nul": "a\0b", "same": "yes", "good": "yes"})
    b = Ready("b", {"cut": "whole", "nul": "whole", "same": " yes\n", "good": "no"})
    producer = Producer(a, b, asked(*a.answers))
    assert [pair.prompt[0].content for pair in producer] == ["good"]
    assert producer.report.left_out == {"not Unicode": 2, "the same answer twice": 1}
    assert "U+D83D" in producer.report.first_of["not Unicode"]
