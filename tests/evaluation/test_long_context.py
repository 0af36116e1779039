"""Long context: planted minds that find what is hidden, forget it with distance, or never do."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import Planted, uniform

from foundling import models
from foundling.base.config import ConfigError
from foundling.evaluation.findings import Findings
from foundling.evaluation.model_scorer import ModelScorer
from foundling.evaluation.probes.contract import Probe, Setting
from foundling.evaluation.probes.long_context.haystacks import (
    COPIED_WORDS,
    SHOWN_WORDS,
    Place,
    copy_pairs,
    hidden,
    needle_pairs,
)
from foundling.evaluation.probes.long_context.probe import LongContext, by_position
from foundling.evaluation.scorer import TextScore
from foundling.hamlet import text as village_text
from foundling.text.tokenizer import Tokenizer

TALE = village_text(60_000, 3)
DEPTHS = (0.0, 0.5, 1.0)


def finds(prompt: str, after: str) -> float:
    """Likes what stood behind the question's words, or the passage's, wherever it was."""
    asked = prompt.rsplit("\n\n", 1)[-1]
    return 0.0 if asked + after in prompt.removesuffix(asked) else -10.0


def forgets(prompt: str, after: str) -> float:
    """The same with the last 300 words in view."""
    return finds(" ".join(prompt.replace("\n\n", " \n\n").split(" ")[-300:]), after)


def run(scorer: Planted | ModelScorer, **options: object) -> Findings:
    return LongContext(**{"depths": DEPTHS, "lengths": (150, 800), "pieces": 400, **options}).run(  # type: ignore[arg-type]
        scorer, Setting()
    )


def heights(findings: Findings, figure: str, name: str) -> dict[float, float]:
    (curve,) = (c for c in findings.curves if (c.figure, c.name) == (figure, name))
    return {point.x: point.y for point in curve.points}


NEEDLE, COPY = "A number among four, hidden in a text", "A passage read before"


def test_who_finds_all_finds_it_at_every_depth_and_length() -> None:
    found = run(Planted(finds))
    assert isinstance(LongContext(), Probe)
    for name in ("150 tokens", "800 tokens"):
        assert heights(found, NEEDLE, name) == dict.fromkeys(DEPTHS, 1.0)
        words = COPIED_WORDS - SHOWN_WORDS
        assert heights(found, COPY, name) == pytest.approx(dict.fromkeys(DEPTHS, 10 / words))
    values = {metric.key: metric.estimate.value for metric in found.metrics if metric.estimate}
    assert values["needle.150"] == values["needle.800"] == 1.0
    assert not found.notes


def test_who_forgets_finds_what_is_near() -> None:
    found = run(Planted(forgets))
    assert heights(found, NEEDLE, "150 tokens") == dict.fromkeys(DEPTHS, 1.0)
    assert heights(found, NEEDLE, "800 tokens") == {0.0: 0.25, 0.5: 0.25, 1.0: 1.0}
    assert heights(found, COPY, "800 tokens")[0.0] == 0.0
    assert heights(found, COPY, "800 tokens")[1.0] > 0.5


def test_who_knows_nothing_is_at_the_level_of_chance() -> None:
    found = run(uniform(), items=60, lengths=(150,))
    low, high = next(m.estimate.interval for m in found.metrics if m.key == "needle.150")
    assert low < 0.25 < high
    assert abs(next(m.estimate.value for m in found.metrics if m.key == "copy.150")) < 0.15


@pytest.mark.parametrize("length", [150, 400, 1000])
@pytest.mark.parametrize("depth", [0.0, 0.3, 1.0])
def test_a_haystack_is_as_long_as_it_says_and_holds_what_it_hides(
    length: int, depth: float
) -> None:
    scorer = Planted(finds)
    pairs = needle_pairs(scorer, TALE, Place(length, depth), "a")
    assert pairs is not None
    prompt, right = pairs[0]
    assert len({after for _, after in pairs}) == 4
    assert all(one == prompt for one, _ in pairs)
    assert length - 12 <= len(scorer.token_ends(prompt + right)) <= length
    sentence = re.search(r"The secret number of the \w+ is \d\d\. ", prompt)
    assert sentence
    assert right + "." in sentence.group()
    assert sentence.start() / len(prompt) == pytest.approx(depth, abs=0.15)
    assert prompt[: sentence.start()].rstrip()[-1:] in ("", ".", "!", "?", '"', "”", "’", ")")
    with_it, without = copy_pairs(scorer, TALE, Place(length, depth), "a") or ()
    assert with_it[1] == without[1]
    assert with_it[0].count(without[0].rsplit("\n\n")[-1]) == 2


def test_the_same_texts_and_secrets_at_every_depth_and_others_with_another_draw() -> None:
    scorer = Planted(finds)
    one, other = (needle_pairs(scorer, TALE, Place(400, d), "a") or [] for d in (0.0, 1.0))
    assert [after for _, after in one] == [after for _, after in other]
    sentence = re.compile(r"The secret number of the \w+ is \d\d\. ")
    assert sentence.sub("", one[0][0]) == sentence.sub("", other[0][0])
    assert needle_pairs(scorer, TALE, Place(400, 0.0), "b") != one
    assert hidden("No end", "X ", 0.9) == "X No end"


class Falling(Planted):
    """The surprise of a token halves as its position doubles."""

    def read(self, text: str) -> TextScore:
        ends = self.token_ends(text)
        nats = [math.log(2) / (place + 1) for place in range(len(ends))]
        return TextScore(nats, ends, len(ends), len(ends), nats)


def test_the_loss_by_position_is_that_of_pieces_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "tale.txt").write_text(TALE)
    (tmp_path / "short.txt").write_text("Too short.")
    found = run(Falling(finds), texts=(tmp_path,), lengths=(150, 512))
    points = heights(found, "Loss by position", "tale")
    assert list(points) == [1, 2, 3.5, 6.5, 12.5, 24.5, 48.5, 96.5, 192.5, 384.5]
    assert points[1] == 1.0
    assert points[3.5] == pytest.approx((1 / 3 + 1 / 4) / 2)
    assert found.notes == ["not measured: short: shorter than 512 tokens"]
    metric = next(metric for metric in found.metrics if metric.key == "tale.far")
    assert len(metric.outcomes) == len(TALE.split()) // 512
    bits, size = sum(1 / place for place in range(257, 513)), 0.0
    pieces = TALE.split()[:512]
    size = len(" ".join(pieces)) - len(" ".join(pieces[:256]))
    assert metric.outcomes["tale/0"] == pytest.approx(bits / size, rel=0.02)


def test_positions_are_binned_by_powers_of_two() -> None:
    values = np.arange(8.0)[None] + np.array([[0.0], [1.0]])
    assert [(at, row.tolist()) for at, row in by_position(values)] == [
        (1, [0, 1]), (2, [1, 2]), (3.5, [2.5, 3.5]), (6.5, [5.5, 6.5]),
    ]  # fmt: skip


def test_what_is_longer_than_the_context_is_left_out_and_said() -> None:
    found = run(Planted(finds, max_characters=2_000), lengths=(150, 800))
    (note,) = found.notes
    assert note.startswith("not measured: 800 tokens: too long for the model's context")
    assert {curve.name for curve in found.curves} == {"village", "150 tokens"}


def test_a_model_is_read_to_the_end_of_its_context() -> None:
    tokenizer = Tokenizer.train_bytes([TALE], 400)
    torch.manual_seed(0)
    model = models.build({"dim": 16, "num_layers": 1, "num_heads": 2}, vocab_size=400, context=256)
    scorer = ModelScorer(model, tokenizer, "tiny", "tiny")
    found = run(scorer, lengths=(256, 512), items=1, depths=(0.5,), pieces=2)
    assert [note for note in found.notes if "512 tokens" in note and "too long" in note]
    assert {metric.key for metric in found.metrics} == {"village.far", "needle.256", "copy.256"}
    points = heights(found, "Loss by position", "village")
    assert max(points) > 128
    assert points[1] == pytest.approx(math.log2(400), abs=1)


def test_a_folder_without_texts_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no \.txt"):
        LongContext(texts=(tmp_path,)).check(Setting())
