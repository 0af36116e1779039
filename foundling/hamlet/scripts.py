"""Scripts: the tables of conversations, turn by turn, for two speakers `a` and `b`.

A line is one turn, of the speakers in alternation; alternatives stand in brackets. `{q}`, `{ans}`
and `{c}` are a question about the village, its short answer and the fact as a clause.
"""


def _scripts(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(
        tuple(" ".join(line.split()) for line in block.strip().splitlines())
        for block in text.strip().split("~")
    )


SCRIPTS: tuple[tuple[str, ...], ...] = _scripts("""
    [Excuse me|Good day, {b}|Tell me, {b}], {q}
    {ans}.
    [Thank you|Are you sure]?
    [Quite sure|Everybody knows that|I ought to know].
    ~
    {q}
    [Do you really not know|Have you forgotten]? {C}.
    [Of course|Ah, yes], now I remember.
    ~
    [Have you heard|Did you know]? {C}.
    [I knew that long ago|That is no news to me|So people say].
    [You know everything|Then you know more than I do].
    ~
    [Guess what I heard {place.at}|Somebody told me something]. {C}.
    [Is that true|Who told you that]?
    [{third} told me|I heard it from {third}], and {third} should know.
    ~
    I have a riddle for you: {q}
    [Let me think|That is easy]. Is it {false}?
    No. [The answer is|It is] {ans.low}.
    [I should have known|Then I was wrong]. {C}.
    ~
    {q} [I think it is {false}.|Is it {false}?]
    You are mistaken. {C}.
    [Thank you for telling me|I always mix that up].
    ~
    Good morning, {b}. [How are you|How do you do] today?
    [Very well, thank you|Not so well|I cannot complain]. And you?
    [My back hurts|I slept badly|I have a cold], but [the sun is shining|the tea is hot].
    [That is the main thing|One must be content].
    ~
    What [a wind|a day|weather]! My hat nearly flew away.
    It will [rain|snow|be worse] before night, believe me.
    [How do you know|Why do you think so]?
    [The swallows fly low|My knee tells me|The cows are lying down].
    ~
    Where are you going [in such a hurry|so early|with that basket]?
    [Home|To the market|To see {third}]. I have [eggs to sell|forgotten something|no time].
    [Then I will not keep you.|May I come with you?]
    [Come along|Walk beside me]. The road is long enough for two.
    ~
    Could you lend me [a ladder|a saw|a lantern|your cart]?
    [What do you want it for|For how long]?
    [A branch has fallen on my roof|My neighbour's cat is up a tree|The wind broke my fence].
    [Take it|Of course], but bring it back before [Sunday|dark].
    I will, and [a jar of jam with it|many thanks].
    ~
    [How much is|What do you want for] this [cheese|hen|hat|basket]?
    [Five|Six|Eight] coins.
    That is too [much|dear]! I will give you [three|four].
    [For that price I would rather keep it.|Do you want me to starve?] [Five|Four] and a smile.
    [Done|All right], here is the money, and here is the smile.
    ~
    Which is the way {place.to}?
    [Go straight on|Turn left at the well|Follow the lane] until you see [a red gate|a big \
        stone|three trees].
    And then?
    Then [ask again|you cannot miss it|you are there].
    ~
    I have lost my [key|glove|purse|thimble]. Have you seen it?
    [No|I have not]. Where did you have it last?
    [If I knew that|That is just what I do not know]!
    Have you looked in your [pocket|other coat|hat]?
    [There it is|Oh]! What would I do without you?
    ~
    Why are you so [sad|quiet|late] today?
    Because [my hen is ill|I had a bad dream|it rained into my bed|I could not find my shoes].
    [Come and eat with us|Have some tea], and it will pass.
    [You are kind|That is good of you].
    ~
    Did you hear the [owl|storm|dogs|bells] last night?
    No, I slept like a [stone|log|dormouse].
    [Lucky you|I wish I could]. I lay awake until [two|three|four] o'clock.
    [Drink warm milk|Count sheep] before bed; that is what I do.
    ~
    What are you [cooking|eating]? It smells [good|wonderful].
    [Onion soup|Apple pie|Mushroom stew], after my grandmother's recipe.
    Is there [enough for two|a spoon for me]?
    There is always enough for two. [Sit down|Wash your hands first].
    ~
    How do you make [such good|your] [jam|bread|soup]?
    First you need [time|a big pot|a hot stove], and then a pinch of [salt|sugar|pepper].
    Is that all?
    No, but the rest is a secret.
    ~
    [I want to learn to [swim|knit|bake|fish].|Can you teach me to [swim|knit|bake|fish]?]
    [Why|What for]?
    Because [everyone can do it but me|winter is long|I am tired of asking others].
    Then come [tomorrow|on Sunday] [at six|after breakfast], and do not be late.
    ~
    I am sorry that I [broke your jug|shouted at you|came so late].
    [It does not matter|Never mind]. I was [angry|sad] for an hour, and then it was over.
    [Are we friends again|Shall we shake hands]?
    We were never anything else.
    ~
    [Do you believe in|Are you afraid of] ghosts?
    [By day, no|Only at night|Not at all].
    I saw something white {place.at}.
    That was [the washing|a sheep|the moon on the water].
    [I hope you are right|If you say so].
    ~
    May I ask you something?
    [Certainly|Ask away].
    {q}
    {C}.
    And how do you know?
    I have lived here [all my life|long enough].
    ~
    Which do you like better, [summer or winter|tea or milk|dogs or cats|the river or the wood]?
    [That depends on the day|The first|The second|Both]. And you?
    I like [what I have|the first|the second|neither].
    [People are different|Well, there you are].
    ~
    The [bridge|roof|clock] must be mended before winter.
    Who will [do it|pay for it]?
    [All of us|Those who use it], I say.
    Then let us [begin tomorrow|ask the others {place.at}].
""")
