"""The queries of the preference database, and its rows as records."""

from dataclasses import asdict
from typing import Any

import sqlalchemy as sql

from foundling.base.config import ConfigError
from foundling.preferences.checks import Conflict, same_name
from foundling.preferences.records import (
    Answer,
    Item,
    Judgement,
    Kind,
    Pair,
    Receipt,
    Side,
    Vote,
    plain_messages,
)
from foundling.preferences.schema import annotators, judgements, leases, pairs, prompts, rubrics
from foundling.text.chat import Message

Row = sql.Row[Any]

PAIRS = sql.select(pairs, prompts.c.messages).join(prompts).order_by(pairs.c.id)
EVENTS = (
    sql.select(judgements, annotators.c.name.label("annotator"))
    .join(annotators)
    .order_by(judgements.c.id)
)


def new_id(result: sql.CursorResult[Any]) -> int:
    key = result.inserted_primary_key
    assert key is not None
    return int(key[0])


def insert_pair(connection: sql.Connection, pair: Pair, now: float) -> int:
    """The id of the pair, new or old."""
    same = sql.select(pairs.c.id).where(pairs.c.digest == pair.digest)
    found = connection.execute(same).scalar_one_or_none()
    if found is not None:
        return int(found)
    sides = {
        f"{side}_{name}": value
        for side, answer in (("a", pair.a), ("b", pair.b))
        for name, value in asdict(answer).items()
    }
    made = connection.execute(
        sql.insert(pairs).values(
            digest=pair.digest,
            prompt_id=_insert_prompt(connection, pair, now),
            prompt_source=pair.prompt_source,
            sampling=dict(pair.sampling),
            gold=pair.gold,
            strategy=pair.strategy,
            propensity=pair.propensity,
            created=now,
            **sides,
        )
    )
    return new_id(made)


def _insert_prompt(connection: sql.Connection, pair: Pair, now: float) -> int:
    same = sql.select(prompts.c.id).where(prompts.c.digest == pair.prompt_digest)
    found = connection.execute(same).scalar_one_or_none()
    if found is not None:
        return int(found)
    messages = plain_messages(pair.prompt)
    values = {"digest": pair.prompt_digest, "messages": messages, "created": now}
    return new_id(connection.execute(sql.insert(prompts).values(values)))


def pair_of(row: Row) -> Pair:
    return Pair(
        tuple(Message(message["role"], message["content"]) for message in row.messages),
        _answer(row, "a"),
        _answer(row, "b"),
        prompt_source=row.prompt_source,
        sampling=row.sampling,
        gold=row.gold,
        strategy=row.strategy,
        propensity=row.propensity,
    )


def _answer(row: Row, side: str) -> Answer:
    text, source, checkpoint, tokens, seed = (
        row._mapping[f"{side}_{name}"]
        for name in ("text", "source", "checkpoint", "tokens", "seed")
    )
    return Answer(text, source, checkpoint, None if tokens is None else tuple(tokens), seed)


def item(connection: sql.Connection, key: str) -> Item:
    """The leased item with this key."""
    lease = connection.execute(
        sql.select(leases, annotators.c.name).join(annotators).where(leases.c.key == key)
    ).one()
    pair = connection.execute(PAIRS.where(pairs.c.id == lease.pair_id)).one()
    return Item(
        key=key,
        annotator=lease.name,
        pair_id=lease.pair_id,
        pair=pair_of(pair),
        kind=lease.kind,
        left=lease.left,
        repeat_of=lease.repeat_of,
        expires=lease.expires,
    )


# Annotators read these on their page: no key in them, which says nothing to anybody.
def no_item() -> ConfigError:
    return ConfigError("key: no item has it; vote with the key of an item that was given.")


def other_annotator() -> Conflict:
    return Conflict("this item was given to another annotator.")


def judged_already() -> Conflict:
    return Conflict(
        "a vote on this item is kept already, perhaps from another window; undo that one first."
    )


def shown_as(connection: sql.Connection, key: str) -> tuple[Side, Kind]:
    """What stood left on the item with this key, and its kind, leased or judged.

    An undo renews the key of the item, but not of the judgement.

    Raises:
        ConfigError: no item has it.
    """
    for table in (leases, judgements):
        query = sql.select(table.c.left, table.c.kind)
        found = connection.execute(
            query.where(table.c.key == key, table.c.kind != "undo")
        ).one_or_none()
        if found is not None:
            return found.left, found.kind
    raise no_item()


def open_item(connection: sql.Connection, annotator_id: int, key: str) -> Item:
    """The item with this key, which the annotator has been given and has not judged.

    Raises:
        Conflict: it is judged already, or was given to another annotator.
        ConfigError: no item has the key.
    """
    lease = connection.execute(
        sql.select(leases.c.annotator_id, leases.c.closed_by).where(leases.c.key == key)
    ).one_or_none()
    if lease is None:
        shown_as(connection, key)  # an undo gave the item another key
    elif lease.annotator_id != annotator_id:
        raise other_annotator()
    if lease is None or lease.closed_by is not None:
        raise judged_already()
    return item(connection, key)


def given_back(connection: sql.Connection, undo_key: str) -> Item | None:
    """The open item of the judgement that this undo took back, if it is open still."""
    undo, gone = judgements.alias(), judgements.alias()
    query = (
        sql.select(leases.c.key)
        .select_from(undo)
        .join(gone, gone.c.id == undo.c.supersedes)
        .join(
            leases,
            (leases.c.annotator_id == gone.c.annotator_id)
            & (leases.c.pair_id == gone.c.pair_id)
            & (leases.c.kind == gone.c.kind)
            & (leases.c.repeated == gone.c.repeat_of.is_not(None)),
        )
        .where(undo.c.key == undo_key, leases.c.closed_by.is_(None))
    )
    key = connection.execute(query).scalar_one_or_none()
    return None if key is None else item(connection, key)


def annotator(connection: sql.Connection, name: str) -> Row | None:
    """The annotator of this name, else one whose name reads the same."""
    exact = sql.select(annotators).where(annotators.c.name == name)
    found = connection.execute(exact).one_or_none()
    if found is not None:
        return found
    everybody = connection.execute(sql.select(annotators).order_by(annotators.c.id))
    return next((row for row in everybody if same_name(row.name) == same_name(name)), None)


def rubric(connection: sql.Connection, version: int | None) -> Row | None:
    """One version, or the newest."""
    query = sql.select(rubrics).order_by(rubrics.c.version.desc()).limit(1)
    if version is not None:
        query = query.where(rubrics.c.version == version)
    return connection.execute(query).one_or_none()


def kept(connection: sql.Connection, key: str, said: str) -> Receipt | None:
    """The receipt of what is kept under this key, if anything is.

    Raises:
        Conflict: something else is kept under it.
    """
    found = connection.execute(
        sql.select(judgements.c.id, judgements.c.digest, judgements.c.created).where(
            judgements.c.key == key
        )
    ).one_or_none()
    if found is None:
        return None
    if found.digest != said:
        raise judged_already()
    return Receipt(key, found.id, found.created)


def insert_vote(
    connection: sql.Connection, vote: Vote, lease: Row, simulated: bool, said: str, now: float
) -> Receipt:
    a, b = vote.ratings or (None, None)
    made = connection.execute(
        sql.insert(judgements).values(
            key=vote.key,
            digest=said,
            kind=lease.kind,
            annotator_id=lease.annotator_id,
            simulated=simulated,
            pair_id=lease.pair_id,
            left=lease.left,
            verdict=vote.verdict,
            rating_a=a,
            rating_b=b,
            strength=vote.strength,
            reason=vote.reason,
            milliseconds=vote.milliseconds,
            rubric_version=vote.rubric_version,
            repeat_of=lease.repeat_of,
            strategy=lease.strategy,
            propensity=lease.propensity,
            created=now,
        )
    )
    return Receipt(vote.key, new_id(made), now)


def standing(connection: sql.Connection, annotator_id: int, judgement_id: int | None) -> Row:
    """The annotator's judgement with this id, or the last one that stands.

    Raises:
        Conflict: it is not the annotator's, or was undone.
        ConfigError: there is none.
    """
    undone = sql.select(judgements.c.supersedes).where(judgements.c.supersedes.is_not(None))
    stands = (judgements.c.kind != "undo") & judgements.c.id.not_in(undone)
    query = sql.select(judgements).where(judgements.c.annotator_id == annotator_id, stands)
    if judgement_id is not None:
        query = query.where(judgements.c.id == judgement_id)
    found = connection.execute(query.order_by(judgements.c.id.desc()).limit(1)).one_or_none()
    if found is not None:
        return found
    if judgement_id is None:
        raise ConfigError("undo: there is no judgement to take back.")
    raise Conflict(f"undo of judgement {judgement_id}: no judgement of this annotator that stands.")


def insert_undo(connection: sql.Connection, key: str, said: str, event: Row, now: float) -> Receipt:
    made = connection.execute(
        sql.insert(judgements).values(
            key=key,
            digest=said,
            kind="undo",
            annotator_id=event.annotator_id,
            simulated=event.simulated,
            pair_id=event.pair_id,
            left=event.left,
            reason="",
            supersedes=event.id,
            strategy=event.strategy,
            propensity=event.propensity,
            created=now,
        )
    )
    return Receipt(key, new_id(made), now)


def judgement_of(row: Row) -> Judgement:
    return Judgement(
        id=row.id,
        key=row.key,
        kind=row.kind,
        annotator=row.annotator,
        simulated=row.simulated,
        pair_id=row.pair_id,
        left=row.left,
        verdict=row.verdict,
        ratings=None if row.rating_a is None else (row.rating_a, row.rating_b),
        strength=row.strength,
        reason=row.reason,
        milliseconds=row.milliseconds,
        rubric_version=row.rubric_version,
        repeat_of=row.repeat_of,
        supersedes=row.supersedes,
        strategy=row.strategy,
        propensity=row.propensity,
        created=row.created,
    )
