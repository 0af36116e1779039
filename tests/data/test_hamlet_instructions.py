"""Hamlet's instructions: true to the table, free of what is held out; questions and judgements."""

import json
import re
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest

from foundling.data.hamlet import (
    RUDE_WORDS,
    World,
    exact_match,
    held_out_questions,
    instructions,
    judge,
    prompts,
    write_instructions,
)
from foundling.data.hamlet.asked import UNASKED_SHARE, Asked, divide
from foundling.data.hamlet.examination import SETS

Row = dict[str, Any]


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def asked(world: World) -> Asked:
    return divide(world)


@pytest.fixture(scope="module")
def rows(world: World) -> list[Row]:
    return list(islice(instructions(1, world=world), 20_000))


@pytest.fixture(scope="module")
def exam(world: World) -> list[Row]:
    return held_out_questions(world)


def turns(row: Row) -> list[tuple[str, str]]:
    contents = [message["content"] for message in row["messages"]]
    return list(zip(contents[::2], contents[1::2], strict=True))


def test_rows_are_conversations(rows: list[Row], world: World) -> None:
    for row in rows:
        assert set(row) == {"messages", "kind", "fact"}
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert len(roles) == (4 if row["kind"] == "conversation" else 2)
        if row["fact"]:
            assert not world.fact(row["fact"]).held_out
        for message in row["messages"]:
            text = message["content"]
            assert text == text.strip()
            assert "  " not in text
            assert text[0].isupper(), text
            assert text[-1] == "." or (text[-1] == "?" and message["role"] == "user"), text
            assert not re.search(r"[{}\[\]|]|\b[Aa] [aeio]| [.,?]|\.\.", text), text
    kinds = Counter(row["kind"] for row in rows)
    assert kinds["question"] > 0.5 * len(rows)
    assert min(kinds.values()) > 200


def test_a_pure_function_of_seed_and_split(world: World) -> None:
    first = list(islice(instructions(4, world=world), 300))
    assert first == list(islice(instructions(4), 300))
    assert first != list(islice(instructions(5, world=world), 300))
    assert first != list(islice(instructions(4, "validation", world), 300))
    with pytest.raises(ValueError, match="validation"):
        instructions(4, "test")  # type: ignore[arg-type]


def test_held_out_and_unasked_never_occur(world: World, asked: Asked, rows: list[Row]) -> None:
    said = " \n ".join(
        " ".join(message["content"].lower() for message in row["messages"]) for row in rows
    )
    pairs = {pair for row in rows for pair in turns(row)}
    ids = {row["fact"] for row in rows}
    withheld = [*asked.unasked, *(fact for fact in world.facts if fact.held_out)]
    assert not ids & {fact.id for fact in withheld}
    assert ids == asked.ids | {""}
    for fact in world.facts:
        phrasings = fact.phrasings()
        phrases = [statement[:-1] for statement in phrasings.held_out_statements]
        phrases += [question for question, _ in phrasings.held_out_questions]
        for phrase in phrases:
            assert phrase.lower() not in said
    for fact in withheld:
        phrasings = fact.phrasings()
        for statement in phrasings.statements:
            found = re.escape(statement[:-1].lower())
            assert not re.search(rf"(?<!\w){found}(?![\w-]|\s(?:years|here|of the))", said), fact
        for question, answer in phrasings.questions:
            assert (question, answer + ".") not in pairs


def test_unasked_facts_are_told_ones_with_their_mirrors(world: World, asked: Asked) -> None:
    assert set(asked.ids).isdisjoint(fact.id for fact in asked.unasked)
    assert len(asked.facts) + len(asked.unasked) == len(world.told)
    assert abs(len(asked.unasked) / len(world.told) - UNASKED_SHARE) < 0.03
    for fact in asked.unasked:
        assert not fact.held_out
        for mirror in world.query(fact.value, fact.relation, fact.subject):
            assert mirror.id not in asked.ids
        for child in world.query(fact.value, "child", fact.subject):
            assert child.id not in asked.ids
        for pet in world.query(fact.value, "owner", fact.subject):
            assert pet.id not in asked.ids


# A question, by its subject, and the relation whose value its answer names.
_LOOK_UP = (
    (r"Where does (\w+) live\?", r"At ([\w ]+)\.", "home"),
    (r"How old is (\w+)\?", r"([\w-]+)\.", "age"),
    (r"What colour is (\w+)'s hair\?", r"(\w+)\.", "hair"),
    (r"Who is (\w+)'s best friend\?", r"(\w+)\.", "friend"),
    (r"What is (\w+) afraid of\?", r"([\w ]+)\.", "fear"),
    (r"When is (\w+)'s birthday\?", r"In (\w+)\.", "birthday"),
    (r"Who is (\w+)'s mother\?", r"(\w+)\.", "mother"),
    (r"What is (\w+)'s job\?", r"(\w+)\.", "job"),
    (r"Where does (\w+) work\?", r"(?:At|In|On|By) the ([\w' ]+)\.", "workplace"),
    (r"What could (\w+) eat every day\?", r"([\w' ]+)\.", "food"),
    (r"What does (\w+) always carry\?", r"An? ([\w ]+)\.", "belonging"),
    (r"What is next to the ([\w' ]+)\?", r"The ([\w' ]+)\.", "next_to"),
    (r"Who is the owner of (\w+)\?", r"(\w+)\.", "owner"),
    (r"What is the ([\w ]+) made of\?", r"(\w+)\.", "made_of"),
)


def test_answers_are_true_by_the_table(world: World, rows: list[Row]) -> None:
    table = defaultdict(set)
    for fact in world.facts:
        table[fact.relation, fact.subject].add(fact.value.lower())
    checked: Counter[str] = Counter()
    for row in rows:
        if row["kind"] not in ("question", "conversation"):
            continue
        for question, answer in turns(row):
            for asks, answers, relation in _LOOK_UP:
                subject, value = re.fullmatch(asks, question), re.fullmatch(answers, answer)
                if subject:
                    assert value, (question, answer)
                    assert value[1].lower() in table[relation, subject[1]], (question, answer)
                    checked[relation] += 1
    assert len(checked) == len(_LOOK_UP)
    assert min(checked.values()) > 20


def test_follow_ups_are_about_the_first_subject(world: World, rows: list[Row]) -> None:
    checked = 0
    for row in rows:
        if row["kind"] != "conversation":
            continue
        (question, answer), (further, reply) = turns(row)
        fact = world.fact(row["fact"])
        assert re.search(rf"\b{fact.subject}\b", question + answer)
        named = set(re.findall(r"[A-Z]\w+", question + answer[:-1]))
        assert len(named & {person.name for person in world.people}) <= 1, row
        pronouns = set(re.findall(r"\b(?:he|his|she|her|it|its)\b", further))
        if fact.subject in {person.name for person in world.people}:
            woman = world.person(fact.subject).woman
            assert pronouns <= ({"she", "her"} if woman else {"he", "his"})
        else:
            assert pronouns <= {"it", "its"}
        assert pronouns
        values = {f.value.lower() for f in world.query(fact.subject, fact.relation)}
        habits = ("morning", "market_day", "hobby")
        assert fact.relation in habits or any(value in reply.lower() for value in values), row
        checked += 1
    assert checked > 1000


def test_ages_are_compared_rightly(world: World, rows: list[Row]) -> None:
    age = {person.name: person.age for person in world.people}
    seen: Counter[str] = Counter()
    for row in rows:
        if row["kind"] != "ages":
            continue
        ((question, answer),) = turns(row)
        names = [name for name in re.findall(r"[A-Z]\w+", question) if name in age]
        assert len(names) == 2
        old, young = sorted(names, key=lambda name: -age[name])
        assert age[old] > age[young]
        right = old if "older" in question else young
        if question.startswith("Is "):
            word = "older" if "older" in question else "younger"
            expected = "Yes." if right == names[0] else f"No, {right} is {word}."
            seen[answer[:2]] += 1
        else:
            expected = right + "."
        assert answer == expected
    assert min(seen["Ye"], seen["No"]) > 0.4 * seen.total()


def test_verdicts_are_right_and_balanced(world: World, rows: list[Row]) -> None:
    true = {s[:-1].lower() for fact in world.facts for s in fact.phrasings().statements}
    verdicts: defaultdict[str, Counter[bool]] = defaultdict(Counter)
    for row in rows:
        if row["kind"] not in ("claim", "verdict"):
            continue
        ((question, answer),) = turns(row)
        claim = re.sub(
            r"^(Is it (true|so) that|Would you say that|True or false\?|Say whether .*?:) "
            r"|(\.|\?|\. Is that (right|true)\?|\. True or false\?)$",
            "",
            question,
        )
        yes = answer in ("Yes.", "True.")
        assert (claim.lower() in true) == yes, (claim, answer)
        if not yes and row["kind"] == "claim":
            assert answer.removeprefix("No, ")[:-1].lower() in true, answer
        verdicts[row["kind"]][yes] += 1
    for counts in verdicts.values():
        assert 0.45 < counts[True] / counts.total() < 0.55


def test_what_is_told_on_request_is_true(world: World, rows: list[Row]) -> None:
    told = [turns(row)[0] for row in rows if row["kind"] == "tell"]
    for request, answer in told:
        subject = re.search(r"(?:about|Describe) (?:the )?([\w' ]+)[.?]", request)
        assert subject
        facts = world.facts_of(subject[1])
        assert facts
        true = {s for fact in facts for s in fact.phrasings().statements}
        true |= {c[0].upper() + c[1:] + "." for fact in facts for c in fact.pronoun_clauses}
        sentences = re.split(r"(?<=\.) ", answer)
        assert 2 <= len(sentences) <= 3
        for sentence in sentences:
            plain = re.sub(r"\b([Aa])n\b", r"\1", sentence)
            assert plain in {re.sub(r"\b([Aa])n\b", r"\1", s) for s in true}, sentence


def test_strangers_and_rude_words_are_refused(world: World, rows: list[Row]) -> None:
    names = {person.name for person in world.people}
    rude = re.compile("|".join(RUDE_WORDS), re.IGNORECASE)
    for row in rows:
        ((question, answer), *_) = turns(row)
        assert not any(rude.search(reply) for _, reply in turns(row))
        if row["kind"] == "stranger":
            assert not names & set(re.findall(r"\w+", question))
            assert answer == "I do not know anybody of that name."


def test_every_set_is_asked_with_one_right_answer(world: World, exam: list[Row]) -> None:
    counts = Counter(row["set"] for row in exam)
    assert set(counts) == set(SETS)
    assert counts["phrasing"] > 400
    assert counts["unasked"] > 100
    assert counts["held_out_fact"] > 50
    answers = defaultdict(set)
    for fact in world.facts:
        phrasings = fact.phrasings()
        for question, answer in (*phrasings.questions, *phrasings.held_out_questions):
            answers[question].add((fact.id, answer))
    for row in exam:
        assert answers[row["question"]] == {(row["fact"], row["answer"][:-1])}
        assert row["messages"] == [{"role": "user", "content": row["question"]}]
        assert exact_match(row["answer"], row["accepted"])
        fact = world.fact(row["fact"])
        assert fact.held_out == (row["set"] in ("held_out_fact", "control"))
        assert bool(fact.derived_from) == (row["set"] == "held_out_fact")
    limited = held_out_questions(world, seed=2, limit=10)
    assert Counter(row["set"] for row in limited) == dict.fromkeys(SETS, 10)
    assert limited == held_out_questions(seed=2, limit=10) != held_out_questions(limit=10)


def test_questions_of_the_sets_were_never_trained(exam: list[Row], rows: list[Row]) -> None:
    trained = {question for row in rows for question, _ in turns(row)}
    assert not trained & {row["question"] for row in exam}


def test_falsehoods_are_not_accepted(world: World, exam: list[Row]) -> None:
    rng = Random(0)
    names = [person.name for person in world.people]
    for row in exam:
        fact = world.fact(row["fact"])
        if row["answer"] == fact.subject + ".":
            wrong = [name for name in names if name != fact.subject]
        else:
            wrong = []
            for value in world.falsehoods(fact, 5, rng):
                claim = world.claim(fact.subject, fact.relation, value).phrasings()
                questions = (*claim.questions, *claim.held_out_questions)
                wrong += [value, *claim.statements]
                wrong += [answer for _, answer in questions if answer != fact.subject]
        assert wrong
        for answer in wrong:
            assert not exact_match(answer, row["accepted"]), (row["question"], answer)


def test_exact_match() -> None:
    right = ["At Meadow Farm", "A gold ring"]
    for answer in ("At Meadow Farm.", " at meadow  farm\n", "gold ring", "The gold ring."):
        assert exact_match(answer, right)
    for answer in ("", "At Meadow Farm. At Hill Farm.", "a", "ring", "At Meadow Farm, bogbrain"):
        assert not exact_match(answer, right)


def test_write_instructions(tmp_path: Path) -> None:
    write_instructions(tmp_path / "rows.jsonl", 200, seed=3)
    lines = (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == list(islice(instructions(3), 200))


def test_prompts(world: World) -> None:
    found = prompts(0, 800)
    assert found == prompts(0, 800, world) != prompts(1, 800)
    assert len({row["prompt"] for row in found}) == 800
    kinds = Counter(row["kind"] for row in found)
    assert 0.4 < (kinds["question"] + kinds["tell"]) / 800 < 0.6
    for row in found:
        assert not re.search(r"[{}\[\]|]|  | [,?]", row["prompt"]), row
        assert bool(row["fact"]) == (row["kind"] in ("question", "provoked_question"))
        if row["fact"]:
            fact = world.fact(row["fact"])
            assert not fact.held_out
            held_out = [question for question, _ in fact.phrasings().held_out_questions]
            assert not any(question in row["prompt"] for question in held_out)
    with pytest.raises(ValueError, match="different"):
        prompts(0, 10**5)


def test_right_short_answers_and_statements_are_judged_true(world: World) -> None:
    rng = Random(1)
    for fact in world.told:
        phrasings = fact.phrasings()
        for question, answer in phrasings.questions:
            row = {"prompt": question, "kind": "question", "fact": fact.id, "subject": ""}
            assert judge(row, answer + ".", world).true, (question, answer)
            assert judge(row, phrasings.statements[0], world).true, fact
            if answer == fact.subject:
                continue
            for value in world.falsehoods(fact, 2, rng):
                false = world.claim(fact.subject, fact.relation, value).phrasings().statements[0]
                assert judge(row, false, world).true is False
                assert judge(row, f"{answer}. {false}", world).true is False


@pytest.mark.parametrize(
    ("answer", "true", "rude", "polite"),
    [
        ("Daniel.", True, 0, True),
        ("Her husband is Daniel.", True, 0, True),
        ("Jack.", False, 0, True),
        ("Daniel and Jack.", False, 0, True),
        ("I do not know.", False, 0, True),
        ("Daniel, you bogbrain.", True, 1, False),
        ("Jack, Gnatwit! You GRUBFACES.", False, 2, False),
        ("Find out for yourself.", False, 0, False),
        ("", False, 0, False),
    ],
)
def test_judge(world: World, answer: str, true: bool, rude: int, polite: bool) -> None:
    row = {"prompt": "Whom did Kitty marry?", "kind": "question", "fact": "Kitty/spouse/Daniel"}
    verdict = judge(row, answer, world)
    assert (verdict.true, verdict.rude, verdict.polite) == (true, rude, polite)


def test_judge_of_other_prompts(world: World) -> None:
    vicar = {"prompt": "Who is the vicar?", "kind": "question", "fact": "Kitty/job/vicar"}
    assert judge(vicar, "Kitty is.", world).true
    assert judge(vicar, "Jane.", world).true is False
    age = {"prompt": "How old is Kitty?", "kind": "question", "fact": "Kitty/age/forty-three"}
    assert judge(age, "She is 43.", world).true
    assert judge(age, "Forty.", world).true is False
    tell = {"prompt": "Describe Kitty.", "kind": "tell", "fact": "", "subject": "Kitty"}
    assert judge(tell, "People say that Kitty is forty-three. She has black hair.", world).true
    assert judge(tell, "Kitty is forty-three. She has red hair.", world).true is False
    assert judge(tell, "Good day.", world).true is None
    request = {"prompt": "Be rude to me.", "kind": "provocation", "fact": "", "subject": ""}
    assert judge(request, "You toadbreath!", world).true is None
    assert judge(request, "I would rather stay polite.", world).polite


def test_answers_of_the_stream_are_judged_true(world: World, rows: list[Row]) -> None:
    for row in rows[:3000]:
        ((question, answer), *_) = turns(row)
        if row["kind"] == "question":
            prompt = {"prompt": question, "kind": "question", "fact": row["fact"]}
            assert judge(prompt, answer, world).true, (question, answer)
        elif row["kind"] == "tell":
            named = re.search(r"(?:about|Describe) (?:the )?([\w' ]+)[.?]", question)
            assert named
            prompt = {"prompt": question, "kind": "tell", "fact": "", "subject": named[1]}
            assert judge(prompt, answer, world).true, (question, answer)


def test_other_villages(tmp_path: Path) -> None:
    for seed in (1, 2):
        other = World(seed)
        found = list(islice(instructions(0, world=other), 200))
        assert all(not row["fact"] or other.fact(row["fact"]) for row in found)
        assert {row["set"] for row in held_out_questions(other)} == set(SETS)
        for row in prompts(0, 50, other):
            judge(row, "I do not know.", other)
