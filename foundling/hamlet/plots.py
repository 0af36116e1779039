"""Plots: the tables of small stories, each a want, an obstacle, an act and a result.

A plot is phases divided by `~`; every line of a phase is one way of telling it and fits every line
of the phases around it. `needs` names what the cast must have (see `stories`).
"""

from typing import NamedTuple


class Plot(NamedTuple):
    """A story's phases, each with the ways of telling it."""

    name: str
    needs: tuple[str, ...]
    phases: tuple[tuple[str, ...], ...]


def plot(name: str, needs: str, text: str) -> Plot:
    """The plot that a block of text lays out."""
    phases = text.strip().split("~")
    return Plot(
        name,
        tuple(needs.split()),
        tuple(tuple(" ".join(s.split()) for s in p.strip().splitlines()) for p in phases),
    )


PLOTS: tuple[Plot, ...] = (
    plot("lost pet", "pet", """
    {intro} could not find {pet} [anywhere|that day].
    when {intro} came home, {pet} was gone.
    {intro} called and called, but {pet} did not come.
    ~
    {who.he} looked behind the [barn|mill|church], under the [bridge|hedge|cart] and even in \
        the well.
    {who.he} asked everyone {place.at}, but nobody had seen the {pet.kind}.
    {who.he} walked [all the way|twice] round {place} and shouted the name of {pet}.
    ~
    then {other} said, "I heard a noise [in the old shed|under the floor|behind the haystack]."
    {other} came running. "Come quickly," {other.he} cried. "I think I know where {pet} is!"
    at last {other} pointed to [a hole in the wall|the broken fence]. There was hair on it.
    ~
    the {pet.kind} had crept in because of the [storm|thunder|cold] and could not get out again.
    there sat {pet}, who had followed the smell of food and got stuck.
    it was {pet} indeed, [wet|dusty] and hungry, but not hurt.
    ~
    {who} was so happy that {who.he} [danced|wept|gave {other} a cake].
    {who} thanked {other} and carried {pet} home.
    since then {who} [shuts the gate with care|counts {who.his} animals every night].
    that night {pet} slept at the foot of {who.his} bed.
    """),
    plot("mended tool", "adult smith", """
    {intro} wanted to {act}, but the [handle|blade] of the {tool} broke.
    when {intro} went out to {act}, the {tool} broke in two.
    {intro} had an old {tool}. One day it fell apart.
    ~
    the [iron|wood] was old, and {who} had left it out in the rain.
    it broke because {who} had used it to lift a stone.
    nobody was to blame, for it had been {who.his} grandfather's.
    ~
    so {who.he} took the {tool} to {smith}, the smith.
    "Only {smith} can mend this," {who.he} thought, and {who.he} went to find the smith.
    ~
    {smith} [looked at it|shook {smith.his} head] and made the fire hot.
    "Leave it here until [evening|tomorrow]," said {smith}.
    ~
    when {who} came back, the {tool} was [as good as new|stronger than before].
    soon the hammer rang, and before the bell struck six the {tool} was whole again.
    ~
    {who} paid with [a basket of eggs|three coins|a jar of honey].
    "[What do I owe you?|How can I thank you?]" asked {who}. "Only keep it dry," said {smith}.
    from that day on {who} kept the {tool} under a roof.
    """),
    plot("burnt cooking", "adult", """
    {intro} put [a pie|a cake|a loaf] in the oven and sat down [to rest|by the window].
    {intro} was baking [a pie|a cake|a loaf] for {other}.
    ~
    but {who.he} had slept badly, and soon {who.he} [was fast asleep|began to snore].
    then {place_noise} was heard outside, and {who.he} ran out to see what it was.
    {who.he} began to [read a letter|talk with {other}] and forgot everything else.
    ~
    when {who.he} looked again, black smoke came out of the oven.
    a smell of burning filled the house.
    ~
    "Oh no!" cried {who}. {who.He} opened the oven, but it was too late.
    {who} pulled it out, but it was as black as coal.
    ~
    there was nothing left to eat but [bread and cheese|cold soup|a few apples].
    the hens would not eat it, and even the pig turned away.
    ~
    {other} laughed and said, "[I have eaten worse|Next time, I will watch it for you]."
    so {other} shared {other.his} supper with {who}, and they [laughed|talked] until late.
    the next day {who} tried again, and this time {who.he} did not leave the oven.
    """),
    plot("high water", "", """
    it had rained for [three|four|five] days, and the river rose.
    after the [long rain|great storm], the water stood as high as the bridge.
    ~
    {intro} had to bring [medicine|flour|a letter] to {other}, who was on the other side.
    {intro} wanted to cross, because {other} was waiting on the other side.
    ~
    "You cannot cross here," said an old man. "The [planks are loose|bridge is not safe]."
    but the water had carried the bridge away.
    {who} put one foot on the bridge, and a plank fell into the river.
    ~
    so {who.he} walked a mile up the river to the old stone ford.
    so {who.he} [borrowed|took] a small boat and rowed with all {who.his} strength.
    so {who.he} tied a rope to a tree and held on to it all the way across.
    ~
    {who.he} was wet to the skin, but {who.he} got there before dark.
    it took [two hours|the whole afternoon], and {who.his} shoes were full of water.
    ~
    {other} gave {who.him} dry clothes and hot soup.
    "You came after all!" cried {other}, and put more wood on the fire.
    a week later the whole village came to build a new bridge.
    """),
    plot("cat in tree", "", """
    a [kitten|young cat|white cat] had climbed the tall tree near {place} and did not dare to \
        come down.
    high in a tree {place.at} sat a [kitten|young cat] and cried.
    ~
    {intro} heard it and wanted to help.
    "Poor thing," said {intro}. "I will get you down."
    ~
    {who.he} [put|stood] a ladder against the tree, but the ladder was too short.
    {who.he} began to climb, but a branch broke, and {who.he} fell into the [grass|nettles].
    {who.he} held out a piece of fish, but the cat only cried louder.
    ~
    then {other} had an idea. They [held a blanket under the tree|tied two ladders together].
    then came {other} with a basket on a long rope.
    ~
    in the end the cat [jumped|came down] all by itself and walked away as if nothing had happened.
    at last the cat was down, and it [scratched {who.his} hand|drank a whole bowl of milk].
    ~
    "No thanks at all," said {who}, and {other} laughed.
    "Cats!" said {other}.
    since that day the cat has slept at {who.home}.
    it went up again the very next morning.
    """),
    plot("present", "friend belonging", """
    it was the birthday of {friend}, and {intro} had no present.
    {intro} wanted to give {friend} a present, for they were good friends.
    ~
    {who.he} had [only two coins|no money left], and [ribbons|books|silver spoons] were dear.
    {who.he} went to the shop, but everything there cost too much.
    ~
    {who.he} thought for a long time. Then {who.he} [sat down and made|began to carve] a little \
        wooden bird.
    so {who.he} picked [flowers|berries] in the meadow until {who.his} basket was full.
    so {who.he} wrote a song and learned it by heart.
    ~
    {friend} opened the door, and {who} [grew red|was shy] and said, "It is not much."
    in the evening {who} knocked at the door of {friend.home}.
    ~
    "[It is the best of all my presents|Nobody ever gave me such a thing]," said {friend}.
    {friend} was so glad that {friend.he} could not speak.
    ~
    {friend} keeps the memory of it to this day.
    and {who} went home happy, with {who.his} {who.belonging} in {who.his} hand.
    they ate cake together until there was none left.
    """),
    plot("wrong letter", "postman", """
    {postman} the postman brought a letter to {intro}.
    one morning {postman}, the postman, left a letter at {who.home}.
    ~
    {who} opened it and read: "Come at once. I have [found the gold|sold the house|missed you]."
    it said only: "Meet me {place.at} at six. Bring [a spade|a lamp|money]."
    ~
    {who} [did not understand a word|thought about it all day]. Who could have written it?
    {who} [waited all evening|looked out of the window all day], but nobody came.
    ~
    then {who.he} looked at the name on the letter. It was not for {who.him} at all; it was for \
        {other}!
    then {other} knocked and asked, "Have you by chance got a letter of mine?"
    ~
    {postman} had lost {postman.his} glasses and could not read the names.
    the rain had washed half of the name away, and so {postman} had made a mistake.
    ~
    {who} gave the letter to {other} and said [that {who.he} was sorry|nothing of what {who.he} \
        had read].
    they all laughed about it, and {postman} got new glasses.
    """),
    plot("bees", "adult", """
    {intro} wanted honey and went to the hives [without a hat|without asking].
    there was a nest of bees in the roof of {who.home}, and {intro} wanted to move it.
    ~
    {who.he} [hummed|whistled] so loudly that the bees grew angry.
    {who.he} knocked over a hive because {who.he} was in a hurry.
    ~
    they came out like a black cloud, and {who} ran [down the lane|across the meadow].
    "Run!" cried {other}, but {who} was running already.
    ~
    there was only one way out: {who.he} jumped into the pond.
    {who.he} did not stop until {who.he} was up to the neck in water.
    ~
    {other} [put cold mud|laid onions] on {who.his} red nose.
    for three days {who} could not [open one eye|wear a hat].
    ~
    "Bees do not like hurry," said {other}.
    the honey was very good, but {who} [buys it now|has never tasted it].
    from then on {who.he} was always polite to bees.
    """),
    plot("snowed in", "", """
    in January the snow fell for two days, until it lay as high as the windows.
    that winter there was so much snow that no cart could leave the village.
    ~
    {intro} had no more [wood|flour|milk] in the house.
    {intro} knew that {other} was alone and had little wood left.
    ~
    {who.he} took a shovel and dug a path, but the wind filled it again.
    {who.he} wanted to go out, but the door was frozen shut.
    ~
    so {who.he} climbed out of the window and [slid|walked on two boards] down to {other.home}.
    then {who.he} saw a light. It was {other}, who had [made a sledge out of a bench|dug from \
        the other side].
    ~
    they put [wood|bread] and blankets on the sledge and shared everything they had.
    together they were stronger than the snow, and by noon the path was clear.
    ~
    when the snow melted, they were [better friends than before|almost sorry].
    "A hard winter makes good neighbours," says {who}.
    """),
    plot("quarrel", "", """
    {intro} and {other} had a quarrel about [a ladder|a hedge|a hen|an apple tree].
    {intro} was angry with {other}, because {other} had [broken a jug|forgotten to bring back a \
        saw|laughed at {who.his} hat].
    ~
    for a week they did not say a word to each other, not even {place.at}.
    when one of them came down the street, the other crossed to the far side.
    ~
    then {other} [fell ill|fell from a ladder], and nobody came to help.
    then one night the wind blew down the fence of {other}, and all {other.his} hens got out.
    ~
    {who} waited a while. Then {who.he} took [soup|a lantern|{who.his} tools] and went over.
    "This is silly," thought {who}, and {who.he} went to help.
    ~
    "I am sorry," said {other}. "So am I," said {who}.
    {other} looked at the floor and said, "I was wrong."
    ~
    they could not even remember how it had begun.
    now they tell the story together, and each of them says that the other started it.
    """),
    plot("goose at the gate", "", """
    [a big|an angry] goose stood at the gate of {who.home} and would not let {intro} in.
    every time {intro} wanted to go {place.to}, a big goose stood in the way.
    ~
    {who.he} waved a stick, but the goose bit into it.
    {who.he} shouted at it, but the goose shouted louder.
    {who.he} tried to jump over it, but it caught {who.him} by the coat.
    ~
    "What does it want?" asked {other}. "I do not know," said {who}.
    {other} watched from the wall and laughed until {other.he} had to sit down.
    ~
    then {who} saw [that one of its young was caught in the fence|a nest with five eggs behind \
        the gate].
    at last {who} saw why: [there were eggs|there was a nest] under the bush.
    ~
    {who.he} [put up a little fence|used another way] until the young ones could swim.
    {who.he} brought it a handful of corn and spoke kindly to it.
    ~
    after that the goose [let {who.him} pass|followed {who.him} everywhere].
    it was a good mother, and that was all.
    """),
    plot("dark road", "", """
    {intro} had stayed too long {place.at}, and night had come.
    it was already dark when {intro} started for home.
    ~
    there was [fog on the road|no moon], and {who.he} could not see {who.his} own hand.
    halfway home the wind blew {who.his} lantern out.
    ~
    suddenly {who.he} heard steps behind {who.him}. When {who.he} stopped, they stopped too.
    then something white moved among the trees, and {who.his} heart beat fast.
    ~
    "Who is there?" {who.he} called. [Nobody answered|There was only a cough].
    {who.he} [ran|walked faster and faster], and the thing came after {who.him}.
    ~
    it was only [a sheep|a goat] that had lost its way.
    it was [an old donkey|a white calf], glad to have found someone to follow.
    ~
    {who} laughed at {who.self} and led it home by the ear.
    in the morning {other} came to thank {who.him}, for {other} had looked for it all night.
    "And I took you for a ghost!" said {who}.
    """),
)  # fmt: skip
