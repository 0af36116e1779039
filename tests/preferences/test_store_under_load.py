"""Many annotators at once, and the death of one: no vote is lost and none counts twice."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from voters import vote_on_all

import foundling
from foundling.preferences.leasing import Leasing
from foundling.preferences.records import Pair
from foundling.preferences.store import PreferenceStore

VOTERS = Path(__file__).with_name("voters.py")


def start(place: str, name: str, overlap: int) -> "subprocess.Popen[str]":
    root = str(Path(foundling.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, str(VOTERS), place, name, str(overlap)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )


def check_whole(store: PreferenceStore, receipts: set[int], num_pairs: int, overlap: int) -> None:
    kept = store.judgements()
    assert {judgement.id for judgement in kept} == receipts
    assert len(kept) == num_pairs * overlap
    assert set(Counter(j.pair_id for j in kept).values()) == {overlap}
    assert len({(j.annotator, j.pair_id) for j in kept}) == len(kept)


@pytest.mark.slow
def test_fifty_threads(store: PreferenceStore, pair_of: Callable[..., Pair]) -> None:
    store.add_pairs(pair_of(n) for n in range(60))
    names = [f"annotator {n}" for n in range(50)]
    for name in names:
        store.add_annotator(name)
    settings = Leasing(overlap=2, repeat_share=0)
    with ThreadPoolExecutor(50) as threads:
        found = list(threads.map(lambda name: vote_on_all(store, name, settings), names))
    receipts = [receipt for some in found for receipt in some]
    assert len(set(receipts)) == len(receipts)
    check_whole(store, set(receipts), 60, 2)


@pytest.mark.slow
def test_four_processes(place: str, pair_of: Callable[..., Pair]) -> None:
    with PreferenceStore.open(place) as store:
        store.add_pairs(pair_of(n) for n in range(40))
        voters = [start(place, f"annotator {n}", 2) for n in range(4)]
        lines = [voter.communicate()[0].splitlines() for voter in voters]
        assert [voter.returncode for voter in voters] == [0] * 4
        receipts = [int(line.split()[0]) for some in lines for line in some[1:]]
        assert len(set(receipts)) == len(receipts)
        check_whole(store, set(receipts), 40, 2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_no_acknowledged_vote_dies_with_its_process(
    file_store: PreferenceStore, tmp_path: Path, pair_of: Callable[..., Pair], seed: int
) -> None:
    rng = random.Random(seed)
    file_store.add_pairs(pair_of(n) for n in range(2000))
    voter = start(str(tmp_path / "votes.db"), "ann", 1)
    assert voter.stdout is not None
    acknowledged = [voter.stdout.readline() for _ in range(rng.randrange(2, 8))]
    time.sleep(rng.random() * 0.1)
    voter.send_signal(signal.SIGKILL)
    acknowledged += voter.communicate()[0].splitlines(keepends=True)
    assert voter.returncode == -signal.SIGKILL
    receipts = [line.split() for line in acknowledged[1:] if line.endswith("\n")]
    kept = {str(judgement.id): judgement.key for judgement in file_store.judgements()}
    assert {number: kept.get(number) for number, _ in receipts} == dict(map(tuple, receipts))
    assert len(kept) - len(receipts) in (0, 1)  # one may have been kept and not yet acknowledged
    assert file_store.lease_next("ann") is not None
