"""What became of the rows of some files."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from foundling.base.config import ConfigError
from foundling.data.source_errors import SourceError


@dataclass
class ParseReport:
    """What became of the rows."""

    format: str = ""
    forced: bool = False
    num_read: int = 0
    num_kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)  # by reason
    first_of: dict[str, str] = field(default_factory=dict)  # the first message of each reason
    notes: Counter[str] = field(default_factory=Counter)  # what else was done, and how often
    ignored_columns: list[str] = field(default_factory=list)
    ignored_files: Counter[str] = field(default_factory=Counter)  # by suffix

    def drop(self, error: SourceError) -> None:
        self.dropped[error.reason] += 1
        self.first_of.setdefault(error.reason, str(error))

    def lines(self) -> list[str]:
        """The report for people."""
        how = "as you said" if self.forced else "detected"
        lines = [f"format {self.format} ({how}): {self.num_kept:,} of {self.num_read:,} rows kept"]
        lines += [
            f"dropped {count:,}: {reason}, first {self.first_of[reason]}"
            for reason, count in self.dropped.most_common()
        ]
        lines += [f"{what}: {count:,}" for what, count in self.notes.most_common()]
        if self.ignored_columns:
            lines.append(f"ignored columns: {', '.join(self.ignored_columns)}")
        if self.ignored_files:
            named = ", ".join(f"{count} {end}" for end, count in self.ignored_files.items())
            lines.append(f"ignored files: {named}")
        return lines

    def values(self) -> dict[str, Any]:
        """The report in plain types, for `--json`."""
        return {
            "format": self.format,
            "forced": self.forced,
            "read": self.num_read,
            "kept": self.num_kept,
            "dropped": dict(self.dropped),
            "first_of": self.first_of,
            "notes": dict(self.notes),
            "ignored_columns": self.ignored_columns,
            "ignored_files": dict(self.ignored_files),
        }


def nothing_left(report: ParseReport) -> ConfigError:
    """What is wrong where no row is left."""
    first = next(iter(report.first_of.values()), "the inputs hold none.")
    return ConfigError(f"No row is left of {report.num_read:,}; the first fault: {first}")
