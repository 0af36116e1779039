"""What a model under training answers to the prompts of its validation."""

from foundling.generation.engine import Engine
from foundling.generation.request import Request
from foundling.models.language_model import LanguageModel
from foundling.stages.settings import StageConfig
from foundling.text.chat import Message, render_prompt
from foundling.text.tokenizer import Tokenizer


def sample_request(text: str, tokenizer: Tokenizer, config: StageConfig) -> Request:
    """What the engine is asked of a prompt: a turn of the user's, or plain text.

    Special tokens that a plain text spells are what they are in the rows that are learned from.

    Raises:
        ConfigError: it cannot be encoded.
    """
    is_plain = config.style == "plain"
    return Request(
        tuple(
            _plain(text, tokenizer, parse=config.special_tokens == "parse")
            if is_plain
            else render_prompt((Message("user", text),), tokenizer)
        ),
        config.validation.sample_tokens,
        config.validation.sampling,
        continues=is_plain and text != "",
        slide=True,
    )


def samples(
    model: LanguageModel, tokenizer: Tokenizer, config: StageConfig
) -> list[dict[str, str]]:
    """Each prompt with its answer."""
    prompts = config.validation.prompts
    requests = [sample_request(prompt, tokenizer, config) for prompt in prompts]
    results = Engine(model, tokenizer).run(requests)
    pairs = zip(prompts, results, strict=True)
    return [{"prompt": prompt, "text": result.text} for prompt, result in pairs]


def _plain(text: str, tokenizer: Tokenizer, *, parse: bool) -> list[int]:
    encode = tokenizer.encode_spelled if parse else tokenizer.encode_batch
    (tokens,), begin = encode([text]), tokenizer.begin_ids
    if tokens[: len(begin)] != begin:
        tokens = [*begin, *tokens]
    # Without a begin mark, what ends one text stands before the next one, as in GPT-2.
    return tokens or [tokenizer.end_of_text]
