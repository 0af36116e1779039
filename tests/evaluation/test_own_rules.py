"""Models of others: texts begin and are parted as their own tokenizers and lm-eval's `hf` say."""

import json
import logging
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import processors

from foundling import models
from foundling.base.config import ConfigError
from foundling.evaluation.benchmarks import joined
from foundling.evaluation.model_scorer import load_scorer
from foundling.evaluation.scorer import Question
from foundling.models import interchange
from foundling.text.tokenizer import Tokenizer

pytest.importorskip("lm_eval")

from foundling.evaluation.lm_eval_adapter import FoundlingLM

MARK = "<first>"
PAIRS = [
    ("The man bends down to the barbell", " , he lifts it."),  # the space is scored too
    ("We saw the lake", " ."),
    ("We saw the lake", "."),
    ("The hens sat  ", "in the yard"),  # blanks at the end of a prompt
    ("Question: Why do hens sit?\nAnswer:", " They are warm."),
    ("Question: Why do hens sit?\nAnswer: ", "They are warm."),
    ("A list:\n\n", "- one\n- two"),
    ("", "The duck swam over the pond."),
    ("", " The duck swam."),
    ("naïve café ", "𝄞 and déjà vu"),
    ("1 + 1 =", " 2"),
    ("The cat", "s sat there"),  # the first tokens of both are not those of the prompt alone
]
TOLERANCE = 1e-4
"""Nats. The peer computes in fp64: in fp32 its own error on a real model is up to 3e-4."""


def hf(folder: Path) -> dict[tuple[str, str], tuple[float, bool]]:
    """What lm-evaluation-harness's own model finds of PAIRS."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    lm = HFLM(pretrained=str(folder), device="cpu", dtype="float64", batch_size=4)
    asked = [Instance("loglikelihood", {}, pair, place) for place, pair in enumerate(PAIRS)]
    return dict(zip(PAIRS, lm.loglikelihood(asked, disable_tqdm=True), strict=True))


def agree(folder: Path) -> None:
    scorer = load_scorer(str(folder), device="cpu", chats=False)
    theirs = hf(folder)
    for pair, scored in zip(PAIRS, scorer.score(PAIRS), strict=True):
        nats, is_greedy = theirs[pair]
        assert scored is not None, pair
        assert scored.log_prob == pytest.approx(nats, abs=TOLERANCE), pair
        assert scored.is_greedy == is_greedy, pair


RULES: dict[str, dict[str, Any]] = {
    "none": {},
    "none, and says so": {"add_bos_token": False},
    "post-processor": {},
    "post-processor, and says so": {"add_bos_token": True},
}


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str], Path]:
    """A small model in the layout of others, whose tokenizer has a rule for the begin mark."""

    def make(rule: str) -> Path:
        trained = Tokenizer.train_bytes(["The hens sat in the yard; the duck swam. "] * 9, 300)
        text = trained._backend.to_str().replace("<|begin_of_text|>", MARK)
        backend = Backend.from_str(text.replace("<|assistant|>", "<answers>"))
        if rule.startswith("post-processor"):
            backend.post_processor = processors.TemplateProcessing(
                single=f"{MARK} $A", special_tokens=[(MARK, trained.begin_of_text)],
            )  # fmt: skip
        torch.manual_seed(3)
        settings = {"dim": 16, "num_layers": 2, "num_heads": 2}
        model = models.build(settings, vocab_size=trained.vocab_size, context=128)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
        interchange.save(model, tmp_path, trained.mark_ids())
        (tmp_path / "tokenizer.json").write_text(backend.to_str())
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": MARK,
            "eos_token": "<|end_of_text|>", **RULES[rule],
        }  # fmt: skip
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        return tmp_path

    return make


@pytest.mark.parametrize("rule", RULES)
def test_the_begin_mark_is_the_tokenizers_own(folder: Callable[[str], Path], rule: str) -> None:
    agree(folder(rule))


def test_an_option_overrides_the_rule(folder: Callable[[str], Path]) -> None:
    path = str(folder("none"))
    pair = ("The hens", " sat")
    found = {}
    for mark in (None, True, False):
        scorer = load_scorer(path, device="cpu", chats=False, begin_mark=mark)
        ((prompt, _),) = scorer.encode([pair])
        found[mark] = scorer.begin_mark, prompt[0] == scorer.tokenizer.begin_of_text
        assert scorer.shown(pair[0]) == found[mark][0] + pair[0]
    assert found == {None: ("", False), True: (MARK, True), False: ("", False)}
    fingerprints = {
        load_scorer(path, device="cpu", chats=False, begin_mark=mark).fingerprint
        for mark in (None, True, False)
    }
    assert len(fingerprints) == 3  # answers of one are not the other's in the cache


def test_a_begin_mark_that_is_not_there_cannot_be_asked_for(folder: Callable[[str], Path]) -> None:
    path = folder("none")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end_of_text|>"}
    text = (path / "tokenizer.json").read_text().replace(MARK, "<other>")
    (path / "tokenizer.json").write_text(text)
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="no begin mark; use --no-begin-mark"):
        load_scorer(str(path), device="cpu", chats=False, begin_mark=True)


@pytest.mark.parametrize("continuation", [" , he lifts", " .", "\n.", " x"])
def test_a_continuation_is_scored_as_it_stands(continuation: str) -> None:
    assert joined("A man", continuation) == ("A man", continuation)


@pytest.mark.real
@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_a_real_model_has_the_log_probabilities_of_lm_eval(
    real_model: Callable[[str], Path], kind: str
) -> None:
    agree(real_model(kind))


TEMPLATE = (
    "{% for message in messages %}[{{ message.role }}] {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def test_questions_are_asked_by_the_models_own_template(
    folder: Callable[[str], Path], said: list[str]
) -> None:
    path = folder("none")
    (path / "chat_template.jinja").write_text(TEMPLATE)
    scorer = load_scorer(str(path), device="cpu")
    assert scorer.chats
    assert [line for line in said if "asked in turns" in line]
    question = Question("Who sat?")
    assert scorer.shown(question) == "[user] Who sat?\n[assistant] "
    ((prompt, after),) = scorer.encode([(question, "The hens.")])
    assert scorer.tokenizer.decode(prompt) == "[user] Who sat?\n[assistant] "
    assert after == scorer.tokenizer.encode("The hens.")
    plain = load_scorer(str(path), device="cpu", chats=False)
    assert plain.shown(question) == "Q: Who sat?\nA:"
    assert (scorer.template_name, plain.template_name) == ("default", "")
    (path / "chat_template.jinja").unlink()
    assert not load_scorer(str(path), device="cpu").chats
    with pytest.raises(ConfigError, match="no chat template"):
        load_scorer(str(path), device="cpu", chats=True)


class FirstDay(date):
    day_of_month = 1

    @classmethod
    def today(cls) -> "FirstDay":
        return cls(2026, 5, cls.day_of_month)


class SecondDay(FirstDay):
    day_of_month = 2


def test_a_template_writes_the_date_of_the_start_which_answers_are_kept_under(
    folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder("none")
    (path / "chat_template.jinja").write_text("{{ strftime_now('%d %B') }}\n" + TEMPLATE)
    keys = set()
    for day, shown in ((FirstDay, "01 May"), (SecondDay, "02 May"), (SecondDay, "02 May")):
        monkeypatch.setattr("foundling.text.tokenizer.date", day)
        scorer = load_scorer(str(path), device="cpu")
        assert scorer.shown(Question("Who?")).startswith(f"{shown}\n")
        assert scorer.today == f"2026-05-{shown[:2]}"
        keys.add(scorer.fingerprint)
    assert len(keys) == 2
    (path / "chat_template.jinja").write_text(TEMPLATE)
    assert load_scorer(str(path), device="cpu").today == ""


def test_a_template_that_would_not_be_used_is_refused(folder: Callable[[str], Path]) -> None:
    path = folder("none")
    (path / "chat_template.jinja").write_text(TEMPLATE)
    with pytest.raises(ConfigError, match=r'template = "default": is of no use .* give --chat too'):
        load_scorer(str(path), device="cpu", chats=False, template="default")
    given = FoundlingLM.create_from_arg_string(f"pretrained={path},template=default,device=cpu")
    assert given.scorer.template_name == "default"
