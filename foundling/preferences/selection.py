"""Whose votes count."""

from dataclasses import dataclass

from foundling.base.config import ConfigError, suggest
from foundling.preferences.records import WHO, Judgement, Pair, Who
from foundling.preferences.store import PreferenceStore


@dataclass(frozen=True)
class Selection:
    """Votes of people, of programs or of all, `without` some annotators or sources of answers."""

    who: Who = "all"
    without: tuple[str, ...] = ()

    def check(self, store: PreferenceStore) -> None:
        """Refuse a group or a name that there is not.

        Raises:
            ConfigError: which one.
        """
        if self.who not in WHO:
            raise ConfigError(f'who = "{self.who}": no such group {suggest(self.who, WHO)}')
        if not self.without:
            return
        sources = {a.source for pair in store.pairs().values() for a in (pair.a, pair.b)}
        known = [*store.annotators(), *sources]
        for name in self.without:
            if name not in known:
                raise ConfigError(
                    f'without = "{name}": no annotator or source has this name '
                    f"{suggest(name, known)}"
                )

    def why_not(self, judgement: Judgement, pair: Pair) -> str | None:
        """Why a vote does not count; None: it does."""
        if self.who != "all" and judgement.simulated != (self.who == "simulated"):
            return f"not of {self.who}"
        for name in self.without:
            if name == judgement.annotator:
                return f"of the annotator {name}"
            if name in (pair.a.source, pair.b.source):
                return f"on answers of {name}"
        return None
