"""Puts an item's alternatives in an order drawn by its id, so that no position is always right."""

from dataclasses import replace
from random import Random

from foundling.evaluation.choices import Choice


def in_drawn_order(item: Choice) -> Choice:
    """The same item with its alternatives in another order, always the same one.

    The order is nothing to a model that scores each alternative alone; the rule "always the first
    one", to which it is compared, would always be right.
    """
    order = list(range(len(item.pairs)))
    Random(f"order {item.id}").shuffle(order)
    return replace(
        item,
        pairs=tuple(item.pairs[index] for index in order),
        gold=order.index(item.gold),
        neutral=tuple(item.neutral[index] for index in order) if item.neutral else (),
    )
