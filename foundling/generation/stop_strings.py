"""Stop strings, found across the borders of tokens."""

from collections.abc import Sequence


class StopStrings:
    """Lets text through until a stop string begins; keeps back what may be the start of one."""

    def __init__(self, stop: Sequence[str]) -> None:
        self.stop, self.kept = stop, ""
        self.which: str | None = None
        """The stop string that was found."""

    @property
    def found(self) -> bool:
        return self.which is not None

    def push(self, text: str) -> str:
        """What is safe to show now."""
        self.kept += text
        found = [(start, text) for text in self.stop if (start := self.kept.find(text)) >= 0]
        if found:
            start, self.which = min(found)
            shown, self.kept = self.kept[:start], ""
            return shown
        longest = max(
            (
                length
                for text in self.stop
                for length in range(1, min(len(text), len(self.kept) + 1))
                if self.kept.endswith(text[:length])
            ),
            default=0,
        )
        cut = len(self.kept) - longest
        shown, self.kept = self.kept[:cut], self.kept[cut:]
        return shown

    def flush(self) -> str:
        """What was kept back, now that nothing more comes."""
        shown, self.kept = self.kept, ""
        return shown
