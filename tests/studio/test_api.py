"""The HTTP interface: who may ask, what stays hidden, what is kept once and what is refused."""

import json

import pytest
from annotating import SECRETS, Script, pair_of
from fastapi.testclient import TestClient

from foundling.preferences.leasing import Leasing
from foundling.preferences.records import Answer, Pair
from foundling.preferences.store import PreferenceStore
from foundling.studio.api import create_app
from foundling.studio.desk import Desk
from foundling.text.chat import Message


@pytest.mark.parametrize(
    ("header", "said"),
    [(None, "give your token"), ("Basic abc", "give your token"), ("Bearer abc", "unknown")],
)
def test_nothing_without_a_token(client: TestClient, header: str | None, said: str) -> None:
    headers = {"Authorization": header} if header else {}
    for method, path in (
        ("POST", "next"), ("POST", "votes"), ("POST", "undo"), ("GET", "progress"),
        ("GET", "rubric"), ("PUT", "rubric"), ("GET", "statistics"),
    ):  # fmt: skip
        content = {"json": {"key": "k", "verdict": "tie", "text": "t"}} if method != "GET" else {}
        answer = client.request(method, f"/api/{path}", headers=headers, **content)
        assert answer.status_code == 401
        assert said in answer.json()["detail"]


def test_nothing_says_whose_an_answer_is(
    store: PreferenceStore, client: TestClient, ann: Script
) -> None:
    store.add_pair(pair_of(100, gold="A"))
    kinds = ("comparison", "rating")
    answers = [ann.send("PUT", "rubric", text="Be true."), ann.send("GET", "rubric")]
    for kind in kinds:
        for _ in range(4):
            given = ann.send("POST", "next", kind=kind)
            item = given.json()["item"]
            assert set(item) == {"key", "kind", "prompt", "left", "right"}
            said = {"ratings": {"left": 2, "right": 6}} if kind == "rating" else {"verdict": "left"}
            answers += [given, ann.send("POST", "votes", key=item["key"], **said)]
    answers += [
        ann.send("POST", "undo", key="u"),
        ann.send("GET", "progress"),
        ann.send("POST", "next", holding=["?"]),
        ann.send("POST", "votes", key="nobody's", verdict="left"),
        ann.send("POST", "votes", key=item["key"], verdict="both_bad"),
        client.get("/openapi.json"),
    ]
    everything = [f"{answer.text} {answer.headers}" for answer in answers]
    assert len(everything) == 24
    assert not [text for text in everything for secret in SECRETS if secret in text]


def test_left_is_what_stood_left(store: PreferenceStore, ann: Script) -> None:
    for _ in range(12):
        item = ann.next()["item"]
        verdict = "left" if item["left"].startswith("new") else "right"
        ann.vote(item["key"], verdict, strength=3, reason=" newer ", milliseconds=1200)
    assert ann.next()["state"] == "done"
    assert {(j.verdict, j.strength, j.reason) for j in store.judgements()} == {("B", 3, "newer")}
    assert {j.left for j in store.judgements()} == {"A", "B"}


def test_ratings_follow_their_answers(store: PreferenceStore, ann: Script) -> None:
    for _ in range(12):
        item = ann.next(kind="rating")["item"]
        ratings = {"left": 2, "right": 7} if item["left"].startswith("old") else {
            "left": 7, "right": 2,
        }  # fmt: skip
        assert ann.send("POST", "votes", key=item["key"], ratings=ratings).status_code == 200
    assert {j.ratings for j in store.judgements()} == {(2, 7)}
    assert ann.send("GET", "progress?kind=rating").json()["judged"] == 12
    assert ann.send("GET", "progress").json()["judged"] == 0


def test_the_same_vote_again_is_the_same_receipt(store: PreferenceStore, ann: Script) -> None:
    key = ann.next()["item"]["key"]
    first = ann.vote(key, reason="why", milliseconds=10)
    again = ann.vote(key, reason="why", milliseconds=99)
    assert (again["judgement_id"], again["created"]) == (first["judgement_id"], first["created"])
    other = ann.send("POST", "votes", key=key, verdict="right", reason="why")
    assert other.status_code == 409
    assert len(store.judgements()) == 1
    # After an undo the old key still answers its retries, and the item has a new one.
    undone = ann.send("POST", "undo", key="u1").json()
    assert ann.vote(key, reason="why")["judgement_id"] == first["judgement_id"]
    assert undone["item"]["key"] != key
    assert store.judgements() == []


def test_an_undo_gives_the_item_again(store: PreferenceStore, ann: Script) -> None:
    items = [ann.next()["item"], None, None]
    items[1:] = [ann.next(holding=[items[0]["key"]])["item"], None]
    items[2] = ann.next(holding=[items[0]["key"], items[1]["key"]])["item"]
    for item in items[:2]:
        ann.vote(item["key"])
    undone = ann.send("POST", "undo", key="u1").json()
    assert {**undone["item"], "key": ""} == {**items[1], "key": ""}
    assert ann.send("POST", "undo", key="u1").json()["judgement_id"] == undone["judgement_id"]
    ann.vote(undone["item"]["key"], "tie")
    assert [j.verdict for j in store.judgements()][-1] == "tie"
    assert ann.send("GET", "progress").json()["undone"] == 1
    for key in ("u2", "u3"):
        assert ann.send("POST", "undo", key=key).status_code == 200
    refused = ann.send("POST", "undo", key="u4")
    assert (refused.status_code, refused.json()["detail"]) == (
        422, "undo: there is no judgement to take back.",
    )  # fmt: skip


def test_an_undone_skip_of_a_rating_comes_back_as_a_rating(ann: Script) -> None:
    key = ann.next(kind="rating")["item"]["key"]
    assert ann.vote(key, "skip")["progress"]["skipped"] == 1
    assert ann.send("POST", "undo", key="u").json()["item"]["kind"] == "rating"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"key": "nobody's", "verdict": "left"}, "no item has it"),
        ({"verdict": "left"}, "key: field required"),
        ({"verdict": "lft"}, "verdict: input should be 'left'"),
        ({}, "either a verdict or ratings"),
        ({"verdict": "tie", "ratings": {"left": 1, "right": 1}}, "either a verdict or ratings"),
        ({"verdict": "tie", "strength": 2}, "strength"),
        ({"verdict": "left", "strength": 4}, "less than or equal to 3"),
        ({"ratings": {"left": 0, "right": 8}}, "ratings.left: input should be greater"),
        ({"ratings": {"left": 1, "right": 2}}, "is a comparison"),
        ({"verdict": "left", "rubric_version": 9}, "rubric_version = 9"),
        ({"verdict": "left", "colour": "red"}, "colour: extra inputs are not permitted"),
    ],
)
def test_what_is_no_vote_is_refused_in_one_sentence(
    store: PreferenceStore, ann: Script, body: dict, said: str
) -> None:
    key = ann.next()["item"]["key"]
    wants_key = "key" not in body and said != "key: field required"
    refused = ann.send("POST", "votes", **({"key": key} if wants_key else {}), **body)
    assert refused.status_code == 422
    assert said in refused.json()["detail"].lower()
    assert "\n" not in refused.json()["detail"]
    assert store.judgements() == []


def test_an_item_is_its_annotators_alone(client: TestClient, ann: Script) -> None:
    bob = Script(client, "bob")
    key = ann.next()["item"]["key"]
    assert bob.send("POST", "votes", key=key, verdict="left").status_code == 409
    assert bob.next()["item"]["key"] != key


def test_fetching_ahead(ann: Script) -> None:
    held: list[str] = []
    for _ in range(12):
        held.append(ann.next(holding=held)["item"]["key"])
    assert len(set(held)) == 12
    assert ann.next(holding=held)["item"] is None
    assert ann.next()["item"]["key"] == held[0]


def test_a_newer_link_ends_the_older(client: TestClient, ann: Script) -> None:
    key = ann.next()["item"]["key"]
    again = Script(client, "ann")
    assert again.next()["item"]["key"] == key
    refused = ann.send("POST", "next")
    assert (refused.status_code, "newer link" in refused.text) == (401, True)


def test_simulated_annotators_say_so(store: PreferenceStore, client: TestClient) -> None:
    join = {"name": "rule", "simulated": True}
    assert client.post("/api/annotators", json=join).status_code == 200
    assert client.post("/api/annotators", json={"name": "rule"}).status_code == 409
    assert store.annotators() == {"rule": True}
    assert client.post("/api/annotators", json={"name": " "}).status_code == 422


def test_by_invitation_only_given_tokens_work(desk: Desk, store: PreferenceStore) -> None:
    desk.invited = True
    store.add_annotator("ann")
    token = store.issue_token("ann")
    with TestClient(create_app(desk)) as client:
        for name in ("ann", "eve"):
            refused = client.post("/api/annotators", json={"name": name})
            assert (refused.status_code, "invitation" in refused.text) == (403, True)
        invited = Script(client, "ann", token)
        assert invited.next()["item"] is not None
        statistics = invited.send("GET", "statistics")
        assert statistics.status_code == 403
        assert not [secret for secret in SECRETS if secret in statistics.text]


def test_statistics_on_an_open_server(ann: Script) -> None:
    ann.vote(ann.next()["item"]["key"], "tie")
    figures = ann.send("GET", "statistics").json()
    assert figures["counts"]["comparisons"] == 1
    assert set(figures["ranking"]["scores"]) == {"secret-old", "secret-new"}


def test_every_rubric_is_kept(store: PreferenceStore, ann: Script) -> None:
    assert ann.send("GET", "rubric").json() == {
        "version": None, "text": "", "created": None, "earlier": [],
    }  # fmt: skip
    assert ann.next()["rubric_version"] is None
    for version, text in enumerate(("Be true.", "Be true and brief."), start=1):
        assert ann.send("PUT", "rubric", text=text).json()["version"] == version
    assert ann.send("PUT", "rubric", text="Be true and brief. ").json()["version"] == 2
    assert ann.send("PUT", "rubric", text="  ").status_code == 422
    now = ann.send("GET", "rubric").json()
    assert (now["text"], [one["text"] for one in now["earlier"]]) == (
        "Be true and brief.", ["Be true."],
    )  # fmt: skip
    given = ann.next()
    assert given["rubric_version"] == 2
    ann.vote(given["item"]["key"], rubric_version=1)
    assert store.judgements()[0].rubric_version == 1


def test_a_kind_that_is_not_collected_is_refused(desk: Desk) -> None:
    desk.kinds = ("comparison",)
    with TestClient(create_app(desk)) as client:
        refused = Script(client, "ann").send("POST", "next", kind="rating")
    assert (refused.status_code, "--kind rating" in refused.text) == (422, True)


@pytest.mark.parametrize("strategy", ["uncertain", "largest_gap"])
def test_strategies_choose_by_the_votes_so_far(store: PreferenceStore, strategy: str) -> None:
    desk = Desk(store, Leasing.parse({"strategy": strategy, "repeat_share": 0}))
    with TestClient(create_app(desk)) as client:
        ann = Script(client, "ann")
        for _ in range(3):
            ann.vote(ann.next()["item"]["key"])
    assert {j.strategy for j in store.judgements()} == {strategy}


def test_whatever_the_store_holds_can_be_shown(store: PreferenceStore, client: TestClient) -> None:
    """From before such texts were refused: halves of surrogate pairs, and NUL."""
    odd = "cut \ud83d, \udc00\ud800 and \0"
    with PreferenceStore.open(store._database.url.database or "", create=False) as other:
        other.set_rubric(odd)
    ids = store.add_pairs(
        Pair((Message("user", odd + str(n)),), Answer(odd, "x"), Answer("b", "y")) for n in range(2)
    )
    store.add_annotator("ann")
    keys = [store.lease_pair("ann", pair_id).key for pair_id in ids]
    ann = Script(client, "ann")
    for key in keys:
        given = ann.next()["item"]
        assert given["key"] == key
        assert "cut \ufffd, \ufffd\ufffd and \0" in (given["left"], given["right"])
        assert ann.send("GET", f"items/{key}").status_code == 200
        ann.vote(key)
    assert ann.send("GET", "rubric").json()["text"].startswith("cut \ufffd")
    vote = json.dumps({"key": ann.next()["item"]["key"], "verdict": "tie", "reason": odd})
    headers = {"Authorization": f"Bearer {ann.token}", "Content-Type": "application/json"}
    assert client.post("/api/votes", content=vote, headers=headers).status_code == 422


def test_an_item_as_html(client: TestClient, store: PreferenceStore, ann: Script) -> None:
    evil = "**bold** <script>alert(1)</script>"
    pair_id = store.add_pair(
        Pair((Message("user", evil),), Answer(evil, "x"), Answer(evil + "!", "y"))
    )
    key = store.lease_pair("ann", pair_id).key
    shown = ann.send("GET", f"items/{key}").json()
    for text in (shown["prompt"][0]["content"], shown["left"], shown["right"]):
        assert text.startswith("<p><strong>bold</strong> &lt;script&gt;")
    assert Script(client, "bob").send("GET", f"items/{key}").status_code == 409
    assert ann.send("GET", "items/none").status_code == 422
    ann.vote(key)
    assert ann.send("GET", f"items/{key}").status_code == 409
    again = ann.send("POST", "undo", key="u").json()["item"]["key"]
    assert ann.send("GET", f"items/{again}").json()["left"] == shown["left"]


def test_no_refusal_holds_a_key(client: TestClient, ann: Script) -> None:
    """Annotators read them on their page."""
    key = ann.next()["item"]["key"]
    ann.vote(key)
    refusals = [
        ann.send("POST", "votes", key=key, verdict="right"),
        ann.send("POST", "votes", key="f" * 32, verdict="right"),
        ann.send("GET", f"items/{key}"),
        Script(client, "bob").send("POST", "votes", key=key, verdict="left"),
    ]
    assert [answer.status_code for answer in refusals] == [409, 422, 409, 409]
    assert not [answer.text for answer in refusals if key in answer.text or "ffff" in answer.text]


def test_who_somebody_is(client: TestClient, store: PreferenceStore) -> None:
    ann = Script(client, "Ann  Lee")
    me = {
        "name": "Ann Lee", "database": store.identity, "kinds": ["comparison", "rating"],
        "may_edit_rubric": True,
    }  # fmt: skip
    assert ann.send("GET", "me").json() == me
    known = client.post("/api/annotators", json={"name": " ann lee", "new": True})
    assert (known.status_code, known.json()["detail"]) == (409, "Ann Lee has been here before.")
    assert ann.send("GET", "me").json() == me
    again = client.post("/api/annotators", json={"name": "ANN LEE"}).json()
    assert again["name"] == "Ann Lee"
    assert ann.send("GET", "me").status_code == 401


def test_where_one_is_invited_only_a_lead_changes_what_is_everybodys(
    desk: Desk, store: PreferenceStore
) -> None:
    desk.invited, desk.leads = True, frozenset({"lea"})
    tokens = {}
    for name in ("Lea", "ann"):
        store.add_annotator(name)
        tokens[name] = store.issue_token(name)
    with TestClient(create_app(desk)) as client:
        ann, lea = (Script(client, name, tokens[name]) for name in ("ann", "Lea"))
        for path, method, body in (
            ("rubric", "PUT", {"text": "Be brief."}), ("annotators", "POST", {"name": "lea"}),
        ):  # fmt: skip
            assert ann.send(method, path, **body).status_code == 403
        assert lea.send("GET", "me").json()["may_edit_rubric"]
        assert not ann.send("GET", "me").json()["may_edit_rubric"]
        assert lea.send("PUT", "rubric", text="Be true.").status_code == 200
        assert lea.send("POST", "annotators", name="ann").status_code == 200
        assert ann.send("GET", "me").status_code == 401
        assert Script(client, "x", "y").send("POST", "annotators", name="lea").status_code == 401
    assert store.rubric() is not None
