"""A tokenizer as the metadata of a GGUF file, and back.

Source: llama.cpp, `src/llama-vocab.cpp` (what it makes of the metadata).
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gguf import TokenType
from tokenizers import AddedToken, decoders, models, normalizers, processors
from tokenizers import Tokenizer as Backend

from foundling.base.config import ConfigError
from foundling.text import gguf_words
from foundling.text.spelling import BYTE
from foundling.text.tokenizer import Tokenizer

log = logging.getLogger(__name__)

SPACE = "▁"
UNUSED_SCORE = -1000.0
"""Of tokens that no merge makes. Source: llama.cpp, conversion/base.py."""
GENERATION = re.compile(r"\{%([-+]?)\s*(?:end)?generation\s*([-+]?)%\}")
MARKS = {
    "bos_token": "tokenizer.ggml.bos_token_id",
    "eos_token": "tokenizer.ggml.eos_token_id",
    "pad_token": "tokenizer.ggml.padding_token_id",
    "unk_token": "tokenizer.ggml.unknown_token_id",
}
FURTHER_ENDS = ("tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")


def fields(tokenizer: Tokenizer, settings: Mapping[str, Any], num_rows: int) -> dict[str, Any]:
    """The metadata of a tokenizer and its chat template.

    Args:
        settings: its tokenizer.json.
        num_rows: of the model's embedding, which may have more than there are tokens.

    Raises:
        ConfigError: llama.cpp has no such tokenizer.
    """
    model = settings["model"]
    if model.get("type") != "BPE" or tokenizer.kind == "other":
        raise ConfigError(
            f"a tokenizer of type {model.get('type')} ({tokenizer.kind}) cannot be written to a "
            "GGUF file; it holds byte-level BPE, sentencepiece's BPE and characters."
        )
    made = _byte_level(settings) if tokenizer.kind == "bytes" else _sentencepiece(settings)
    added = {token["id"]: token for token in settings["added_tokens"]}
    _warn_of(added.values(), settings["normalizer"] is not None)
    names = {id: name for name, id in model["vocab"].items()}
    names |= {id: token["content"] for id, token in added.items()}
    tokens, kinds = [], []
    for id in range(num_rows):
        name, kind = names.get(id, f"[PAD{id}]"), TokenType.UNUSED
        if id in added:
            kind = TokenType.CONTROL if added[id]["special"] else TokenType.USER_DEFINED
            if kind == TokenType.USER_DEFINED and tokenizer.kind == "sentencepiece":
                name = name.replace(SPACE, " ")  # llama.cpp looks for it in the text as it is
        elif id in names:
            is_byte = model.get("byte_fallback") and BYTE.fullmatch(name)
            kind = TokenType.BYTE if is_byte else TokenType.NORMAL
            if tokenizer.kind == "characters":
                name = name.replace(" ", SPACE)
        if name == model.get("unk_token") and tokenizer.kind == "sentencepiece":
            kind = TokenType.UNKNOWN
        tokens.append(name)
        kinds.append(int(kind))
    if "tokenizer.ggml.scores" in made:
        scores = made["tokenizer.ggml.scores"]
        made["tokenizer.ggml.scores"] = [scores.get(names.get(id), UNUSED_SCORE)
                                         for id in range(num_rows)]  # fmt: skip
    if len(set(tokens)) < num_rows:
        twice = Counter(tokens).most_common(1)[0][0]
        raise ConfigError(f"token {twice!r} would stand twice in the GGUF file.")
    made |= {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds}
    return {**made, **_marks(tokenizer, model.get("unk_token"))}


def _warn_of(added: Iterable[Mapping[str, Any]], normalizes: bool) -> None:
    """llama.cpp looks for each added token in the text as it is, whatever stands around it."""
    for flag in ("lstrip", "rstrip", "single_word", "normalized"):
        names = [token["content"] for token in added if token.get(flag)]
        if names and (normalizes or flag != "normalized"):
            log.warning(
                "%s: llama.cpp does not know this of added tokens; around %s (%s in all) text has "
                "other tokens there.", flag, names[0], len(names),
            )  # fmt: skip


def _byte_level(settings: Mapping[str, Any]) -> dict[str, Any]:
    if (settings["normalizer"] or {"type": "NFC"})["type"] != "NFC":
        raise ConfigError("llama.cpp changes no text before byte-level BPE; this tokenizer does.")
    if settings["normalizer"]:
        log.warning(
            "llama.cpp does not compose letters and their accents (NFC) as this tokenizer does: "
            "text that spells them apart has other tokens there."
        )
    model = settings["model"]
    words = gguf_words.name_of(settings["pre_tokenizer"], bool(model.get("ignore_merges")))
    merges = [" ".join(pair) for pair in _pairs(model["merges"])]
    if not merges:
        raise ConfigError("llama.cpp reads no byte-level BPE without merges.")
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": words,
        "tokenizer.ggml.merges": merges,
    }


def _sentencepiece(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Scores in the order of the merges: llama.cpp makes the token of the best score first."""
    model = settings["model"]
    scores: dict[str, float] = {}
    for pair in _pairs(model["merges"]):
        scores.setdefault("".join(pair), -float(len(scores)))
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.add_space_prefix": _prepends(settings),
    }


def _prepends(settings: Mapping[str, Any]) -> bool:
    """Whether a space is put before a text."""
    text = json.dumps([settings["normalizer"], settings["pre_tokenizer"]])
    return '"Prepend"' in text or '"prepend_scheme": "always"' in text or \
        '"prepend_scheme": "first"' in text  # fmt: skip


def _pairs(merges: Sequence[str | Sequence[str]]) -> list[tuple[str, str]]:
    """Older files join the two parts of a merge by a space."""
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    return [(left, right) for left, right in pairs]


def _marks(tokenizer: Tokenizer, unknown: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "tokenizer.ggml.add_bos_token": bool(tokenizer.begin_ids),
        "tokenizer.ggml.add_eos_token": False,
    }
    names = {
        "bos_token": tokenizer.begin_name,
        "eos_token": tokenizer.end_name,
        "pad_token": tokenizer.pad_name,
        "unk_token": unknown,
    }
    for mark, name in names.items():
        if name is not None:
            found[MARKS[mark]] = tokenizer.special(name)
    template = tokenizer.template
    source = template.saved["default"] if template else ""
    # llama.cpp would else take the first well-known name for the end of a turn.
    ends = [id for id in tokenizer.stop_ids if id != tokenizer.end_of_text]
    ends.sort(key=lambda id: tokenizer.name_of(id) not in source)
    found |= dict(zip(FURTHER_ENDS, ends, strict=False))
    if template:
        found["tokenizer.chat_template"] = without_generation(source)
    return found


def without_generation(source: str) -> str:
    """A template without the tags that only `transformers` reads; it gives the same text."""
    return GENERATION.sub(r"{#\1\2#}", source)


# ---------------------------------------------------------------------- and back


def write_files(given: Mapping[str, Any], folder: Path, context: int) -> None:
    """Write the tokenizer of a GGUF file's metadata as a model folder's files.

    Raises:
        ConfigError: there is none, or none that Foundling can express.
    """
    kind = given.get("tokenizer.ggml.model")
    if kind not in ("gpt2", "llama"):
        raise ConfigError(
            f'tokenizer.ggml.model = "{kind}": Foundling reads byte-level BPE ("gpt2") and '
            'sentencepiece\'s BPE ("llama").'
        )
    tokens, kinds = (given.get(f"tokenizer.ggml.{key}", ()) for key in ("tokens", "token_type"))
    if not tokens or len(kinds) != len(tokens):
        raise ConfigError("tokenizer.ggml.tokens and token_type: missing, or not of one length.")
    if kind == "llama" and len(given.get("tokenizer.ggml.scores", ())) != len(tokens):
        raise ConfigError("tokenizer.ggml.scores: missing, or not one for each token.")
    for key in ("add_bos_token", "add_eos_token", "add_space_prefix"):
        if type(flag := given.get(f"tokenizer.ggml.{key}", False)) is not bool:
            raise ConfigError(f"tokenizer.ggml.{key} = {flag}: must be true or false.")
    for mark in (*MARKS.values(), *FURTHER_ENDS):
        if not 0 <= given.get(mark, 0) < len(tokens):
            raise ConfigError(f"{mark} = {given[mark]}: there are {len(tokens):,} tokens.")
    holes = {id for id, name in enumerate(tokens)
             if kinds[id] == TokenType.UNUSED and name == f"[PAD{id}]"}  # fmt: skip
    names = {id: name for id, name in enumerate(tokens) if id not in holes}
    if len(set(names.values())) < len(names):
        raise ConfigError("tokenizer.ggml.tokens: two of them are the same.")
    backend = (_read_byte_level if kind == "gpt2" else _read_sentencepiece)(given, names)
    named = {mark: names.get(given[key]) for mark, key in MARKS.items() if key in given}
    begin = named.get("bos_token")
    begins = given.get("tokenizer.ggml.add_bos_token", kind == "llama")
    if begins and begin is not None:
        backend.post_processor = _begin_with(begin, given[MARKS["bos_token"]])
    backend.save(str(folder / "tokenizer.json"), pretty=True)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": bool(begins and begin is not None),
        "bos_token": None,
        **named,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
    }
    _write_json(folder / "tokenizer_config.json", settings)
    if template := given.get("tokenizer.chat_template"):
        (folder / "chat_template.jinja").write_text(template, "utf-8")
    keys = (MARKS["eos_token"], *FURTHER_ENDS)
    ends = list(dict.fromkeys(given[key] for key in keys if key in given))
    ids = {f"{mark}_id": given[MARKS[mark]] for mark in ("bos_token", "pad_token")
           if MARKS[mark] in given}  # fmt: skip
    _write_json(folder / "generation_config.json", {**ids, "eos_token_id": ends})


def mark_ids(given: Mapping[str, Any]) -> dict[str, int]:
    """The marks of a text as config.json names them."""
    marks = ("bos_token", "eos_token", "pad_token")
    return {f"{mark}_id": given[MARKS[mark]] for mark in marks if MARKS[mark] in given}


def _read_byte_level(given: Mapping[str, Any], names: Mapping[int, str]) -> Backend:
    if "tokenizer.ggml.pre" not in given:
        raise ConfigError(
            "tokenizer.ggml.pre: missing, so nothing says how texts are split into words; convert "
            "the model to GGUF again."
        )
    if not given.get("tokenizer.ggml.merges"):
        raise ConfigError("tokenizer.ggml.merges: missing, and byte-level BPE needs them.")
    split, whole_words = gguf_words.splitter(given["tokenizer.ggml.pre"])
    # A space within a part is spelled as the letter of that byte.
    merges = [tuple(merge.split(" ")) for merge in given["tokenizer.ggml.merges"]]
    vocab = {name: id for id, name in names.items()}
    try:
        backend = Backend(models.BPE(vocab, merges, ignore_merges=whole_words))
    except Exception as error:  # the library raises bare Exception
        raise ConfigError(f"tokenizer.ggml.merges: {error}.") from None
    backend.pre_tokenizer, backend.decoder = split, decoders.ByteLevel()
    _add_tokens(backend, given, names)
    return backend


def _read_sentencepiece(given: Mapping[str, Any], names: Mapping[int, str]) -> Backend:
    kinds = given["tokenizer.ggml.token_type"]
    user = {id for id in names if kinds[id] == TokenType.USER_DEFINED}
    spelled = {id: name.replace(" ", SPACE) if id in user else name for id, name in names.items()}
    vocab = {name: id for id, name in spelled.items()}
    has_bytes = any(kinds[id] == TokenType.BYTE for id in names)
    if not has_bytes:
        return _read_characters(given, names)
    scores = given["tokenizer.ggml.scores"]
    merges = _merges(vocab, kinds, scores)
    unknown = next((name for id, name in names.items() if kinds[id] == TokenType.UNKNOWN), None)
    if unknown is None and (id := given.get(MARKS["unk_token"])) is not None:
        unknown = names[id]
    model = models.BPE(vocab, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    backend = Backend(model)
    replace = normalizers.Replace(" ", SPACE)
    prepends = given.get("tokenizer.ggml.add_space_prefix", True)
    both = [normalizers.Prepend(SPACE), replace]
    backend.normalizer = normalizers.Sequence(both) if prepends else replace
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    strip = [decoders.Strip(" ", 1, 0)] if prepends else []
    backend.decoder = decoders.Sequence(steps + strip)
    _add_tokens(backend, given, spelled)
    return backend


def _read_characters(given: Mapping[str, Any], names: Mapping[int, str]) -> Backend:
    """Without bytes to fall back on, a vocabulary is one of characters."""
    kinds = given["tokenizer.ggml.token_type"]
    ordinary = {id for id in names if kinds[id] == TokenType.NORMAL}
    if any(len(names[id]) > 1 for id in ordinary) or given.get("tokenizer.ggml.add_space_prefix"):
        raise ConfigError(
            "its vocabulary has no tokens for single bytes, so Foundling cannot read every text "
            "with it."
        )
    spelled = {id: name.replace(SPACE, " ") if id in ordinary else name
               for id, name in names.items()}  # fmt: skip
    backend = Backend(models.BPE(vocab={n: id for id, n in spelled.items()}, merges=[]))
    backend.decoder = decoders.Fuse()
    _add_tokens(backend, given, spelled)
    return backend


def _merges(
    vocab: Mapping[str, int], kinds: Sequence[int], scores: Sequence[float]
) -> list[tuple[str, str]]:
    """The pairs of tokens that make a token, best first: what was defined by users, then by score.

    Source: transformers, convert_slow_tokenizer.py, `generate_merges`.
    """
    found: list[tuple[tuple[bool, float], int, tuple[str, str]]] = []
    for name, id in vocab.items():
        if kinds[id] not in (TokenType.NORMAL, TokenType.USER_DEFINED):
            continue
        rank = (kinds[id] == TokenType.NORMAL, -scores[id] if kinds[id] == TokenType.NORMAL else id)
        for cut in range(len(name) - 1, 0, -1):
            if name[:cut] in vocab and name[cut:] in vocab:
                found.append((rank, len(found), (name[:cut], name[cut:])))
    return [pair for _, _, pair in sorted(found)]


def _add_tokens(backend: Backend, given: Mapping[str, Any], names: Mapping[int, str]) -> None:
    """Tokens that are found in a text before it is split; each keeps its id."""
    kinds = given["tokenizer.ggml.token_type"]
    special = (TokenType.CONTROL, TokenType.UNKNOWN)
    wanted = {id: name for id, name in names.items()
              if kinds[id] in (*special, TokenType.USER_DEFINED)}  # fmt: skip
    backend.add_tokens(
        [AddedToken(name, normalized=False, special=kinds[id] in special)
         for id, name in wanted.items()]
    )  # fmt: skip


def _begin_with(begin: str, id: int) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A {begin}:1 $B:1", special_tokens=[(begin, id)]
    )


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")
