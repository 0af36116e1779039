"""The village: its people, pets, houses and places, drawn from the stock by a seed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from foundling.hamlet import stock
from foundling.hamlet.chance import between, pick, sample, shuffled
from foundling.hamlet.stock import STOCK, Habit, Job, Spot


@dataclass
class Person:
    """A villager. Relatives, friend and pet are names; None where there is none."""

    name: str
    surname: str
    woman: bool
    age: int
    home: str
    hair: str
    food: str
    belonging: str
    season: str
    birthday: str
    fear: str
    morning: Habit
    market: Habit
    hobby: Habit
    job: Job | None = None
    lesson: str | None = None
    spouse: str | None = None
    mother: str | None = None
    father: str | None = None
    friend: str | None = None
    pet: str | None = None

    @property
    def child(self) -> bool:
        """Whether the villager still goes to school."""
        return self.age < 18

    @property
    def noun(self) -> str:
        """woman, man, girl or boy."""
        return ("girl" if self.woman else "boy") if self.child else "woman" if self.woman else "man"

    def slots(self, role: str) -> dict[str, str]:
        """The slots of this person in a template's role: `{who}`, `{who.his}`, `{who.s}` ..."""
        he, him, his = ("she", "her", "her") if self.woman else ("he", "him", "his")
        title = f"the {self.job.name}" if self.job else f"the {self.surname} {self.noun}"
        forms = {
            "s": self.name + "'s",
            "he": he,
            "him": him,
            "his": his,
            "self": him + "self" if self.woman else "himself",
            "noun": self.noun,
            "title": title,
            "full": f"{self.name} {self.surname}",
            "surname": self.surname,
            "home": self.home,
            "hair": self.hair,
            "belonging": self.belonging,
        }
        return {role: self.name} | {f"{role}.{form}": text for form, text in forms.items()}


@dataclass(frozen=True)
class Pet:
    """An animal with a name and an owner."""

    name: str
    kind: str
    colour: str
    owner: str


@dataclass(frozen=True)
class Place:
    """A place of the village; None where it has no walls, door or tree of its own."""

    spot: Spot
    made_of: str | None
    door: str | None
    tree: str | None


@dataclass
class Village:
    """A village. `row` and `houses` are in the order in which they stand."""

    name: str
    people: tuple[Person, ...]
    pets: tuple[Pet, ...]
    row: tuple[Place, ...]
    houses: tuple[str, ...]
    streets: Mapping[str, str] = field(default_factory=dict)


# Parents, children, then grandparents (of the first parent): thirty people in eleven houses.
_HOUSEHOLDS = (
    ("fm", 2, "f"),
    ("fm", 3, ""),
    ("mf", 2, "m"),
    ("fm", 1, ""),
    ("mf", 0, ""),
    ("fm", 2, ""),
    ("f", 1, ""),
    ("m", 0, ""),
    ("f", 0, ""),
    ("m", 0, ""),
    ("f", 0, ""),
)


def draw_village(seed: int) -> Village:
    """The village of this seed."""
    rng = Random(f"hamlet village {seed}")
    women, men = shuffled(rng, STOCK["women"]), shuffled(rng, STOCK["men"])
    surnames, houses = shuffled(rng, STOCK["surnames"]), shuffled(rng, STOCK["homes"])
    people: list[Person] = []

    def person(woman: bool, age: int, surname: str, home: str) -> Person:
        grey = age > 60
        new = Person(
            name=(women if woman else men).pop(),
            surname=surname,
            woman=woman,
            age=age,
            home=home,
            hair=pick(rng, ("grey", "white") if grey else ("red", "black", "brown", "fair")),
            food=pick(rng, STOCK["foods"]),
            belonging=pick(rng, STOCK["belongings"]),
            season=pick(rng, STOCK["seasons"]),
            birthday=pick(rng, STOCK["months"]),
            fear=pick(rng, STOCK["fears"]),
            morning=_habit(rng, "morning"),
            market=_habit(rng, "market_day"),
            hobby=_habit(rng, "hobby"),
        )
        people.append(new)
        return new

    for number, (adults, num_children, elders) in enumerate(_HOUSEHOLDS):
        surname, home = surnames[number], houses[number]
        age = between(rng, 32, 46)
        parents = [person(who == "f", age + between(rng, 0, 5), surname, home) for who in adults]
        if len(parents) == 2:
            parents[0].spouse, parents[1].spouse = parents[1].name, parents[0].name
        ages = sample(rng, range(6, 16), num_children)
        for child_age in sorted(ages, reverse=True):
            child = person(rng.random() < 0.5, child_age, surname, home)
            child.lesson = pick(rng, STOCK["lessons"])
            for parent in parents:
                if parent.woman:
                    child.mother = parent.name
                else:
                    child.father = parent.name
        for who in elders:
            elder = person(who == "f", age + between(rng, 24, 30), surname, home)
            if elder.woman:
                parents[0].mother = elder.name
            else:
                parents[0].father = elder.name
    _give_jobs(rng, people)
    _make_friends(rng, people)
    pets = _give_pets(rng, people)
    lived_in = tuple(houses[: len(_HOUSEHOLDS)])
    streets = STOCK["streets"]
    return Village(
        name=pick(rng, STOCK["villages"]),
        people=tuple(people),
        pets=pets,
        row=_lay_out(rng),
        houses=lived_in,
        streets={house: streets[i * 4 // len(lived_in)] for i, house in enumerate(lived_in)},
    )


def _habit(rng: Random, relation: str) -> Habit:
    return pick(rng, tuple(stock.habits()[relation].values()))


def _give_jobs(rng: Random, people: list[Person]) -> None:
    jobs = shuffled(rng, stock.jobs())
    for person in people:
        if person.child:
            continue
        barred = STOCK["men's jobs" if person.woman else "women's jobs"]
        place = next(i for i in range(len(jobs) - 1, -1, -1) if jobs[i].name not in barred)
        person.job = jobs.pop(place)


def _make_friends(rng: Random, people: list[Person]) -> None:
    for person in people:
        others = [
            other
            for other in people
            if other.child == person.child and other.surname != person.surname
        ]
        person.friend = pick(rng, others).name


def _give_pets(rng: Random, people: list[Person]) -> tuple[Pet, ...]:
    names = {kind: shuffled(rng, known) for kind, known in stock.pets().items()}
    kinds = shuffled(rng, [kind for kind, known in stock.pets().items() for _ in known[:3]])
    pets = []
    for person in sample(rng, people, 18):
        kind = kinds.pop()
        pet = Pet(names[kind].pop(), kind, pick(rng, STOCK["colours"]), person.name)
        person.pet = pet.name
        pets.append(pet)
    return tuple(pets)


def _lay_out(rng: Random) -> tuple[Place, ...]:
    return tuple(
        Place(
            spot,
            pick(rng, STOCK["stuffs"]) if spot.building else None,
            pick(rng, STOCK["paints"]) if spot.building else None,
            pick(rng, STOCK["trees"]) if rng.random() < 0.5 else None,
        )
        for spot in shuffled(rng, stock.spots())
    )
