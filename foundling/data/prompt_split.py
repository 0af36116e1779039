"""Parts examples into training and validation so that no prompt stands on both sides."""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Protocol, TypeVar

from foundling.base.config import ConfigError
from foundling.text.chat import Conversation

log = logging.getLogger(__name__)


class Prompted(Protocol):
    @property
    def prompt(self) -> Conversation: ...


T = TypeVar("T", bound=Prompted)


def split_by_prompt(
    examples: Sequence[T], fraction: float, seed: int, noun: str = "conversations"
) -> tuple[list[T], list[T]]:
    """Training and validation, each in the order of `examples`.

    A prompt is identified by the user's first message, but for its case and white space.
    Prompts go to validation whole, in the order of their hash, until it holds `fraction` of the
    examples; those that alone are more than half of that come last.

    Raises:
        ConfigError: `fraction` is not between 0 and 1, or a side would be empty.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"validation fraction = {fraction}: must lie between 0 and 1.")
    keys = [_key(example.prompt, seed) for example in examples]
    sizes = Counter(keys)
    if len(sizes) < 2:
        raise ConfigError(
            f"{len(keys)} {noun} with {len(sizes)} different prompts: a split needs at least 2; "
            "give a file for validation, or leave the split out."
        )
    out = _held_out(sizes, fraction * len(keys))
    sides: tuple[list[T], list[T]] = ([], [])
    for example, key in zip(examples, keys, strict=True):
        sides[key in out].append(example)
    if abs(len(sides[1]) - fraction * len(keys)) > max(sizes[key] for key in out):
        log.warning(
            "validation holds %s of %s %s, not the %.3g of them that was asked for: one prompt "
            "alone has %s",
            f"{len(sides[1]):,}", f"{len(keys):,}", noun, fraction, f"{max(sizes.values()):,}",
        )  # fmt: skip
    return sides


def _held_out(sizes: Counter[int], wanted: float) -> frozenset[int]:
    most = max(wanted / 2, min(sizes.values()))
    chosen, count = set[int](), 0
    for key in sorted(sizes, key=lambda key: (sizes[key] > most, key))[:-1]:  # one always stays
        if not chosen or count + sizes[key] / 2 <= wanted:
            chosen.add(key)
            count += sizes[key]
        elif sizes[key] <= most:
            break
    return frozenset(chosen)


def _key(prompt: Conversation, seed: int) -> int:
    """63 bits, a pure function of the prompt's words and the seed."""
    first = next((message.content for message in prompt if message.role == "user"), "")
    words = " ".join(first.split()).casefold()
    text = f"{seed}/split/{words}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
