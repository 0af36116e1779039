"""Days: the weather and the seasons, and what the villagers do in them."""

from random import Random

from foundling.hamlet.chance import between, pick, sample
from foundling.hamlet.grammar import say
from foundling.hamlet.wording import capital, finish
from foundling.hamlet.world import World

# Each weather with what comes of it.
_WEATHER: dict[str, tuple[tuple[str, str], ...]] = {
    "spring": (
        ("a warm wind came from the south, and the snow was gone",
         "so the children ran out without their coats."),
        ("it rained a little, and then the sun came out", "a rainbow stood over the hill."),
        ("the [apple|cherry] trees were in flower", "because of that, the bees had much to do."),
        ("the first swallows were back", "the old people said that it had been a long winter."),
        ("lambs [jumped|played] in the meadow", "the children watched them over the wall."),
        ("there was still frost in the shade", "so nobody dared to plant the beans."),
    ),
    "summer": (
        ("it was so hot that even the [hens|dogs] were silent",
         "so people worked early and slept at noon."),
        ("there had been no rain for three weeks",
         "because of that, the garden had to be watered twice a day."),
        ("a storm came up, with thunder and big drops",
         "[everyone ran|people ran] to bring in the washing."),
        ("the hay smelt sweet", "all who had hands helped to bring it in."),
        ("it did not get dark until ten o'clock", "so nobody wanted to go to bed."),
        ("it was warm and still", "half of the village was at the river in the afternoon."),
    ),
    "autumn": (
        ("fog lay over the river", "because of that, the ferry did not go."),
        ("the wind blew the leaves from the trees", "the children threw them at each other."),
        ("the apples were ripe", "so there was much to do before the winter."),
        ("it rained from morning to night",
         "because of that, nobody stayed out longer than was needed."),
        ("the geese flew south", "people stood still and looked after them."),
        ("the mornings were cold", "so there was smoke over all the roofs."),
    ),
    "winter": (
        ("snow had fallen in the night", "so a path had to be dug to every door."),
        ("the pond was frozen", "the children slid on it until their noses were red."),
        ("it was so cold that the [ink|milk] froze", "so everyone stayed near the stove."),
        ("icicles hung from every roof", "people looked up when they went out."),
        ("the wind howled in the chimneys", "because of that, nobody slept well."),
        ("it grew dark at four o'clock", "so the lamps were lit early."),
    ),
}  # fmt: skip
_MONTHS = {
    "spring": ("March", "April", "May"),
    "summer": ("June", "July", "August"),
    "autumn": ("September", "October", "November"),
    "winter": ("December", "January", "February"),
}
_OPENINGS = (
    "it was a [morning|day] in {month}.",
    "{month} had come to {village}.",
    "in {month} the [days|mornings] in {village} are all alike, and yet each is new.",
    "it was {season} in {village}.",
    "{month}, a {day}.",
    "this is how a {day} in {month} began.",
    "it was {season}, and",
)
_ENDINGS = (
    "in the evening [there was a light in every window|the bells rang|somebody played the fiddle "
    "at the inn].",
    "nothing else happened, and nobody minded.",
    "then it was night, and {village} slept.",
    "tomorrow will be [another day|much the same].",
    "so the day went by.",
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def day(world: World, rng: Random) -> str:
    """A day: the weather, its effects, and some villagers at their habits."""
    season = pick(rng, tuple(_WEATHER))
    slots = {
        "village": world.name,
        "season": season,
        "month": pick(rng, _MONTHS[season]),
        "day": pick(rng, _DAYS),
    }
    opening = capital(say(rng, pick(rng, _OPENINGS), slots))
    (weather, effect), (again, _) = sample(rng, _WEATHER[season], 2)
    first = say(rng, weather, slots) + "."
    parts = [opening, first if opening[-1] != "." else capital(first)]
    if rng.random() < 0.65:
        parts.append(capital(say(rng, effect, slots)))
    if rng.random() < 0.25:
        parts.append(capital(say(rng, again, slots)) + ".")
    parts.append(_habits(world, rng, between(rng, 2, 4)))
    if rng.random() < 0.5:
        parts.append(_remark(world, rng, season))
    if rng.random() < 0.5:
        parts.append(capital(say(rng, pick(rng, _ENDINGS), slots)))
    return finish(" ".join(parts))


_JOINS = (", and ", ", while ", "; ", ", and ")


def _habits(world: World, rng: Random, n: int) -> str:
    text = ""
    doings: list[str] = []
    manner = pick(rng, ("", "", " as always", " as usual"))
    for i, person in enumerate(sample(rng, world.people, n)):
        doing = person.morning.past
        clause = person.name + " " + doing
        if doing in doings:
            clause = f"so did {person.name}" if doing == doings[-1] and i % 2 else f"{clause} too"
        doings.append(doing)
        if i == 0:
            text = clause + manner
        elif i % 2:
            text += (", and " if clause.startswith("so did") else pick(rng, _JOINS)) + clause
        else:
            text += ". " + pick(rng, ("", "", "then ", "at the same time ")) + clause
    return text + "."


def _remark(world: World, rng: Random, season: str) -> str:
    person = pick(rng, world.people)
    facts = world.query(person.name, "season")
    if facts[0].held_out or facts[0].value != season:
        return say(rng, pick(rng, _REMARKS), person.slots("who"))
    return say(rng, pick(rng, _GLAD), {**person.slots("who"), "season": season})


_REMARKS = (
    '"What weather!" said {who}.',
    '{who} looked at the sky and said, "[It will change|It will rain tomorrow|It could be worse]."',
    '"[At last|Well, well]," said {who}.',
    "{who} had [a cold and stayed in bed|a letter to write|no time to look at the sky].",
)
_GLAD = (
    "{who} was glad, because {who.he} loves {season} more than any other time.",
    '"I love {season}," said {who}.',
)
