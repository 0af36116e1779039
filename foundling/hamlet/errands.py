"""Errands: a villager needs a thing, goes to the one who makes it, meets a hitch and gets by."""

from random import Random

from foundling.hamlet.chance import pick
from foundling.hamlet.grammar import say
from foundling.hamlet.wording import capital, finish
from foundling.hamlet.world import World

# What one can get from each trade, and why one may need it.
_GOODS: dict[str, tuple[tuple[str, str], ...]] = {
    "baker": (("a loaf of bread", "guests were coming to supper"),
              ("a cake with candles", "there was a birthday in the house"),
              ("a bag of rolls", "there was nothing for breakfast")),
    "miller": (("a sack of flour", "the flour bin was empty"),
               ("some corn for the hens", "the hens had stopped laying")),
    "smith": (("a new hinge", "the gate would not shut"),
              ("an iron key", "the old key was lost"),
              ("four horseshoes", "the pony had lost its shoes")),
    "innkeeper": (("a large ham", "an uncle was coming from the town"),
                  ("a jug of cider", "there was a wedding the next day")),
    "teacher": (("a book about birds", "the evenings were long"),
                ("a box of chalk", "the slate was clean and the head was full")),
    "vicar": (("an old hymn book", "the choir was to sing on Sunday"),
              ("a candle", "there was a child to be named")),
    "shepherd": (("a bag of wool", "winter was near and all the socks had holes"),
                 ("a young lamb", "the meadow needed something to eat the grass")),
    "carpenter": (("a new chair", "the old one had lost a leg"),
                  ("a shelf", "the books lay on the floor")),
    "farmer": (("a cartload of straw", "the stable was wet"),
               ("a bag of potatoes", "the cellar was empty")),
    "gardener": (("a bunch of roses", "it was a wedding day"),
                 ("some beans to plant", "the birds had eaten all the seeds")),
    "fisherman": (("two trout", "it was Friday, and there was no meat"),
                  ("an old net", "the birds were eating the cherries")),
    "grocer": (("a pound of sugar", "it was time to make jam"),
               ("a box of candles", "the nights were long and dark"),
               ("a packet of tea", "an aunt was coming who drank nothing else")),
    "beekeeper": (("a jar of honey", "the children had bad coughs"),
                  ("some wax", "the table had lost its shine")),
    "woodcutter": (("a load of logs", "the first frost had come"),
                   ("a long pole", "the washing line had fallen down")),
    "dairymaid": (("a pat of butter", "there were pancakes to be made"),
                  ("a round cheese", "there was a long journey to make")),
    "potter": (("a big bowl", "the old bowl had been dropped"),
               ("six cups", "there were more guests than cups")),
    "doctor": (("some cough mixture", "a cold had lasted for a week"),
               ("a bandage", "the saw had slipped")),
    "weaver": (("a warm blanket", "the bedroom was as cold as a cave"),
               ("some blue cloth", "a coat had to be ready for Sunday")),
    "cobbler": (("new soles", "there were holes in both boots"),
                ("a leather strap", "the old one had broken")),
    "ferryman": (("a coil of rope", "the cow had broken loose"),
                 ("an oar", "the old oar had drifted away")),
    "postman": (("a stamp", "a letter had to go to the city"),
                ("some writing paper", "there was much news to tell")),
}  # fmt: skip

_NEEDS = (
    "{who} needed {good}, because {why}.",
    "{why}, and so {who} needed {good}.",
    "because {why}, {who} went out to get {good}.",
    "{who} wanted {good}, for {why}.",
    "as {why}, there was no way round it: {who} had to have {good}.",
    'early in the morning {who} said, "I must get {good} today." The reason was that {why}.',
)
_GOES = (
    "for such things one goes to {maker}, the {job}.",
    "so {who.he} took {who.his} coat and went to see {maker} the {job}.",
    "{maker} is the {job}, and {who} knocked at {maker.his} door.",
    "{who.he} met {maker}, the {job}, [on the way|{place.at}|near the bridge] and told "
    "{maker.him} about it.",
    'the {job}, {maker}, was just [having tea|coming home|washing {maker.his} hands]. "What can '
    'I do for you?" {maker.he} asked.',
)
_HITCHES = (
    ("but {maker} had none left, for [a stranger|the innkeeper's cousin|an old lady] had bought "
     "everything.",
     '"Come again tomorrow," said {maker}, and {who} [did so|came back the next day].'),
    ("but {who} had forgotten {who.his} purse.",
     '{maker} [smiled|shrugged] and said, "You can pay me on Saturday."'),
    ("but {maker} was ill that day and lay in bed.",
     "{who} [made tea for {maker.him}|lit the stove for {maker.him}], and two days later "
     "everything was ready."),
    ("there was a long line of people before {who}.",
     "{who.he} waited [an hour|all morning], and it was not in vain."),
    ("but {maker} asked for [six|eight] coins, and {who} had only [four|five].",
     "so {who} [carried water|swept the yard|chopped wood] for an hour, and they called it even."),
    ("but the price was too high, and {who} shook {who.his} head.",
     "they talked it over, and in the end {who} paid with [a dozen eggs|a basket of plums|a hen]."),
    ("{maker} had everything ready before {who} had finished speaking.",
     '"That was quick," said {who}. "I saw you coming," said {maker}.'),
    ('{maker} scratched {maker.his} head. "That is not so easy," {maker.he} said.',
     "but {maker} is good at {maker.his} work, and by evening it was done."),
    ("but {maker} did not hear well, and brought something else.",
     "{who} laughed and [asked again, louder|drew a picture], and then it was right."),
)  # fmt: skip
_ENDS = (
    "{who} thanked {maker} and went home.",
    "on the way home {who} met {other} and told {other.him} all about it.",
    "{who} was [content|very pleased], and so was {maker}.",
    '"[Good luck|Good day] to you," said {maker}.',
    "when {who} came home, {other} was waiting at the gate.",
    "that is how things are done in {village}.",
    "{other} saw it and wanted the same.",
    "it had taken the whole day, but it was worth it.",
    "that night {who} slept well.",
)


def errand(world: World, rng: Random) -> str:
    """One errand to a villager with a trade."""
    maker = pick(rng, [person for person in world.people if person.job])
    job = maker.job.name if maker.job else ""
    who = pick(rng, [p for p in world.people if p is not maker and p.woman != maker.woman])
    other = pick(rng, [p for p in world.people if p is not maker and p is not who])
    good, why = pick(rng, _GOODS[job])
    slots = {
        **who.slots("who"), **maker.slots("maker"), **other.slots("other"),
        "good": good, "why": why, "job": job, "village": world.name,
        "place.at": pick(rng, world.places).spot.at,
    }  # fmt: skip
    hitch, way_out = pick(rng, _HITCHES)
    lines = [pick(rng, _NEEDS), pick(rng, _GOES), hitch, way_out]
    if rng.random() < 0.7:
        lines.append(pick(rng, _ENDS))
    return finish(" ".join(capital(say(rng, line, slots)) for line in lines))
