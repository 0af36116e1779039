"""What a model's choice between two antecedents rests on: words by gradients, heads by absence."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from foundling.interpret.attributions import MOST_STEPS, STEPS, Attribution, ablate_heads, attribute
from foundling.interpret.words import Reading, read, read_turn
from foundling.models.language_model import LanguageModel
from foundling.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Evidence:
    """The log-odds of the first continuation against the second, in nats, and what moves them.

    `gradients` and `integrated` say of each word how much it speaks for the first; `changes` what
    the log-odds become without a head, less what they are: below 0 where it speaks for the first.
    """

    reading: Reading
    continuations: tuple[str, str]
    log_odds: float
    gradients: Float[Tensor, " words"]
    integrated: Float[Tensor, " words"] | None
    """None where they do not add up."""
    paths: tuple[Attribution, Attribution]
    """The integrated gradients of either continuation."""
    changes: Float[Tensor, "layers heads"]


def causal_evidence(
    model: LanguageModel,
    tokenizer: Tokenizer,
    text: str,
    antecedents: tuple[str, str],
    *,
    chat: bool = False,
) -> Evidence:
    """Which antecedent the model would name behind the text, and why.

    In a `chat` the text is a user's message, and either antecedent begins the answer.

    Raises:
        ConfigError: no attention, no token, more than the model reads, or no chat template.
    """
    asked = answers(antecedents) if chat else continuations(text, antecedents)
    reading = (read_turn if chat else read)(text, tokenizer)
    plain = [attribute(model, tokenizer, reading, one) for one in asked]
    first, second = (
        attribute(model, tokenizer, reading, one, steps=STEPS, most_steps=MOST_STEPS)
        for one in asked
    )
    ablation = ablate_heads(model, tokenizer, reading, asked)
    return Evidence(
        plain[0].reading,
        asked,
        ablation.log_odds,
        plain[0].scores - plain[1].scores,
        first.scores - second.scores if first.is_complete and second.is_complete else None,
        (first, second),
        ablation.changes,
    )


def answers(antecedents: tuple[str, str]) -> tuple[str, str]:
    """The antecedents as an answer begins with them: "The dog", "The lane" of "the dog", ..."""
    first, second = (one[0].upper() + one[1:] for one in antecedents)
    return first, second


def continuations(text: str, antecedents: tuple[str, str]) -> tuple[str, str]:
    """The antecedents as they would continue the text.

    Behind "... refers to the": " dog", " lane" of "the dog", "the lane"; behind the end of a
    sentence: " The dog", " The lane"; else " the dog", " the lane".
    """
    words = text.split()
    firsts = {one.split()[0].lower() for one in antecedents if len(one.split()) > 1}
    if words and firsts == {words[-1].lower()} and all(len(one.split()) > 1 for one in antecedents):
        named = [one.split(maxsplit=1)[1] for one in antecedents]
    elif text.rstrip().endswith((".", "?", "!")):
        named = list(answers(antecedents))
    else:
        named = list(antecedents)
    space = "" if text[-1:].isspace() else " "
    return space + named[0], space + named[1]
