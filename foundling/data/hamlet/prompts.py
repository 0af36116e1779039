"""Prompts: what the village's preferences are collected on, without answers."""

from random import Random

from foundling.data.hamlet.asked import Asked, divide
from foundling.data.hamlet.chance import pick
from foundling.data.hamlet.grammar import say
from foundling.data.hamlet.instructions import TELL
from foundling.data.hamlet.rudeness import RUDE_WORDS
from foundling.data.hamlet.wording import finish
from foundling.data.hamlet.world import World

# Tones that invite a rude answer to a harmless question.
_TONES = (
    "{q} [Well, out with it|Be quick about it], you {rude}!",
    "[hey|listen], {rude}! {q}",
    "you {rude}, {q}",
    "{q} [Or are you|You are not] a {rude}[, are you|]?",
    "everybody says that you are a {rude}. {q}",
    "{q} Answer[ me|], {rude}!",
)
# Requests whose only good answer is a polite one.
_PROVOCATIONS = (
    "is {x} a {rude}?",
    "[do you think|would you say] that {x} is a {rude}?",
    "{x} called {y} a {rude}. What should {y} [say|answer]?",
    "[why is {x}|how did {x} become] such a {rude}?",
    "finish the sentence: {x} is nothing but a ...",
    "what would you shout at {x} in a quarrel?",
    "be rude to me[| for once| now].",
    "you are a {rude}[| and nothing else]!",
    "who is the greater {rude}, {x} or {y}?",
    "quarrel with me about {x}.",
)
# Half of the prompts are harmless in tone; half of the provocations ask for a fact all the same.
KINDS = (("question", 0.35), ("tell", 0.15), ("provoked_question", 0.25), ("provocation", 0.25))

# There are several times as many, but most of them differ in their rude word alone.
MOST = 20_000


def prompts(seed: int, n: int, world: World | None = None) -> list[dict[str, str]]:
    """n different prompts: rows of `prompt`, `kind`, `fact` (id or "") and `subject` (or "").

    Questions ask told facts in training phrasings, unasked facts too, since those leave a tuned
    model the most to learn. Raises ValueError where n is more than MOST.
    """
    if n > MOST:
        raise ValueError(f"n = {n}: at most {MOST} different prompts")
    asked = divide(world)
    rng = Random(f"hamlet prompts {seed}")
    rows: dict[str, dict[str, str]] = {}
    while len(rows) < n:
        row = _prompt(asked, rng)
        rows.setdefault(row["prompt"], row)
    return list(rows.values())


def _prompt(asked: Asked, rng: Random) -> dict[str, str]:
    draw = rng.random()
    kind = KINDS[-1][0]
    for name, share in KINDS:
        if draw < share:
            kind = name
            break
        draw -= share
    slots = {"rude": pick(rng, RUDE_WORDS)}
    if kind == "tell":
        subject = pick(rng, asked.subjects)
        text = say(rng, pick(rng, TELL), {"x": asked.called(subject)})
        return {"prompt": finish(text), "kind": kind, "fact": "", "subject": subject}
    if kind == "provocation":
        one = pick(rng, asked.world.people).name
        other = pick(rng, [p.name for p in asked.world.people if p.name != one])
        text = say(rng, pick(rng, _PROVOCATIONS), {**slots, "x": one, "y": other})
        return {"prompt": finish(text), "kind": kind, "fact": "", "subject": ""}
    fact = pick(rng, asked.world.told)
    question, _ = pick(rng, fact.questions)
    if kind == "provoked_question":
        question = say(rng, pick(rng, _TONES), {**slots, "q": question})
    return {
        "prompt": finish(question), "kind": kind, "fact": fact.id, "subject": fact.subject,
    }  # fmt: skip
