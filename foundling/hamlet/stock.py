"""The stock of names, trades, places, habits and things from which a village is drawn."""

from typing import NamedTuple


class Job(NamedTuple):
    """A trade: where it is done, what it does (base, third person, past) and what it makes."""

    name: str
    place: str
    base: str
    third: str
    past: str
    tool: str


class Spot(NamedTuple):
    """A place of the village: with its preposition, and whether it has walls and a door."""

    name: str
    at: str
    building: bool


class Habit(NamedTuple):
    """A verb phrase in base form, third person and past."""

    base: str
    third: str
    past: str


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]


WOMEN = _words(
    "Ada Alma Bella Clara Dora Edith Ella Flora Greta Hazel Ida Jane Kitty Laura Lucy Mabel "
    "Martha Molly Nell Nora Olive Polly Rosa Ruth Sally Stella Tilda Vera Winnie Wren"
)
MEN = _words(
    "Abel Adam Albert Ben Caleb Conrad Daniel Edgar Felix Frank George Harry Hugh Ivan Jacob Jack "
    "Karl Leo Mark Martin Ned Oliver Oscar Paul Peter Ralph Robin Simon Tom Walter"
)
SURNAMES = _words(
    "Barlow Carter Dale Finch Garland Hobday Kettle Lark Marsh Nettle Oakes Piper Quill Rook "
    "Sparrow Thatcher Underhill Vetch Winter Yarrow"
)
VILLAGES = ("Alderbrook", "Millbrook", "Elmstead", "Fernley", "Thornby", "Willowford", "Appledale")

JOBS = tuple(
    Job(*row)
    for row in _rows("""
    baker|bakery|bake the bread|bakes the bread|baked the bread|oven
    miller|mill|grind the corn|grinds the corn|ground the corn|sack
    smith|forge|mend iron things|mends iron things|mended iron things|hammer
    innkeeper|inn|cook for the guests|cooks for the guests|cooked for the guests|kettle
    teacher|school|teach the children|teaches the children|taught the children|chalk
    vicar|church|write the sermons|writes the sermons|wrote the sermons|bell
    shepherd|hill|look after the sheep|looks after the sheep|looked after the sheep|crook
    carpenter|workshop|make chairs and doors|makes chairs and doors|made chairs and doors|saw
    farmer|barn|plough the fields|ploughs the fields|ploughed the fields|plough
    gardener|garden|grow beans and roses|grows beans and roses|grew beans and roses|spade
    fisherman|river|catch trout|catches trout|caught trout|net
    grocer|shop|sell tea and sugar|sells tea and sugar|sold tea and sugar|scales
    beekeeper|orchard|gather the honey|gathers the honey|gathered the honey|smoker
    woodcutter|wood|cut logs for winter|cuts logs for winter|cut logs for winter|axe
    dairymaid|dairy|make butter and cheese|makes butter and cheese|made butter and cheese|churn
    potter|kiln|make jugs and bowls|makes jugs and bowls|made jugs and bowls|wheel
    doctor|surgery|look after the sick|looks after the sick|looked after the sick|bag
    weaver|loom house|weave warm cloth|weaves warm cloth|wove warm cloth|loom
    cobbler|cobbler's stall|mend shoes|mends shoes|mended shoes|needle
    ferryman|ferry|row the ferry boat|rows the ferry boat|rowed the ferry boat|oar
    postman|post office|bring the letters|brings the letters|brought the letters|satchel
    """)
)
WOMENS_JOBS = ("dairymaid",)
MENS_JOBS = ("fisherman", "ferryman", "postman")

SPOTS = tuple(
    Spot(name, at, building == "b")
    for name, at, building in _rows("""
    mill|at the mill|b
    forge|at the forge|b
    bakery|at the bakery|b
    inn|at the inn|b
    school|at the school|b
    church|in the church|b
    workshop|in the workshop|b
    barn|in the barn|b
    shop|in the shop|b
    dairy|in the dairy|b
    kiln|at the kiln|b
    surgery|at the surgery|b
    loom house|in the loom house|b
    post office|at the post office|b
    cobbler's stall|at the cobbler's stall|o
    orchard|in the orchard|o
    garden|in the garden|o
    pond|by the pond|o
    river|by the river|o
    bridge|on the bridge|o
    well|by the well|o
    market square|in the market square|o
    green|on the green|o
    meadow|in the meadow|o
    wood|in the wood|o
    hill|on the hill|o
    ferry|at the ferry|o
    """)
)
HOMES = (
    "Rose Cottage",
    "Ivy Cottage",
    "Hill Farm",
    "Brook House",
    "Pear Tree Cottage",
    "Stone House",
    "Elm House",
    "Willow House",
    "Meadow Farm",
    "Fox Hall",
    "Bramble Cottage",
    "Swan House",
    "Holly Cottage",
)
STREETS = ("Mill Lane", "Church Street", "Pond Row", "Orchard Lane")

PETS = {
    "dog": ("Bramble", "Patch", "Rusty", "Sailor", "Duke", "Pepper"),
    "cat": ("Mittens", "Tabby", "Smoke", "Duchess", "Pounce", "Velvet"),
    "goat": ("Nanny", "Clover", "Whiskers"),
    "hen": ("Dumpling", "Henny", "Penny"),
    "donkey": ("Barley", "Thistle", "Captain"),
    "rabbit": ("Button", "Nibbles", "Snowdrop"),
    "parrot": ("Admiral", "Mango", "Pirate"),
    "duck": ("Puddle", "Dilly", "Waddle"),
    "pony": ("Star", "Chestnut", "Comet"),
    "goose": ("Sergeant", "Honker", "Gertie"),
}
COLOURS = ("black", "white", "brown", "grey", "golden", "spotted")
HAIR = ("red", "black", "brown", "grey", "white", "fair")
PAINTS = ("red", "blue", "green", "yellow", "white", "black")
STUFFS = ("stone", "brick", "timber", "flint", "clay")
TREES = ("oak", "ash", "willow", "chestnut tree", "holly tree", "apple tree", "pine", "birch")

FOODS = (
    "plum cake",
    "onion soup",
    "apple pie",
    "roast potatoes",
    "fresh bread",
    "honey toast",
    "pea soup",
    "mushroom stew",
    "boiled eggs",
    "ginger biscuits",
    "smoked trout",
    "cherry tart",
    "porridge",
    "goat's cheese",
    "pancakes",
    "blackberry jam",
)
BELONGINGS = (
    "silver whistle",
    "blue scarf",
    "brass lantern",
    "wooden flute",
    "straw hat",
    "red umbrella",
    "leather purse",
    "old map",
    "gold ring",
    "walking stick",
    "pocket knife",
    "green coat",
    "tin box",
    "glass marble",
    "woollen shawl",
    "copper watch",
    "little mirror",
    "painted fan",
)
SEASONS = ("spring", "summer", "autumn", "winter")
MONTHS = _words(
    "January February March April May June July August September October November December"
)
FEARS = (
    "thunder",
    "geese",
    "spiders",
    "the dark",
    "deep water",
    "wasps",
    "ghosts",
    "high ladders",
    "mice",
    "bulls",
    "owls",
    "fire",
)
LESSONS = ("reading", "sums", "singing", "drawing", "history", "spelling", "nature study")

MORNINGS = tuple(
    Habit(*row)
    for row in _rows("""
    feed the hens|feeds the hens|fed the hens
    sweep the doorstep|sweeps the doorstep|swept the doorstep
    fetch water from the well|fetches water from the well|fetched water from the well
    swim in the river|swims in the river|swam in the river
    walk round the pond|walks round the pond|walked round the pond
    water the roses|waters the roses|watered the roses
    light the stove|lights the stove|lit the stove
    read the newspaper|reads the newspaper|read the newspaper
    milk the cow|milks the cow|milked the cow
    hum an old tune|hums an old tune|hummed an old tune
    chop the firewood|chops the firewood|chopped the firewood
    open all the windows|opens all the windows|opened all the windows
    drink two cups of tea|drinks two cups of tea|drank two cups of tea
    wind the clock|winds the clock|wound the clock
    look for eggs|looks for eggs|looked for eggs
    polish a pair of boots|polishes a pair of boots|polished a pair of boots
    """)
)
MARKETS = tuple(
    Habit(*row)
    for row in _rows("""
    sell eggs|sells eggs|sold eggs
    buy ribbons|buys ribbons|bought ribbons
    play the fiddle|plays the fiddle|played the fiddle
    sell pots of jam|sells pots of jam|sold pots of jam
    look at the horses|looks at the horses|looked at the horses
    sell baskets|sells baskets|sold baskets
    drink cider with the farmers|drinks cider with the farmers|drank cider with the farmers
    buy a bag of nuts|buys a bag of nuts|bought a bag of nuts
    tell fortunes|tells fortunes|told fortunes
    sell candles|sells candles|sold candles
    carry baskets for the old people|carries baskets for the old people|\
carried baskets for the old people
    argue about prices|argues about prices|argued about prices
    sell flowers|sells flowers|sold flowers
    buy fresh fish|buys fresh fish|bought fresh fish
    """)
)
HOBBIES = tuple(
    Habit(*row)
    for row in _rows("""
    play chess|plays chess|played chess
    sing old songs|sings old songs|sang old songs
    knit socks|knits socks|knitted socks
    paint birds|paints birds|painted birds
    carve spoons|carves spoons|carved spoons
    watch the stars|watches the stars|watched the stars
    write poems|writes poems|wrote poems
    dance at the inn|dances at the inn|danced at the inn
    collect feathers|collects feathers|collected feathers
    tell stories|tells stories|told stories
    play cards|plays cards|played cards
    fly kites|flies kites|flew kites
    press flowers|presses flowers|pressed flowers
    fish from the bridge|fishes from the bridge|fished from the bridge
    """)
)
HABITS = {
    "morning": {habit.base: habit for habit in MORNINGS},
    "market_day": {habit.base: habit for habit in MARKETS},
    "hobby": {habit.base: habit for habit in HOBBIES},
}
