"""More plots: the second half of the table of stories, in the same form."""

from foundling.hamlet.plots import PLOTS, Plot, plot

MORE: tuple[Plot, ...] = (
    plot("the race", "child", """
    the children held a race from {place} to the church, and {intro} wanted to win.
    {intro} wanted to be the fastest [runner|child] in the village.
    ~
    {other} was taller and had won every year before.
    everyone thought that {other} would be first.
    ~
    {who} ran well, but then {who.he} saw {other} [fall|trip over a root].
    they ran side by side. Then {other} fell and held {other.his} foot.
    ~
    {who} could have won now, but {who.he} stopped and helped {other} up.
    {who} ran on ten steps. Then {who.he} turned back.
    ~
    they came in last, arm in arm, and the people clapped louder than for the winner.
    another child won the race, but nobody remembers who it was.
    ~
    "[Next year I will beat you|Next year you will win]," said {other}.
    the prize was a cake, and the winner gave each of them a piece.
    """),
    plot("broken window", "child", """
    {intro} was playing with a ball [in the street|near {place}].
    {intro} threw a stone at a tin. It was a good throw, but a little too high.
    ~
    there was a crash, and the window of {other.home} was broken.
    suddenly glass fell. A window was broken, and it was {other.s}.
    ~
    nobody had seen it. {who} [hid behind a wall|ran home] and said nothing.
    "Who did that?" cried a voice. {who} did not answer.
    ~
    but {who.he} could not [eat|sleep], because {who.he} kept thinking of it.
    all night {who.he} lay awake.
    ~
    in the morning {who.he} went to {other} and said, "It was I."
    at last {who.he} knocked at {other.s} door and told the truth.
    ~
    {other} was not as angry as {who} had feared. "[Thank you for telling me|Glass can be \
        mended]," {other.he} said.
    {who} worked three [days|afternoons] in the garden to pay for the glass.
    after that {who.he} slept very well.
    """),
    plot("first fish", "child", """
    {intro} had never caught a fish, and [the others laughed at {who.him}|{who.he} wanted to \
        very much].
    {intro} sat by the river with a new rod.
    ~
    {who.he} waited one hour, then two. Only [flies|leaves] came.
    the line got caught in a tree, and then in {who.his} own hat.
    ~
    "You are too loud," said {other}. "Fish have ears."
    {other} showed {who.him} how to sit still and let the line float.
    ~
    then the line jerked. {who} pulled with both hands.
    suddenly the rod bent like a bow.
    ~
    it was [an old boot|a tin kettle], and there was a small fish in it!
    out came a trout as long as {who.his} arm.
    ~
    {who} [let it swim away again|ran home to show it], because {who.he} was so [happy|proud].
    that evening there was fish for supper at {who.home}.
    """),
    plot("stolen pies", "", """
    {intro} set [a pie|a plum cake|a cherry tart] on the window sill to cool.
    {intro} had put [a sausage|a piece of cheese|a fine ham] on the kitchen table for supper.
    ~
    an hour later it was gone. There were only crumbs.
    {who} asked at every door, but nobody knew anything.
    ~
    "[It must have been {other}|Perhaps it was {other}]," people said, for {other} had been \
        seen near the window.
    {who} thought of {other}, who was always hungry.
    ~
    but there were small footprints in the [mud|flour], and they led to {place}.
    so {who.he} spread flour on the floor and waited behind the door.
    ~
    and there sat the thief: a [fat|young] fox with jam on its nose.
    in the end it turned out to be [a crow|a hedgehog|somebody's dog].
    ~
    {who} was ashamed that {who.he} had thought badly of {other}, and baked {other.him} a cake.
    "I am glad I said nothing aloud," thought {who}.
    now the window stays shut.
    """),
    plot("sick child", "doctor", """
    late at night {intro} woke with a fever.
    {intro} had eaten [green apples|too many plums] and lay in bed with a pain.
    ~
    {who.he} could not stand, and {who.his} head was as hot as a stove.
    {other}, who had come to visit, was worried and ran for help.
    ~
    {doctor}, the doctor, was [asleep|on the way home], but came at once.
    the snow was deep, but {doctor} the doctor took {doctor.his} bag and set out.
    ~
    "Drink this," said {doctor}, "and stay in bed [until Sunday|for three days]."
    {doctor} felt {who.his} hand, smiled and mixed [a bitter drink|some herbs].
    ~
    it tasted [horrible|like old socks], but it helped.
    {who} made a face, drank it and fell asleep.
    ~
    after [two|three] days {who.he} was up again and asked for soup.
    soon {who} was well, and {who.he} sent {doctor} a basket of [pears|eggs].
    """),
    plot("the well rope", "", """
    {intro} went to the well, but the bucket [fell in|would not come up].
    when {intro} let the bucket down, the rope broke.
    ~
    the rope was old, because nobody had looked after it.
    "Somebody should have bought a new rope," said {who}. But everyone had thought that another \
        would do it.
    ~
    {who.he} tried to catch the bucket with a hook, but it sank.
    soon [five|six|seven] people stood round the well and gave advice.
    ~
    then {other} came with [a new rope|a long pole] and did not say a word.
    only {other} did something: {other.he} [climbed down|fetched a rope].
    ~
    in a moment the bucket was up again, full of cold water.
    it took no longer than it takes to eat an apple.
    ~
    "[Many words draw no water|One hand is better than ten tongues]," said {other}.
    since then every house gives a coin a year for the rope.
    """),
    plot("seeds", "adult", """
    in spring {intro} [found|was given|bought] a bag of seeds without a name.
    {intro} put a few seeds into the ground behind {who.home}.
    ~
    {who.he} watered them each day, but for weeks nothing came.
    "Nothing will grow there," said {other}. "The ground is too [dry|stony]."
    ~
    in May there was one green leaf. {who} put a fence round it against the hens.
    then came a warm rain, and overnight there were green tips.
    ~
    it grew as high as the [door|window], then as high as the roof.
    by July the plants were taller than {who}.
    ~
    in autumn there were [sunflowers|pumpkins|beans] enough for the whole street.
    it bore yellow flowers as large as plates.
    ~
    {other} got the biggest one and [was silent|said no more about the ground].
    "One must know how to wait," said {who}.
    """),
    plot("market trade", "adult", """
    {intro} took [a hen|a goose|a calf] to the market to sell it.
    on market day {intro} wanted to sell {who.his} old [cart|clock|cow].
    ~
    a stranger offered [ten coins|five coins], but {who.he} wanted more.
    nobody wanted it, because it was too [old|thin|dear].
    ~
    then {other} came and said, "I will give you my [kettle|goat|chair] for it."
    so {who.he} gave it to {other} for [a goat|a sack of corn|a pair of boots].
    ~
    on the way home {who} traded that for [a barrel|a fiddle], and then the next thing for a hat.
    but that was worth even less, so {who.he} gave it away for a pot of honey.
    ~
    before {who.he} was home, that was gone too, for the wind took it.
    in the end {who.he} had nothing left but a [nut|button|piece of string].
    ~
    "At least I have nothing to carry," said {who}.
    "Tomorrow I shall stay at home," said {who}.
    """),
    plot("the fire", "", """
    one night {intro} smelt smoke and woke up.
    as {intro} came past {place}, {who.he} saw a red light.
    ~
    a [haystack|shed|roof] was burning, and the wind was strong.
    sparks flew up from the [straw|thatch] like red birds.
    ~
    {who.he} ran to the church and rang the bell until {who.his} hands were sore.
    "Fire! Fire!" {who.he} shouted, and [knocked at|ran from door to] every door.
    ~
    {other} was the first to come. Soon there was a long line from the pond, and buckets went \
        from hand to hand.
    young and old came with buckets, and {other} stood on the roof and poured.
    ~
    by morning the fire was out, and nobody was hurt.
    when the sun came up, there was only [black straw|a little smoke].
    ~
    "If you had slept, we would have lost everything," said {other} to {who}.
    everyone was as black as a stove, and everyone laughed.
    they built it up again before winter, this time of stone.
    """),
    plot("lost thing", "belonging", """
    {intro} had lost {who.his} {who.belonging} and was very sad.
    when {intro} came home from {place}, {who.his} {who.belonging} was gone.
    ~
    {who.he} turned out all {who.his} pockets and looked under the bed.
    {who.he} went back the same way, step by step, with {who.his} eyes on the ground.
    ~
    "When did you have it last?" asked {other}. {who} tried to remember.
    {other} helped {who.him} to look, but it was getting dark.
    ~
    then a [crow|magpie] flew over, and there was something strange in its nest.
    then {who} sat down to rest, and {who.he} felt that {who.he} was sitting on something.
    ~
    there it was! It had been there all the time.
    {who} could not believe it. It was not even dirty.
    ~
    "We search far away for what lies near," said {other}.
    {who} tied it to a string, so that {who.he} would never lose it again.
    """),
    plot("pet and thief", "pet", """
    people laughed at {pet}, because the {pet.kind} was [lazy|small|old].
    {intro} was fond of {pet}, but {other} always said, "What is that {pet.kind} good for?"
    ~
    one night a thief came to {who.home} [through the window|over the wall].
    one evening, when nobody was at home, a strange man opened the gate.
    ~
    {pet} heard him and made such a noise that the whole street woke up.
    it was dark, and he [fell over|stepped on] {pet}.
    ~
    the man was so frightened that he ran into [the pond|the nettles|a wall].
    he dropped his sack and ran, and nobody has seen him since.
    ~
    in the sack were silver spoons, and two of them were {other.s}.
    in the morning they found his [boots|hat] in the mud.
    ~
    now nobody laughs at {pet} any more.
    "Now I know what the {pet.kind} is good for," said {other}.
    that day {pet} was given the best supper in all {village}.
    """),
    plot("roof", "adult", """
    the roof of {who.home} leaked, and {intro} put [pots|bowls] under the holes.
    "Drip, drop," went the rain in the bedroom of {intro}.
    ~
    when it rained, {who.he} could not mend it; when it was dry, {who.he} forgot it.
    "I will do it tomorrow," {who.he} said every day.
    ~
    one night the water came down on {who.his} nose.
    then came a storm, and in the morning the bed was [a pond|swimming].
    ~
    {other} lent {who.him} a ladder and held it. 
    so {who.he} asked {other} for help, and they worked until the evening.
    ~
    they laid new [straw|tiles] and nailed down every board.
    {who} nearly fell off twice, but by dark the roof was whole.
    ~
    that night it rained again, and {who} lay in bed and listened happily.
    "Tomorrow is a bad carpenter," said {other}.
    """),
    plot("the fog boat", "", """
    {intro} rowed out on the river to [fish|cut reeds|look for a lost oar].
    {intro} had a small boat, and on [Sunday|that day] {who.he} rowed far down the river.
    ~
    then fog came up, so thick that {who.he} could not see the bank.
    but soon white fog lay on the water, and all sounds died away.
    ~
    {who.he} rowed to the left, then to the right, and always came back to the same [stone|post].
    {who.he} called, but nobody answered, and the water carried {who.him} on.
    ~
    on the bank {other} noticed that {who} had not come home, and began to [ring a bell|beat a \
        drum].
    {other} was worried, because it was late. So {other.he} lit a fire on the hill.
    ~
    when {who} noticed that, {who.he} knew at last which way to row.
    "That way is home!" thought {who}, and {who.he} rowed as hard as {who.he} could.
    ~
    {who.he} came to the bank cold and tired, and {other} wrapped {who.him} in a blanket.
    "[You saved me|I thought I should never come home]," said {who}.
    ever since, a bell hangs {place.at} for foggy days.
    """),
    plot("the scarecrow", "adult", """
    the birds ate all the [cherries|peas] of {intro}.
    {intro} had sown [peas|corn], but the crows came and ate them.
    ~
    so {who.he} made a scarecrow out of [straw|sticks] and put {who.his} own coat on it.
    {who.he} stuffed an old coat with straw and put a hat on top.
    ~
    in the evening {other} came by and said good evening to it, but it did not answer.
    {other}, who did not see well, stopped and talked to it for a long time.
    ~
    "How rude!" thought {other}, and {other.he} was angry with {who}.
    {other} went away and told everyone that {who} had grown proud.
    ~
    the next day {who} greeted {other}, but {other.he} turned {other.his} back.
    {who} heard of it and did not understand what {who.he} had done.
    ~
    then they walked past the field together, and {other} saw {who} twice.
    at last {who} took {other} by the arm and led {other.him} to the field.
    ~
    {other} grew red, and then they both laughed until the crows flew up.
    the crows sat on the hat of the scarecrow and laughed too.
    """),
    plot("the clever plan", "", """
    {intro} and {other} had only one [apple|cake|pear] between them.
    there was one last piece of cake, and both {intro} and {other} wanted it.
    ~
    "I saw it first," said {who}. "But I am hungrier," said {other}.
    neither of them wanted to give way.
    ~
    "You cut it, and I choose," said {other}.
    then {who} said, "One of us cuts, and the other chooses."
    ~
    so it was cut with great care, for no half should be bigger than the other.
    never was anything cut so exactly in the middle.
    ~
    both got the same, and nobody could complain.
    while they were measuring, [a dog|a hen] came and took both halves.
    """),
    plot("the promise", "", """
    {intro} had promised to help {other} [with the hay|to pick apples] on {weekday}.
    "On {weekday} I will come and help you," {intro} had told {other}.
    ~
    but on {weekday} the sun was shining, and {who} wanted to go to the [fair|river].
    but that morning a friend came and asked, "Will you come to the fair?"
    ~
    {who} was already at the gate when {who.he} thought of {who.his} promise.
    {who} put on {who.his} good shoes. Then {who.he} took them off again.
    ~
    "A promise is a promise," {who.he} said, and {who.he} went to {other.home}.
    {who.he} sighed and turned round.
    ~
    they worked until noon, and then {other} said, "Now let us go together!"
    the work went fast, because they sang. By the afternoon it was done.
    ~
    so {who} saw the [fair|river] after all, and {who.his} heart was light.
    it was the best {weekday} of the year.
    """),
    plot("the old clock", "", """
    the church clock had stopped, and so nobody knew [when to eat|what time it was].
    one morning the clock on the church tower stood still at ten past four.
    ~
    {intro} came too late for [everything|breakfast], and {other} came too early.
    {intro} went to bed at noon, and {other} got up at midnight.
    ~
    at last they climbed up the tower with [oil|a lantern] and looked into the clock.
    "Somebody must look into it," said {who}, and they climbed up the narrow stairs.
    ~
    between the wheels there was [a bird's nest|a mouse, fast asleep].
    a [bat|young owl] had made its home among the wheels.
    ~
    "We cannot drive it out in this cold," said {other}. "Let us wait until spring."
    they did not have the heart to disturb it.
    ~
    so all that winter it was ten past four, and nobody was ever late.
    in spring it flew away, and the clock began to tick again all by itself.
    """),
    plot("the stranger", "", """
    a stranger with a heavy bag came to the door of {intro}.
    late one evening a stranger knocked at the door of {intro}.
    ~
    {who} was [a little afraid|not sure what to do], for {who.he} had never seen such a man.
    "Do not let him in," whispered {other}. "Who knows what he wants?"
    ~
    but it was raining, and the man was [wet|pale]. So {who} gave him [soup|a chair by the stove].
    "Nobody should stand in the rain," said {who}, and made room at the table.
    ~
    after supper the man took a fiddle out of his bag and played, and {other} began to dance.
    the man told stories of ships and far islands until the candles were low.
    ~
    in the morning he was gone. On the table lay a [silver coin|carved bird].
    the next day he mended the roof before he left.
    ~
    "You never know," said {other}, and {other.he} was ashamed.
    every year since then a letter has come for {who}, with a stamp from another land.
    """),
)  # fmt: skip

ALL_PLOTS: tuple[Plot, ...] = PLOTS + MORE
