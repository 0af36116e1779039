"""Models of ours as lm-evaluation-harness sees them, and its tasks on local files."""

import json
import logging
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from foundling.base.config import ConfigError
from foundling.evaluation.likelihood import TokenPair, likelihoods
from foundling.evaluation.model_scorer import (
    WINDOW,
    ModelScorer,
    load_scorer,
    request_of,
)
from foundling.evaluation.scorer import Writing
from foundling.generation.request import Request
from foundling.generation.sampling import Sampling
from foundling.text.chat import Message, render_prompt

if find_spec("lm_eval") is None:
    raise ConfigError("lm-evaluation-harness is not installed; pip install 'foundling[lm-eval]'.")

import yaml
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.defaults import DEFAULT_MAX_GEN_TOKS
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

TASKS = Path(__file__).with_name("lm_eval_tasks")
TURNS = "\x01turns\x01"
"""Begins a context that is a conversation, written as JSON."""
BOOTSTRAPS = 1000
"""Resamples for the errors of metrics that are no means; lm-eval takes 100,000."""
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "seed")
Tokens = list[int]

logger = logging.getLogger(__name__)


@register_model("foundling")
class FoundlingLM(TemplateLM):
    """A scorer's model on the tokens that lm-eval makes of its requests.

    Texts get the begin mark where the tokenizer has one, and are read once where they begin alike.
    What is longer than the context loses tokens at its front, as in lm-eval's own models;
    `num_cut` counts how often.
    """

    def __init__(self, scorer: ModelScorer) -> None:
        super().__init__()
        self.scorer = scorer
        self.num_cut = 0

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> "FoundlingLM":
        """From `pretrained` and, if given, `device`, `precision`, `chats`, `begin_mark`,
        `template`.

        lm-eval always gives batch sizes; passes are cut by tokens here, so they have no say.

        Raises:
            ConfigError: there are other arguments, or there is no such model.
        """
        more = {k: v for k, v in (additional_config or {}).items() if v is not None}
        given = {**arg_dict, **more}
        for name in ("batch_size", "max_batch_size"):
            given.pop(name, None)
        allowed = ("pretrained", "device", "precision", "chats", "begin_mark", "template")
        unknown = sorted(set(given) - set(allowed))
        if unknown or "pretrained" not in given:
            wrong = f"{unknown[0]}: no such argument" if unknown else "no model is given"
            raise ConfigError(f"{wrong}; give pretrained=RUN, and {', '.join(allowed[1:])} or not.")
        return cls(load_scorer(str(given.pop("pretrained")), **given))

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict[str, Any] | None = None
    ) -> "FoundlingLM":
        from lm_eval.utils import simple_parse_args_string

        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    # ------------------------------------------------------------------ texts and tokens

    @property
    def eot_token_id(self) -> int:
        return self.scorer.tokenizer.end_of_text

    @property
    def prefix_token_id(self) -> int:
        """The token before a text: the begin mark, or else the end of another text."""
        return self.scorer.prefix_id

    @property
    def max_length(self) -> int:
        return self.scorer.model.max_context or WINDOW

    @property
    def tokenizer_name(self) -> str:
        return f"foundling-{self.scorer.tokenizer.fingerprint}"

    def tok_encode(self, string: str, add_special_tokens: bool | None = None) -> Tokens:
        """The begin mark, if there is one and it is not refused, and the text's tokens.

        A text that spells a special token stays text.
        """
        begin = [] if add_special_tokens is False else self.scorer.begin_ids
        return [*begin, *self.scorer.tokenizer.encode(string)]

    def _encode_pair(self, context: str, continuation: str) -> tuple[Tokens, Tokens]:
        if context.startswith(TURNS):
            return self._encode_context(context), self.scorer.tokenizer.encode(continuation)
        before, after = super()._encode_pair(context, continuation)
        if not after:  # one token holds the seam
            moved = context[len(context.rstrip()) :]
            after = self.scorer.tokenizer.encode(moved + continuation)
        return before or [self.prefix_token_id], after

    def _encode_context(self, context: str) -> Tokens:
        if not context.startswith(TURNS):
            return self.tok_encode(context) or [self.prefix_token_id]
        turns = json.loads(context.removeprefix(TURNS))
        messages = [Message(turn["role"], turn["content"]) for turn in turns]
        begun = messages.pop().content if messages[-1].role == "assistant" else ""
        tokenizer = self.scorer.tokenizer
        return [*render_prompt(messages, tokenizer), *tokenizer.encode(begun)]

    def apply_chat_template(
        self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The conversation as JSON, which is read by `foundling.text.chat` when it is scored.

        A last message of the assistant's is the beginning of its answer, so whether it is to be
        generated needs no saying.

        Raises:
            ConfigError: the model was not tuned on conversations.
        """
        if not self.scorer.chats:
            raise ConfigError(
                f"{self.scorer.name}: not tuned on conversations; evaluate it without the "
                "chat template."
            )
        return TURNS + json.dumps(list(chat_history), ensure_ascii=False)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        template = self.scorer.tokenizer.template
        return template.source if chat_template and self.scorer.chats and template else ""

    # ------------------------------------------------------------------ requests

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[Any, Tokens, Tokens]],
        disable_tqdm: bool = False,
    ) -> list[tuple[float, bool]]:
        bound = self.scorer.model.max_context
        pairs: list[TokenPair] = []
        cut = 0
        for _, context, continuation in requests:
            over = 0
            if bound is not None:
                if len(continuation) > bound:
                    raise ConfigError(
                        f"a continuation has {len(continuation):,} tokens and the model reads at "
                        f"most {bound:,}."
                    )
                over = max(0, len(context) + len(continuation) - 1 - bound)
            cut += over > 0
            pairs.append((context[over:], continuation))
        self._count_cut(cut, len(requests))
        found = likelihoods(self.scorer.model, pairs, precision=self.scorer.precision)
        return [(one.nats, one.is_greedy) for one in found]

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """The log-probability of whole texts, in lm-eval's windows: one prefix token at the front.

        That token is never scored, whereas lm-eval's own models score a begin mark behind it where
        the tokenizer adds one.
        """
        owners: list[int] = []
        windows: list[tuple[None, Tokens, Tokens]] = []
        for number, request in enumerate(requests):
            parts = get_rolling_token_windows(
                self.tok_encode(request.args[0], add_special_tokens=False),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            for context, continuation in map(make_disjoint_window, parts):
                owners.append(number)
                windows.append((None, context, continuation))
        sums = [0.0] * len(requests)
        for owner, (nats, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            sums[owner] += nats
        return sums

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Texts up to the first of `until`; of equal requests each is a sample of its own."""
        wanted, samples = list[Request](), Counter[tuple[str, str]]()
        cut = 0
        for context, how in (request.args for request in requests):
            writing = _writing(how)
            tokens = self._encode_context(context)
            room = self._room(writing)
            cut += room is not None and len(tokens) > room
            kept = tuple(tokens if room is None else tokens[-room:])
            same = (context, json.dumps(how, sort_keys=True))
            first = request_of(kept, writing, continues=context != "")
            wanted.append(replace(first, sample=samples[same]))
            samples[same] += 1
        self._count_cut(cut, len(requests))
        return [result.text for result in self.scorer.engine.run(wanted)]

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval puts beside its results."""
        return {
            "model_name": self.scorer.name,
            "model_num_parameters": self.scorer.model.num_parameters(),
            "model_fingerprint": self.scorer.fingerprint,
            "contexts_cut": self.num_cut,
        }

    def _room(self, writing: Writing) -> int | None:
        """The most tokens that a prompt may have; None: no limit."""
        bound = self.scorer.model.max_context
        if bound is None:
            return None
        room = bound + 1 - writing.max_tokens
        if room < 1:
            raise ConfigError(
                f"max_gen_toks = {writing.max_tokens:,}: the model reads at most {bound:,} tokens "
                "and the prompt needs some; set max_gen_toks lower."
            )
        return room

    def _count_cut(self, cut: int, out_of: int) -> None:
        self.num_cut += cut
        if cut:
            logger.warning(
                "%d of %d requests are longer than the context of %d tokens and lost their front",
                cut,
                out_of,
                self.max_length,
            )


def _writing(how: Mapping[str, Any]) -> Writing:
    """lm-eval's names for how a text is written.

    Raises:
        ConfigError: there is one that has no meaning here.
    """
    given = dict(normalize_gen_kwargs(dict(how), DEFAULT_MAX_GEN_TOKS))
    until, max_tokens = given.pop("until"), given.pop("max_gen_toks")
    draws = given.pop("do_sample")
    unknown = sorted(set(given) - set(SAMPLING))
    if unknown:
        allowed = ", ".join(("until", "max_gen_toks", "do_sample", *SAMPLING))
        raise ConfigError(f"generation_kwargs: {unknown[0]}: no such setting ({allowed}).")
    sampling = Sampling(**given) if draws else Sampling(temperature=0.0)
    return Writing(max_tokens, 1, sampling, tuple(stop for stop in until if stop))


# ---------------------------------------------------------------------- tasks on local files


def task_names() -> list[str]:
    """The tasks that need nothing but files below a folder."""
    return sorted(file.stem for file in TASKS.glob("*.yaml"))


def task_dicts(
    data_root: Path, names: Iterable[str] | None = None, *, cache: Path | None = None
) -> list[dict[str, Any]]:
    """Local tasks as `simple_evaluate(tasks=...)` takes them, with their files below `data_root`.

    Args:
        cache: where `datasets` keeps its copy of the files; None: where it always does.

    Raises:
        ConfigError: there is no such task, or its file is missing.
    """
    known = task_names()
    found = []
    for name in known if names is None else names:
        if name not in known:
            raise ConfigError(f"{name}: no such local task ({', '.join(known)}).")
        config: dict[str, Any] = yaml.safe_load((TASKS / f"{name}.yaml").read_text("utf-8"))
        options = config["dataset_kwargs"]
        (split, below), *_ = options["data_files"].items()
        file = (data_root / below).resolve()
        if not file.is_file():
            raise ConfigError(f"{name}: {below} is not below {data_root}; give its --data-root.")
        options["data_files"] = {split: str(file)}
        if cache is not None:
            options["cache_dir"] = str(cache)
        found.append(config)
    return found


def local_files(data_root: Path | None, tasks: Iterable[str]) -> list[Path]:
    """The files of the local ones of these tasks. Raises ConfigError: one is missing."""
    local = [task for task in tasks if task in task_names()]
    if local and data_root is None:
        raise ConfigError(
            f"{local[0]}: its file is looked for below --data-root, which is missing."
        )
    dicts = [] if data_root is None else task_dicts(data_root, local)
    return [Path(f) for d in dicts for f in d["dataset_kwargs"]["data_files"].values()]


def find_tasks(tasks: Sequence[str], data_root: Path | None) -> TaskManager:
    """Where lm-eval finds these tasks.

    Raises:
        ConfigError: there is no such task, or a local one has no file.
    """
    known = task_names()
    manager = TaskManager(include_defaults=not set(tasks) <= set(known))
    unknown = [task for task in tasks if task not in known and task not in manager.all_tasks]
    if unknown or not tasks:
        raise ConfigError(
            f"{unknown[0] if unknown else 'no task is named'}: give local tasks "
            f"({', '.join(known)}) or names that `lm_eval ls tasks` shows."
        )
    local_files(data_root, tasks)
    return manager


def run_lm_eval(
    scorer: ModelScorer,
    tasks: Sequence[str],
    data_root: Path | None = None,
    limit: int | None = None,
    num_fewshot: int | None = None,
    *,
    chat_template: bool = False,
) -> dict[str, Any]:
    """lm-eval's results on local tasks and its own, whose data it may have to download.

    Raises:
        ConfigError: there is no such task, or a local one has no file.
    """
    manager, known = find_tasks(tasks, data_root), task_names()
    with tempfile.TemporaryDirectory() as cache:
        given: list[Any] = [task for task in tasks if task not in known]
        if data_root is not None:
            local = [task for task in tasks if task in known]
            given += task_dicts(data_root, local, cache=Path(cache))
        results: dict[str, Any] = simple_evaluate(
            FoundlingLM(scorer),
            tasks=given,
            limit=limit,
            num_fewshot=num_fewshot,
            task_manager=manager,
            bootstrap_iters=BOOTSTRAPS,
            log_samples=True,
            apply_chat_template=chat_template,
        )
    return results
