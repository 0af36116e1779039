"""An annotator that votes until nothing is left, twice each time; run as a program."""

import sys

from foundling.preferences.leasing import Leasing
from foundling.preferences.records import Vote
from foundling.preferences.store import PreferenceStore


def vote_on_all(store: PreferenceStore, name: str, settings: Leasing) -> list[int]:
    """The ids of the receipts; each is printed when it is there."""
    receipts = []
    while (item := store.lease_next(name, settings)) is not None:
        vote = Vote(item.key, name, "A", reason=f"{name} on {item.pair_id}")
        receipt = store.record(vote)
        print(receipt.judgement_id, item.key, flush=True)
        assert store.record(vote) == receipt
        receipts.append(receipt.judgement_id)
    return receipts


if __name__ == "__main__":
    place, name, overlap = sys.argv[1:]
    with PreferenceStore.open(place) as opened:
        opened.add_annotator(name, simulated=True)
        print("ready", flush=True)
        vote_on_all(opened, name, Leasing(overlap=int(overlap), repeat_share=0))
