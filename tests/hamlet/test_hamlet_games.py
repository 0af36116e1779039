"""Games: their answers are right, balanced, and the same in every Python."""

from random import Random
from typing import NoReturn

import pytest

from foundling.hamlet import World, games
from foundling.hamlet.games import (
    ASKED,
    GROUPS,
    MOST_EXAMPLES,
    Entry,
    Game,
    games_of_names,
    registers,
)
from foundling.hamlet.pair_lists import MADE_UP, word_groups

NUM = 400
WORLD = World()


@pytest.fixture(scope="module")
def names() -> list[Game]:
    return games_of_names(1, NUM)


@pytest.fixture(scope="module")
def lists() -> list[Game]:
    return registers(WORLD, 1, NUM)


def group_of(entry: Entry) -> str:
    (group,) = (group for group, words in word_groups().items() if entry.word in words)
    return group


def within(count: int, of: int, share: float) -> bool:
    """Whether so many is what a share gives, but for four standard deviations."""
    return bool(abs(count - of * share) <= 4 * (of * share * (1 - share)) ** 0.5)


# ------------------------------------------------------------------ games of names


def test_a_group_has_one_name_and_the_asked_word_is_new(names: list[Game]) -> None:
    for game in names:
        named = {group_of(entry): entry.answers[entry.gold] for entry in game.examples}
        assert len(named) == len(set(named.values())) == GROUPS
        assert named[group_of(game.asked)] == game.asked.answers[game.asked.gold]
        words = [entry.word for entry in (game.asked, *game.examples)]
        assert len(set(words)) == len(words) == MOST_EXAMPLES + 1
        for entry in game.examples:
            assert entry.answers == game.asked.answers
            assert entry.answers[entry.gold] == named[group_of(entry)]


def test_any_beginning_of_a_list_has_as_many_of_each_group(names: list[Game]) -> None:
    for game in names:
        for count in range(0, MOST_EXAMPLES + 1, GROUPS):
            groups = [group_of(entry) for entry in game.examples[:count]]
            assert all(groups.count(group) == count / GROUPS for group in set(groups))


def test_neither_place_nor_name_nor_word_tells_the_answer(names: list[Game]) -> None:
    assert within(sum(game.asked.gold == 0 for game in names), NUM, 1 / GROUPS)
    last = [game.examples[-1] for game in names]
    same = sum(a.gold == b.asked.gold for a, b in zip(last, names, strict=True))
    assert within(same, NUM, 1 / GROUPS)
    alphabetical = sum(min(g.asked.answers) == g.asked.answers[g.asked.gold] for g in names)
    assert within(alphabetical, NUM, 1 / GROUPS)
    longest = [g for g in names if len({len(name) for name in g.asked.answers}) > 1]
    hits = sum(max(g.asked.answers, key=len) == g.asked.answers[g.asked.gold] for g in longest)
    assert within(hits, len(longest), 1 / GROUPS)


def test_names_are_drawn_anew_for_each_game(names: list[Game]) -> None:
    pairs = {frozenset(game.asked.answers) for game in names}
    assert len(pairs) > 0.9 * NUM
    assert {name for pair in pairs for name in pair} > set(MADE_UP[: len(MADE_UP) // 2])
    of_fruits = {g.asked.answers[g.asked.gold] for g in names if group_of(g.asked) == "fruit"}
    assert len(of_fruits) > 20


# ------------------------------------------------------------------ registers


def test_all_that_may_stand_in_a_register_is_true(lists: list[Game]) -> None:
    facts = {(fact.subject, fact.value, fact.relation) for fact in WORLD.facts}
    for game in lists:
        (relations,) = {
            tuple(
                next(r for r in games.RELATIONS if (entry.word, value, r) in facts)
                for value in entry.answers
            )
            for entry in (game.asked, *game.examples)
        }
        assert len(set(relations)) == ASKED
        assert {entry.gold for entry in (game.asked, *game.examples)} == {game.asked.gold}
        words = [entry.word for entry in (game.asked, *game.examples)]
        assert len(set(words)) == len(words) == MOST_EXAMPLES + 1
        assert len(set(game.asked.answers)) == ASKED


def test_the_corpus_tells_all_that_may_be_answered(lists: list[Game]) -> None:
    held_out = {(fact.subject, fact.value) for fact in WORLD.facts if fact.held_out}
    assert held_out
    for game in lists:
        assert not {(game.asked.word, value) for value in game.asked.answers} & held_out


def test_each_place_and_relation_is_right_equally_often(lists: list[Game]) -> None:
    for place in range(ASKED):
        assert within(sum(game.asked.gold == place for game in lists), NUM, 1 / ASKED)
    relation = {(f.subject, f.value): f.relation for f in WORLD.facts
                if f.relation in games.RELATIONS}  # fmt: skip
    found = [relation[g.asked.word, g.asked.answers[g.asked.gold]] for g in lists]
    assert all(within(found.count(name), NUM, 1 / len(games.RELATIONS)) for name in games.RELATIONS)


# ------------------------------------------------------------------ both


class OnlyRandom(Random):
    """Refuses what draws differently in another Python."""

    def getrandbits(self, k: int, /) -> NoReturn:
        raise AssertionError(f"getrandbits({k})")

    def choice(self, seq: object) -> NoReturn:
        raise AssertionError("choice")

    def shuffle(self, x: object) -> NoReturn:
        raise AssertionError("shuffle")

    def sample(self, population: object, k: int, **_: object) -> NoReturn:
        raise AssertionError("sample")


def test_a_seed_means_the_same_in_every_python(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [*games_of_names(3, 20), *registers(WORLD, 3, 20)]
    monkeypatch.setattr(games, "Random", OnlyRandom)
    assert [*games_of_names(3, 20), *registers(WORLD, 3, 20)] == before
    assert games_of_names(3, 30)[:20] == before[:20]
    assert games_of_names(4, 20) != before[:20]
    assert registers(WORLD, 4, 20) != before[20:]
