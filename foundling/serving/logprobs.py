"""Log-probabilities as completions and chat completions say them, and the names of tokens.

They are the model's own: the log-softmax of its logits, before penalties, bias, grammar,
temperature and filters, and no less than -9999.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from foundling.generation.request import TokenLogprob
from foundling.text.stream_decoder import StreamDecoder
from foundling.text.tokenizer import Tokenizer


def token_text(token: int, tokenizer: Tokenizer) -> str:
    """The text of one token; of one that is no whole UTF-8 its bytes, as `bytes:\\xe2\\x80`."""
    raw = tokenizer.bytes_of(token)
    if not raw:
        return tokenizer.name_of(token)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def token_texts(tokens: Iterable[int], tokenizer: Tokenizer) -> dict[int, str]:
    """The texts of different tokens, no two of them equal: a second one is called `token_id:ID`."""
    found: dict[int, str] = {}
    for token in tokens:
        text = token_text(token, tokenizer)
        found[token] = f"token_id:{token}" if text in found.values() else text
    return found


def chat_logprobs(logprobs: Sequence[TokenLogprob], tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """As the `content` of a chat choice's logprobs; what ends the text is no part of it."""
    ends = set(tokenizer.stop_ids)
    return [
        {
            **_entry(one.token, one.logprob, tokenizer),
            "top_logprobs": [_entry(token, value, tokenizer) for token, value in one.top],
        }
        for one in logprobs
        if one.token not in ends
    ]


def _entry(token: int, logprob: float, tokenizer: Tokenizer) -> dict[str, Any]:
    raw = tokenizer.bytes_of(token)
    text = token_text(token, tokenizer)
    return {"token": text, "logprob": logprob, "bytes": list(raw) if raw else None}


class CompletionLogprobs:
    """The logprobs of a completion's choice, made piece by piece.

    Args:
        continues: text precedes the first token.
        offset: how many characters.
        show_special: special tokens stand in the text by their names.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, continues: bool, offset: int, show_special: bool = False
    ) -> None:
        self._tokenizer, self._offset = tokenizer, offset
        self._decoder = StreamDecoder(tokenizer, show_special=show_special, continues=continues)

    def made(
        self, tokens: Sequence[int], logprobs: Sequence[TokenLogprob | None]
    ) -> dict[str, Any]:
        """Of these next tokens; None: nothing precedes the token, so that it has none."""
        texts, offsets, tops = [], [], []
        for token, one in zip(tokens, logprobs, strict=True):
            known = {token} if one is None else dict.fromkeys([token, *(id for id, _ in one.top)])
            names = token_texts(known, self._tokenizer)
            texts.append(names[token])
            offsets.append(self._offset)
            self._offset += len(self._decoder.push(token))
            tops.append(None if one is None else _top(one, names))
        values = [None if one is None else one.logprob for one in logprobs]
        return {
            "tokens": texts, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets
        }  # fmt: skip


def joined(*parts: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The logprobs of a choice from those of its parts."""
    return {key: [one for part in parts for one in part[key]] for key in parts[0]}


def _top(one: TokenLogprob, names: dict[int, str]) -> dict[str, float]:
    """The likeliest tokens, and the token itself where it is not among them."""
    return {names[token]: value for token, value in ((one.token, one.logprob), *one.top)}
