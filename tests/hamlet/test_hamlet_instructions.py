"""Hamlet's instructions: true to the table, free of what is held out; and examined by others."""

import json
import re
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest

from foundling.hamlet import (
    RUDE_WORDS,
    World,
    exact_match,
    held_out_questions,
    instructions,
    write_instructions,
)
from foundling.hamlet.coverage import UNASKED_SHARE, Coverage, coverage
from foundling.hamlet.examination import SETS

Row = dict[str, Any]


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def asked(world: World) -> Coverage:
    return coverage(world)


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


def test_held_out_and_unasked_never_occur(world: World, asked: Coverage, rows: list[Row]) -> None:
    contents = {message["content"].lower() for row in rows for message in row["messages"]}
    said = "\n".join(sorted(contents))
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
            claim = statement[:-1].lower()
            if claim in said:  # "Ada is nine" also begins "Ada is nineteen".
                assert not re.search(rf"(?<!\w){re.escape(claim)}(?![\w-])", said), claim
        for question, answer in phrasings.questions:
            assert (question, answer + ".") not in pairs


def test_unasked_facts_are_told_ones_with_their_mirrors(world: World, asked: Coverage) -> None:
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
    names = {name for thing in (world.people, world.pets) for name in (t.name for t in thing)}
    checked: Counter[str] = Counter()
    for row in rows:
        if row["kind"] not in ("question", "conversation"):
            continue
        first = " ".join(turns(row)[0])
        subjects = [name for name in re.findall(r"[A-Z]\w+", first) if name in names]
        for question, answer in turns(row):
            if subjects:
                question = re.sub(r"\b(s?he|it)\b", subjects[0], question)
                question = re.sub(r"\b(his|her|its)\b", f"{subjects[0]}'s", question)
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
    truths: dict[str, set[str]] = {}
    for request, answer in told:
        subject = re.search(r"(?:about|Describe) (?:the )?([\w' ]+)[.?]", request)
        assert subject
        facts = world.facts_of(subject[1])
        assert facts
        if subject[1] not in truths:
            true = {s for fact in facts for s in fact.phrasings().statements}
            true |= {c[0].upper() + c[1:] + "." for fact in facts for c in fact.pronoun_clauses}
            truths[subject[1]] = {re.sub(r"\b([Aa])n\b", r"\1", s) for s in true}
        sentences = re.split(r"(?<=\.) ", answer)
        assert 2 <= len(sentences) <= 3
        for sentence in sentences:
            plain = re.sub(r"\b([Aa])n\b", r"\1", sentence)
            assert plain in truths[subject[1]], sentence


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
    assert counts["wording"] > 400
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


def test_other_villages() -> None:
    for seed in (1, 2):
        other = World(seed)
        found = list(islice(instructions(0, world=other), 200))
        assert all(not row["fact"] or other.fact(row["fact"]) for row in found)
        assert {row["set"] for row in held_out_questions(other)} == set(SETS)
