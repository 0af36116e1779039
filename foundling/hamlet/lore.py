"""Lore: what everyone knows anywhere: trades, animals, seasons, things and their uses."""

from random import Random

from foundling.hamlet.chance import between, pick, sample
from foundling.hamlet.grammar import say
from foundling.hamlet.stock import JOBS, SPOTS, Job
from foundling.hamlet.wording import capital, finish, plural

_AT = {spot.name: spot.at for spot in SPOTS}

# Animal, its young, its cry, what it eats, where it lives.
_ANIMALS = (
    ("dog", "puppy", "barks", "bones", "in a kennel"),
    ("cat", "kitten", "meows", "mice", "in the house"),
    ("cow", "calf", "moos", "grass", "in the stable"),
    ("sheep", "lamb", "bleats", "grass", "in the meadow"),
    ("horse", "foal", "neighs", "oats", "in the stable"),
    ("hen", "chick", "clucks", "corn", "in the yard"),
    ("goose", "gosling", "hisses", "grass", "by the pond"),
    ("goat", "kid", "bleats", "leaves", "in the yard"),
    ("duck", "duckling", "quacks", "water plants", "on the pond"),
    ("pig", "piglet", "grunts", "turnips", "in the sty"),
    ("fox", "cub", "yelps", "hens and mice", "in a hole in the wood"),
    ("owl", "chick", "hoots", "mice", "in an old tree"),
    ("donkey", "foal", "brays", "thistles", "in the stable"),
    ("frog", "tadpole", "croaks", "flies", "in the pond"),
    ("bee", "grub", "hums", "honey", "in a hive"),
)
_USES = (
    ("knife", "cut bread"), ("needle", "sew on a button"), ("lamp", "read at night"),
    ("ladder", "climb on a roof"), ("bucket", "carry water"), ("broom", "sweep the floor"),
    ("net", "catch fish"), ("umbrella", "stay dry in the rain"), ("oven", "bake a cake"),
    ("axe", "chop wood"), ("key", "open a door"), ("clock", "know what time it is"),
    ("boat", "cross a river"), ("pen", "write a letter"), ("spade", "dig a hole"),
    ("saddle", "ride a horse"), ("hammer", "drive in a nail"), ("spoon", "eat soup"),
    ("rope", "tie up a boat"), ("bell", "call people together"), ("map", "find the way"),
    ("blanket", "keep warm in bed"), ("basket", "carry apples"), ("candle", "see in the dark"),
)  # fmt: skip
_CAUSES = (
    ("it rains for a week", "the river rises"), ("the sun shines on snow", "it melts"),
    ("a glass falls on stone", "it breaks"), ("nobody waters the beans", "they dry up"),
    ("the stove goes out", "the room grows cold"), ("you leave the gate open", "the goats get out"),
    ("milk stands too long in the sun", "it turns sour"), ("you pull a cat's tail", "it scratches"),
    ("it freezes at night", "there is ice on the pond"), ("you do not sleep", "you are tired"),
    ("you touch a hot stove", "you burn your fingers"), ("the wind drops", "the mill stands still"),
    ("you eat green apples", "your stomach hurts"), ("iron lies in the rain", "it rusts"),
    ("the moon is full", "the night is bright"), ("you shout in the church",
     "everyone turns round"),
    ("bread stays in the oven too long", "it burns"), ("leaves turn yellow", "autumn has come"),
    ("you sow in spring", "you can reap in summer"), ("you throw a stone into a pond", "it sinks"),
    ("you throw a plank into a pond", "it floats"), ("you drop a feather", "it falls slowly"),
)  # fmt: skip
_SAYINGS = (
    "Many hands make light work.", "Look before you leap.", "A good neighbour is worth a field.",
    "Wet hay warms no cow.", "Who rises late must trot all day.", "An empty sack cannot stand.",
    "One swallow does not make a summer.", "Old bridges carry the most feet.",
    "He who lends a ladder should hold it.", "Honey is sweet, but the bee stings.",
    "A closed mouth catches no flies.", "Even a small candle makes the dark step back.",
    "Do not sell the hen before she has laid.", "Still water is deep.",
)  # fmt: skip


def lore(rng: Random) -> str:
    """Two to five lines of one sort of common knowledge."""
    tell = pick(rng, (_trade, _trade, _animal, _use, _cause))
    lines = [tell(rng) for _ in range(between(rng, 2, 5))]
    if rng.random() < 0.25:
        lines.append(say(rng, pick(rng, _PROVERBIAL), {"saying": pick(rng, _SAYINGS)}))
    glue = "\n" if rng.random() < 0.3 else " "
    return finish(glue.join(capital(line) for line in dict.fromkeys(lines)))


_PROVERBIAL = ("{saying}", "as the saying goes: {saying}", "the old people say: {saying}")


def _trade(rng: Random) -> str:
    job: Job = pick(rng, JOBS)
    slots = {
        "job": job.name, "jobs": plural(job.name), "base": job.base, "third": job.third,
        "tool": job.tool, "at": _AT[job.place],
    }  # fmt: skip
    return say(rng, pick(rng, _TRADES), slots)


_TRADES = (
    "the {job} works {at}.",
    "a {job} is someone who {third}.",
    "a {job} {third}.",
    "where does the {job} work? The {job} works {at}.",
    "what does a {job} do? A {job} {third}.",
    "{jobs} {base}.",
    "whoever becomes the {job} will work {at}.",
    "{at} you will find the {job}, who {third}.",
    "it is the work of the {job} to {base}.",
    "a {job} without a good {tool} is no {job}.",
    "who {third}? The {job}.",
)


def _animal(rng: Random) -> str:
    animal, young, cry, food, home = pick(rng, _ANIMALS)
    slots = {"animal": animal, "animals": plural(animal), "young": young, "cry": cry,
             "food": food, "home": home}  # fmt: skip
    return say(rng, pick(rng, _BEASTS), slots)


_BEASTS = (
    "a {animal} {cry}.",
    "{animals} [like to eat|eat] {food}.",
    "the young of a {animal} is called a {young}.",
    "a {young} is a young {animal}.",
    "the {animal} lives {home} and eats {food}.",
    "when a {animal} {cry}, its {young} comes running.",
    "what does a {animal} eat? {food}.",
    "which animal {cry}? The {animal}.",
    "a {young} grows up to be a {animal}.",
)


def _use(rng: Random) -> str:
    (tool, act), (wrong, _) = sample(rng, _USES, 2)
    return say(rng, pick(rng, _TOOLS), {"tool": tool, "act": act, "wrong": wrong})


_TOOLS = (
    "with a {tool} one can {act}.",
    "a {tool} helps you to {act}.",
    "if you want to {act}, take a {tool}.",
    "to {act}, you need a {tool}, not a {wrong}.",
    "what is a {tool} for? You use it to {act}.",
    "nobody can {act} with a {wrong}; for that one needs a {tool}.",
    "what do you need to {act}? A {tool}.",
)


def _cause(rng: Random) -> str:
    cause, effect = pick(rng, _CAUSES)
    return say(rng, pick(rng, _IFS), {"cause": cause, "effect": effect})


_IFS = (
    "if {cause}, {effect}.",
    "when {cause}, {effect}.",
    "what happens if {cause}? {effect}.",
    "what comes of it when {cause}? {effect}.",
    "everyone knows that if {cause}, {effect}.",
)
