"""Which chat template a tokenizer has, and which of its tokens stand around the turns."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from foundling.base.config import ConfigError, suggest
from foundling.text.own_templates import FOUNDLING, OWN, ROLE_TOKENS
from foundling.text.template import ChatTemplate
from foundling.text.tokenizer_files import TokenizerFiles

_MARKUP = re.compile(r"[^\s▁]{3,}")


def default_template(
    given: ChatTemplate | None, files: TokenizerFiles | None, knows: Callable[[str], bool]
) -> ChatTemplate | None:
    """What was chosen, else the folder's own, else Foundling's where its tokens are known."""
    own = given or (files.template() if files else None)
    if own is not None and own.source != FOUNDLING:
        return own
    return ChatTemplate("foundling", FOUNDLING) if all(map(knows, ROLE_TOKENS)) else None


def choose_template(
    name: str, options: dict[str, Any], files: TokenizerFiles | None, current: ChatTemplate | None
) -> tuple[ChatTemplate, tuple[str, ...]]:
    """The template of this name, and the tokens that it needs.

    Args:
        name: one of the folder's, "default" (the folder's own, else the current one), one of
            Foundling's, a file, or jinja source.

    Raises:
        ConfigError: there is no such template, or it reads no such variable.
    """
    found = files.template(name, **options) if files else None
    if found is None and name == "default" and current is not None:
        found = replace(current, options=options)
    if found is not None:
        return found, ()
    if name in OWN:
        source, tokens = OWN[name]
        return ChatTemplate(name, source, options), tokens
    if "{" in name:
        return ChatTemplate("given", name, options), ()
    try:
        return ChatTemplate(Path(name).stem, Path(name).read_text("utf-8"), options), ()
    except (OSError, UnicodeDecodeError):
        names = [*(files.templates if files else ()), *OWN]
        raise ConfigError(
            f'template = "{name}": no such chat template or file {suggest(name, names)}'
        ) from None


def turn_tokens(text: str, names: Iterable[str]) -> list[str]:
    """Those of the names that stand around the turns of a conversation that a template wrote.

    Tags that are opened and closed, such as those of a thought, are none of them.
    """
    found = {name for name in names if _MARKUP.fullmatch(name) and name in text}
    closed = {name for name in found if name.replace("</", "<", 1) in found and "</" in name}
    return sorted(found - closed - {name.replace("</", "<", 1) for name in closed})
