"""Hamlet's prompts and the judgement of their answers: by the table, the words and the manner."""

import re
from collections import Counter
from itertools import islice
from random import Random

import pytest

from foundling.hamlet import World, instructions, judge, prompts


@pytest.fixture(scope="module")
def world() -> World:
    return World()


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
    with pytest.raises(ValueError, match="20000"):
        prompts(0, 20_001)


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


def test_answers_of_the_stream_are_judged_true(world: World) -> None:
    for row in islice(instructions(1, world=world), 3000):
        question, answer = (message["content"] for message in row["messages"][:2])
        if row["kind"] == "question":
            prompt = {"prompt": question, "kind": "question", "fact": row["fact"]}
            assert judge(prompt, answer, world).true, (question, answer)
        elif row["kind"] == "tell":
            named = re.search(r"(?:about|Describe) (?:the )?([\w' ]+)[.?]", question)
            assert named
            prompt = {"prompt": question, "kind": "tell", "fact": "", "subject": named[1]}
            assert judge(prompt, answer, world).true, (question, answer)


def test_other_villages() -> None:
    other = World(1)
    for row in prompts(0, 50, other):
        verdict = judge(row, "I do not know.", other)
        assert verdict.true is (False if row["fact"] else None)
        assert verdict.polite
