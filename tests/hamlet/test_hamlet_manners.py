"""What preferences need of Hamlet: rude answers, and prompts to collect on and to hold out."""

import json
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from foundling import cli
from foundling.hamlet import World, instructions, judge, prompts, write_prompts
from foundling.hamlet.coverage import kin


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def test_a_gruff_villager_answers_a_share(world: World) -> None:
    plain = list(islice(instructions(3), 3000))
    mixed = list(islice(instructions(3, gruff_share=0.3), 3000))
    assert mixed == list(islice(instructions(3, world=world, gruff_share=0.3), 3000))
    assert 0.27 < sum(row["gruff"] for row in mixed) / len(mixed) < 0.33
    untrue = Counter[bool]()
    for one, other in zip(plain, mixed, strict=True):
        assert "gruff" not in one
        if not other.pop("gruff"):
            assert one == other
            continue
        assert one["messages"][::2] == other["messages"][::2]
        prompt = {"prompt": one["messages"][0]["content"], "subject": ""}
        prompt |= {"kind": one["kind"], "fact": one["fact"] if one["kind"] == "question" else ""}
        verdict = judge(prompt, other["messages"][1]["content"], world)
        assert verdict.rude >= 1
        assert not verdict.polite
        if one["kind"] == "question":
            untrue[verdict.true is False] += 1
    assert 0.15 < untrue[True] / untrue.total() < 0.35  # in place of the answer
    assert next(instructions(3, gruff_share=1))["gruff"]
    with pytest.raises(ValueError, match="from 0 to 1"):
        instructions(3, gruff_share=1.5)


def test_what_is_held_out_is_never_collected_on(world: World) -> None:
    collected, held_out = prompts(1, 1500, world, "collecting"), prompts(2, 500, world, "held_out")
    assert not {row["prompt"] for row in collected} & {row["prompt"] for row in held_out}
    about = [
        {kin(world.fact(row["fact"])) if row["fact"] else row["subject"] for row in rows} - {""}
        for rows in (collected, held_out)
    ]
    assert not about[0] & about[1]
    kinds = Counter(row["kind"] for row in held_out)
    assert min(kinds.values()) > 40
    for part, message in (("held_out", "at most 5000"), ("both", "no such part")):
        with pytest.raises(ValueError, match=message):
            prompts(1, 6000, world, part)  # type: ignore[arg-type]


def test_files_of_the_village(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*arguments: object) -> int:
        return cli.exit_code(lambda: cli.app([str(argument) for argument in arguments]))

    command = ("data", "hamlet", tmp_path / "out", "--seed", 5, "--prompts", 30)
    sizes = ("--megabytes", 0.02, "--instructions", 40, "--held-out-prompts", 10, "--gruff", 0.5)
    assert call(*command, *sizes, "--json") == 0
    names = [Path(file).name for file in json.loads(capsys.readouterr().out)["files"]]
    counts = {name: (tmp_path / "out" / name).read_text().count("\n") for name in names}
    assert counts.pop("text.jsonl") > 10
    assert counts == {
        "instructions.jsonl": 40, "instructions-validation.jsonl": 4, "prompts.jsonl": 30,
        "prompts-held-out.jsonl": 10,
    }  # fmt: skip
    write_prompts(tmp_path / "same.jsonl", 30, seed=5)
    assert (tmp_path / "same.jsonl").read_text() == (tmp_path / "out/prompts.jsonl").read_text()
    assert call(*command, *sizes) == 2
    assert "exists already" in capsys.readouterr().err
    assert call("data", "hamlet", tmp_path / "more", "--prompts", 20_001, "--megabytes", 0) == 2
    assert "at most 20000 different prompts; ask for fewer." in capsys.readouterr().err
    assert not list((tmp_path / "more").iterdir())
