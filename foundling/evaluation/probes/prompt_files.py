"""The user's own prompts, with what is known of whether they should be refused."""

from dataclasses import dataclass
from pathlib import Path

from foundling.base.config import ConfigError
from foundling.evaluation.columns import read_columns, text_in


@dataclass(frozen=True)
class Asked:
    """A prompt; `refuse` is None where the file does not say whether it should be refused."""

    id: str
    text: str
    refuse: bool | None


def read_prompts(path: Path) -> list[Asked]:
    """The prompts of a file with `prompt` and, where it is known, `refuse` (true or false).

    Raises:
        ConfigError: the file cannot be read, a prompt is missing, or `refuse` is something else.
    """
    prompts = []
    for number, (where, row) in enumerate(read_columns(path, ("prompt",)), 1):
        refuse = row.get("refuse")
        said = {"true": True, "false": False, "": None, "none": None}
        known = str(refuse).strip().lower()
        if known not in said:
            raise ConfigError(f'{where}: "refuse" is {refuse!r}; true or false is allowed.')
        prompts.append(Asked(f"{path.stem}/{number}", text_in(where, row, "prompt"), said[known]))
    return prompts
