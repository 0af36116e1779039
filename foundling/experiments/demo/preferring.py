"""An act of the demonstration: answers are compared blindly, and the model learns what is liked."""

import logging
from pathlib import Path
from typing import Any

from foundling import hamlet
from foundling.preferences.producing import Producer
from foundling.preferences.prompts import read_prompts
from foundling.preferences.simulated import Simulated, vote_on_all
from foundling.preferences.sources import Answering, open_sources
from foundling.preferences.statistics import statistics
from foundling.preferences.store import PreferenceStore
from foundling.preferences.tastes import hamlet_taste
from foundling.stages.dpo import DpoConfig, dpo
from foundling.studio.desk import Desk
from foundling.studio.production import Production
from foundling.studio.server import in_background

say = logging.getLogger(__name__).info

ANSWERS = Answering(temperature=1.0, max_tokens=32)
CONFIG: dict[str, Any] = {
    "seed": 7,
    "dpo": {"nll": 0.5},
    "training": {"epochs": 4},
    "optimizer": {"kind": "adamw", "learning_rate": 2e-4},
    "validation": {"every": 20, "patience": 0},
    "forgetting": {"max_tokens": 20_000},
}


def prefer(parent: Path, out: Path, num_prompts: int, num_held_out: int) -> dict[str, Any]:
    """Collect votes on the answers of the run `parent`, tune on them, compare; the counts."""
    out.mkdir()
    files = {"collecting": out / "prompts.jsonl", "held_out": out / "prompts-held-out.jsonl"}
    hamlet.write_prompts(files["collecting"], num_prompts, 7, "collecting")
    hamlet.write_prompts(files["held_out"], num_held_out, 7, "held_out")
    votes = _compared(parent, parent, files["collecting"], out / "votes.db")
    rude = _share_of_rude(out / "votes.db")
    count = votes["counts"]["comparisons"]
    say(f"   {count} votes; {rude[str(parent)]:.0%} of its answers hold a rude word")
    data = {"files": [str(out / "votes.db")], "validation_fraction": 0.1}
    run = dpo(DpoConfig.parse({**CONFIG, "parent": str(parent), "data": data}), out / "tuned")
    tuned = run.folder
    found = _compared(tuned, parent, files["held_out"], out / "held-out-votes.db")
    rate, rude = found["win_rates"][0], _share_of_rude(out / "held-out-votes.db")
    won, lost = rate["wins"], rate["losses"]
    if rate["first"] != str(tuned):
        won, lost = lost, won
    say(
        f"   on {num_held_out} other prompts the tuned model won {won}, lost {lost}, tied "
        f"{rate['ties']}; rude: {rude[str(parent)]:.0%} before, {rude[str(tuned)]:.0%} after"
    )
    return {"votes": count, "won": won, "lost": lost, "ties": rate["ties"]}


def _compared(a: Path, b: Path, prompts: Path, place: Path) -> dict[str, Any]:
    """The statistics of a comparison by a simulated villager, over the page's own interface."""
    with PreferenceStore.open(place) as store:
        sources, asked = open_sources(str(a), str(b)), read_prompts(prompts)
        # The same answer twice is a tie, and ties are counted here.
        producer = Producer(*sources, asked, settings=ANSWERS, seed=7, skip_same=False)
        desk = Desk(store, production=Production(store, producer))
        with in_background(desk) as url:
            vote_on_all(url, "villager", Simulated(hamlet_taste()))
        return statistics(store)


def _share_of_rude(place: Path) -> dict[str, float]:
    """By source, the share of the answers that have a rude word in them."""
    taste, shares = hamlet.RUDE_WORDS, dict[str, list[bool]]()
    with PreferenceStore.open(place) as store:
        for pair in store.pairs().values():
            for answer in (pair.a, pair.b):
                is_rude = any(word in answer.text.lower() for word in taste)
                shares.setdefault(answer.source, []).append(is_rude)
    return {source: sum(rude) / len(rude) for source, rude in shares.items()}
