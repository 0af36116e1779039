"""Decides which item an annotator gets next, inside one write transaction."""

import math
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from random import Random

import sqlalchemy as sql
from pydantic import Field

from foundling.base.config import Section
from foundling.preferences.pairing import EXPLORATION, Choice, Strategy, choose, draw_left
from foundling.preferences.records import Kind, Progress, Side
from foundling.preferences.schema import judgements, leases, pairs


class Leasing(Section):
    """How items are given out."""

    overlap: int = Field(default=1, ge=1)  # annotators an item; gold items go to everyone
    ttl_seconds: float = Field(default=900, gt=0)
    repeat_share: float = Field(default=0.1, ge=0, le=1)  # of items, sides flipped
    repeat_gap: int = Field(default=10, ge=1)  # votes between an item and its repeat
    gold_share: float = Field(default=0.1, ge=0, lt=1)  # of what an annotator gets, if there is any
    strategy: Strategy = "random"
    exploration: float = Field(default=EXPLORATION, gt=0, le=1)
    seed: int = 0

    def never_shown(self, num_items: int, num_gold: int) -> list[str]:
        """Warnings about gold items and repeats that never come up, as there are too few items."""
        ordinary = gold = 0
        repeats = False
        while True:
            if ordinary + gold > self.repeat_gap:
                repeats |= math.floor(self.repeat_share * ordinary) > 0
            if gold < num_gold and gold < math.floor(self.gold_share * (ordinary + gold + 1)):
                gold += 1
            elif ordinary < num_items:
                ordinary += 1
            else:
                break
        notes = []
        if num_gold and not gold:
            notes.append(
                f"no gold item will be shown: {num_items} items are too few for "
                f"gold_share = {self.gold_share:g}"
            )
        if self.repeat_share and not repeats:
            notes.append(
                f"no item will be repeated: {num_items} items are too few for "
                f"repeat_share = {self.repeat_share:g} and repeat_gap = {self.repeat_gap}"
            )
        return notes


@dataclass(frozen=True)
class Request:
    """Who requests an item, of which kind and when; `holding`: keys that the page has already."""

    annotator_id: int
    annotator: str
    kind: Kind
    now: float
    settings: Leasing
    scores: Mapping[str, float] | None = None
    holding: Collection[str] = ()

    @property
    def mine(self) -> sql.ColumnElement[bool]:
        return (leases.c.annotator_id == self.annotator_id) & (leases.c.kind == self.kind)

    @property
    def alive(self) -> sql.ColumnElement[bool]:
        """Voted on, or leased and not expired."""
        return leases.c.closed_by.is_not(None) | (leases.c.expires > self.now)


def lease_next(connection: sql.Connection, request: Request) -> str | None:
    """The key of the annotator's next lease, or None if nothing is left to give.

    In this order: an item that was given and is neither answered nor in `holding`; a repeat, then
    a gold item, where `repeat_share` or `gold_share` calls for one; an item that `overlap` leaves
    free. A skipped item is free for others. A lease that expired may be given anew, under the same
    key and sides. An item whose vote is undone is its annotator's again, even where as many others
    as `overlap` says have had it since.
    """
    held = connection.execute(
        sql.select(leases.c.id, leases.c.key)
        .where(request.mine, leases.c.closed_by.is_(None), leases.c.expires > request.now)
        .order_by(leases.c.id)
    )
    for lease_id, key in held:
        if key not in request.holding:
            _renew(connection, request, lease_id)
            return str(key)
    return _repeat(connection, request) or _gold(connection, request) or _item(connection, request)


def count_free(connection: sql.Connection, request: Request) -> int:
    """How many items the annotator holds or could still get, without repeats and gold items."""
    open_ones = sql.select(sql.func.count()).where(
        request.mine,
        leases.c.closed_by.is_(None),
        leases.c.expires > request.now,
        ~leases.c.repeated,
        ~leases.c.gold,
    )
    free = sql.select(sql.func.count()).select_from(_free(request).subquery())
    return connection.execute(free).scalar_one() + connection.execute(open_ones).scalar_one()


def progress(connection: sql.Connection, request: Request) -> Progress:
    """The annotator's progress on items of this kind; undos of all kinds are counted."""
    standing = sql.select(leases.c.repeated, leases.c.skipped).where(
        request.mine, leases.c.closed_by.is_not(None)
    )
    votes = connection.execute(standing).all()
    undone = sql.select(sql.func.count()).where(
        judgements.c.annotator_id == request.annotator_id, judgements.c.kind == "undo"
    )
    skipped = sum(vote.skipped for vote in votes)
    return Progress(
        judged=len(votes) - skipped,
        skipped=skipped,
        repeats=sum(vote.repeated and not vote.skipped for vote in votes),
        undone=connection.execute(undone).scalar_one(),
        waiting=count_free(connection, request),
    )


def give(
    connection: sql.Connection,
    request: Request,
    pair_id: int,
    choice: Choice,
    strategy: str,
    *,
    gold: bool = False,
    left: Side | None = None,
    repeat: tuple[int, str] | None = None,
) -> str:
    """Lease a pair to the annotator.

    Args:
        left: the answer that stands left, where that is not to be drawn.
        repeat: the first vote on it and what stood left then.
    """
    same = request.mine & (leases.c.pair_id == pair_id)
    same &= leases.c.repeated == (repeat is not None)
    found = connection.execute(sql.select(leases.c.id, leases.c.key).where(same)).one_or_none()
    if found is not None:
        _renew(connection, request, found.id, strategy=strategy, propensity=choice.propensity)
        return str(found.key)
    left = left or draw_left(request.settings.seed, pair_id, request.annotator)
    if repeat is not None:
        left = "B" if repeat[1] == "A" else "A"
    key = secrets.token_hex(16)
    connection.execute(
        sql.insert(leases).values(
            key=key,
            annotator_id=request.annotator_id,
            pair_id=pair_id,
            kind=request.kind,
            left=left,
            repeated=repeat is not None,
            repeat_of=repeat[0] if repeat else None,
            gold=gold,
            strategy=strategy,
            propensity=choice.propensity,
            expires=request.now + request.settings.ttl_seconds,
            skipped=False,
        )
    )
    return key


def _renew(connection: sql.Connection, request: Request, lease_id: int, **values: object) -> None:
    expires = request.now + request.settings.ttl_seconds
    connection.execute(
        sql.update(leases).where(leases.c.id == lease_id).values(expires=expires, **values)
    )


def _rng(connection: sql.Connection, request: Request) -> Random:
    """A function of the seed, the annotator and how many items they had before."""
    given = sql.select(sql.func.count()).where(request.mine)
    count = connection.execute(given).scalar_one()
    return Random(f"{request.settings.seed}/next/{request.annotator}/{request.kind}/{count}")


def _count(connection: sql.Connection, request: Request, *conditions: object) -> int:
    query = sql.select(sql.func.count()).where(request.mine, request.alive, *conditions)  # type: ignore[arg-type]
    return int(connection.execute(query).scalar_one())


def _repeat(connection: sql.Connection, request: Request) -> str | None:
    settings = request.settings
    first = ~leases.c.repeated & ~leases.c.gold & ~leases.c.skipped
    firsts = _count(connection, request, first, leases.c.closed_by.is_not(None))
    if _count(connection, request, leases.c.repeated) >= math.floor(settings.repeat_share * firsts):
        return None
    # The last vote that is long enough ago.
    votes = sql.select(judgements.c.id).where(
        judgements.c.annotator_id == request.annotator_id, judgements.c.kind == request.kind
    )
    since = connection.execute(
        votes.order_by(judgements.c.id.desc()).offset(settings.repeat_gap).limit(1)
    ).scalar_one_or_none()
    if since is None:
        return None
    repeated = sql.select(leases.c.pair_id).where(request.mine, leases.c.repeated, request.alive)
    candidates = connection.execute(
        sql.select(leases.c.pair_id, leases.c.closed_by, leases.c.left)
        .where(request.mine, first, leases.c.closed_by <= since, leases.c.pair_id.not_in(repeated))
        .order_by(leases.c.pair_id)
    ).all()
    if not candidates:
        return None
    chosen = _rng(connection, request).choice(candidates)
    choice = Choice(0, 1 / len(candidates))
    repeat = (chosen.closed_by, chosen.left)
    return give(connection, request, chosen.pair_id, choice, "repeat", repeat=repeat)


def _gold(connection: sql.Connection, request: Request) -> str | None:
    given = _count(connection, request, ~leases.c.repeated)
    golds = _count(connection, request, leases.c.gold)
    if golds >= math.floor(request.settings.gold_share * (given + 1)):
        return None
    mine = sql.select(leases.c.pair_id).where(request.mine, request.alive)
    found = (
        connection.execute(
            sql.select(pairs.c.id)
            .where(pairs.c.gold.is_not(None), pairs.c.id.not_in(mine))
            .order_by(pairs.c.id)
        )
        .scalars()
        .all()
    )
    if not found:
        return None
    chosen = _rng(connection, request).choice(found)
    return give(connection, request, chosen, Choice(0, 1 / len(found)), "gold", gold=True)


def _item(connection: sql.Connection, request: Request) -> str | None:
    found = connection.execute(_free(request).order_by(pairs.c.id)).all()
    if not found:
        return None
    settings = request.settings
    choice = choose(
        [(row.a_source, row.b_source) for row in found],
        _rng(connection, request),
        settings.strategy,
        request.scores,
        settings.exploration,
    )
    return give(connection, request, found[choice.index].id, choice, settings.strategy)


def _free(request: Request) -> sql.Select[tuple[int, str, str]]:
    """Pairs that the annotator has not had and that fewer than `overlap` others have."""
    first = (leases.c.kind == request.kind) & ~leases.c.repeated
    mine = sql.select(leases.c.pair_id).where(request.mine, first, request.alive)
    taken = (
        sql.select(leases.c.pair_id)
        .where(first, request.alive, ~leases.c.skipped)
        .group_by(leases.c.pair_id)
        .having(sql.func.count() >= request.settings.overlap)
    )
    return sql.select(pairs.c.id, pairs.c.a_source, pairs.c.b_source).where(
        pairs.c.gold.is_(None), pairs.c.id.not_in(mine), pairs.c.id.not_in(taken)
    )
