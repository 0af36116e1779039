"""Stop strings, found across the borders of tokens."""

from collections.abc import Sequence


class StopStrings:
    """Lets text through until a stop string begins; keeps back what may be the start of one."""

    def __init__(self, stop: Sequence[str]) -> None:
        self.stop, self.kept, self.found = stop, "", False

    def push(self, text: str) -> str:
        """What is safe to show now."""
        self.kept += text
        starts = [start for start in map(self.kept.find, self.stop) if start >= 0]
        if starts:
            self.found = True
            shown, self.kept = self.kept[: min(starts)], ""
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
