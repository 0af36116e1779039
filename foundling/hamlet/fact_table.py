"""The fact table: the bare facts of a village, and which of them are held out."""

from dataclasses import dataclass
from itertools import pairwise
from random import Random

from foundling.hamlet.chance import sample
from foundling.hamlet.english import number
from foundling.hamlet.village import Person, Village

# Held out by relation. The first group follows from facts that are told; the second (controls)
# follows from nothing. Together about a tenth of the table.
HELD_OUT_SHARE: dict[str, float] = {
    "owner": 0.5,
    "child": 0.4,
    "sibling": 0.4,
    "grandchild": 0.4,
    "neighbour": 0.4,
    "workplace": 0.35,
    "next_to": 0.2,
} | {"food": 0.1, "fear": 0.1, "season": 0.1, "birthday": 0.1}


@dataclass
class BareFact:
    """A fact without phrases; `derived_from` are the ids of facts that imply it."""

    subject: str
    relation: str
    value: str
    derived_from: tuple[str, ...] = ()
    held_out: bool = False

    @property
    def id(self) -> str:
        """A readable identity, unique in a world."""
        return f"{self.subject}/{self.relation}/{self.value}"


def draw_facts(village: Village, rng: Random, share: dict[str, float]) -> list[BareFact]:
    """All facts of the village, with a share of each relation held out."""
    rows = [row for person in village.people for row in _personal(person)]
    rows += _kin(village)
    for pet in village.pets:
        told = BareFact(pet.owner, "pet", pet.name)
        rows += [
            told,
            BareFact(pet.name, "owner", pet.owner, (told.id,)),
            BareFact(pet.name, "kind", pet.kind),
            BareFact(pet.name, "colour", pet.colour),
        ]
    rows += _neighbours(village)
    for place in village.row:
        for relation, value in (
            ("made_of", place.made_of),
            ("door", place.door),
            ("tree", place.tree),
        ):
            if value is not None:
                rows.append(BareFact(place.spot.name, relation, value))
    rows += _adjacent([place.spot.name for place in village.row])
    for relation, part in share.items():
        # Only the second row of an adjacent pair is held out, so that its mirror is always told.
        candidates = [
            row
            for row in rows
            if row.relation == relation and (row.derived_from or relation not in _DERIVED)
        ]
        for row in sample(rng, candidates, round(part * len(candidates))):
            row.held_out = True
    for row in rows:
        if not row.held_out:
            row.derived_from = ()
    return rows


_DERIVED = ("next_to", "neighbour")


def _personal(person: Person) -> list[BareFact]:
    values = {
        "home": person.home,
        "age": number(person.age),
        "hair": person.hair,
        "food": person.food,
        "belonging": person.belonging,
        "season": person.season,
        "birthday": person.birthday,
        "fear": person.fear,
        "morning": person.morning.base,
        "market_day": person.market.base,
        "hobby": person.hobby.base,
        "friend": person.friend,
        "spouse": person.spouse,
        "mother": person.mother,
        "father": person.father,
        "lesson": person.lesson,
        "job": person.job.name if person.job else None,
    }
    rows = [BareFact(person.name, relation, value) for relation, value in values.items() if value]
    if person.job:
        rows.append(BareFact(person.name, "workplace", person.job.place, (f"{rows[-1].id}",)))
    return rows


def _kin(village: Village) -> list[BareFact]:
    rows = []
    for person in village.people:
        for relation, parent in (("mother", person.mother), ("father", person.father)):
            if parent is None:
                continue
            told = f"{person.name}/{relation}/{parent}"
            rows.append(BareFact(parent, "child", person.name, (told,)))
            for child in village.people:
                for line, name in (("mother", child.mother), ("father", child.father)):
                    if name == person.name:
                        links = (told, f"{child.name}/{line}/{person.name}")
                        rows.append(BareFact(parent, "grandchild", child.name, links))
        for other in village.people:
            shared = person.mother and person.mother == other.mother
            if shared and other is not person:
                sources = tuple(f"{p.name}/mother/{person.mother}" for p in (person, other))
                rows.append(BareFact(person.name, "sibling", other.name, sources))
    return rows


def _adjacent(names: list[str]) -> list[BareFact]:
    rows = []
    for one, other in pairwise(names):
        told = BareFact(one, "next_to", other)
        rows += [told, BareFact(other, "next_to", one, (told.id,))]
    return rows


def _neighbours(village: Village) -> list[BareFact]:
    """Houses stand in a row; the heads of houses that stand side by side are neighbours."""
    rows = _adjacent(list(village.houses))
    heads: dict[str, Person] = {}
    for person in village.people:
        heads.setdefault(person.home, person)
    for one, other in pairwise(village.houses):
        for a, b in ((one, other), (other, one)):
            links = (
                f"{heads[a].name}/home/{a}",
                f"{heads[b].name}/home/{b}",
                f"{one}/next_to/{other}",
            )
            rows.append(BareFact(heads[a].name, "neighbour", heads[b].name, links))
    return rows
