"""The one chat renderer: messages to token ids, and which of them are learned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from foundling.base.config import ConfigError
from foundling.text.tokenizer import ASSISTANT, END_OF_TURN, SYSTEM, USER, Tokenizer

Role = Literal["system", "developer", "user", "assistant", "tool"]
Learn = Literal["all", "last"]
Kind = Literal["special", "system", "user", "assistant", "developer", "tool"]
KINDS: tuple[Kind, ...] = ("special", "system", "user", "assistant", "developer", "tool")

INSTRUCTING: tuple[Role, ...] = ("system", "developer")
"""Who says how to answer, in the first message."""
_AFTER: dict[Role, tuple[Role, ...]] = {
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}
_ROLE_NAMES = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}


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


def render(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    *,
    learn: Learn = "all",
    given: int = 0,
    tools: Tools = (),
) -> list[Rendered]:
    """The conversation as tokens: begin of text, then role, content and end of turn of each.

    Each content is encoded by itself, so no token straddles two segments, and each special token
    is placed here, once: a content that spells one stays text. Learned are the content and the
    end of turn of the answers, of all or of the last one.

    Args:
        given: how many of the first messages are the prompt, whoever wrote them; none of these is
            learned.

    Raises:
        ConfigError: the roles are out of order, an answer is blank, or the tokenizer has no token
            for a role.
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
    """`render` of each conversation: one or more examples.

    There are several where the template renders history in another way than what is learned, so
    that each answer has its own history.
    """
    for messages in conversations:
        check_roles(messages, training=True)
    for one in tools or ():
        _refuse_tools(one)
    contents = [message.content for messages in conversations for message in messages]
    encoded = iter(tokenizer.encode_batch(contents))
    fronts = given or [0] * len(conversations)
    rendered = []
    for messages, front in zip(conversations, fronts, strict=True):
        first = len(messages) - 1 if learn == "last" else front
        rows = list(islice(encoded, len(messages)))
        rendered.append([_assemble(messages, rows, tokenizer, learned_from=first)])
    return rendered


def render_prompt(
    messages: Sequence[Message], tokenizer: Tokenizer, *, tools: Tools = ()
) -> list[int]:
    """The conversation up to where the assistant's next answer begins.

    Raises:
        ConfigError: the roles are out of order, or the last message is not the user's.
    """
    check_roles(messages, training=False)
    _refuse_tools(tools)
    contents = tokenizer.encode_batch([message.content for message in messages])
    front = _assemble(messages, contents, tokenizer, learned_from=len(messages))
    return [*front.tokens, tokenizer.special(ASSISTANT)]


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


def _refuse_tools(tools: Tools) -> None:
    if tools:
        raise ConfigError("tools: this chat template takes none.")


def _assemble(
    messages: Sequence[Message],
    contents: Sequence[list[int]],
    tokenizer: Tokenizer,
    *,
    learned_from: int,
) -> Rendered:
    rendered = _begun(tokenizer)
    end = tokenizer.special(END_OF_TURN)
    for number, (message, content) in enumerate(zip(messages, contents, strict=True)):
        learned = message.role == "assistant" and number >= learned_from
        role = tokenizer.special(_ROLE_NAMES[message.role])
        _append(rendered, [role], "special", learned=False)
        _append(rendered, content, message.role, learned=learned)
        _append(rendered, [end], "special", learned=learned)
    return rendered


def _begun(tokenizer: Tokenizer) -> Rendered:
    rendered = Rendered([], [], [])
    if tokenizer.begin_name is not None:
        _append(rendered, [tokenizer.begin_of_text], "special", learned=False)
    return rendered


def _append(rendered: Rendered, tokens: list[int], kind: Kind, *, learned: bool) -> None:
    rendered.tokens.extend(tokens)
    rendered.learned.extend([learned] * len(tokens))
    rendered.kinds.extend([kind] * len(tokens))
