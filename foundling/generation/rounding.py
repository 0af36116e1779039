"""What rounded weights cost: the bits per byte of a text, before and after."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foundling.base.config import ConfigError
from foundling.data.mixture import Mixture
from foundling.generation.engine import Engine
from foundling.generation.request import Request
from foundling.generation.runners import StateRunner
from foundling.generation.settings import EngineSettings
from foundling.hamlet import text as village_text
from foundling.runs.model_folder import open_stored
from foundling.runs.run import Run, is_run
from foundling.text.tokenizer import Tokenizer

TOKENS, PIECE = 1024, 256


@dataclass(frozen=True)
class RoundingLoss:
    """Bits per byte with the weights as they are stored, and rounded; `text` says of what."""

    before: float
    after: float
    text: str

    def __str__(self) -> str:
        change = self.after - self.before
        return f"{self.after:.4f} bits per byte, {change:+.4f} by rounding, on {self.text}"


def measure_rounding(engine: Engine, folder: Path) -> RoundingLoss:
    """Of an engine whose weights are rounded, on a text that its model did not learn from.

    Args:
        folder: the model's. Where it lies in a run whose text is still there, that text's
            validation part is read; else text of Foundling's own village, which is far from what
            most models learned.

    Raises:
        ConfigError: the tokenizer cannot write that text, or there is too little of it.
        NotFiniteError: the model computed NaN or infinity.
    """
    tokenizer = engine.tokenizer
    tokens = _validation_tokens(folder, tokenizer)
    text = "the run's validation text"
    if tokens is None:
        tokens = tokenizer.encode(village_text(4 * TOKENS, seed=0, split="validation"))
        text = "text of the village (the run's own is not there)"
    tokens = tokens[:TOKENS]
    alone = EngineSettings(max_batch=1)  # the logits of one piece are in memory at once
    after = _bits_per_byte(Engine(engine.model, tokenizer, alone, runner=engine.runner), tokens)
    with open_stored(folder).reading() as model:
        before = _bits_per_byte(Engine(model, tokenizer, alone, runner=StateRunner(model)), tokens)
    return RoundingLoss(before, after, f"{len(tokens):,} tokens of {text}")


def _validation_tokens(folder: Path, tokenizer: Tokenizer) -> list[int] | None:
    """The first tokens of the text that a run, or its first ancestor, is validated on."""
    run = folder.resolve().parent.parent.parent
    if not is_run(run):
        return None
    manifest = Run.open(run).manifest
    place = manifest.get("data" if manifest["stage"] == "pretrain" else "pretraining_data")
    text = None if place is None else Mixture.find(place)
    if text is None or text.tokenizer_fingerprint != tokenizer.fingerprint:
        return None
    split = next(iter(text.stores.values())).split("validation")
    tokens: list[int] = split.read(0, min(TOKENS, split.num_tokens)).tolist()
    return tokens


def _bits_per_byte(engine: Engine, tokens: Sequence[int]) -> float:
    """Of the tokens that stand for text, read in pieces; the first of each only begins it."""
    bound, begin = engine.model.max_context, engine.tokenizer.begin_ids[:1]
    size = min(PIECE, bound or PIECE) - len(begin)
    starts = range(0, len(tokens), size)
    pieces = [(*begin, *tokens[start : start + size]) for start in starts]
    results = engine.run([Request(one, 0, prompt_logprobs=0) for one in pieces if len(one) > 1])
    bytes_of, nats, count = engine.tokenizer.token_bytes, 0.0, 0
    for result in results:
        for scored in (result.prompt_logprobs or ())[1:]:
            assert scored is not None
            if bytes_of[scored.token]:
                nats -= scored.logprob
                count += int(bytes_of[scored.token])
    if not count:
        raise ConfigError(f"a text of {len(tokens)} tokens is too short to be measured on.")
    return nats / math.log(2) / count
