"""The one chat renderer: messages to token ids, and which of them are learned."""

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from foundling.base.config import ConfigError
from foundling.text.controls import Encoded, Marks
from foundling.text.script import Example, Script, texts_of
from foundling.text.tokenizer import Tokenizer

Role = Literal["system", "user", "assistant", "developer", "tool"]
Learn = Literal["all", "last"]
Kind = Literal["special", Role]
KINDS: tuple[Kind, ...] = get_args(Kind)

INSTRUCTING: tuple[Role, ...] = ("system", "developer")
"""Who says how to answer, in the first message."""
_AFTER: dict[Role, tuple[Role, ...]] = {
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}


@dataclass(frozen=True)
class ToolCall:
    """A call that an assistant makes; `arguments` is JSON text."""

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True)
class Message:
    role: Role
    content: str
    reasoning: str = ""
    """What an assistant thought before its answer."""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    """Of a tool's message: the call that it answers."""
    name: str = ""
    """Of a tool's message: the tool."""
    weight: int = 1
    """Of an answer: 1 where it is learned from, 0 where it is not."""


Conversation = tuple[Message, ...]
Tools = tuple[Mapping[str, Any], ...]
"""Descriptions of functions, each a JSON schema as chat templates take them."""


@dataclass(frozen=True)
class Rendered:
    """Tokens; `learned[i]` says that token i is a target with loss, `kinds[i]` what it belongs to.

    A special token is of kind "special", any other of the kind of its message. The first token
    is never learned: nothing precedes it to predict it from.
    """

    tokens: list[int]
    learned: list[bool]
    kinds: list[Kind]


def check_roles(messages: Sequence[Message], *, training: bool) -> None:
    """Refuse messages that are not: a system message or none, then user and assistant in turn.

    A developer's message stands for the system's. After an answer the messages of tools may come,
    and must where it calls some; the assistant's goes on from them.

    Args:
        training: the last message is the assistant's, else the user's or a tool's; no answer is
            blank but one that calls tools.

    Raises:
        ConfigError: they are in another order, or an answer is missing or blank.
    """
    turns = messages[1:] if messages and messages[0].role in INSTRUCTING else messages
    first = len(messages) - len(turns) + 1
    expected: tuple[Role, ...] = ("user",)
    for number, message in enumerate(turns, start=first):
        if message.role not in expected:
            raise ConfigError(
                f"message {number} is the {message.role}'s, expected the {expected[0]}'s: "
                "a system message or none, then user and assistant in turn."
            )
        if message.role == "assistant" and not (message.content.strip() or message.tool_calls):
            raise ConfigError(f"message {number}: the answer is empty.")
        expected = _AFTER[message.role]
        if message.tool_calls:
            expected = ("tool",)
    last: tuple[Role, ...] = ("assistant",) if training else ("user", "tool")
    if not turns or turns[-1].role not in last:
        ends = f"end with the {turns[-1].role}'s" if turns else "hold no turn"
        raise ConfigError(f"the messages {ends}; the last one must be the {last[0]}'s.")


def later_exchanges(messages: Sequence[Message], within: int) -> Conversation | None:
    """The messages without the oldest exchange: from the first question to before the next one.

    None where the next question is not among the first `within` messages.
    """
    front = 1 if messages[0].role in INSTRUCTING else 0
    questions = (place for place, message in enumerate(messages[:within]) if message.role == "user")
    later = next((place for place in questions if place > front), None)
    return None if later is None else (*messages[:front], *messages[later:])


def render(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    *,
    learn: Learn = "all",
    given: int = 0,
    tools: Tools = (),
) -> list[Rendered]:
    """The conversation as the tokenizer's chat template writes it, in one or more examples.

    The tokens are those of `apply_chat_template` of transformers, but that a content which spells
    a special token stays text. Learned is what the model itself has to write of an answer: from
    where its prompt ends to the token that ends its turn. A token that straddles the border is not
    learned. Where the template writes an answer in another way once others follow it, as it
    leaves out earlier thoughts, each answer is an example of its own, with its own history.

    Args:
        learn: the answers that are learned: all, or the last.
        given: how many of the first messages are the prompt, whoever wrote them; none of these is
            learned.

    Raises:
        ConfigError: the roles are out of order, an answer is blank, there is no chat template, or
            the template refuses the messages or cannot write them so that the answers are learned.
    """
    return render_batch([messages], tokenizer, learn=learn, given=[given], tools=[tools])[0]


def render_batch(
    conversations: Sequence[Sequence[Message]],
    tokenizer: Tokenizer,
    *,
    learn: Learn = "all",
    given: Sequence[int] | None = None,
    tools: Sequence[Tools] | None = None,
) -> list[list[Rendered]]:
    """`render` of each conversation; all texts are encoded together, in parallel."""
    for messages in conversations:
        check_roles(messages, training=True)
    given, tools = given or [0] * len(conversations), tools or [()] * len(conversations)
    marks = _marks(conversations, tools)
    examples = []
    for messages, num_given, described in zip(conversations, given, tools, strict=True):
        first = len(messages) - 1 if learn == "last" else num_given
        places = [
            place
            for place, message in enumerate(messages)
            if message.role == "assistant" and message.weight and place >= first
        ]
        examples.append(Script(messages, described, tokenizer, marks).examples(places))
    texts = [example.text for found in examples for example in found]
    encodings = iter(_encode(texts, tokenizer, marks))
    return [
        [_rendered(example, next(encodings), tokenizer) for example in found] for found in examples
    ]


def render_prompt(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    *,
    tools: Tools = (),
    any_order: bool = False,
) -> list[int]:
    """The conversation up to where the assistant's next answer begins.

    Args:
        any_order: which roles follow one another is the template's affair alone.

    Raises:
        ConfigError: the roles are out of order, the last message is not the user's or a tool's,
            there is no chat template, or it refuses the messages or leaves out a call.
    """
    if not any_order:
        check_roles(messages, training=False)
    marks = _marks([messages], [tools])
    text = Script(messages, tools, tokenizer, marks).prompt()
    return _encode([text], tokenizer, marks)[0].ids


def render_plain(
    prompt: str, completion: str, tokenizer: Tokenizer, *, parse: bool = False
) -> Rendered:
    """Begin of text, prompt, completion, end of text; completion and end are learned.

    Prompt and completion are encoded each by itself.

    Args:
        parse: special tokens that the texts spell are these tokens, not text. One that begins or
            ends a text then stands for the mark that would be placed there.

    Raises:
        ConfigError: the completion is empty, or nothing at all stands before it.
    """
    if not completion:
        raise ConfigError("the completion is empty.")
    rendered = Rendered([], [], [])
    _append(rendered, tokenizer.begin_ids, "special", learned=False)
    encode = tokenizer.encode_spelled if parse else tokenizer.encode_batch
    before, after = encode([prompt, completion])
    if before[: len(rendered.tokens)] == rendered.tokens:
        before = before[len(rendered.tokens) :]
    _append(rendered, before, "user", learned=False)
    if not rendered.tokens:
        raise ConfigError("the prompt is empty, and this tokenizer has no token to begin with.")
    stop = _ended(after, tokenizer) if parse else None
    _append(rendered, after[:stop], "assistant", learned=True)
    if stop is None:
        _append(rendered, [tokenizer.end_of_text], "special", learned=True)
    else:
        _append(rendered, after[stop:], "assistant", learned=False)
    special = tokenizer.special_ids
    kinds = zip(rendered.tokens, rendered.kinds, strict=True)
    rendered.kinds[:] = ["special" if id in special else kind for id, kind in kinds]
    return rendered


def _ended(tokens: list[int], tokenizer: Tokenizer) -> int | None:
    """How many of the tokens end with one that stops the model; None: text follows the last."""
    stops = [place for place, id in enumerate(tokens) if id in tokenizer.stop_ids]
    if not stops or tokenizer.decode(tokens[stops[-1] + 1 :], show_special=True).strip():
        return None
    return stops[-1] + 1


def _marks(conversations: Sequence[Sequence[Message]], tools: Sequence[Tools]) -> Marks:
    pairs = zip(conversations, tools, strict=True)
    return Marks.free((text for pair in pairs for text in texts_of(*pair)), len(get_args(Role)))


def _encode(texts: list[str], tokenizer: Tokenizer, marks: Marks) -> list[Encoded]:
    if tokenizer.kind == "characters":
        tokenizer.refuse_unknown(re.sub(f"{marks.token}\\d+{marks.token}", "", "".join(texts)))
    return tokenizer.controls.encode(texts, marks)


def _rendered(example: Example, encoded: Encoded, tokenizer: Tokenizer) -> Rendered:
    """The tokens; one belongs to where its first character stands."""
    ids, starts = encoded
    learned, kinds = [False] * len(ids), ["special"] * len(ids)

    def span(start: int, stop: int) -> slice:
        return slice(bisect_left(starts, start), bisect_left(starts, stop))

    def fill(values: list[Any], part: slice, value: object) -> None:
        values[part] = [value] * len(values[part])

    for part in example.parts:
        fill(kinds, span(part.start, part.stop), part.role)
    for answer in example.answers:
        fill(learned, span(answer.start, answer.stop), True)
        fill(kinds, span(answer.start, answer.stop), "assistant")
    controls = tokenizer.controls.ids
    kinds = ["special" if id in controls else kind for id, kind in zip(ids, kinds, strict=True)]
    if learned:
        learned[0] = False
    return Rendered(ids, learned, cast(list[Kind], kinds))


def _append(rendered: Rendered, tokens: list[int], kind: Kind, *, learned: bool) -> None:
    rendered.tokens.extend(tokens)
    rendered.learned.extend([learned] * len(tokens))
    rendered.kinds.extend([kind] * len(tokens))
