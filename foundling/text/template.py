"""Chat templates: jinja sources that make one text of a conversation."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from functools import cached_property, lru_cache
from typing import Any

from jinja2 import TemplateError, meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from foundling.base.config import ConfigError

TODAY = "today"
"""The option that fixes the date which a template writes."""
TOOL_USE = "tool_use"
"""The name of the template that a folder with several has for conversations with tools."""


@dataclass(frozen=True)
class ChatTemplate:
    """A template under its name, with the values of further variables that it reads.

    It is rendered as `transformers` renders it, in a sandbox: what comes with a model is not
    trusted. Source: transformers 5.23, `utils/chat_template_utils.py`.
    """

    name: str
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """Values of variables, such as enable_thinking. `today`, as YYYY-MM-DD, is the date that the
    template writes, if it writes one; without it, the date is that of the day."""
    with_tools: str | None = None
    """The source for conversations with tools, where it is another one."""

    def __post_init__(self) -> None:
        free = self.variables - _GIVEN
        unknown = sorted(set(self.options) - free - {TODAY})
        if unknown:
            known = ", ".join(sorted(free)) or "none"
            raise ConfigError(
                f'template_options.{unknown[0]}: the chat template "{self.name}" reads no such '
                f"variable; it reads: {known}."
            )
        self._today()

    @cached_property
    def variables(self) -> frozenset[str]:
        """The variables that the template reads."""
        sources = [self.source] + ([self.with_tools] if self.with_tools else [])
        return frozenset().union(*(_variables(source, self.name) for source in sources))

    @property
    def takes_tools(self) -> bool:
        return "tools" in self.variables

    @property
    def writes_date(self) -> bool:
        """Whether what it writes depends on the day."""
        return "strftime_now" in self.variables and TODAY not in self.options

    @property
    def saved(self) -> dict[str, str]:
        """The sources for other readers, by their names in a folder.

        The options are the defaults of their variables.
        """
        names = sorted(set(self.options) - {TODAY})
        options = "".join(map(self._default, names))
        sources = {"default": self.source, TOOL_USE: self.with_tools}
        return {name: options + source for name, source in sources.items() if source is not None}

    def _default(self, name: str) -> str:
        value = _literal(self.options[name])
        return f"{{% set {name} = {name} if {name} is defined else {value} %}}\n"

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        special_tokens: Mapping[str, str],
        add_generation_prompt: bool = False,
    ) -> str:
        """The conversation as one text.

        Args:
            messages: as `apply_chat_template` of transformers takes them, in plain JSON types.
            special_tokens: by their names in the template, such as bos_token.

        Raises:
            ConfigError: the template refuses the conversation, or fails.
        """
        if tools and not self.takes_tools:
            raise ConfigError(f'the chat template "{self.name}" takes no tools.')
        source = self.with_tools if tools and self.with_tools else self.source
        given = {
            **special_tokens,
            **{key: value for key, value in self.options.items() if key != TODAY},
            "messages": messages,
            "tools": list(tools) or None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            "strftime_now": self._strftime_now,
        }
        try:
            # As `render` of jinja2, which copies the environment's globals one by one each time.
            template = _compiled(source, self.name)
            values = {**_ENVIRONMENT.globals, **given}
            context = Context(_ENVIRONMENT, values, template.name, template.blocks)
            return "".join(template.root_render_func(context))
        except ConfigError:
            raise
        except Exception as error:  # the template is a program, which may fail in any way
            raise ConfigError(f'the chat template "{self.name}" says: {error}') from None

    def _strftime_now(self, format: str) -> str:
        return self._today().strftime(format)

    def _today(self) -> datetime:
        today = self.options.get(TODAY)
        if today is None:
            return datetime.now()
        try:
            return datetime.combine(date.fromisoformat(today), time())
        except (TypeError, ValueError):
            raise ConfigError(f'template_options.today = "{today}": give YYYY-MM-DD.') from None


_GIVEN = frozenset(
    ("messages", "tools", "documents", "add_generation_prompt", "strftime_now", "raise_exception")
)


def _literal(value: Any) -> str:
    """A value as jinja spells it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value)


class _Generation(Extension):
    """`{% generation %}`: what is learned, for readers that ask; it changes nothing."""

    tags = frozenset(("generation",))  # type: ignore[assignment]

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(Namespace):
    """Without names that begin with an underscore, which lead out of the sandbox."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # a template may say namespace(self=…)
        for name in dict(*args[1:], **kwargs):
            _refuse_underscore(name)
        Namespace.__init__(*args, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_underscore(name)
        super().__setitem__(name, value)


class _Dict:
    """`dict` of a template: only that it makes one."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


def _refuse_underscore(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"{name!r} begins with an underscore")


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_Generation, "jinja2.ext.loopcontrols"],
    )
    environment.filters["tojson"] = _tojson
    environment.globals |= {
        "raise_exception": _raise_exception,
        "dict": _Dict(),
        "namespace": _Namespace,
    }
    return environment


_ENVIRONMENT = _environment()


@lru_cache(maxsize=64)
def _compiled(source: str, name: str) -> Any:
    return _parsed(lambda: _ENVIRONMENT.from_string(source), name)


@lru_cache(maxsize=64)
def _variables(source: str, name: str) -> frozenset[str]:
    tree = _parsed(lambda: _ENVIRONMENT.parse(source), name)
    return frozenset(meta.find_undeclared_variables(tree))


def _parsed(parse: Callable[[], Any], name: str) -> Any:
    try:
        return parse()
    except TemplateError as error:
        raise ConfigError(
            f'the chat template "{name}" is not a valid Jinja template: {error}'
        ) from None
