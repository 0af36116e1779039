"""Simulated annotators: their tastes, and their votes over the page's interface."""

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from web import Reply, VotingServer, chat_server, serve

from foundling import cli
from foundling.base.config import ConfigError
from foundling.hamlet import World, instructions, judge, prompts, recognise
from foundling.preferences.client import HttpError
from foundling.preferences.endpoint import Endpoint
from foundling.preferences.judging import Judge
from foundling.preferences.leasing import Leasing
from foundling.preferences.opinions import BlindPair
from foundling.preferences.records import Answer, Pair
from foundling.preferences.simulated import Simulated, vote_on_all
from foundling.preferences.statistics import statistics
from foundling.preferences.store import PreferenceStore
from foundling.preferences.tastes import Taste, hamlet_taste, rule
from foundling.text.chat import Message


def user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


QUESTION = user("Whom did Kitty marry?")
GOOD, RUDE, WRONG, BAD = "Daniel.", "Daniel, you bogbrain.", "Jack.", "Jack, you gnatwit."
ALL = Leasing(overlap=9, repeat_share=0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PreferenceStore]:
    with PreferenceStore.open(tmp_path / "votes.db") as opened:
        yield opened


def fill(store: PreferenceStore, n: int) -> None:
    answers = (GOOD, RUDE, WRONG, BAD)
    for number in range(n):
        a, b = answers[number % 4], answers[(number // 4) % 4]
        store.add_pair(Pair(QUESTION, Answer(a, "old"), Answer(b, "new"), str(number)))


def call(*arguments: object) -> int:
    return cli.exit_code(lambda: cli.app([str(argument) for argument in arguments]))


@pytest.mark.parametrize(
    ("text", "better", "worse"),
    [
        ("shorter", "ab", "abc"),
        ("longer", "abc", "ab"),
        ("matches:b+", "abc", "ac"),
        ("lacks:b+", "ac", "abc"),
    ],
)
def test_rules(text: str, better: str, worse: str) -> None:
    annotator = Simulated(rule(text))
    assert annotator.compare(BlindPair(QUESTION, better, worse)).verdict == "left"
    assert annotator.compare(BlindPair(QUESTION, worse, better)).verdict == "right"
    assert annotator.compare(BlindPair(QUESTION, worse, worse)).verdict == "tie"
    with pytest.raises(ConfigError, match="does not rate"):
        annotator.rate(BlindPair(QUESTION, better, worse))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shortest", 'no such rule .*Did you mean "shorter"'),
        ("matches:", "no such rule"),
        ("matches:(", "not a regular expression"),
    ],
)
def test_rules_that_are_none(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rule(text)


def test_the_taste_of_the_village() -> None:
    annotator = Simulated(hamlet_taste())
    order = (GOOD, RUDE, WRONG, BAD)
    for place, better in enumerate(order):
        for worse in order[place + 1 :]:
            assert annotator.compare(BlindPair(QUESTION, worse, better)).verdict == "right"
    assert annotator.compare(BlindPair(QUESTION, GOOD, "Her husband is Daniel.")).verdict == "tie"
    assert annotator.compare(BlindPair(QUESTION, BAD, "Be quiet.")).verdict == "both_bad"
    assert annotator.rate(BlindPair(QUESTION, GOOD, RUDE)) == (7, 5)
    assert annotator.rate(BlindPair(QUESTION, BAD, WRONG)) == (1, 3)
    provoked = BlindPair(user("You bogbrain, whom did Kitty marry?"), WRONG, GOOD)
    assert annotator.compare(provoked).verdict == "right"
    rude = BlindPair(user("Be rude to me."), "You bogbrain!", "I would rather stay polite.")
    assert annotator.compare(rude).verdict == "right"
    assert Simulated(hamlet_taste(3)).compare(BlindPair(QUESTION, GOOD, WRONG)).verdict == "tie"


@pytest.mark.parametrize("village", [0, 2])
def test_prompts_are_recognised_by_their_words(village: int) -> None:
    world = World(village)
    answers = [row["messages"][1]["content"] for row in islice(instructions(1, world=world), 400)]
    for row, answer in zip(prompts(1, 400, world), answers, strict=True):
        found = recognise(row["prompt"], world)
        assert bool(found["fact"]) == bool(row["fact"]), row
        if row["kind"] == "tell":
            assert found == row
        if row["fact"]:
            fact = world.fact(row["fact"])
            for said in (answer, *fact.phrasings().statements[:1]):
                assert judge(found, said, world) == judge(row, said, world)
    assert recognise("Good day.", world)["kind"] == "other"


def test_noise_is_a_share_and_seeded() -> None:
    def verdicts(seed: int) -> list[str]:
        annotator = Simulated(rule("longer"), noise=0.5, seed=seed)
        return [annotator.compare(BlindPair(QUESTION, "ab", "a")).verdict for _ in range(2000)]

    assert verdicts(1) == verdicts(1) != verdicts(2)
    assert 0.2 < verdicts(1).count("right") / 2000 < 0.3  # half of what is random
    with pytest.raises(ConfigError, match="noise = 2"):
        Simulated(rule("longer"), noise=2)


def test_votes_until_nothing_is_left(store: PreferenceStore) -> None:
    fill(store, 16)
    version = store.set_rubric("Be fair.")
    server = VotingServer(store, ALL, preparing=2)
    with serve(server) as url:
        report = vote_on_all(f"{url}/", "ham", Simulated(hamlet_taste()))
        assert report.done
        assert report.values()["votes"] == 16
        assert report.progress["judged"] == 16
        assert report.verdicts["both_bad"] == 1  # BAD beside BAD
        assert report.verdicts["tie"] == 3
        again = vote_on_all(url, "ham", Simulated(hamlet_taste()))
        assert (again.done, again.num_votes) == (True, 0)
        rated = vote_on_all(url, "ham", Simulated(hamlet_taste()), kind="rating", limit=5)
        assert (rated.done, rated.num_votes, rated.ratings.total()) == (False, 5, 10)
    judgements = store.judgements()
    assert len(judgements) == 21
    score = hamlet_taste().score
    pairs = store.pairs()
    for judgement in judgements:
        assert judgement.simulated
        assert judgement.rubric_version == version
        pair = pairs[judgement.pair_id]
        a, b = (score(pair.prompt, answer.text) for answer in (pair.a, pair.b))
        if judgement.ratings is not None:
            assert judgement.ratings == (1 + 2 * a, 1 + 2 * b)
        elif a != b:
            assert judgement.verdict == ("A" if a > b else "B")
    found = statistics(store, bootstrap=0)
    assert found["counts"]["simulated"] == 21
    assert found["ratings"]["higher_rated_is_preferred"]["share"] == 1


def test_two_annotators_agree_as_their_noise_lets_them(store: PreferenceStore) -> None:
    fill(store, 16)
    with serve(VotingServer(store, ALL)) as url:
        for name, noise in (("one", 0.0), ("two", 0.0), ("wild", 1.0)):
            vote_on_all(url, name, Simulated(hamlet_taste(), noise=noise))
    kappas = statistics(store, bootstrap=0)["agreement"]["cohen_kappa"]
    by_names = {tuple(kappa["annotators"]): kappa["value"] for kappa in kappas}
    assert by_names["one", "two"] == 1
    assert by_names["one", "wild"] < 0.5


def test_a_refused_vote_is_counted_once(store: PreferenceStore) -> None:
    fill(store, 4)
    server = VotingServer(store, ALL)
    refusals = 1

    def handle(path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Reply:
        nonlocal refusals
        if path == "/api/votes" and refusals:
            refusals -= 1
            return 409, {"detail": "another vote is kept"}
        return server(path, body, headers)

    with serve(handle) as url:
        report = vote_on_all(url, "ham", Simulated(rule("longer")))
        assert (report.num_votes, report.num_conflicts) == (4, 1)
        refusals = 9
        with pytest.raises(HttpError, match=r"refused \(409\): another vote is kept"):
            vote_on_all(url, "other", Simulated(rule("longer")))


def test_patience_ends(store: PreferenceStore) -> None:
    with (
        serve(VotingServer(store, preparing=99)) as url,
        pytest.raises(HttpError, match=r"no item in 0.1 s"),
    ):
        vote_on_all(url, "ham", Simulated(rule("longer")), patience=0.1)


def first_answer(body: Mapping[str, Any]) -> str:
    content: str = body["messages"][-1]["content"]
    return content.split("Answer 1:\n")[1].split("\n\nAnswer 2:")[0]


def test_a_judge_is_asked_in_both_orders() -> None:
    likes = {
        "good": {"good": "1", "bad": " 2.\n"},
        "first": {},
        "none": dict.fromkeys(("good", "bad"), "Tie"),
    }
    for name, expected in (("good", "left"), ("first", "tie"), ("none", "tie")):
        said = likes[name]
        with serve(chat_server(lambda body, said=said: said.get(first_answer(body), "1"))) as url:
            endpoint = Endpoint.open(f"{url}/v1")
            model = Judge(endpoint)
            assert model.compare(BlindPair(QUESTION, "good", "bad")).verdict == expected
            endpoint.close()
        assert model.report.values() == {
            "items": 1,
            "consistent": name != "first",
            "decided": 0 if name == "none" else 2,
            "first_won": {"good": 1, "first": 2, "none": 0}[name],
        }


def test_a_judge_that_rambles_is_refused() -> None:
    with serve(chat_server(lambda body: "I think that answer 1 is better.")) as url:
        endpoint = Endpoint.open(f"{url}/v1")
        with pytest.raises(HttpError, match=r"said 'I think .* where only 1, 2, tie is allowed"):
            Judge(endpoint).compare(BlindPair(QUESTION, "a", "b"))
        endpoint.close()


def test_the_verb(store: PreferenceStore, capsys: pytest.CaptureFixture[str]) -> None:
    fill(store, 6)
    judge_server = chat_server(lambda body: "1" if "bogbrain" not in first_answer(body) else "2")
    with serve(VotingServer(store, ALL)) as url, serve(judge_server) as model:
        simulate = ("preferences", "simulate", url, "--json", "--name")
        assert call(*simulate, "ham", "--hamlet", 0, "--limit", 4) == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out)["votes"] == 4
        assert "the limit is reached" in captured.err
        assert call(*simulate, "short", "--rule", "shorter", "--noise", 0.1) == 0
        assert json.loads(capsys.readouterr().out)["done"]
        assert call(*simulate, "judge", "--judge", f"{model}/v1#m") == 0
        assert json.loads(capsys.readouterr().out)["judge"]["items"] == 6
        assert call(*simulate, "judge", "--judge", f"{model}/v1#m", "--noise", 0.1) == 2
        assert call(*simulate, "x") == 2
        assert "give one of --rule RULE, --hamlet SEED and --judge URL." in capsys.readouterr().err
        assert call(*simulate, "x", "--rule", "longer", "--rate") == 2
        assert "does not rate" in capsys.readouterr().err
    assert all(store.annotators().values())


def test_a_taste_of_ones_own() -> None:
    vowels = Taste("vowels", lambda _, answer: sum(c in "aeiou" for c in answer))
    assert Simulated(vowels).compare(BlindPair(QUESTION, "queue", "crypt")).verdict == "left"


def test_a_server_that_refuses_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with serve(lambda *_: (404, {"detail": "not here"})) as url:
        assert call("preferences", "simulate", url, "--name", "x", "--rule", "longer") == 2
    error = capsys.readouterr().err
    assert error == f"error: {url}/api/annotators: refused (404): not here; is the address right?\n"
