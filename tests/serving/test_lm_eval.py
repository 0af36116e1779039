"""lm-evaluation-harness measures the same through the server as through our adapter."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from live import Live, running

from foundling.evaluation.model_scorer import load_scorer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the libraries that lm-eval imports
    pytest.importorskip("lm_eval")
    from lm_eval import simple_evaluate
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM
    from lm_eval.api.registry import get_model
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    from foundling.evaluation.lm_eval_adapter import FoundlingLM

pytestmark = pytest.mark.filterwarnings("default")  # theirs are not ours to mend

PAIRS = [
    ("the miller met", " the baker"),
    ("the miller met ", "the baker"),  # lm-eval moves the space
    ("", "the miller"),
    ("the baker by the", " bridge — naïve café"),
    ("the m", "iller met"),  # may become one token with what is before it
    ("林 and", " 🦆."),
]
LONG = " ".join(["the miller met the baker by the bridge — naïve café, 林 and 🦆."] * 9)
ROWS = [
    {"query": "the miller met", "choices": ["the baker", "the bridge", "the mill"], "gold": 0},
    {"query": "the baker by", "choices": ["the bridge", "café"], "gold": 0},
]


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[Live]:
    with running([tiny_model]) as live:
        yield live


def remote(live: Live, context: int = 64, **more: Any) -> LM:
    """lm-eval's client; its limit counts the token that it has generated beside the prompt."""
    name = live.service.registry.first
    return get_model("local-completions").create_from_arg_obj(
        {"model": name, "base_url": f"{live.api}/completions", "max_length": context + 1, **more}
    )


def direct(folder: Path, begin_mark: bool | None = None) -> FoundlingLM:
    return FoundlingLM(load_scorer(str(folder), device="cpu", chats=False, begin_mark=begin_mark))


def ask(kind: str, arguments: list[tuple[Any, ...]]) -> list[Instance]:
    return [Instance(kind, {}, one, number) for number, one in enumerate(arguments)]


@pytest.mark.parametrize(
    ("backend", "begin_mark"),
    [
        # It finds /tokenizer_info by itself, and takes a begin mark with the id 0 for none.
        ({"custom_prefix_token_id": 0}, False),
        ({"custom_prefix_token_id": 0, "num_concurrent": 4, "batch_size": 2}, False),
        ({"tokenizer_backend": "huggingface"}, False),
        ({"tokenizer_backend": "huggingface", "add_bos_token": True}, True),
    ],
)
def test_log_likelihoods_are_those_of_the_adapter(
    server: Live, tiny_model: Path, backend: dict[str, Any], begin_mark: bool
) -> None:
    if "tokenizer_backend" in backend:
        backend = {**backend, "tokenizer": str(tiny_model)}
    theirs, ours = remote(server, **backend), direct(tiny_model, begin_mark)
    assert ours.prefix_token_id == 0
    wanted = ours.loglikelihood(ask("loglikelihood", PAIRS), disable_tqdm=True)
    found = theirs.loglikelihood(ask("loglikelihood", PAIRS), disable_tqdm=True)
    assert [nats for nats, _ in found] == pytest.approx([nats for nats, _ in wanted], abs=1e-4)
    assert [is_greedy for _, is_greedy in found] == [is_greedy for _, is_greedy in wanted]


def test_whole_texts_have_the_log_likelihood_of_the_adapter(server: Live, tiny_model: Path) -> None:
    ours, theirs = direct(tiny_model, False), remote(server, custom_prefix_token_id=0)
    asked = ask("loglikelihood_rolling", [("the mill",), (LONG,)])
    short, long = theirs.loglikelihood_rolling(asked)
    assert short == pytest.approx(ours.loglikelihood_rolling(asked[:1])[0], abs=1e-4)
    # Their windows are a token shorter: they leave room for one that is generated.
    windows = get_rolling_token_windows(ours.tok_encode(LONG), 0, ours.max_length - 1, 1)
    parts = [(None, *make_disjoint_window(window)) for window in windows]
    assert len(parts) > 3
    wanted = sum(nats for nats, _ in ours._loglikelihood_tokens(parts))
    assert long == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("backend", ["auto", None])
def test_texts_are_those_of_the_adapter(
    server: Live, tiny_model: Path, backend: str | None
) -> None:
    how = {"until": ["the"], "max_gen_toks": 8, "do_sample": False}
    asked = ask("generate_until", [("the miller met", how), ("the baker by", how)])
    theirs = remote(server, tokenizer_backend=backend)
    # A text that is sent as text gets its begin mark from the server.
    ours = direct(tiny_model, begin_mark=backend is None)
    assert theirs.generate_until(asked) == ours.generate_until(asked)


def task(folder: Path) -> dict[str, Any]:
    """A task of multiple choice on a file."""
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    return {
        "task": "village",
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"test": str(folder / "rows.jsonl")},
            "cache_dir": str(folder / "cache"),
        },
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "query",
        "doc_to_target": "gold",
        "doc_to_choice": "choices",
    }


def likelihoods(lm: LM, folder: Path) -> list[float]:
    results = simple_evaluate(
        lm,
        tasks=[task(folder)],
        task_manager=TaskManager(include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
    )
    samples = results["samples"]["village"]
    return [float(nats) for sample in samples for [[nats, _]] in sample["resps"]]


@pytest.mark.slow
def test_a_task_is_measured_alike(server: Live, tiny_model: Path, tmp_path: Path) -> None:
    found = likelihoods(remote(server), tmp_path)
    assert len(found) == 5
    assert found == pytest.approx(likelihoods(direct(tiny_model, False), tmp_path), abs=1e-4)


@pytest.mark.slow
def test_the_command_of_lm_eval(server: Live, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "village.yaml").write_text(json.dumps(task(tmp_path)))  # JSON is YAML
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "local-completions"]
    command += ["--model_args", f"model=tiny,base_url={server.api}/completions"]
    command += ["--tasks", "village", "--include_path", str(tmp_path), "--log_samples"]
    command += ["--output_path", str(tmp_path / "out")]
    made = subprocess.run(
        command, env={**os.environ, "HF_DATASETS_OFFLINE": "1"}, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    [file] = (tmp_path / "out").rglob("samples_village_*.jsonl")
    samples = sorted(map(json.loads, file.read_text().splitlines()), key=lambda one: one["doc_id"])
    found = [float(nats) for sample in samples for [[nats, _]] in sample["resps"]]
    assert found == pytest.approx(likelihoods(direct(tiny_model, False), tmp_path), abs=1e-4)


@pytest.mark.real
def test_a_real_model_is_measured_alike(real_model: Callable[[str], Path], tmp_path: Path) -> None:
    folder = real_model("llama")
    with running([folder]) as live:
        theirs = remote(live, 2048)
        pairs = [("The capital of France is", " Paris"), ("The capital of France is", " Lyon")]
        found = theirs.loglikelihood(ask("loglikelihood", pairs), disable_tqdm=True)
        ours = direct(folder)
        wanted = ours.loglikelihood(ask("loglikelihood", pairs), disable_tqdm=True)
        assert [one[0] for one in found] == pytest.approx([one[0] for one in wanted], abs=1e-4)
        assert likelihoods(theirs, tmp_path) == pytest.approx(likelihoods(ours, tmp_path), abs=1e-4)
