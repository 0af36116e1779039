"""Whatever annotators do and however long they take, the rules of leases and votes hold."""

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from foundling.preferences.leasing import Leasing
from foundling.preferences.records import Answer, Item, Pair, Receipt, Verdict, Vote
from foundling.preferences.store import PreferenceStore
from foundling.text.chat import Message

NAMES = ("ann", "bob", "cid")
TTL = 10.0
names = st.sampled_from(NAMES)
verdicts = st.sampled_from(["A", "B", "tie", "both_bad", "skip"])


class Collecting(RuleBasedStateMachine):
    """The store beside a plain model of it: open leases, and what each vote became."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = PreferenceStore.open(Path(self.folder.name) / "votes.db")
        for n in range(5):
            prompt = (Message("user", str(n)),)
            self.store.add_pair(Pair(prompt, Answer("x", "one"), Answer("y", "two")))
        for name in NAMES:
            self.store.add_annotator(name)
        self.leasing = Leasing(overlap=2, ttl_seconds=TTL, repeat_share=0.5, repeat_gap=1)
        self.now = 0.0
        self.open: dict[str, Item] = {}
        self.standing: dict[int, tuple[str, int, bool, Verdict]] = {}
        self.votes: dict[str, tuple[Vote, Receipt]] = {}
        self.undos: dict[str, tuple[str, Receipt]] = {}
        self.undone: dict[tuple[str, int], float] = {}  # until when it is given again
        self.num_events = 0

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @rule(name=names, ahead=st.booleans())
    def lease(self, name: str, ahead: bool) -> None:
        holding = [key for key, item in self.open.items() if item.annotator == name]
        item = self.store.lease_next(
            name, self.leasing, holding=holding if ahead else (), now=self.now
        )
        if item is None:
            return
        repeated = item.repeat_of is not None
        votes = self.standing.values()
        assert (name, item.pair_id, repeated) not in [vote[:3] for vote in votes]
        if repeated:
            assert (name, item.pair_id, False) in [vote[:3] for vote in votes]
        else:
            others = {v[0] for v in votes if v[1] == item.pair_id and not v[2] and v[3] != "skip"}
            others |= {
                it.annotator
                for it in self.open.values()
                if it.pair_id == item.pair_id and it.repeat_of is None and it.expires > self.now
            }
            # An undone vote's item is its annotator's again, whoever has had it since.
            again = (name, item.pair_id)
            if self.undone.get(again, 0.0) > self.now:
                self.undone[again] = item.expires
            else:
                assert len(others - {name}) < self.leasing.overlap
        self.open[item.key] = item

    @rule(seconds=st.sampled_from([1.0, TTL, 3 * TTL]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.open)
    @rule(data=st.data(), verdict=verdicts)
    def vote(self, data: st.DataObject, verdict: Verdict) -> None:
        key = data.draw(st.sampled_from(list(self.open)))
        item = self.open.pop(key)
        vote = Vote(key, item.annotator, verdict)
        receipt = self.store.record(vote, now=self.now)
        repeated = item.repeat_of is not None
        if not repeated:
            self.undone.pop((item.annotator, item.pair_id), None)
        self.standing[receipt.judgement_id] = (item.annotator, item.pair_id, repeated, verdict)
        self.votes[key] = (vote, receipt)
        self.num_events += 1

    @precondition(lambda self: self.votes)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        vote, receipt = self.votes[data.draw(st.sampled_from(list(self.votes)))]
        assert self.store.record(vote, now=self.now) == receipt

    @precondition(lambda self: self.standing)
    @rule(data=st.data())
    def undo(self, data: st.DataObject) -> None:
        judgement = data.draw(st.sampled_from(sorted(self.standing)))
        name, pair_id, repeated, _ = self.standing.pop(judgement)
        key = f"undo {self.num_events}"
        receipt = self.store.undo(name, key, judgement, settings=self.leasing, now=self.now)
        assert self.store.undo(name, key, judgement, now=self.now) == receipt
        self.num_events += 1
        if not repeated:  # an open repeat of it is gone
            self.undone[name, pair_id] = self.now + TTL
            self.open = {
                key: item
                for key, item in self.open.items()
                if (item.annotator, item.pair_id) != (name, pair_id)
            }

    @invariant()
    def what_stands_is_what_was_said(self) -> None:
        kept = {
            j.id: (j.annotator, j.pair_id, j.repeat_of is not None, j.verdict)
            for j in self.store.judgements()
        }
        assert kept == self.standing
        assert len(self.store.events()) == self.num_events


TestCollecting = Collecting.TestCase
TestCollecting.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
