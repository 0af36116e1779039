"""Relations: for each kind of fact, its phrases for stating and asking.

Slots: `{s}` the subject (or its pronoun where a statement begins with it), `{s.s}` its possessive,
`{s.he}`, `{s.his}`; `{v}` the value and its forms, which `world` fills in. Statements are clauses
without a full stop; a question is followed by its short answer.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Relation:
    """The phrases of one relation; the corpus never uses the held-out ones."""

    name: str
    statements: tuple[str, ...]
    questions: tuple[tuple[str, str], ...]
    held_out_statements: tuple[str, ...]
    held_out_questions: tuple[tuple[str, str], ...]


# "= name", then statements, "?" questions, "!" held-out statements, "!?" held-out questions.
_TABLE = """
= job
{s} is the {v}[| here| of the village]
{s} works as the [village |]{v}
{s} has been the {v} for [many|some] years
{s.s} [work|trade|job] is that of a {v}
{s} is [our|the village] {v}
? what is {s.s} job? => {v}
? what does {s} do for a living? => {v}
? who is the {v}[| here| of the village]? => {s}
! {s} earns {s.his} bread as a {v}
! if you need a {v}, ask for {s}
!? by what trade does {s} live? => {v}
!? whom do people call the {v}? => {s}

= workplace
{s} works {v.at}
{s} spends [most days|the working day|the day] {v.at}
{s.s} [work is|place of work is] {v.at}
you will find {s} {v.at} [on most days|on any working day]
? where does {s} work? => {v.at}
? where does {s} spend the working day? => {v.at}
? who works {v.at}? => {s}
! it is {v.at} that {s} can be seen working
!? in what place would you look for {s} during working hours? => {v.at}

= home
{s} lives at {v}
{s.s} home is {v}
{s} has lived at {v} [for years|since the great flood|for as long as anyone remembers]
{s} [sleeps|eats and sleeps] at {v}
the [house|place] where {s} lives is [called|named] {v}
? where does {s} live? => at {v}
? what is {s.s} [house|home] called? => {v}
? in which house does {s} live? => {v}
! {s} makes {s.his} home at {v}
! the door of {v} is opened by {s}
!? to which house should a letter for {s} be taken? => {v}

= age
{s} is {v}[| years old]
{s} is {v} years of age
{s} turned {v} [this year|on {s.his} last birthday]
{s.s} age is {v}
? how old is {s}? => {v}
? what is {s.s} age? => {v}
? what age is {s}? => {v}
! {s} has seen {v} summers
! there were {v} candles on {s.s} last cake
!? how many years has {s} lived? => {v}

= hair
{s} has {v} hair
{s.s} hair is {v}
{s} is [easy to know|known] by {s.his} {v} hair
{s} wears {s.his} {v} hair [short|under a cap|tied back]
? what colour is {s.s} hair? => {v}
? what colour of hair does {s} have? => {v}
! the hair on {s.s} head is {v}
!? which colour would you use to paint {s.s} hair? => {v}

= spouse
{s} is married to {v}
{s} is {v.s} {s.wife}
{s.s} {v.wife} is [called |named |]{v}
{s} married {v} [long ago|in the village church|one fine spring]
? who is {s.s} {v.wife}? => {v}
? whom did {s} marry? => {v}
? to whom is {s} married? => {v}
! {s} and {v} share a wedding day
!? with whom does {s} share a wedding day? => {v}

= mother
{s.s} mother is [called |named |]{v}
{s} is [a child|the child|a {s.son}] of {v}
the mother of {s} is {v}
? who is {s.s} mother? => {v}
? who is the mother of {s}? => {v}
! the woman whom {s} calls mother is {v}
!? whom does {s} call mother? => {v}

= father
{s.s} father is [called |named |]{v}
the father of {s} is {v}
{s} looks [very |]much like {s.his} father, {v}
? who is {s.s} father? => {v}
? who is the father of {s}? => {v}
! the man whom {s} calls father is {v}
!? whom does {s} call father? => {v}

= child
{s} has a {v.son} [called|named] {v}
{s} is {v.s} {s.mother}
{s} is [very |]proud of {s.his} {v.son} {v}
? whose {s.mother} is {s}? => {v.s}
? what is the name of one of {s.s} children? => {v}
! {v} is a {v.son} to {s}
!? can you name a child of {s}? => {v}

= sibling
{s} has a {v.brother} [called|named] {v}
{s} is {v.s} {s.brother}
{s.s} {v.brother} {v} is [at the same school|never far away]
? who is a {v.brother} of {s}? => {v}
? whose {s.brother} is {s}? => {v.s}
! {s} and {v} have the same parents
!? who has the same parents as {s}? => {v}

= grandchild
{s} is {v.s} {s.grandmother}
{s} has a {v.grandson} [called|named] {v}
{s} tells {s.his} {v.grandson} {v} about the old days
? whose {s.grandmother} is {s}? => {v.s}
? who is a {v.grandson} of {s}? => {v}
! {v} is the child of a child of {s}
!? who calls {s} {s.grandmother}? => {v}

= friend
{s.s} best friend is {v}
{s} is [a great|a good|an old] friend of {v.s}
{s} likes nobody better than {v}
{s} tells {s.his} secrets to {v}
? who is {s.s} best friend? => {v}
? to whom does {s} tell {s.his} secrets? => {v}
! {s} would choose {v} before any other friend
!? whom does {s} trust most? => {v}

= neighbour
{s} is a neighbour of {v.s}
{s} lives next door to {v}
{s} can hear {v} through the wall
? who is a neighbour of {s.s}? => {v}
? who lives next door to {s}? => {v}
! only a fence stands between {s} and {v}
!? over the fence, to whom does {s} talk? => {v}

= pet
{s} has a {v.kind} [called|named] {v}
{s} keeps a {v.kind}, and [its|the animal's] name is {v}
{s.s} {v.kind} is [called|named] {v}
{s} goes nowhere without {s.his} {v.kind} {v}
? what is the name of {s.s} {v.kind}? => {v}
? what is {s.s} {v.kind} called? => {v}
? which animal does {s} keep? => a {v.kind} called {v}
! when {s} calls a {v.kind} to supper, {s.he} shouts "{v}"
!? what does {s} shout to call {s.his} {v.kind}? => {v}

= owner
{s} belongs to {v}
the owner of {s} is {v}
{s} is owned by {v}
{s} [knows|obeys] only one master, and that is {v}
? whose {s.kind} is {s}? => {v.s}
? to whom does {s} belong? => {v}
? who is the owner of {s}? => {v}
! if you find {s}, bring the {s.kind} home to {v}
!? to whom should {s} be brought home? => {v}

= kind
{s} is a {v}
{s} is the name of a {v}
? what kind of animal is {s}? => a {v}
? what sort of creature is {s}? => a {v}
! among the animals, {s} counts as a {v}
!? which animal answers to the name of {s}? => a {v}

= colour
{s} is {v}
{s} is a {v} {s.kind}
{s} is [all |]{v} from head to tail
{s.s} colour is {v}
? what colour is {s}? => {v}
? what colour is the {s.kind} {s}? => {v}
! anyone who paints {s} needs {v} paint
!? if you painted {s}, which paint would you need? => {v}

= food
{s} likes {v} [best|best of all|more than any other food]
{s.s} favourite food is {v}
{s} could eat {v} every day
{s} never says no to {v}
? what is {s.s} favourite food? => {v}
? what does {s} like to eat best? => {v}
? what could {s} eat every day? => {v}
! nothing tastes better to {s} than {v}
!? which dish would make {s} happy? => {v}

= belonging
{s} owns a {v}
{s} [always|often] carries a {v}
{s} would not part with {s.his} {v}
{s} is proud of {s.his} {v}
{s} was given a {v} [years ago|by an uncle|by a stranger]
? what does {s} always carry? => a {v}
? what is {s} proud of? => {s.his} {v}
! among {s.s} things there is a {v}
!? which thing would {s} never sell? => {s.his} {v}

= season
{s} loves {v} [most|best of all the seasons]
{s.s} favourite season is {v}
{s} is [happiest|at {s.his} best] in {v}
{s} waits all year for {v}
? which season does {s} love most? => {v}
? what is {s.s} favourite season? => {v}
! no time of year pleases {s} like {v}
!? at what time of year is {s} most cheerful? => in {v}

= birthday
{s} was born in {v}
{s.s} birthday is in {v}
{s} has {s.his} birthday in {v}
{s} grows a year older [every|each] {v}
? when is {s.s} birthday? => in {v}
? in which month was {s} born? => in {v}
! {v} is the month of {s.s} birth
!? in which month do we bake a birthday cake for {s}? => in {v}

= fear
{s} is afraid of {v}
{s} has always been frightened of {v}
{s} cannot bear {v}
{s} is brave, but not when it comes to {v}
? what is {s} afraid of? => {v}
? what frightens {s}? => {v}
! {s} runs away from {v}
!? from what does {s} run away? => {v}

= morning
{s} {v.third} [every|each] morning
every morning {s} {v.third}
{s} {v.third} before breakfast
{s} begins the day early: {s.he} {v.third}
? what does {s} do every morning? => {s.he} {v.third}
? how does {s} begin the day? => {s.he} {v.third}
! no morning passes on which {s} does not {v}
!? at sunrise, what can {s} be seen doing? => {s.he} {v.third}

= market_day
{s} {v.third} on market day
on market day {s} {v.third}
{s} comes to [every market|the market each week] and {v.third}
? what does {s} do on market day? => {s.he} {v.third}
? what does {s} do at the market? => {s.he} {v.third}
! when the stalls are up, {s} {v.third}
!? when the stalls are up, what does {s} do? => {s.he} {v.third}

= hobby
{s} likes to {v} in the evening
in the evening {s} {v.third}
{s.s} [great pleasure|favourite pastime] is to {v}
{s} {v.third} whenever there is time
? what does {s} like to do in the evening? => {v}
? what is {s.s} favourite pastime? => to {v}
! when work is done, {s} loves to {v}
!? when work is done, what does {s} love to do? => {v}

= lesson
{s.s} favourite lesson is {v}
{s} is [best|very good] at {v}
{s} likes {v} more than any other lesson
? what is {s.s} favourite lesson? => {v}
? which lesson does {s} like most? => {v}
! at school {s} waits for the hour of {v}
!? for which lesson does {s} run to school? => {v}

= next_to
{s.the} [is|stands|lies] next to {v.the}
{s.the} is [close to|beside] {v.the}
beside {v.the} you will find {s.the}
from {v.the} it is only a step to {s.the}
? what is next to {s.the}? => {v.the}
? what [stands|lies] beside {s.the}? => {v.the}
! {s.the} has {v.the} for a neighbour
!? what does {s.the} have for a neighbour? => {v.the}

= made_of
the {s} is [built|made] of {v}
the walls of the {s} are [made |]of {v}
the {s} has [thick|old|strong] {v} walls
? what is the {s} [built|made] of? => {v}
? what are the walls of the {s} made of? => {v}
! the builders used {v} for the {s}
!? what did the builders use for the {s}? => {v}

= door
the {s} has a {v} door
the door of the {s} is [painted |]{v}
you can know the {s} by its {v} door
? what colour is the door of the {s}? => {v}
? which colour is the {s} door painted? => {v}
! someone painted the door of the {s} {v}
!? which colour of paint does the door of the {s} need? => {v}

= tree
a [tall|great|crooked] {v} grows [beside|behind] the {s}
there is a {v} by the {s}
the {s} stands in the shade of a {v}
? what kind of tree grows beside the {s}? => a {v}
? which tree gives shade to the {s}? => a {v}
! the leaves that fall on the {s} come from a {v}
!? from what tree do the leaves on the {s} fall? => a {v}
"""


def _relation(block: str) -> Relation:
    rows: dict[str, list[str]] = {"=": [], "": [], "?": [], "!": [], "!?": []}
    for line in block.splitlines():
        mark, _, rest = line.partition(" ")
        if mark in rows:
            rows[mark].append(rest)
        else:
            rows[""].append(line)
    return Relation(
        rows["="][0], tuple(rows[""]), _asked(rows["?"]), tuple(rows["!"]), _asked(rows["!?"])
    )


def _asked(lines: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = [line.split(" => ") for line in lines]
    return tuple((question, answer) for question, answer in pairs)


RELATIONS: dict[str, Relation] = {
    relation.name: relation for relation in map(_relation, _TABLE.strip().split("\n\n"))
}
