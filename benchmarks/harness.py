"""lm-evaluation-harness's own model of transformers, as the benchmarks of evaluation ask it."""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Pairs = Sequence[tuple[str, str]]
Found = list[tuple[float, bool]]
"""The log-probability of each continuation in nats, and whether it is the likeliest."""
BATCH_SIZES = (1, 8, 32)


def ours(folder: Path) -> Callable[[Pairs], Found]:
    """What `foundling evaluate` asks, in plain text."""
    from foundling.base import runtime
    from foundling.evaluation.model_scorer import load_scorer

    runtime.keep_memory()
    scorer = load_scorer(str(folder), device="cpu", chats=False)

    def answer(pairs: Pairs) -> Found:
        found = scorer.score(pairs)
        if None in found:
            sys.exit("a pair is longer than the model's context")
        return [(one.log_prob, one.is_greedy) for one in found if one is not None]

    return answer


def peer(folder: Path, dtype: str = "float32", **options: Any) -> Callable[[Pairs, int], Found]:
    """HFLM, given a batch size; the options are its own."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=str(folder), device="cpu", dtype=dtype, **options)

    def answer(pairs: Pairs, batch_size: int) -> Found:
        model.batch_size_per_gpu = batch_size
        asked = [Instance("loglikelihood", {}, pair, place) for place, pair in enumerate(pairs)]
        found: Found = model.loglikelihood(asked, disable_tqdm=True)
        return found

    return answer


def peer_name(parser: argparse.ArgumentParser) -> str:
    """What the peer is, with its version; ends the benchmark where it is not installed.

    From now on nothing is fetched, and the libraries keep their warnings to themselves.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    try:
        import lm_eval
        import transformers
    except ImportError as error:
        parser.error(
            f"{error.name} is not installed; pip install 'foundling[lm-eval]' {error.name}"
        )
    transformers.utils.logging.disable_progress_bar()
    return f"HFLM (lm_eval {lm_eval.__version__}, transformers {transformers.__version__})"


def teller(arguments: argparse.Namespace) -> Callable[[str], None]:
    """Says how far it is, unless only the last line is wanted."""
    if arguments.json:
        return lambda text: None
    return lambda text: print(text, file=sys.stderr)
