"""Letters: what the villagers write to each other, on paper and on the notice board."""

from random import Random

from foundling.hamlet.chance import between, pick, sample
from foundling.hamlet.grammar import say
from foundling.hamlet.portraits import tell
from foundling.hamlet.wording import capital, finish, listing
from foundling.hamlet.world import World

_GREETINGS = ("Dear {to},", "My dear {to},", "Dear friend {to},")
_THANKS = (
    "thank you for your letter, which came [on Monday|yesterday|a week ago].",
    "I hope that you are well.",
    "it is a long time since I wrote to you.",
    "how are you? I am well.",
    "I am writing by candlelight, because it is late.",
    "forgive me that I write so seldom.",
    "you asked for news, so here it is.",
)
_NEWS = (
    "here it has rained [all week|for days], and the [road|garden] is under water.",
    "we had [a good harvest|many plums|little hay] this year.",
    "the [hen|goose] has [hatched seven chicks|run away again].",
    "last week I [mended the roof|painted the door|made jam], and now my back hurts.",
    "there was a dance at the inn, and I danced until my shoes had holes.",
    "I had a cold, but it is better now.",
    "somebody has stolen my [best cabbage|left boot], and I think it was the fox.",
    "the new clock is always wrong, so we are all late together.",
    "yesterday I saw a [heron|deer|white owl] {place.at}.",
    "I have learned to [knit|skate|whistle], but not very well.",
    "it is so quiet here that one can hear the [snow|apples] fall.",
)
_REQUESTS = (
    "could you [lend me your ladder|bring me some thread|send me the recipe for your soup]?",
    "please come and see me [on Sunday|when the road is dry].",
    "do not forget the [basket|book] that I lent you.",
    "if you come, bring [warm socks|a good appetite|your fiddle].",
    "tell me what you think.",
    "write soon.",
)
_CLOSINGS = ("Yours,", "With love,", "Your old friend,", "Best wishes from")


def letter(world: World, rng: Random) -> str:
    """A letter from one villager to another, with news of a third."""
    sender, receiver, third = sample(rng, world.people, 3)
    slots = {"to": receiver.name, "place.at": pick(rng, world.places).spot.at}
    body = [say(rng, pick(rng, _THANKS), slots)]
    body += [say(rng, source, slots) for source in sample(rng, _NEWS, between(rng, 1, 2))]
    if rng.random() < 0.7:
        facts = [
            fact for fact in world.stated_facts_of(third.name)
            if fact.value not in (sender.name, receiver.name)
        ]  # fmt: skip
        opening = pick(rng, ("you wanted to know about {x}.", "now about {x}.",
                             "I also met {x}."))  # fmt: skip
        body.append(opening.format(x=third.name))
        body.append(tell(world, rng, sample(rng, facts, between(rng, 1, 3)), name_first=False))
    if rng.random() < 0.75:
        body.append(say(rng, pick(rng, _REQUESTS), slots))
    closing = pick(rng, _CLOSINGS)
    greeting = say(rng, pick(rng, _GREETINGS), slots)
    glue = " " if closing.endswith("from") else "\n"
    text = " ".join(capital(sentence) for sentence in body)
    return finish(f"{greeting}\n{text}\n{closing}{glue}{sender.name}")


_LOST = (
    "Lost: {pet}, a {colour} {kind}. {pet} was last seen {place.at}. Whoever finds {pet} will "
    "get [a cake|five coins|my thanks].",
    "My {kind} {pet} has run away. {pet} is {colour} and [answers to a whistle|likes "
    "cheese|bites]. Please look in your sheds.",
    "Found {place.at}: one {colour} {kind}. It seems to be {pet}. It has already eaten my "
    "[lunch|hat].",
    "Has anyone seen {pet}? The {kind} is {colour} and has been gone since [Monday|the storm].",
)
_SALE = (
    "For sale: {things}. Ask for {who} at {home}.",
    "{who} has {things} to sell. Come [before noon|on Saturday] to {home}.",
    "Wanted: {things}. I pay fair prices. {who}, {home}.",
    "To give away to good hands: {things}. Come and see {who}.",
)
_EVENTS = (
    "On {day} at [six|seven|eight] o'clock there will be [a dance|music|a story evening] "
    "{place.at}. [Bring a chair|Bring your own cup|Children may come too].",
    "The market is on {day}. There will be {things}, and much more.",
    "The bridge is closed until {day}, because [a plank is broken|the water is high]. Please "
    "take the [ford|ferry].",
    "There is no school on {day}, because the [stove is broken|teacher has a cold].",
    "On {day} we will clean the well. Everyone who drinks from it should come.",
    "Whoever took {thing} from {home}: bring it back, and no more will be said. {who}",
    "The singing club meets on {day} {place.at}. [No one sings too badly for us|New voices are "
    "welcome].",
)
_THINGS = (
    "a cradle", "two chairs", "a brown cow", "a pair of boots", "ten jars of honey", "an old clock",
    "a sack of potatoes", "three hens", "a stove", "a fiddle with one string", "six plates",
    "a good ladder", "fresh eggs", "a wheelbarrow", "apples", "a warm coat", "some rope",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_HEADS = ("Notice\n", "NOTICE\n", "To all: ", "", "", "")


def notice(world: World, rng: Random) -> str:
    """A notice on the board: something lost, for sale or to happen."""
    who = pick(rng, world.people)
    pet = pick(rng, world.pets)
    slots = {
        **who.slots("who"), "home": who.home, "day": pick(rng, _DAYS),
        "things": listing(sample(rng, _THINGS, between(rng, 1, 3))),
        "thing": pick(rng, _THINGS[:1] + _THINGS[5:6] + _THINGS[11:12]),
        "place.at": pick(rng, world.places).spot.at,
        "pet": pet.name, "kind": pet.kind, "colour": pet.colour,
    }  # fmt: skip
    draw = rng.random()
    if draw < 0.35:
        text = say(rng, pick(rng, _LOST), slots)
        if rng.random() < 0.6 and "Found" not in text:
            text += f" {pet.owner}"
    elif draw < 0.65:
        text = say(rng, pick(rng, _SALE), slots)
    else:
        text = say(rng, pick(rng, _EVENTS), slots)
    return finish(pick(rng, _HEADS) + text)
