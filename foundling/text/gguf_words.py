"""How texts are split into words before BPE, under the names that llama.cpp knows.

Source: llama.cpp, `src/llama-vocab.cpp`.
"""

from collections.abc import Mapping
from typing import Any

from tokenizers import Regex, pre_tokenizers

from foundling.base.config import ConfigError, suggest

Step = tuple[str, Any]
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+{end}"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*{end}"
)
_LAST = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
ONE_DIGIT = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _REST
THREE_DIGITS = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _REST
GPT_4O = _CASED.replace("{end}", _CONTRACTIONS + "?") + r"|\p{N}{1,3}" + _LAST
TEKKEN = _CASED.replace("{end}", "") + r"|\p{N}" + _LAST

SPLITS: Mapping[str, tuple[Step, ...]] = {
    "gpt-2": (("bytes", True),),
    "smollm": (("digits", True), ("bytes", True)),
    "qwen2": (("split", ONE_DIGIT), ("bytes", False)),
    "llama-bpe": (("split", THREE_DIGITS), ("bytes", False)),
    "dbrx": (("split", THREE_DIGITS), ("bytes", False)),
    "gpt-4o": (("split", GPT_4O), ("bytes", False)),
    "tekken": (("split", TEKKEN), ("bytes", False)),
}
"""What each step does: "bytes" spells bytes as letters, True: behind GPT-2's own pattern."""
WHOLE_WORDS = ("llama-bpe", "tekken")
"""Where a word that is a token is one, whatever the merges."""
SAME = {
    "gpt-2": ("phi-2", "olmo", "mpt", "trillion", "granite-docling"),
    "smollm": ("starcoder", "refact", "codeshell", "command-r"),
    "qwen2": ("deepseek-r1-qwen", "megrez"),
    "llama-bpe": ("llama3", "llama-v3", "falcon3", "pixtral"),
    "dbrx": ("smaug-bpe",),
    "gpt-4o": ("llama4",),
}


def name_of(settings: Mapping[str, Any] | None, whole_words: bool) -> str:
    """The name of what a tokenizer.json calls its pre_tokenizer.

    Raises:
        ConfigError: llama.cpp has no name for it.
    """
    steps = tuple(map(_step, _flat(settings)))
    for name, known in SPLITS.items():
        if steps == known and whole_words == (name in WHOLE_WORDS):
            return name
    # A word that is a token and cannot be merged is rare: the flag matters only then.
    raise ConfigError(
        f"llama.cpp knows no splitting into words like this tokenizer's ({_in_words(steps)}); "
        f"it knows those of {', '.join(SPLITS)}."
    )


def splitter(name: str) -> tuple[pre_tokenizers.PreTokenizer, bool]:
    """The splitting of this name, and whether a word that is a token is one.

    Raises:
        ConfigError: Foundling does not know it.
    """
    same = {other: known for known, others in SAME.items() for other in others}
    known = same.get(name, name)
    if known not in SPLITS:
        raise ConfigError(
            f'tokenizer.ggml.pre = "{name}": Foundling knows no such splitting into words '
            f"{suggest(name, [*SPLITS, *same])}"
        )
    made = [_made(kind, value) for kind, value in SPLITS[known]]
    whole = made[0] if len(made) == 1 else pre_tokenizers.Sequence(made)
    return whole, known in WHOLE_WORDS


def _made(kind: str, value: Any) -> pre_tokenizers.PreTokenizer:
    if kind == "split":
        return pre_tokenizers.Split(Regex(value), behavior="isolated")
    if kind == "digits":
        return pre_tokenizers.Digits(individual_digits=value)
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=value)


def _flat(settings: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if settings is None:
        return []
    inner = settings.get("pretokenizers")
    return [settings] if inner is None else [step for part in inner for step in _flat(part)]


def _step(settings: Mapping[str, Any]) -> Step:
    kind = settings["type"]
    if kind == "ByteLevel" and not settings["add_prefix_space"]:
        return "bytes", settings.get("use_regex", True)
    if kind == "Digits":
        return "digits", settings["individual_digits"]
    if kind == "Split" and settings["behavior"] == "Isolated" and not settings["invert"]:
        return "split", settings["pattern"].get("Regex")
    return kind, None


def _in_words(steps: tuple[Step, ...]) -> str:
    return ", ".join(f"{kind} {value}" if value else kind for kind, value in steps) or "none"
