"""Which format the rows of a file have, by their columns and what these hold."""

from collections.abc import Collection, Sequence

from foundling.base.config import ConfigError, suggest
from foundling.data.formats import FORMATS, OLD_NAMES, Kind
from foundling.data.readers.fields import Row
from foundling.data.source_errors import SourceError


def known_format(name: str, kinds: Collection[Kind]) -> str:
    """The name of a format of one of `kinds`, also by the one that it had in former versions.

    Raises:
        ConfigError: there is none of this name.
    """
    name = OLD_NAMES.get(name, name)
    allowed = [name for name, format in FORMATS.items() if format.kind in kinds]
    if name in allowed:
        return name
    why = f"holds {FORMATS[name].kind}, not {' or '.join(kinds)}" if name in FORMATS else ""
    raise ConfigError(f'format = "{name}": {why or "no such format"} {suggest(name, allowed)}')


def detect(rows: Sequence[Row], kinds: Collection[Kind], advice: str = "") -> str:
    """The name of the format that the rows have.

    `advice` ends the message where the columns are not those of a format.

    Raises:
        SourceError: they fit none of `kinds`, or several.
    """
    where, values = rows[0][0], [row for _, row in rows]
    columns = list(dict.fromkeys(name for row in values for name in row))
    by_columns = [name for name, format in FORMATS.items() if format.fits(columns)]
    wanted = [name for name in by_columns if FORMATS[name].kind in kinds]
    fitting = [name for name in wanted if FORMATS[name].looks(values)]
    # The most telling columns decide, then those that have the format's own names.
    needs = {name: set(FORMATS[name].needs) for name in fitting}
    fitting = [n for n in fitting if not any(needs[n] < needs[other] for other in fitting)]
    if len(fitting) > 1:
        fitting = [n for n in fitting if FORMATS[n].fits(columns, exactly=True)] or fitting
    if len(fitting or wanted) == 1:
        return (fitting or wanted)[0]
    listed = ", ".join(columns) or "none"
    if fitting:
        raise SourceError(
            "several formats",
            f"{where}: the columns ({listed}) fit several formats ({', '.join(fitting)}); "
            "name one.",
        )
    raise SourceError("unknown format", f"{where}: {_why_none(columns, by_columns, kinds, advice)}")


def _why_none(
    columns: Sequence[str], by_columns: Sequence[str], kinds: Collection[Kind], advice: str
) -> str:
    if {"implicit_prompt", "hh_rlhf"} <= set(by_columns) and "preferences" in kinds:
        return (
            "without a column prompt, chosen and rejected must be lists of messages, or dialogues "
            "with \\n\\nHuman: and \\n\\nAssistant: in them; they are neither."
        )
    listed = ", ".join(columns) or "none"
    others = [name for name in by_columns if FORMATS[name].kind not in (*kinds, "prompts")]
    if others:
        return (
            f"the columns ({listed}) are those of {FORMATS[others[0]].kind} ({others[0]}), not of "
            f"{' or '.join(kinds)}.{advice}"
        )
    if columns == ["text"]:
        return "a text alone is no conversation; learn from it by `data prepare` and `pretrain`."
    known = "; ".join(
        f"{name}: {', '.join(format.needs)}"
        for name, format in FORMATS.items()
        if format.kind in kinds
    )
    return f"the columns ({listed}) fit no known format ({known}).{advice}"
