"""Which prompts are held out: whole, in the order of their keys, up to a share of the examples."""

from collections import Counter
from collections.abc import Sequence

from foundling.text.chat import Conversation


def prompt_words(messages: Conversation) -> str:
    """What a prompt is told by: the user's first message, but for its case and white space."""
    first = next(message.content for message in messages if message.role == "user")
    return " ".join(first.split()).casefold()


def held_out(keys: Sequence[int], fraction: float) -> frozenset[int]:
    """The keys that go to validation, one for each example; one key at least stays."""
    sizes = Counter(keys)
    wanted, chosen, count = fraction * len(keys), set[int](), 0
    for key in sorted(sizes)[:-1]:
        if chosen and count + sizes[key] / 2 > wanted:
            break
        chosen.add(key)
        count += sizes[key]
    return frozenset(chosen)
