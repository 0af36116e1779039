"""What the bodies of chat completions and completions have in common."""

import logging
import math
import re
import secrets
from collections.abc import Callable, Collection
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from foundling.generation.sampling import Sampling
from foundling.serving.errors import ApiError
from foundling.serving.registry import Served
from foundling.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

MOST_CHOICES, MOST_STOPS, MOST_TOP = 16, 16, 20
MOST_TOOLS, MOST_BIASES, LONGEST_STOP = 256, 1024, 1000
_SEED = 2**63
_HALF = re.compile("[\ud800-\udfff]")


One = TypeVar("One")
Listed = Annotated[list[One], Field(fail_fast=True)]
"""A list of which only the first fault is told: a long one has as many as elements."""
ToolList = Annotated[Listed[One], Field(max_length=MOST_TOOLS)]


def at_most(most: int) -> Callable[[Any], Any]:
    """Refuses an object of more members before any of them is looked at."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > most:
            raise ValueError(f"give at most {most} members")
        return value

    return check


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Stops = Annotated[
    Listed[Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]],
    BeforeValidator(_listed),
    Field(max_length=MOST_STOPS, json_schema_extra={"type": ["array", "string"]}),
]


class Element(BaseModel):
    """An object within a body, of which fields that are not known are accepted."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, protected_namespaces=())


class Body(Element):
    """A whole body."""

    @model_validator(mode="before")
    @classmethod
    def _can_be_written(cls, given: Any) -> Any:
        """Refuse what Python's JSON reads and cannot be written again: "\\ud800", 1e999, NaN."""
        unseen = [given]
        while unseen:
            one = unseen.pop()
            if isinstance(one, float) and not math.isfinite(one):
                raise ValueError("a number is not finite")
            if isinstance(one, str) and not one.isascii() and _HALF.search(one):
                raise ValueError("a text holds half of a surrogate pair, which is no character")
            if isinstance(one, dict):
                unseen += (*one.keys(), *one.values())
            elif isinstance(one, list):
                unseen += one
        return given

    def check_known(self, refused: Collection[str]) -> None:
        """Refuse a field that would change the answer and is not supported; note unknown ones.

        Raises:
            ApiError: there is one.
        """
        given = {key: value for key, value in (self.model_extra or {}).items() if value}
        for name in refused:
            if name in given:
                raise ApiError(
                    400,
                    f"{name}: this server does not support it; leave it out.",
                    param=name,
                    code="unsupported_parameter",
                )
        if given:
            logger.debug(f"fields that are not known are ignored: {', '.join(given)}")


class StreamOptions(Element):
    include_usage: bool | None = None


class Drawn(Body):
    """How a text is generated."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    seed: Annotated[int, Field(ge=-_SEED, lt=_SEED)] | None = None
    stop: Stops | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, description="0 and -1: off.")] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    logit_bias: (
        Annotated[
            dict[int, Annotated[float, Field(ge=-100, le=100)]],
            BeforeValidator(at_most(MOST_BIASES)),
        ]
        | None
    ) = None
    ignore_eos: bool | None = None

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self, served: Served) -> Sampling:
        """The model's own way of drawing, changed by what the request says.

        Without a seed every request draws anew.

        Raises:
            ApiError: `logit_bias` names no token.
        """
        values = {name: value for name in _DRAWING if (value := getattr(self, name)) is not None}
        for token in values.get("logit_bias", ()):
            check_token(token, served.tokenizer, f"logit_bias.{token}", "logit_bias")
        if values.get("top_k") in (0, -1):
            values["top_k"] = None
        if values.get("top_p") == 0:
            values |= {"top_p": None, "top_k": 1}
        seed = secrets.randbits(63) if self.seed is None else self.seed
        return served.source.sampling.changed({**values, "seed": seed})


_DRAWING = tuple(name for name in Sampling.model_fields if name != "seed")


def check_token(token: int, tokenizer: Tokenizer, where: str, param: str) -> None:
    """Raises ApiError: the vocabulary has no such token."""
    if not 0 <= token < tokenizer.vocab_size:
        most = tokenizer.vocab_size - 1
        raise ApiError(400, f"{where}: there are the tokens 0 to {most}.", param=param)


def check_length(
    num_tokens: int, max_tokens: int | None, served: Served, param: str, limit: str
) -> None:
    """Refuse what does not fit the model's context.

    Args:
        param: the field that holds the prompt.
        limit: the field that says `max_tokens`.

    Raises:
        ApiError: the prompt is too long, or with `max_tokens` it is.
    """
    room = served.room(num_tokens)
    if (max_tokens or 1) <= room:
        return
    reads = f'"{served.name}" reads at most {served.max_context} tokens'
    if room < 1:
        message = f"{reads}, and {param} has {num_tokens}: shorten it."
    else:
        message = (
            f"{reads}: {param} has {num_tokens}, so that {room} can be made, and {limit} asks for "
            f"{max_tokens}. Ask for fewer, or shorten {param}."
        )
        param = limit
    raise ApiError(400, message, param=param, code="context_length_exceeded")
