"""The ladder of the guard's acts: each rung, what it remembers, and that it always ends."""

import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundling.training.guard.guard import (
    SKIP_SPAN,
    Act,
    Evidence,
    Guard,
    Kind,
    Signals,
    Update,
    Verdict,
)
from foundling.training.guard.settings import GuardSettings

WELL = 3.1
"""The canary's loss on a model that is well."""
UPDATE = 0.2
BROKEN = "a weight is not finite"


def update(norm: float = UPDATE) -> Update:
    return Update(norm, norm / 20)


def signals(step: int, rise: float = 0.0) -> Signals:
    """Those of a healthy step of a run that has nearly settled at 3 nats."""
    loss = 3 + 0.02 * math.sin(7 * step) + rise
    return Signals(loss, loss + 0.05, 0.5 + 0.05 * math.cos(5 * step))


def sick(step: int) -> Signals:
    return signals(step, rise=4.0)


def accept(guard: Guard, step: int, given: Signals | None = None, canary: float = WELL) -> None:
    """Do one step that the guard lets pass, with all that it asks for."""
    evidence = Evidence(given or signals(step))
    verdict = guard.check(step, evidence)
    if verdict.kind is Kind.CANARY:
        evidence = replace(evidence, canary=canary)
        verdict = guard.check(step, evidence)
    assert verdict.kind is Kind.STEP, (step, verdict)
    assert guard.check_update(step, update()).kind is Kind.STEP
    guard.accept(step, evidence, update())


def grown(steps: int, acts: list[Act] | None = None, **settings: Any) -> Guard:
    """A guard that has seen so many healthy steps; `acts` are what was done before."""
    guard = Guard(GuardSettings(**settings), acts)
    for step in range(steps):
        accept(guard, step)
    return guard


def verdict_on(
    guard: Guard,
    step: int,
    given: Signals,
    *,
    canary: float = WELL,
    defect: str = "",
    again: Signals | None = None,
) -> list[Verdict]:
    """All verdicts on one step, the last of which is an act."""
    evidence, found = Evidence(given), []
    while True:
        found.append(guard.check(step, evidence))
        if found[-1].kind is Kind.REPLAY:
            assert not evidence.replayed, "asked for twice"
            evidence = replace(evidence, signals=again or given, replayed=True)
        elif found[-1].kind is Kind.CANARY:
            assert evidence.canary is None, "asked for twice"
            evidence = replace(evidence, canary=canary, defect=defect)
        else:
            return found


def kinds(verdicts: list[Verdict]) -> list[Kind]:
    return [verdict.kind for verdict in verdicts]


def back(step: int, to: int, batches: int = 0) -> Act:
    return Act(Kind.REWIND, step, to, batches)


# Rung by rung.


def test_a_healthy_step_passes_without_a_word() -> None:
    guard = grown(210)
    assert verdict_on(guard, 210, signals(210)) == [Verdict(Kind.STEP)]


def test_the_canary_is_looked_at_every_so_often() -> None:
    guard = grown(210, canary_every=50)
    assert kinds(verdict_on(guard, 250, signals(250))) == [Kind.CANARY, Kind.STEP]
    assert kinds(verdict_on(guard, 251, signals(251))) == [Kind.STEP]
    assert len(guard.canaries) == 5  # at 0, 50, 100, 150 and 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": 7.0},
        {"max_loss": 9.0},
        {"gradient_norm": 50.0},
        *(
            {name: bad}
            for name in ("loss", "max_loss", "gradient_norm")
            for bad in (math.nan, math.inf)
        ),
    ],
)
def test_a_transient_fault_is_computed_again_and_accepted(wrong: dict[str, float]) -> None:
    guard = grown(210)
    once = replace(signals(210), **wrong)
    found = verdict_on(guard, 210, once, again=signals(210))
    assert kinds(found) == [Kind.REPLAY, Kind.STEP]
    (name,) = wrong
    assert name.replace("_", " ") in found[0].reason
    assert "computed again" in found[1].reason


def test_hard_data_is_skipped_when_the_canary_is_well() -> None:
    found = verdict_on(grown(210), 210, sick(210))
    assert kinds(found) == [Kind.REPLAY, Kind.CANARY, Kind.SKIP]
    assert "the loss is" in found[2].reason
    assert "the canary is healthy (3.1)" in found[2].reason


def test_what_is_asked_does_not_change_the_guard() -> None:
    guard = grown(210)
    before = json.dumps(guard.state())
    for canary in (WELL, 9.0, math.nan):
        verdict_on(guard, 210, sick(210), canary=canary)
    guard.check_update(210, update(100.0))
    guard.damaged(210, "")
    assert json.dumps(guard.state()) == before
    assert guard.acts == []


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        ({"canary": 3.1 * 1.3}, "the canary's loss is 4.03, was 3.1"),
        ({"canary": math.nan}, "the canary's loss is nan"),
        ({"canary": math.inf}, "the canary's loss is inf"),
        ({"defect": "a weight is not finite"}, "a weight is not finite"),
    ],
)
def test_a_damaged_model_goes_back_and_leaves_nothing_out(
    evidence: dict[str, Any], reason: str
) -> None:
    found = verdict_on(grown(215), 215, sick(215), **evidence)
    assert kinds(found) == [Kind.REPLAY, Kind.CANARY, Kind.REWIND]
    assert (found[2].to, found[2].batches, found[2].rate_cut) == (175, 0, None)  # 215 - 25 down
    assert reason in found[2].reason


def test_a_canary_that_rose_unseen_goes_back_before_the_last_look_at_it() -> None:
    guard = grown(300)
    for step in (300, 301):  # a second and a third look are taken first
        accept(guard, step, canary=4.1)
    found = verdict_on(guard, 302, signals(302), canary=4.1)
    assert kinds(found) == [Kind.CANARY, Kind.REWIND]
    # It was well at 250; what was well then had time to prove itself at 225.
    assert (found[1].to, found[1].batches) == (225, 0)


def test_a_canary_that_is_well_at_the_second_look_is_no_damage() -> None:
    guard = grown(300)
    accept(guard, 300, canary=4.1)
    accept(guard, 301)
    assert kinds(verdict_on(guard, 302, signals(302))) == [Kind.STEP]
    assert max(canary for canary, _ in guard.canaries) < math.log(4)


def test_a_canary_that_is_a_little_above_is_no_damage() -> None:
    assert kinds(verdict_on(grown(300), 300, signals(300), canary=3.25)) == [Kind.CANARY, Kind.STEP]


def test_an_update_that_is_too_large_goes_back() -> None:
    guard = grown(215)
    assert guard.check_update(215, update(2 * UPDATE)) == Verdict(Kind.STEP)
    for norm in (6 * UPDATE, math.inf, math.nan):
        verdict = guard.check_update(215, update(norm))
        assert (verdict.kind, verdict.to, verdict.batches) == (Kind.REWIND, 175, 0)
        assert "the update norm is" in verdict.reason


def test_the_first_steps_know_no_better_than_finite() -> None:
    guard = Guard(GuardSettings())
    assert kinds(verdict_on(guard, 0, signals(0))) == [Kind.CANARY, Kind.STEP]
    broken = replace(signals(0), loss=math.nan)
    assert kinds(verdict_on(guard, 0, broken)) == [Kind.REPLAY, Kind.CANARY, Kind.SKIP]
    found = verdict_on(guard, 0, broken, canary=math.nan)
    assert (found[-1].kind, found[-1].to, found[-1].batches) == (Kind.REWIND, 0, 0)


# Where to go back to.


@given(
    onset=st.integers(0, 400),
    every=st.integers(1, 60),
    healthy_after=st.integers(0, 60),
)
def test_the_step_to_go_back_to_had_time_to_prove_itself(
    onset: int, every: int, healthy_after: int
) -> None:
    settings = GuardSettings(snapshot_every=every, healthy_after=healthy_after)
    kept = [step for step in range(onset + 1) if step % every == 0]
    proven = [step for step in kept if onset - step >= healthy_after]
    assert Guard(settings).healthy_before(onset) == max(proven, default=0)


@given(
    step=st.integers(60, 300),
    every=st.integers(1, 60),
    healthy_after=st.integers(0, 60),
    acts=st.lists(
        st.builds(back, st.integers(0, 300), st.integers(0, 300), st.integers(0, 40)), max_size=5
    ),
)
def test_no_verdict_leads_forward(
    step: int, every: int, healthy_after: int, acts: list[Act]
) -> None:
    guard = Guard(GuardSettings(snapshot_every=every, healthy_after=healthy_after), acts)
    verdict = guard.damaged(step, "")
    assert verdict.kind is Kind.REWIND
    assert 0 <= verdict.to <= step
    # What is left out reaches past the anomaly, or nothing is left out at all.
    assert verdict.batches == 0 or verdict.to + verdict.batches > step


# What happened before.


def test_the_ladder_of_an_anomaly_that_comes_again_and_again() -> None:
    settings = GuardSettings(max_rewinds=5)
    guard = Guard(settings)
    found = []
    for _ in range(6):
        verdict = guard.damaged(210, "sick")
        found.append((verdict.kind, verdict.to, verdict.batches, verdict.rate_cut))
        guard.acts.append(Act(verdict.kind, 210, verdict.to, verdict.batches))
    assert found == [
        (Kind.REWIND, 175, 0, None),  # do it again
        (Kind.REWIND, 175, 36, None),  # leave out what was read since: 175 to 210
        (Kind.REWIND, 150, 72, None),  # one state deeper, twice as much
        (Kind.REWIND, 125, 86, 0.5),  # more slowly
        (Kind.REWIND, 100, 111, 0.5),
        (Kind.STOP, 100, 0, None),
    ]


def test_acts_taken_from_the_log_lead_to_the_same_rung() -> None:
    acts = [back(210, 175), back(210, 175, 36)]
    verdict = Guard(GuardSettings(), acts).damaged(212, "sick")
    assert (verdict.to, verdict.batches) == (150, 72)
    verdict = Guard(GuardSettings(), [*acts, back(212, 150, 72)]).damaged(212, "sick")
    assert (verdict.to, verdict.batches, verdict.rate_cut) == (125, 88, 0.5)


def test_a_rate_that_is_far_too_high_is_left_at_once() -> None:
    acts = [back(40, 25), back(40, 25, 16), back(42, 0, 43)]
    for relative, cut in ((0.01, 0.5), (0.03, 0.5), (0.2, 0.1), (0.8, 0.025)):
        guard = Guard(GuardSettings(), list(acts))
        for step in range(40):
            guard.accept(step, Evidence(signals(step)), Update(UPDATE, relative))
        assert guard.damaged(40, "sick").rate_cut == pytest.approx(cut)


def test_a_state_to_go_back_to_is_kept_for_as_long_as_it_may_be_needed() -> None:
    assert Guard(GuardSettings()).oldest_needed(210) == 175
    assert Guard(GuardSettings(), [back(210, 175)]).oldest_needed(215) == 150
    assert Guard(GuardSettings(), [back(210, 175)]).oldest_needed(500) == 475


def test_a_loss_that_rises_early_is_sick_if_the_model_is_shaken_at_every_step() -> None:
    worse = signals(3, rise=0.6)
    for relative, expected in ((0.02, [Kind.STEP]), (0.5, [Kind.REPLAY, Kind.CANARY, Kind.REWIND])):
        guard = Guard(GuardSettings())
        for step in range(3):
            evidence = Evidence(signals(step), canary=None if step else WELL)
            guard.accept(step, evidence, Update(UPDATE, relative))
        assert kinds(verdict_on(guard, 3, worse, canary=3.8)) == expected


def test_a_model_shaken_from_the_first_steps_on_is_trained_more_slowly_at_once() -> None:
    """The replay came out the same; other samples would not help a rate 25 times too high."""
    guard = Guard(GuardSettings(), [back(3, 0)])
    for step in range(3):
        evidence = Evidence(signals(step), canary=None if step else WELL)
        guard.accept(step, evidence, Update(UPDATE, 0.5))
    verdict = verdict_on(guard, 3, signals(3, rise=0.6), canary=3.8)[-1]
    assert (verdict.kind, verdict.to, verdict.batches) == (Kind.REWIND, 0, 4)
    assert verdict.rate_cut == pytest.approx(0.04)


def test_what_is_left_out_reaches_the_anomaly_though_it_comes_later_each_time() -> None:
    verdict = Guard(GuardSettings(), [back(210, 175), back(210, 175, 36)]).damaged(290, "sick")
    assert (verdict.to, verdict.batches) == (150, 141)  # more than twice 36: to 290


def test_the_deepest_state_is_the_beginning() -> None:
    verdict = Guard(GuardSettings(), [back(30, 0), back(30, 0, 31)]).damaged(30, "sick")
    assert (verdict.kind, verdict.to, verdict.batches) == (Kind.REWIND, 0, 62)


def test_a_run_that_got_well_begins_at_the_first_rung_again() -> None:
    acts = [back(210, 175), back(210, 175, 36)]
    again = Guard(GuardSettings(cooldown=100), acts).damaged(310, "sick")
    assert (again.to, again.batches) == (150, 161)  # still the same anomaly
    fresh = Guard(GuardSettings(cooldown=100), acts).damaged(311, "sick")
    assert (fresh.to, fresh.batches) == (275, 0)


def test_an_anomaly_before_the_last_one_belongs_to_it() -> None:
    """Having gone back from 210 to 175, the run is sick at 190 already: it is no new anomaly."""
    verdict = Guard(GuardSettings(), [back(210, 175)]).damaged(190, "sick")
    assert (verdict.to, verdict.batches) == (150, 41)


def test_a_chain_of_anomalies_is_one() -> None:
    acts = [back(100, 75), back(190, 75, 116)]
    verdict = Guard(GuardSettings(cooldown=100), acts).damaged(280, "sick")
    assert (verdict.to, verdict.batches) == (50, 232)


def test_patience_ends_with_going_back_past_the_first_skipped_batch() -> None:
    guard = grown(215, patience=3)
    for step in (212, 214, 214):
        assert verdict_on(guard, 215, sick(215))[-1].kind is Kind.SKIP
        guard.acts.append(Act(Kind.SKIP, step))
    found = verdict_on(guard, 215, sick(215))[-1]
    # The data is at fault here, so it is left out at once: from 212 - 25, down, to 215.
    assert (found.kind, found.to, found.batches) == (Kind.REWIND, 175, 41)
    assert "3 batches were skipped just before" in found.reason


def test_skipped_batches_far_away_do_not_tire_it() -> None:
    far = [Act(Kind.SKIP, 215 - SKIP_SPAN)] * 5
    assert verdict_on(grown(215, far, patience=3), 215, sick(215))[-1].kind is Kind.SKIP
    near = [Act(Kind.SKIP, 216 - SKIP_SPAN)] * 3
    assert verdict_on(grown(215, near, patience=3), 215, sick(215))[-1].kind is Kind.REWIND
    before = [*near, back(208, 175, 34)]  # those were undone by going back
    assert verdict_on(grown(215, before, patience=3), 215, sick(215))[-1].kind is Kind.SKIP
    later = [Act(Kind.SKIP, 216)] * 3  # of a run that was taken up again from an earlier step
    assert verdict_on(grown(215, later, patience=3), 215, sick(215))[-1].kind is Kind.SKIP


def test_the_budget_of_skips() -> None:
    acts = [Act(Kind.SKIP, step) for step in (20, 60, 100)]
    assert verdict_on(grown(215, acts, max_skips=4), 215, sick(215))[-1].kind is Kind.SKIP
    stop = verdict_on(grown(215, acts, max_skips=3), 215, sick(215))[-1]
    assert (stop.kind, stop.damaged) == (Kind.STOP, False)
    assert "3 batches have been skipped already" in stop.reason


def test_the_budget_of_going_back_is_of_the_whole_run() -> None:
    acts = [back(30, 0), back(500, 475)]  # long healed, both
    verdict = Guard(GuardSettings(max_rewinds=3), acts).damaged(990, "sick")
    assert verdict.kind is Kind.REWIND
    stop = Guard(GuardSettings(max_rewinds=2), acts).damaged(990, "sick")
    assert (stop.kind, stop.to, stop.damaged) == (Kind.STOP, 950, True)
    assert "rolled back 2 times already" in stop.reason


# A slow rise.


def rising(guard: Guard, first: int, rate: float, canary: Callable[[int], float]) -> Iterator[int]:
    """Feed a slow rise; gives each step at which the loss is found to drift, before it is done."""
    for step in range(first, first + 400):
        given = signals(step, rise=rate * (step - first))
        if guard.check(step, Evidence(given)).kind is Kind.CANARY and step % 50:
            yield step
        accept(guard, step, given, canary(step))


def test_a_rise_that_the_canary_shares_goes_back_to_before_it() -> None:
    guard = grown(410)
    step = next(rising(guard, 410, 0.002, lambda step: WELL + 0.002 * (step - 410)))
    rise = 0.002 * (step - 410)
    found = verdict_on(guard, step, signals(step, rise), canary=WELL + rise)
    assert kinds(found) == [Kind.CANARY, Kind.REWIND]
    assert found[1].batches == 0
    assert 410 - 100 <= found[1].to <= 410, "where the rise began, or shortly before"
    assert "has been rising for" in found[1].reason
    assert "the canary has risen to" in found[1].reason


def test_a_rise_that_the_canary_does_not_share_is_the_data() -> None:
    guard = grown(410)
    steps = rising(guard, 410, 0.002, lambda step: WELL)
    step = next(steps)
    found = verdict_on(guard, step, signals(step, 0.002 * (step - 410)))
    assert kinds(found) == [Kind.CANARY, Kind.STEP]
    assert "and the canary has not" in found[1].reason
    again = next(steps)  # it was accepted: the new level is taken for normal, a higher one is not
    assert again > step + 5
    assert guard.detector.drift.sum < 25


# The first acts do not depend on what the guard was before it was taken up again.


@pytest.mark.parametrize("step", [1, 20, 60, 215])
def test_a_guard_taken_up_again_decides_the_same(step: int) -> None:
    there = grown(step)
    here = Guard(GuardSettings())
    accept(here, 0, Signals(9.0, 9.0, 9.0))  # what it knew is forgotten
    here.load_state(json.loads(json.dumps(there.state())))
    assert json.dumps(here.state()) == json.dumps(there.state())
    for now in range(step, step + 60):
        for rise in (-1.0, 0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 1.0, 4.0, math.nan):
            given = replace(signals(now), loss=signals(now).loss + rise)
            for canary in (WELL, 3.3, 3.5, 4.0):
                assert verdict_on(here, now, given, canary=canary) == verdict_on(
                    there, now, given, canary=canary
                )
        for norm in (0.1, 0.3, 0.7, 0.9, 1.1, 5.0):
            assert here.check_update(now, update(norm)) == there.check_update(now, update(norm))
        accept(here, now)
        accept(there, now)
    assert json.dumps(here.state()) == json.dumps(there.state())


def test_acts_are_no_part_of_the_state_that_goes_back() -> None:
    guard = grown(60, [back(50, 25)])
    early = json.loads(json.dumps(guard.state()))
    guard.acts.append(back(60, 25, 36))
    guard.load_state(early)
    assert guard.acts == [back(50, 25), back(60, 25, 36)]


# It always ends.


def carry_out(guard: Guard, verdict: Verdict, step: int, kept: dict[int, str]) -> int:
    """Do what the guard's hands do; the step to go on from."""
    guard.acts.append(Act(verdict.kind, step, verdict.to, verdict.batches))
    if verdict.kind is Kind.SKIP:
        return step
    to = max(known for known in kept if known <= verdict.to)
    guard.load_state(json.loads(kept[to]))
    for later in [known for known in kept if known > to]:
        del kept[later]
    return to


BUDGETS = st.builds(
    GuardSettings,
    max_skips=st.integers(0, 12),
    max_rewinds=st.integers(0, 6),
    patience=st.integers(1, 9),
    cooldown=st.sampled_from([1, 10, 100]),
    snapshot_every=st.sampled_from([1, 7, 25]),
    healthy_after=st.sampled_from([0, 5, 25]),
    canary_every=st.sampled_from([1, 7, 50]),
)


@given(
    settings=BUDGETS,
    defect=st.sampled_from(["", BROKEN]),
    canary=st.sampled_from([WELL, 9.0, math.nan]),
)
def test_nothing_but_sick_steps_ends_after_all_acts_are_spent(
    settings: GuardSettings, defect: str, canary: float
) -> None:
    guard, step = Guard(settings), 0
    kept = {0: json.dumps(guard.state())}
    bound = settings.max_skips + settings.max_rewinds + 1
    for _ in range(bound):
        broken = replace(signals(step), loss=math.nan)
        found = verdict_on(guard, step, broken, canary=canary, defect=defect)
        assert len(found) == 3
        if found[-1].kind is Kind.STOP:
            break
        step = carry_out(guard, found[-1], step, kept)
    else:
        pytest.fail(f"no end after {bound} acts")


@given(settings=BUDGETS, seed=st.integers(0, 2**32), share=st.sampled_from([0.02, 0.2, 0.7, 1.0]))
def test_an_adversary_cannot_keep_it_from_ending(
    settings: GuardSettings, seed: int, share: float
) -> None:
    """Whatever it is told, a run of some steps is done or stopped after so many answers."""
    chance, steps = random.Random(seed), 70
    guard, step, made = Guard(settings), 0, 0
    kept = {0: json.dumps(guard.state())}
    bound = (settings.max_rewinds + 1) * steps + settings.max_skips + settings.max_rewinds + 1
    rounds = 0
    while step < steps:
        rounds += 1
        assert rounds <= bound, f"no end after {bound} rounds"
        if step % settings.snapshot_every == 0:
            kept.setdefault(step, json.dumps(guard.state()))
        lies = chance.random() < share
        given = chance.choice([sick(step), replace(sick(step), loss=math.nan)]) if lies else None
        evidence = Evidence(given or signals(step))
        canary = chance.choice([WELL, 9.0, math.inf]) if lies else WELL
        broken = lies and chance.random() < 0.1
        while (verdict := guard.check(step, evidence)).kind in (Kind.REPLAY, Kind.CANARY):
            if verdict.kind is Kind.REPLAY:
                evidence = replace(evidence, replayed=True)
            else:
                evidence = replace(evidence, canary=canary, defect=BROKEN * broken)
        if verdict.kind is Kind.STEP:
            norm = UPDATE * (50 if lies and chance.random() < 0.3 else 1)
            verdict = guard.check_update(step, update(norm))
            if verdict.kind is Kind.STEP:
                guard.accept(step, evidence, update(norm))
                step, made = step + 1, made + 1
                continue
        if verdict.kind is Kind.STOP:
            break
        step = carry_out(guard, verdict, step, kept)
    counts = [sum(act.kind is kind for act in guard.acts) for kind in (Kind.SKIP, Kind.REWIND)]
    assert counts[0] <= settings.max_skips
    assert counts[1] <= settings.max_rewinds
    assert made <= (settings.max_rewinds + 1) * steps
