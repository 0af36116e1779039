"""Whether a model keeps its choice: in other orders, with typing errors, and not in a mirror."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from random import Random
from string import ascii_uppercase

from foundling.evaluation.choices import Choice, Chosen, choose, text_of
from foundling.evaluation.few_shot import SEPARATOR
from foundling.evaluation.findings import (
    Baseline,
    Curve,
    Findings,
    Metric,
    Point,
    Shown,
)
from foundling.evaluation.probes.consistency.contradictions import Rate, agreement
from foundling.evaluation.probes.consistency.perturbations import lettered, mistyped, orders
from foundling.evaluation.scorer import Pair, Prompt, Question, Scorer, in_plain, said

NUM_SHOTS = 4
NUM_ORDERS = 4
SHOWN = 2  # of each set
LEVELS = (0.1, 0.5)
"""Shares of the words that are mistyped."""


def option_order(scorer: Scorer, items: Sequence[Choice], name: str, findings: Findings) -> None:
    """Each item with its options as they are and from the last to the first."""
    asked = [_as_letters(item, back, scorer.chats) for item in items for back in (False, True)]
    found = {one.item.id: one for one in choose(scorer, asked)}
    content, letter, right = Rate(), Rate(), Rate()
    for item in items:
        both = [found.get(f"{item.id}/{way}") for way in ("forth", "back")]
        forth, back = both
        if forth is None or back is None:
            continue
        n = len(item.pairs)
        content.add(item.id, item.group, 1 - agreement(forth, back, turned=True), 1 - 1 / n)
        letter.add(item.id, item.group, agreement(forth, back), 1 / n)
        right.add(item.id, item.group, (forth.is_right() + back.is_right()) / 2, 1 / n)
    findings.unread(content.outcomes, items, f"{name} options")
    what = f"options behind letters ({name})"
    content.report(
        findings, f"option_order.{name}.contradiction", f"Another choice when {what} turn round"
    )
    letter.report(
        findings,
        f"option_order.{name}.same_letter",
        f"The same letter when {what} turn round",
        good="neither",
        note="1 is a position bias alone; with an odd number the middle option keeps its position",
    )
    right.report(
        findings, f"option_order.{name}.accuracy", f"The right one of {what}", good="high",
        note="any rule that takes a position is at chance over both orders",
    )  # fmt: skip


def _as_letters(item: Choice, back: bool, chats: bool) -> Choice:
    step = -1 if back else 1
    options = [after.strip() for _, after in item.pairs][::step]
    text = lettered(said(item.pairs[0][0]), options)
    letters = ascii_uppercase[: len(options)]
    pairs: list[Pair] = (
        [(Question(text), letter) for letter in letters]
        if chats
        else [(text, " " + letter) for letter in letters]
    )
    gold = len(options) - 1 - item.gold if back else item.gold
    return Choice(f"{item.id}/{'back' if back else 'forth'}", tuple(pairs), gold, item.group)


# ---------------------------------------------------------------------- examples


def example_order(
    scorer: Scorer, items: Sequence[Choice], name: str, seed: int, findings: Findings
) -> None:
    """The same examples before every item, in several orders."""
    if len(items) <= NUM_SHOTS:
        findings.notes.append(
            f"not measured: the order of examples ({name}) needs more than {NUM_SHOTS} items"
        )
        return
    indices = set(Random(f"examples {name} {seed}").sample(range(len(items)), NUM_SHOTS))
    shots = [_shown(items[index]) for index in sorted(indices)]
    tested = [item for index, item in enumerate(items) if index not in indices]
    ways = orders(NUM_SHOTS, NUM_ORDERS, seed)
    asked = [
        _behind([shots[index] for index in order], item, number)
        for number, order in enumerate(ways)
        for item in tested
    ]
    found = {one.item.id: one for one in choose(scorer, asked)}
    rate = Rate()
    for item in tested:
        own = [found.get(f"{item.id}/{number}") for number in range(len(ways))]
        each = [one for one in own if one is not None]
        if len(each) == len(ways):
            pairs = list(combinations(each, 2))
            differ = 1 - sum(agreement(one, other) for one, other in pairs) / len(pairs)
            rate.add(item.id, item.group, differ, 1 - 1 / len(item.pairs))
    findings.unread(rate.outcomes, tested, f"{name} items behind examples")
    rate.report(
        findings,
        f"example_order.{name}.contradiction",
        f"Another choice with the same examples in another order ({name})",
        note=f"{NUM_SHOTS} examples in {NUM_ORDERS} orders, every two of them compared; one draw "
        "of examples, so that the interval is for these examples",
    )


def _shown(item: Choice) -> str:
    prompt, answer = item.pairs[item.gold]
    return in_plain(prompt) + (answer if isinstance(prompt, str) else f" {answer}.")


def _behind(shots: Sequence[str], item: Choice, number: int) -> Choice:
    pairs = tuple(
        (
            SEPARATOR.join([*shots, in_plain(prompt)]),
            after if isinstance(prompt, str) else f" {after}",
        )
        for prompt, after in item.pairs
    )
    return replace(item, id=f"{item.id}/{number}", pairs=pairs, neutral=())


# ---------------------------------------------------------------------- mirrors


def mirrors(
    scorer: Scorer,
    groups: Sequence[Sequence[Choice]],
    name: str,
    title: str,
    findings: Findings,
    *,
    headline: bool = False,
) -> None:
    """Compare two items with the same alternatives, each of which is right once."""
    pairs = [
        (one, other) for group in groups for one, other in pairwise(group) if one.gold != other.gold
    ]
    items = {item.id: replace(item, neutral=()) for pair in pairs for item in pair}
    found = {chosen.item.id: chosen for chosen in choose(scorer, list(items.values()))}
    same, right = Rate(), Rate()
    shown: list[Shown] = []
    for one, other in pairs:
        first, second = found.get(one.id), found.get(other.id)
        if first is None or second is None:
            continue
        id, n = f"{one.id}+{other.id}", len(one.pairs)
        stays = agreement(first, second)
        same.add(id, one.group, stays, 1 / n)
        right.add(id, one.group, first.is_right() * second.is_right(), 1 / n**2)
        if stays == 1:
            shown.append(Shown(_taken(first), _taken(second), "the same alternative in both"))
    findings.shown += shown[:SHOWN]
    findings.unread(same.outcomes, pairs, f"{name} mirrors")
    same.report(
        findings,
        f"mirrored.{name}.contradiction",
        f"The same alternative in both of two mirrored items: {title}",
        headline=headline,
    )
    if right.outcomes:
        findings.metrics.append(
            Metric(
                f"mirrored.{name}.both_right",
                f"Both of two mirrored items right: {title}",
                right.outcomes,
                right.groups,
                chance=sum(right.chances) / len(right.chances),
                baseline=Baseline(0.0, "always the same alternative"),
            )
        )


def _taken(chosen: Chosen) -> str:
    return text_of(chosen.item.pairs[chosen.best()])


# ---------------------------------------------------------------------- typing errors


def typing_errors(
    scorer: Scorer, items: Sequence[Choice], name: str, seed: int, findings: Findings
) -> None:
    """Each item as it is and with typing errors in its prompt."""
    plain = {item.id: replace(item, neutral=()) for item in items}
    noisy = {
        level: {item.id: _mistyped(item, level, seed) for item in plain.values()}
        for level in LEVELS
    }
    kept = [item for item in items if noisy[LEVELS[0]][item.id].pairs != item.pairs]
    findings.left_out(
        len(items) - len(kept), len(items), f"{name} items", "no word that may be mistyped"
    )
    asked = [plain[item.id] for item in kept]
    asked += [noisy[level][item.id] for level in LEVELS for item in kept]
    found = {one.item.id: one for one in choose(scorer, asked)}
    points = []
    for level in LEVELS:
        rate = Rate()
        for item in kept:
            one, other = found.get(item.id), found.get(noisy[level][item.id].id)
            if one is not None and other is not None:
                differ = 1 - agreement(one, other)
                rate.add(item.id, item.group, differ, 1 - 1 / len(item.pairs))
        percent = round(100 * level)
        findings.unread(rate.outcomes, kept, f"{name} items mistyped")
        rate.report(
            findings,
            f"typos.{name}.{percent}",
            f"Another choice with typing errors in {percent}% of the words ({name})",
            note="of words of four letters or more in lower case, one at least",
        )
        if rate.outcomes:
            estimate = findings.metrics[-1].estimate
            assert estimate is not None
            points.append(Point(level, estimate.value, *estimate.interval))
    if points:
        findings.curves.append(
            Curve(
                "Choices that typing errors change",
                name,
                tuple(points),
                "share of words mistyped",
                "share of items whose choice changes",
            )
        )


def _mistyped(item: Choice, level: float, seed: int) -> Choice:
    """The item with errors where its prompts are alike, but for the last word of that."""
    prompts = [said(prompt) for prompt, _ in item.pairs]
    shared = len(min(prompts, key=len))
    while len({prompt[:shared] for prompt in prompts}) > 1:
        shared -= 1
    end = max(prompts[0][:shared].rstrip().rfind(" "), 0)
    front = mistyped(prompts[0][:end], level, seed)

    def changed(prompt: Prompt) -> Prompt:
        if isinstance(prompt, str):
            return front + prompt[end:]
        return Question(front + prompt.text[end:])

    pairs = tuple((changed(prompt), after) for prompt, after in item.pairs)
    return replace(item, id=f"{item.id}/{level}", pairs=pairs)
