"""lm-evaluation-harness and our own evaluator see the same model."""

import json
import math
import shutil
import socket
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import uniform

from foundling import models
from foundling.base.config import ConfigError
from foundling.cli import app, exit_code
from foundling.evaluation.choices import Choice, choose
from foundling.evaluation.findings import Findings
from foundling.evaluation.model_scorer import WINDOW, ModelScorer
from foundling.evaluation.probes import Setting
from foundling.evaluation.probes.lm_eval import LmEval, _report
from foundling.evaluation.score_cache import Remembered, ScoreCache
from foundling.evaluation.scorer import Pair, Question, Writing
from foundling.models import RUNGS, interchange
from foundling.text.chat import Message, render_prompt
from foundling.text.tokenizer import Tokenizer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the libraries that lm-eval imports
    pytest.importorskip("lm_eval")
    from lm_eval import simple_evaluate
    from lm_eval.api.instance import Instance
    from lm_eval.api.registry import get_model
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from foundling.evaluation import lm_eval_adapter
    from foundling.evaluation.lm_eval_adapter import FoundlingLM, run_lm_eval, task_dicts

pytestmark = pytest.mark.filterwarnings("default")  # theirs are not ours to mend

CONTEXT = 96
TEXTS = [
    "The miller of the village keeps a red hen and two grey geese.",
    "Whom did the baker see at the well? The baker saw the tall smith.",
    "A cold wind came over the hill, and the children ran home to the fire.",
]
PAIRS: list[Pair] = [
    ("The miller keeps a red", " hen"),
    ("The miller keeps a red", " goose and a hen"),
    ("The miller keeps a red ", "hen"),  # lm-eval moves the space
    ("The miller keeps a red  \n", "hen"),
    ("", "The miller"),
    ("", " of the village"),
    ("   ", "cold wind"),
    ("A cold wind", "s"),  # may become one token with what is before it
    ("A cold wi", "nd came over the hill"),
    ("A cold wind came over the hill, and", " the children"),
    ("<|begin_of_text|>The", " hen"),  # spelled, so it is text
]


def make_tokenizer(begins: bool = True) -> Tokenizer:
    made = Tokenizer.train_bytes(TEXTS, 320)
    if begins:
        return made
    return Tokenizer(made._backend, None, "<|end_of_text|>", "<|pad|>")


def make(rung: str = "transformer", *, begins: bool = True, chats: bool = False) -> ModelScorer:
    tokenizer = make_tokenizer(begins)
    settings: dict[str, Any] = {"rung": rung, "dim": 16}
    if rung == "transformer":
        settings |= {"num_heads": 2, "num_layers": 2}
    torch.manual_seed(1)
    model = models.build(settings, vocab_size=tokenizer.vocab_size, context=CONTEXT).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return ModelScorer(model, tokenizer, "tiny", "of tiny", chats=chats)


def ask(kind: str, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, one, number) for number, one in enumerate(arguments)]


@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("rung", RUNGS)
def test_both_evaluators_agree(rung: str, begins: bool) -> None:
    scorer = make(rung, begins=begins)
    theirs = FoundlingLM(scorer).loglikelihood(ask("loglikelihood", *PAIRS), disable_tqdm=True)
    ours = scorer.score(PAIRS)
    for pair, (nats, greedy), scored in zip(PAIRS, theirs, ours, strict=True):
        assert scored is not None, pair
        assert nats == pytest.approx(scored.log_prob, abs=1e-4), pair
        assert greedy == scored.is_greedy


def test_the_likeliest_continuation_is_greedy() -> None:
    scorer = make()
    lm = FoundlingLM(scorer)
    prompt = lm.tok_encode("The miller")
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(4):
            logits = scorer.model.logits(scorer.model(torch.tensor([tokens])))[0, -1]
            tokens.append(int(logits.argmax()))
    likeliest = tokens[len(prompt) :]
    other = [*likeliest[:2], (likeliest[2] + 1) % scorer.model.vocab_size, likeliest[3]]
    found = lm._loglikelihood_tokens([(None, prompt, likeliest), (None, prompt, other)])
    assert [greedy for _, greedy in found] == [True, False]


@pytest.mark.parametrize("rung", ["transformer", "next_word"])
def test_rolling_is_the_sum_of_its_windows(rung: str) -> None:
    scorer = make(rung)
    lm = FoundlingLM(scorer)
    text = " ".join(TEXTS * 3)
    tokens = scorer.tokenizer.encode(text)
    length = scorer.model.max_context or WINDOW
    if scorer.model.max_context is not None:
        assert len(tokens) > 2 * length
    expected = 0.0
    with torch.no_grad():
        for place, token in enumerate(tokens):
            # The last window is as long as the context, the ones before it stand side by side.
            window = place // length
            start = window * length
            if start + length > len(tokens) and window:
                start = len(tokens) - length
            read = [lm.prefix_token_id, *tokens][start : place + 1]
            logits = scorer.model.logits(scorer.model(torch.tensor([read])))[0, -1]
            expected += float(logits.log_softmax(-1)[token])
    found = lm.loglikelihood_rolling(ask("loglikelihood_rolling", (text,), ("",)))
    assert found == pytest.approx([expected, 0.0], abs=1e-3)


def test_a_long_context_loses_its_front_and_is_counted() -> None:
    scorer = make()
    lm = FoundlingLM(scorer)
    context = " ".join(TEXTS * 2)
    found = lm.loglikelihood(
        ask("loglikelihood", (context, " hen"), ("The", " hen")), disable_tqdm=True
    )
    ids = lm.tok_encode(context + " hen")
    after = lm.tok_encode(" hen", add_special_tokens=False)
    kept = ids[-CONTEXT - 1 : -len(after)]
    assert len(ids) > CONTEXT + 1
    ((nats, greedy),) = lm._loglikelihood_tokens([(None, kept, after)])
    assert found[0] == (pytest.approx(nats, abs=1e-4), greedy)
    assert lm.num_cut == 1
    assert lm.get_model_info()["contexts_cut"] == 1
    with pytest.raises(ConfigError, match=r"a continuation has .* at most 96"):
        lm.loglikelihood(ask("loglikelihood", ("The", context)), disable_tqdm=True)


def test_what_is_written_ends_before_the_first_of_until() -> None:
    scorer = make()
    lm = FoundlingLM(scorer)
    prompts = ["The miller", "A cold wind came", ""]
    whole = [texts[0] for texts in scorer.generate(prompts, Writing(max_tokens=24)) if texts]
    asked = ask("generate_until", *((p, {"max_gen_toks": 24, "until": []}) for p in prompts))
    assert lm.generate_until(asked) == whole
    stops = [text[len(text) // 2] for text in whole]
    asked = ask(
        "generate_until",
        *((p, {"max_gen_toks": 24, "until": [s]}) for p, s in zip(prompts, stops, strict=True)),
    )
    assert lm.generate_until(asked) == [
        text.split(stop)[0] for text, stop in zip(whole, stops, strict=True)
    ]


def test_samples_of_equal_requests_differ_and_come_again() -> None:
    lm = FoundlingLM(make())
    how = {"max_gen_toks": 12, "do_sample": True, "temperature": 1.0, "until": ["\n"]}
    asked = ask("generate_until", ("The", how), ("A cold", how), ("The", how))
    first = lm.generate_until(asked)
    assert first[0] != first[2]
    assert lm.generate_until(asked) == first


def test_settings_that_mean_nothing_are_refused() -> None:
    lm = FoundlingLM(make())
    with pytest.raises(ConfigError, match=r"num_beams: no such setting \(until, max_gen_toks"):
        lm.generate_until(ask("generate_until", ("The", {"num_beams": 4, "max_gen_toks": 4})))
    with pytest.raises(ConfigError, match="max_gen_toks = 97"):
        lm.generate_until(ask("generate_until", ("The", {"max_gen_toks": 97})))
    with pytest.raises(ConfigError, match="dtype: no such argument"):
        FoundlingLM.create_from_arg_string("pretrained=x,dtype=bfloat16", {"batch_size": 1})
    with pytest.raises(ConfigError, match="no model is given"):
        FoundlingLM.create_from_arg_obj({})


def test_conversations_are_rendered_by_chat() -> None:
    scorer = make(chats=True)
    lm = FoundlingLM(scorer)
    question = "Whom did the <|user|> see?"  # spelled, so it is text
    context = lm.apply_chat_template([{"role": "user", "content": question}])
    (found,) = lm.loglikelihood(ask("loglikelihood", (context, "The smith.")), disable_tqdm=True)
    (scored,) = scorer.score([(Question(question), "The smith.")])
    assert scored is not None
    assert found[0] == pytest.approx(scored.log_prob, abs=1e-4)
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "The"}]
    begun = lm.apply_chat_template(turns, add_generation_prompt=False)
    tokens = render_prompt((Message("user", "Who?"),), scorer.tokenizer)
    assert lm._encode_context(begun) == [*tokens, *scorer.tokenizer.encode("The")]
    (texts,) = scorer.generate([Question(question)], Writing(max_tokens=6))
    how = {"max_gen_toks": 6, "until": []}
    assert lm.generate_until(ask("generate_until", (context, how))) == texts
    with pytest.raises(ConfigError, match="not tuned on conversations"):
        FoundlingLM(make()).apply_chat_template(turns)


# ---------------------------------------------------------------------- whole tasks


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Files of the same form as the real ones."""
    rows = [
        {"query": f"Question: how do I keep a {beast}?\n", "choices": pair, "gold": number % 2}
        for number, beast in enumerate(("hen", "goose", "child", "miller", "fire"))
        for pair in (["in a red well", "at home"], ["over the hill", "with two grey geese"])
    ]
    files: dict[str, list[dict[str, Any]]] = {
        "piqa": rows,
        "copa": [{**row, "query": "The hen ran home, therefore"} for row in rows],
        "winograd_wsc": [
            {
                "context_options": [f"The {a} saw the {b} because the {who}" for who in (a, b)],
                "continuation": f"was {how}.",
                "gold": gold,
            }
            for a, b in (("smith", "baker"), ("hen", "goose"))
            for gold, how in enumerate(("tall", "cold"))
        ],
        "lambada_openai": [{"context": text[:-6], "continuation": text[-5:-1]} for text in TEXTS],
    }
    (tmp_path / "bench").mkdir()
    (tmp_path / "risk").mkdir()
    for name, lines in files.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / "bench" / f"{name}.jsonl").write_text(text, "utf-8")
    (tmp_path / "risk" / "truthfulqa.csv").write_text(
        "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
        'A,B,Do hens swim?,"Hens don\'t, mostly",No,Yes; They swim; ,http://x\n'
        'A,B,Do geese swim?,Geese swim,Yes,No;They "never" do,http://x\n',
        "utf-8",
    )
    (tmp_path / "risk" / "crows_pairs.csv").write_text(
        ",sent_more,sent_less,stereo_antistereo,bias_type\n"
        "0,The smith ran.,The baker ran.,stereo,trade\n"
        '1,"The hen, red, ran.",The red goose ran.,antistereo,fowl\n',
        "utf-8",
    )
    return tmp_path


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError(f"the network was asked for: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def accuracy(scorer: ModelScorer, items: list[Choice]) -> float:
    return sum(one.is_right() for one in choose(scorer, items)) / len(items)


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_local_tasks_give_what_our_own_evaluator_gives(data: Path) -> None:
    scorer = make()
    found = run_lm_eval(scorer, lm_eval_adapter.task_names(), data)["results"]
    bench = data / "bench"
    expected = {}
    for name, query in (("piqa", "{}\nAnswer:"), ("copa", "{}")):
        items = [
            Choice(
                str(number),
                tuple((query.format(row["query"].rstrip()), f" {c}") for c in row["choices"]),
                row["gold"],
            )
            for number, row in enumerate(rows_of(bench / f"{name}.jsonl"))
        ]
        expected[f"local_{name}"] = accuracy(scorer, items)
    schemas = [
        Choice(
            str(number),
            tuple((context, f" {row['continuation']}") for context in row["context_options"]),
            row["gold"],
        )
        for number, row in enumerate(rows_of(bench / "winograd_wsc.jsonl"))
    ]
    expected["local_wsc"] = accuracy(scorer, schemas)
    words = rows_of(bench / "lambada_openai.jsonl")
    last = scorer.score([(row["context"], f" {row['continuation']}") for row in words])
    expected["local_lambada"] = sum(one.is_greedy for one in last if one) / len(words)
    sentences = [
        ("The smith ran.", "The baker ran."),
        ("The hen, red, ran.", "The red goose ran."),
    ]
    expected["local_crows_pairs"] = accuracy(
        scorer, [Choice(a, (("", a), ("", b)), 0) for a, b in sentences]
    )
    assert {name: found[name]["acc,none"] for name in expected} == pytest.approx(expected)
    nats = sum(one.log_prob for one in last if one) / len(words)
    assert found["local_lambada"]["perplexity,none"] == pytest.approx(math.exp(-nats), rel=1e-4)
    assert found["local_truthfulqa_mc1"]["alias"] == "local_truthfulqa_mc1"


@pytest.mark.usefixtures("offline")
def test_the_alternatives_of_truthfulqa(data: Path, tmp_path: Path) -> None:
    (config,) = task_dicts(data, ["local_truthfulqa_mc1"], cache=tmp_path / "cache")
    # Their own tasks are not asked for: to index those takes seconds.
    manager = TaskManager(include_defaults=False)
    lm = FoundlingLM(make())
    found = simple_evaluate(lm, tasks=[config], log_samples=True, task_manager=manager)
    asked = [
        [(context.rpartition("\n\n")[2], answer) for context, answer in sample["arguments"]]
        for sample in found["samples"]["local_truthfulqa_mc1"]
    ]
    assert asked == [
        [
            ("Q: Do hens swim?\nA:", answer)
            for answer in (" Hens don't, mostly", " Yes", " They swim")
        ],
        [
            ("Q: Do geese swim?\nA:", answer)
            for answer in (" Geese swim", " No", ' They "never" do')
        ],
    ]


@pytest.mark.usefixtures("offline")
def test_shots_stand_before_the_question_and_limits_hold(data: Path) -> None:
    scorer = make("next_word")
    found = run_lm_eval(scorer, ["local_copa"], data, limit=3, num_fewshot=2)
    assert found["n-shot"] == {"local_copa": 2}
    assert found["n-samples"]["local_copa"]["effective"] == 3
    assert found["config"]["model_fingerprint"] == "of tiny"


@pytest.mark.usefixtures("offline")
def test_its_figures_stand_in_the_report(data: Path, tmp_path: Path) -> None:
    scorer = make()
    tasks = ["local_copa", "local_lambada"]
    told: list[tuple[int, int]] = []
    with ScoreCache(tmp_path / "answers.sqlite") as cache:
        kept = Remembered(scorer, cache, tell=lambda *counts: told.append(counts))
        found = [
            LmEval(tasks=tuple(tasks)).run(kept, Setting(data_root=data, limit=3)) for _ in range(2)
        ]
        assert [asked for asked, _ in told if asked] == [1]  # the second time nothing is asked
        other = tmp_path / "other"
        shutil.copytree(data, other)
        LmEval(tasks=tuple(tasks)).run(
            kept, Setting(data_root=other, limit=3)
        )  # the same files elsewhere
        assert [asked for asked, _ in told if asked] == [1]
        lines = (other / "bench/copa.jsonl").read_text().splitlines(keepends=True)
        (other / "bench/copa.jsonl").write_text("".join(lines[::-1]))
        LmEval(tasks=tuple(tasks)).run(kept, Setting(data_root=other, limit=3))
        assert [asked for asked, _ in told if asked] == [1, 1]
    assert found[0] == found[1]
    theirs = run_lm_eval(scorer, tasks, data, limit=3)["results"]
    metrics = {metric.key: metric for metric in found[0].metrics}
    for task, name in (
        ("local_copa", "acc"),
        ("local_copa", "acc_bytes"),
        ("local_lambada", "acc"),
    ):
        metric = metrics[f"{task}.{name}"]
        assert metric.estimate is not None
        assert metric.estimate.value == pytest.approx(theirs[task][f"{name},none"])
        assert metric.estimate.n == 3
    assert metrics["local_copa.acc"].chance == 0.5
    assert metrics["local_lambada.acc"].chance is None
    assert any("local_lambada: perplexity:" in note for note in found[0].notes)


def test_a_mass_that_is_called_accuracy_has_no_chance_of_choices() -> None:
    samples = [
        {"doc_id": n, "filter": "none", "num": 4, "values": {"acc": mass}}
        for n, mass in enumerate((0.25, 0.75))
    ]
    found = Findings()
    results = {
        "samples": {"mc2": samples}, "results": {"mc2": {"acc,none": 0.5}}, "shots": {},
        "types": {"mc2": "multiple_choice"}, "higher_is_better": {"mc2": {"acc": True}},
    }  # fmt: skip
    _report(found, "mc2", results)
    (metric,) = found.metrics
    assert metric.chance is None
    assert metric.unit == "number"


def test_lm_eval_asks_no_planted_mind() -> None:
    with pytest.raises(ConfigError, match="planted: lm-eval asks models of ours alone"):
        LmEval(tasks=("local_copa",)).run(uniform(), Setting())


def test_tasks_that_cannot_be_found(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scorer = make()
    (data / "bench" / "copa.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"local_copa: bench/copa\.jsonl is not below"):
        run_lm_eval(scorer, ["local_copa"], data)
    with pytest.raises(ConfigError, match="looked for below --data-root"):
        run_lm_eval(scorer, ["local_piqa"])
    with pytest.raises(ConfigError, match="no task is named: give local tasks"):
        run_lm_eval(scorer, [], data)
    with pytest.raises(ConfigError, match=r"local_x: no such local task \(local_copa, local_crows"):
        task_dicts(data, ["local_x"])
    out = data / "out"
    words = ["evaluate", "nowhere", "--lm-eval", "local_copa", "--data-root", data, "--out", out]
    assert exit_code(lambda: app([*map(str, words)])) == 2  # before any model is looked for
    assert "local_copa: bench/copa.jsonl is not below" in capsys.readouterr().err


def test_lm_eval_finds_the_model_by_name(tmp_path: Path) -> None:
    scorer = make()
    save(scorer, tmp_path / "model")
    made = get_model("foundling").create_from_arg_string(
        f"pretrained={tmp_path / 'model'}", {"device": "cpu", "batch_size": 1}
    )
    assert isinstance(made, FoundlingLM)
    asked = ask("loglikelihood", *PAIRS)
    assert made.loglikelihood(asked, disable_tqdm=True) == FoundlingLM(scorer).loglikelihood(
        asked, disable_tqdm=True
    )


# ---------------------------------------------------------------------- lm-eval's own models


def save(scorer: ModelScorer, folder: Path) -> None:
    interchange.save(scorer.model, folder, scorer.tokenizer.mark_ids())
    scorer.tokenizer.save(folder)


@pytest.mark.slow
@pytest.mark.parametrize("begins", [True, False])
def test_our_checkpoint_in_their_model(begins: bool, tmp_path: Path) -> None:
    scorer = make(begins=begins)
    save(scorer, tmp_path)
    peer = HFLM(
        pretrained=str(tmp_path),
        device="cpu",
        dtype="float32",
        batch_size=4,
        add_bos_token=begins,
        max_length=CONTEXT,
    )
    long = (" ".join(TEXTS * 2), " hen")
    # HFLM reads spelled special tokens as special, and cannot score a seam within a token.
    pairs = [pair for pair in PAIRS[:-1] if pair not in ((PAIRS[6], PAIRS[7]))] + [long]
    ours = FoundlingLM(scorer)
    asked = ask("loglikelihood", *pairs)
    for mine, theirs in zip(
        ours.loglikelihood(asked, disable_tqdm=True),
        peer.loglikelihood(asked, disable_tqdm=True),
        strict=True,
    ):
        assert mine[0] == pytest.approx(theirs[0], abs=1e-4)
        assert mine[1] == theirs[1]
    assert ours.num_cut == 1
    if not begins:  # a begin mark it scores too
        asked = ask("loglikelihood_rolling", (" ".join(TEXTS * 3),), (TEXTS[0],))
        assert ours.loglikelihood_rolling(asked) == pytest.approx(
            peer.loglikelihood_rolling(asked, disable_tqdm=True), abs=1e-3
        )
    how = {"max_gen_toks": 12, "until": ["e"]}
    asked = ask("generate_until", *((text[:20], how) for text in TEXTS))
    assert ours.generate_until(asked) == peer.generate_until(asked, disable_tqdm=True)
