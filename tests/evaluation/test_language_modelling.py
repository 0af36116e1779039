"""Language modelling: bits by hand, nothing lost between passages, texts that cannot be read."""

import lzma
import math
import re
from pathlib import Path

import pytest
import torch
from planted import Planted

from foundling import models
from foundling.base.config import ConfigError
from foundling.evaluation.findings import Findings, Metric
from foundling.evaluation.model_scorer import ModelScorer
from foundling.evaluation.probes.contract import Probe, Setting
from foundling.evaluation.probes.language_modelling import (
    PASSAGE,
    VILLAGE_CHARACTERS,
    VILLAGE_SEED,
    WIKITEXT,
    LanguageModelling,
)
from foundling.evaluation.scorer import TextScore
from foundling.hamlet import text as village_text
from foundling.text.tokenizer import Tokenizer

LINES = [f"Line {n} of a tale — çà et là, 東京 🦉.\n" for n in range(300)]
TALE = "".join(LINES)


def bit_a_character(prompt: str, after: str) -> float:
    return -math.log(2) * len(after)


class Chopping(Planted):
    """Reads tokens of seven characters each, wherever lines end; each has its own surprise."""

    def read(self, text: str) -> TextScore:
        ends = [min(start + 7, len(text)) for start in range(0, len(text), 7)]
        nats = [1 + place % 5 for place in range(len(ends))]
        return TextScore([float(n) for n in nats], ends, 64, 32, [4.0, 3.0, 2.0, 2.0, 1.0])


CHOPPING = Chopping(bit_a_character)


def written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def run(scorer: Planted | ModelScorer, *texts: Path, **options: object) -> Findings:
    return LanguageModelling(texts=texts).run(scorer, Setting(**options))  # type: ignore[arg-type]


def metric(findings: Findings, key: str) -> Metric:
    (found,) = (metric for metric in findings.metrics if metric.key == key)
    return found


def value(findings: Findings, key: str) -> float:
    found = metric(findings, key).estimate
    assert found is not None
    return found.value


def test_bits_per_byte_by_hand(tmp_path: Path) -> None:
    # Words have a bit a character: 3 + 4 + 2 + 4 in 4 + 1 + 4 + 1 + 6 + 1 + 4 + 1 bytes.
    path = written(tmp_path / "a.txt", "été mild 東京 rain\n")
    found = run(Planted(bit_a_character), path)
    assert isinstance(LanguageModelling(), Probe)
    assert value(found, "a.txt.bits_per_byte") == pytest.approx((3 + 4 + 2 + 4) / 23)
    assert value(found, "a.txt.nats") == pytest.approx(13 * math.log(2) / 4)
    note = metric(found, "a.txt.nats").note
    assert f"perplexity {2 ** (13 / 4):,.2f} per token, {2 ** (13 / 4):,.2f} per word" in note
    assert "; 4 tokens; windows of 4 tokens that move on by 4" in note


def test_a_bit_for_each_of_eight_is_the_level_of_chance(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "abcd\n" * 100)
    found = metric(run(Planted(bit_a_character), path), "a.txt.bits_per_byte")
    assert (found.chance, found.good, found.headline) == (8.0, "low", True)
    assert found.baseline is not None
    compressed = len(lzma.compress(path.read_bytes(), preset=9))
    assert found.baseline.value == pytest.approx(8 * compressed / 500)


def test_tokens_across_passages_lose_nothing(tmp_path: Path) -> None:
    found = run(CHOPPING, written(tmp_path / "tale.txt", TALE))
    score = CHOPPING.read(TALE)
    bits = metric(found, "tale.txt.bits_per_byte")
    assert len(bits.outcomes) > 5
    assert bits.weights is not None
    assert sum(bits.weights.values()) == len(TALE.encode())
    in_passages = sum(bits.outcomes[id] * bits.weights[id] for id in bits.outcomes)
    assert in_passages == pytest.approx(sum(score.nats) / math.log(2))
    nats = metric(found, "tale.txt.nats")
    assert nats.weights is not None
    assert sum(nats.weights.values()) == len(score.nats)
    assert value(found, "tale.txt.nats") == pytest.approx(sum(score.nats) / len(score.nats))
    words = math.exp(sum(score.nats) / len(TALE.split()))
    assert re.search(rf"perplexity 20\.\d+ per token, {re.escape(f'{words:,.2f}')}", nats.note)


def test_a_token_belongs_to_the_passage_in_which_it_ends(tmp_path: Path) -> None:
    # 200 lines of 7 characters: each token is a line; a passage is the first 143 of them.
    found = run(CHOPPING, written(tmp_path / "a.txt", "abc de\n" * 200))
    weights = metric(found, "a.txt.nats").weights
    assert weights == {"a.txt/0": -(-PASSAGE // 7), "a.txt/1": 200 - -(-PASSAGE // 7)}
    # One character more in front: the last token of the first passage ends in the second one.
    found = run(CHOPPING, written(tmp_path / "b.txt", "x" + "abc de\n" * 200))
    weights = metric(found, "b.txt.nats").weights
    assert weights == {"b.txt/0": 143, "b.txt/1": 201 - 143}


def test_the_village_is_text_of_its_validation_stream() -> None:
    found = run(Planted(bit_a_character))
    content = village_text(VILLAGE_CHARACTERS, VILLAGE_SEED, "validation")
    expected = sum(map(len, content.split())) / len(content.encode())
    assert value(found, "village.bits_per_byte") == pytest.approx(expected)
    assert content[:200] not in village_text(VILLAGE_CHARACTERS, VILLAGE_SEED)
    assert found.notes == [f"not measured: {WIKITEXT} is not below --data-root"]


def test_wikitext_below_the_data_root_is_read(tmp_path: Path) -> None:
    written(tmp_path / WIKITEXT, "a b\n")
    found = run(Planted(bit_a_character), data_root=tmp_path)
    assert value(found, "wikitext2.bits_per_byte") == 2 / 4
    assert found.notes == []


def test_the_limit_takes_the_first_passages_and_says_so(tmp_path: Path) -> None:
    tale = written(tmp_path / "tale.txt", TALE)
    found = run(Planted(bit_a_character), tale, limit=2)
    bits = metric(found, "tale.txt.bits_per_byte")
    assert list(bits.outcomes) == ["tale.txt/0", "tale.txt/1"]
    total = len(metric(run(Planted(bit_a_character), tale), "tale.txt.bits_per_byte").outcomes)
    assert f"tale.txt: its first 2 of {total} passages" in found.notes
    assert bits.weights is not None
    read = int(sum(bits.weights.values()))
    first = TALE.encode()[:read].decode()
    assert first.endswith("\n")
    assert first in TALE
    assert value(found, "tale.txt.bits_per_byte") == pytest.approx(
        sum(map(len, first.split())) / read
    )


@pytest.mark.parametrize("limit", [1, None])
def test_white_space_alone_has_no_words_and_is_no_failure(
    tmp_path: Path, limit: int | None
) -> None:
    found = run(CHOPPING, written(tmp_path / "a.txt", " \n" * PASSAGE + "end"), limit=limit)
    assert metric(found, "a.txt.nats").outcomes


def test_the_loss_by_position_is_averaged_over_octaves(tmp_path: Path) -> None:
    found = run(CHOPPING, written(tmp_path / "a.txt", TALE))
    (curve,) = (curve for curve in found.curves if curve.name == "a.txt")
    assert [(point.x, point.y) for point in curve.points] == [(1, 4), (2, 3), (3.5, 2), (5, 1)]


def test_files_of_one_name_are_told_by_their_paths(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    paths = [written(folder / "a.txt", "a b\n") for folder in (tmp_path, tmp_path / "b")]
    keys = {metric.key for metric in run(Planted(bit_a_character), *paths).metrics}
    assert {f"{path}.bits_per_byte" for path in paths} <= keys
    own = written(tmp_path / "village", "a b\n")
    keys = {metric.key for metric in run(Planted(bit_a_character), own).metrics}
    assert {"village.bits_per_byte", f"{own}.bits_per_byte"} <= keys


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"caf\xe9 \n", "a.txt:1: not UTF-8"),
        (b"", "a.txt: holds no text"),
        (b" \n\n", "a.txt: holds no text"),
    ],
)
def test_what_is_no_text_is_a_fault(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(said)):
        run(Planted(bit_a_character), tmp_path / "a.txt")


def test_all_bytes_of_a_file_count(tmp_path: Path) -> None:
    """Also those at the ends of lines that another system wrote."""
    found = metric(
        run(Planted(bit_a_character), written(tmp_path / "a.txt", "a b\r\nc d\r\n")),
        "a.txt.bits_per_byte",
    )
    assert found.weights == {"a.txt/0": 10.0}


# ------------------------------------------------------------------ real models


def scorer(tokenizer: Tokenizer, context: int = 32) -> ModelScorer:
    torch.manual_seed(0)
    values = {"rung": "transformer", "dim": 16, "num_layers": 1, "num_heads": 2}
    model = models.build(values, vocab_size=tokenizer.vocab_size, context=context).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return ModelScorer(model, tokenizer, name="tiny", fingerprint="tiny")


def test_characters_without_a_token_are_a_note_and_no_failure(tmp_path: Path) -> None:
    one = scorer(Tokenizer.characters(["abc \n"]))
    texts = [written(tmp_path / f"{name}.txt", name * 9 + "\n") for name in ("abc", "abd")]
    found = run(one, *texts)
    assert [metric.key for metric in found.metrics] == ["abc.txt.bits_per_byte", "abc.txt.nats"]
    (note,) = (note for note in found.notes if "abd.txt" in note)
    assert note.startswith("not measured: abd.txt: 'd' (U+0064): not among the ")
    assert any("New text of the village" in note for note in found.notes)


def test_bits_of_a_model_are_those_of_a_loop_over_windows(tmp_path: Path) -> None:
    tokenizer, text = Tokenizer.train_bytes([TALE], 320), "".join(LINES[:60])
    one = scorer(tokenizer)
    found = run(one, written(tmp_path / "a.txt", text), limit=3)
    tokens = [tokenizer.begin_of_text, *tokenizer.encode(text)]
    window, stride = 32, 16
    nats, known = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(tokens) - 1, stride):
            part = torch.tensor([tokens[start : start + window + 1]])
            logs = one.model.logits(one.model(part[:, :-1])).log_softmax(-1)[0]
            losses = -logs.gather(1, part[0, 1:, None])[:, 0]
            nats += float(losses[known - start :].sum())
            known = start + len(losses)
            if known == len(tokens) - 1:
                break
    assert len(metric(found, "a.txt.bits_per_byte").outcomes) == 3
    bits = nats / math.log(2) / len(text.encode())
    assert value(found, "a.txt.bits_per_byte") == pytest.approx(bits, rel=1e-6)
