"""Where pairs come from: two files of ready answers, gold ones, and a producer that fails."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from annotating import Script, pair_of
from fastapi.testclient import TestClient

from foundling.config import ConfigError
from foundling.preferences.records import Pair
from foundling.preferences.store import PreferenceStore
from foundling.studio.api import create_app
from foundling.studio.desk import Desk
from foundling.studio.production import Production
from foundling.studio.ready_answers import ReadyAnswers, gold_pairs


def write(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_answers_are_matched_by_prompt(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    talk.append({"role": "user", "content": "c"})
    a = write(
        tmp_path / "a.jsonl",
        {"prompt": "one", "answer": "a1"}, {"prompt": "two", "completion": "a2"},
        {"prompt": talk, "response": "a3"},
    )  # fmt: skip
    b = write(
        tmp_path / "b.jsonl",
        {"prompt": talk, "answer": "b3"}, {"prompt": "one", "answer": "b1"},
        {"prompt": "four", "answer": "b4"},
    )  # fmt: skip
    said: list[str] = []
    found = list(ReadyAnswers(a, b, say=said.append).pairs())
    assert [(pair.a.text, pair.b.text) for pair in found] == [("a1", "b1"), ("a3", "b3")]
    assert [len(pair.prompt) for pair in found] == [1, 3]
    assert {(pair.a.source, pair.b.source) for pair in found} == {("a.jsonl", "b.jsonl")}
    assert len(said) == 2
    assert all(
        text in line for text, line in zip(("no answer to 1", "1 answers to"), said, strict=True)
    )

    prompts = write(tmp_path / "prompts.jsonl", {"prompt": "one"})
    found = list(ReadyAnswers(a, b, prompts=prompts, say=said.append).pairs())
    assert [pair.prompt_source for pair in found] == ["prompts.jsonl"]


def test_a_second_answer_to_a_prompt_is_refused(tmp_path: Path) -> None:
    row = {"prompt": "one", "answer": "a"}
    a, b = write(tmp_path / "a.jsonl", row, row), write(tmp_path / "b.jsonl", row)
    with pytest.raises(ConfigError, match=r"a\.jsonl:2: the prompt has an answer already"):
        ReadyAnswers(a, b, say=print)


def test_gold_pairs_hide_which_side_is_right(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n} + 1?", "chosen": str(n + 1), "rejected": "5"} for n in range(20)]
    found = gold_pairs(write(tmp_path / "gold.jsonl", *rows))
    assert found == gold_pairs(tmp_path / "gold.jsonl")
    assert {pair.gold for pair in found} == {"A", "B"}
    for number, pair in enumerate(found):
        assert (pair.a if pair.gold == "A" else pair.b).text == str(number + 1)


class Failing:
    """A producer that makes two pairs and fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def pairs(self) -> Iterator[Pair]:
        yield pair_of(100)
        yield pair_of(101)
        raise self.error


@pytest.mark.parametrize("error", [ConfigError("secret-new: no such model."), KeyError("x")])
def test_a_failure_is_told_and_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    said: list[str] = []
    with PreferenceStore.open(tmp_path / "votes.db") as store:
        for _ in range(2):  # begun anew, it adds nothing twice
            production = Production(store, Failing(error), said.append)
            production.start()
            production.wait(60)
            assert not production.running
        assert len(store.pairs()) == 2
        with TestClient(create_app(Desk(store, production=production))) as client:
            ann = Script(client, "ann")
            for _ in range(2):
                given = ann.next()
                assert "stopped with an error" in given["notice"]
                assert "secret-new" not in str(given)
                ann.vote(given["item"]["key"])
            assert ann.next()["state"] == "done"
    assert len(said) == 2
    assert all("stopped after 2 pairs" in line and str(error) in line for line in said)
    assert ("Traceback" in capsys.readouterr().err) == isinstance(error, KeyError)


def test_preparing_is_not_done(tmp_path: Path) -> None:
    class Slow:
        """A producer that waits until it is told."""

        def pairs(self) -> Iterator[Pair]:
            assert go.wait(60)
            yield pair_of(0)

    go = threading.Event()
    with PreferenceStore.open(tmp_path / "votes.db") as store:
        production = Production(store, Slow(), print)
        production.start()
        with TestClient(create_app(Desk(store, production=production))) as client:
            ann = Script(client, "ann")
            assert ann.next()["state"] == "preparing"
            go.set()
            while (given := ann.next())["state"] == "preparing":
                pass
            assert given["item"] is not None
            assert given["notice"] is None
        production.stop(60)
