"""The world: a village and the table of its facts, which says what is true."""

from collections.abc import Iterable, Mapping
from random import Random

from foundling.hamlet import stock
from foundling.hamlet.chance import sample
from foundling.hamlet.english import number
from foundling.hamlet.fact_table import HELD_OUT_SHARE, draw_facts
from foundling.hamlet.facts import Fact
from foundling.hamlet.village import Person, Pet, Place, Village, draw_village


class World:
    """The village of a seed. Seed 0, the default, is the village of demo and tests."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.village: Village = draw_village(seed)
        self.people: tuple[Person, ...] = self.village.people
        self.pets: tuple[Pet, ...] = self.village.pets
        self.places: tuple[Place, ...] = self.village.row
        self._people = {person.name: person for person in self.people}
        self._pets = {pet.name: pet for pet in self.pets}
        self._spots = {place.spot.name: place.spot for place in self.places}
        self.facts: tuple[Fact, ...] = self._table()
        self._by_subject: dict[str, list[Fact]] = {}
        self._by_relation: dict[str, list[Fact]] = {}
        for fact in self.facts:
            self._by_relation.setdefault(fact.relation, []).append(fact)
            self._by_subject.setdefault(fact.subject, []).append(fact)
        self._stated = {
            subject: tuple(fact for fact in facts if not fact.held_out)
            for subject, facts in self._by_subject.items()
        }
        self.told = tuple(fact for fact in self.facts if not fact.held_out)
        self._by_id = {fact.id: fact for fact in self.facts}
        self._values: dict[str, tuple[str, ...]] = {}
        for fact in self.facts:
            known = self._values.get(fact.relation, ())
            if fact.value not in known:
                self._values[fact.relation] = (*known, fact.value)

    @property
    def name(self) -> str:
        """The village's name."""
        return self.village.name

    def person(self, name: str) -> Person:
        """The villager of this first name. Raises KeyError where there is none."""
        return self._people[name]

    def pet(self, name: str) -> Pet:
        """The animal of this name. Raises KeyError where there is none."""
        return self._pets[name]

    def fact(self, id: str) -> Fact:
        """The fact of this id. Raises KeyError where there is none."""
        return self._by_id[id]

    def facts_of(self, subject: str) -> tuple[Fact, ...]:
        """All facts of a person, pet, house or place, held-out ones too."""
        return tuple(self._by_subject.get(subject, ()))

    def stated_facts_of(self, subject: str) -> tuple[Fact, ...]:
        """The facts that the corpus may state."""
        return self._stated.get(subject, ())

    def query(
        self, subject: str | None = None, relation: str | None = None, value: str | None = None
    ) -> tuple[Fact, ...]:
        """The facts that match all that is given."""
        facts: Iterable[Fact] = self.facts
        if subject is not None:
            facts = self.facts_of(subject)
        elif relation is not None:
            facts = self._by_relation.get(relation, ())
        return tuple(
            fact
            for fact in facts
            if (relation is None or fact.relation == relation)
            and (value is None or fact.value == value)
        )

    def is_true(self, subject: str, relation: str, value: str) -> bool:
        """Whether the table has this fact."""
        return bool(self.query(subject, relation, value))

    def falsehoods(self, fact: Fact, n: int, rng: Random) -> tuple[str, ...]:
        """Up to n different values of the same kind that are false of the fact's subject."""
        truths = {f.value for f in self.query(fact.subject, fact.relation)}
        barred = truths | {fact.subject}
        candidates = [v for v in self._values[fact.relation] if v not in barred]
        if fact.value in self._people:
            candidates = self._others(self._people[fact.value], barred, n)
        elif fact.value in self._pets:
            kind = self._pets[fact.value].kind
            names = [name for name in stock.pets()[kind] if name not in barred]
            candidates = names if len(names) >= n else candidates
        elif fact.relation == "next_to":
            like = self.village.houses if fact.value in self.village.houses else tuple(self._spots)
            candidates = [name for name in like if name not in barred]
        elif fact.relation == "age":
            age = self._people[fact.subject].age
            near = [number(a) for a in range(max(6, age - 6), age + 7)]
            candidates = [a for a in near if a not in barred]
        return tuple(sample(rng, candidates, n))

    def _others(self, true: Person, barred: set[str], n: int) -> list[str]:
        """Plausible names in place of this person's: like in age and gender, best unrelated."""
        alike = [p for p in self.people if p.child == true.child and p.name not in barred]
        same = [p for p in alike if p.woman == true.woman]
        strangers = [p for p in same if p.surname != true.surname]
        for choice in (strangers, same):
            if len(choice) >= n:
                return [p.name for p in choice]
        return [p.name for p in alike]

    def claim(self, subject: str, relation: str, value: str) -> Fact:
        """A claim, true or not, that can be phrased as a fact; it is not in the table."""
        slots, pronouns = self._slots(subject, relation, value)
        return Fact(f"claim/{subject}/{relation}/{value}", subject, relation, value,
                    slots=slots, pronoun_slots=pronouns)  # fmt: skip

    def _table(self) -> tuple[Fact, ...]:
        rows = draw_facts(self.village, Random(f"hamlet held out {self.seed}"), HELD_OUT_SHARE)
        facts = []
        for row in rows:
            slots, pronouns = self._slots(row.subject, row.relation, row.value)
            facts.append(
                Fact(
                    row.id,
                    row.subject,
                    row.relation,
                    row.value,
                    row.held_out,
                    row.derived_from,
                    slots,
                    pronouns,
                )
            )
        return tuple(facts)

    def _slots(
        self, subject: str, relation: str, value: str
    ) -> tuple[Mapping[str, str], Mapping[str, str]]:
        slots = {**self._forms("s", subject, relation), **self._forms("v", value, relation)}
        he = slots["s.he"]
        pronouns = {**slots, "s": he, "s.s": slots["s.his"], "s.the": he}
        return slots, pronouns

    def _forms(self, role: str, text: str, relation: str) -> dict[str, str]:
        forms = {"": text, ".s": text + "'s", ".he": "it", ".his": "its"}
        if text in self._people and relation not in ("kind", "colour"):
            woman = self._people[text].woman
            he, his = ("she", "her") if woman else ("he", "his")
            forms |= {".he": he, ".his": his}
            for man, wife in _GENDERED:
                forms["." + man] = wife if woman else man
            forms[".wife"] = "wife" if woman else "husband"
            forms[".mother"] = "mother" if woman else "father"
            forms[".grandmother"] = "grandmother" if woman else "grandfather"
        elif role == "s" and text in self._pets:
            forms[".kind"] = self._pets[text].kind
        elif relation == "pet":
            forms[".kind"] = next(k for k, names in stock.pets().items() if text in names)
        elif relation in stock.habits():
            forms[".third"] = stock.habits()[relation][text].third
        elif text in self._spots:
            forms |= {".the": "the " + text, ".at": self._spots[text].at}
        elif relation == "next_to":
            forms[".the"] = text
        return {role + form: said for form, said in forms.items()}


_GENDERED = (("son", "daughter"), ("brother", "sister"), ("grandson", "granddaughter"))
