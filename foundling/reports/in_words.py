"""Formats measured values: significant digits, and verdicts against chance."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Values = Mapping[str, Any]
Tone = Literal["good", "bad", "plain"]
LEVEL = 0.05
NOTHING = "–"
BETTER = {"high": "higher is better", "low": "lower is better", "neither": ""}


@dataclass(frozen=True)
class Verdict:
    """A verdict on a figure, in words, and whether it is good or bad."""

    text: str
    tone: Tone = "plain"


def number(value: float | None, unit: str, decimals: int | None = None) -> str:
    """A share per cent with one decimal, a number with `decimals`, or four digits."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return "not finite"
    if unit == "share":
        return f"{100 * value:.1f}%"
    if decimals is None:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,.{decimals}f}"


def decimals(low: float | None, high: float | None) -> int | None:
    """Decimals that show the interval's half width to two digits: 2 for 3.1 to 3.9."""
    if low is None or high is None or high <= low:
        return None
    return min(4, max(0, 1 - math.floor(math.log10((high - low) / 2))))


def span(levels: Sequence[float], unit: str) -> str:
    """The level that all models share, or the range of their levels."""
    texts = list(dict.fromkeys(number(level, unit) for level in sorted(levels)))
    if not texts:
        return NOTHING
    return texts[0] if len(texts) == 1 else f"{texts[0]} to {texts[-1]}"


def value_text(values: Values, unit: str) -> str:
    """The value with its digits."""
    return number(values["value"], unit, decimals(values["low"], values["high"]))


def ends_text(values: Values, unit: str, *, short: bool = False) -> str:
    """Both ends in few characters: 59.4 – 65.6, or `short` 59–66; empty without an interval."""
    low, high = values["low"], values["high"]
    if low is None or high is None:
        return ""
    digits = decimals(low, high)
    ends = number(low, unit, digits), number(high, unit, digits)
    if unit == "share":
        places = 0 if short else 1
        ends = f"{100 * low:.{places}f}", f"{100 * high:.{places}f}"
    return ("–" if short else " – ").join(ends)


def interval_text(values: Values, unit: str) -> str:
    """Both ends of the interval; for a share, one per cent sign."""
    low, high = values["low"], values["high"]
    if low is None or high is None:
        return "no interval"
    if unit == "share":
        return f"{100 * low:.1f} to {100 * high:.1f}%"
    digits = decimals(low, high)
    return f"{number(low, unit, digits)} to {number(high, unit, digits)}"


def against_chance(values: Values, good: str) -> Verdict | None:
    """The verdict against chance; None where either is not known.

    A value better than chance is compared with its baseline too. For a gain or a rate, whose
    chance is 0, the verdict is "none shown".
    """
    low, high, chance = values["low"], values["high"], values["chance"]
    if values["value"] is None or chance is None or low is None or high is None:
        return None
    if low <= chance <= high:
        return Verdict("at chance" if chance else "none shown")
    is_above = low > chance
    text = "above chance" if is_above else "below chance"
    if good == "neither":
        return Verdict(text)
    if is_above != (good == "high"):
        return Verdict(text, "bad")
    baseline = values["baseline"]
    if baseline is not None:
        lead = low - baseline["value"] if good == "high" else baseline["value"] - high
        if lead <= 0:
            return Verdict(f"{text}, not beyond the baseline")
    return Verdict(text, "good")


def difference_text(found: Values, unit: str) -> tuple[str, str]:
    """The signed difference and its interval; for shares in percentage points."""
    scale = 100.0 if unit == "share" else 1.0
    low, high = (None if end is None else scale * end for end in (found["low"], found["high"]))
    digits = 1 if unit == "share" else decimals(low, high)
    value = scale * found["value"]
    text = f"{value:+.4g}" if digits is None else f"{value:+,.{digits}f}"
    if low is None or high is None:
        return text, "no interval"
    digits = 4 if digits is None else digits
    return text, f"{low:+,.{digits}f} to {high:+,.{digits}f}"


def of_difference(found: Values, good: str) -> Verdict:
    """The verdict on a difference: whether it was shown, and whether it is an improvement."""
    low, high, value = found["low"], found["high"], found["value"]
    if low is None or high is None or low <= 0 <= high:
        return Verdict("no difference shown")
    if found["adjusted_p_value"] >= LEVEL:
        return Verdict("not shown once adjusted")
    if good == "neither":
        return Verdict("higher" if value > 0 else "lower")
    is_better = (value > 0) == (good == "high")
    return Verdict("better", "good") if is_better else Verdict("worse", "bad")


def p_text(p_value: float) -> str:
    """A p-value with two digits, never shown as 0."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.2g}"
