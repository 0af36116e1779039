"""What a model under training answers to the prompts of its validation."""

from foundling.data.rendering import Style
from foundling.generation.engine import Engine
from foundling.models.language_model import LanguageModel
from foundling.stages.settings import ValidationSettings
from foundling.text.chat import Message, render_prompt
from foundling.text.tokenizer import Tokenizer


def prompt_of(text: str, tokenizer: Tokenizer, style: Style) -> list[int] | str:
    """What the engine is given of a prompt: a turn of the user's, or plain text.

    Raises:
        ConfigError: it cannot be encoded.
    """
    if style == "plain":
        tokenizer.encode(text)
        return text
    return render_prompt((Message("user", text),), tokenizer)


def samples(
    model: LanguageModel, tokenizer: Tokenizer, settings: ValidationSettings, style: Style
) -> list[dict[str, str]]:
    """Each prompt with its answer."""
    engine = Engine(model, tokenizer)
    return [
        {
            "prompt": prompt,
            "text": engine.generate(
                prompt_of(prompt, tokenizer, style),
                max_tokens=settings.sample_tokens,
                sampling=settings.sampling,
                slide=True,
            ),
        }
        for prompt in settings.prompts
    ]
