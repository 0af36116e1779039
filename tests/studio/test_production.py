"""Pairs that are still being made: gold ones, a producer that is slow, one that fails."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from annotating import Script, pair_of
from fastapi.testclient import TestClient

from foundling import cli
from foundling.base.config import ConfigError
from foundling.preferences.producing import ProducingReport
from foundling.preferences.records import Pair
from foundling.preferences.store import PreferenceStore
from foundling.studio.api import create_app
from foundling.studio.desk import Desk
from foundling.studio.gold import gold_pairs
from foundling.studio.production import Production


def test_gold_pairs_hide_which_side_is_right(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n} + 1?", "chosen": str(n + 1), "rejected": "no"} for n in range(20)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "gold.jsonl").write_text(lines)
    found = gold_pairs(tmp_path / "gold.jsonl")
    assert found == gold_pairs(tmp_path / "gold.jsonl")
    assert {pair.gold for pair in found} == {"A", "B"}
    for number, pair in enumerate(found):
        assert (pair.a if pair.gold == "A" else pair.b).text == str(number + 1)


class Failing:
    """A producer that makes two pairs and fails."""

    def __init__(self, error: Exception) -> None:
        self.error, self.report, self.closed = error, ProducingReport(), False

    def close(self) -> None:
        self.closed = True

    def __iter__(self) -> Iterator[Pair]:
        yield pair_of(100)
        yield pair_of(101)
        raise self.error


@pytest.mark.parametrize("error", [ConfigError("secret-new: no such model."), KeyError("x")])
def test_a_failure_is_told_and_ends_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    said: list[str],
    error: Exception,
) -> None:
    cli.exit_code(lambda: None)  # from here on it shows what is logged, as for every verb
    with PreferenceStore.open(tmp_path / "votes.db") as store:
        for _ in range(2):  # begun anew, it adds nothing twice
            failing = Failing(error)
            production = Production(store, failing)
            production.start()
            production.wait(60)
            assert not production.running
            assert failing.closed
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
    assert ("Traceback" in caplog.text) == isinstance(error, KeyError)
    assert ("Traceback" in capsys.readouterr().err) == isinstance(error, KeyError)


def test_preparing_is_not_done(tmp_path: Path) -> None:
    class Slow:
        """A producer that waits until it is told."""

        report = ProducingReport(1)

        def close(self) -> None:
            closed.set()

        def __iter__(self) -> Iterator[Pair]:
            assert go.wait(60)
            yield pair_of(0)

    go, closed = threading.Event(), threading.Event()
    with PreferenceStore.open(tmp_path / "votes.db") as store:
        production = Production(store, Slow())
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
        assert closed.is_set()
