"""Records votes and undos, each inside one write transaction."""

import secrets
from dataclasses import asdict

import sqlalchemy as sql

from foundling.base.config import ConfigError
from foundling.preferences import queries
from foundling.preferences.checks import check_vote
from foundling.preferences.records import Receipt, Vote, digest
from foundling.preferences.schema import leases


def record(connection: sql.Connection, annotator: queries.Row, vote: Vote, now: float) -> Receipt:
    """Insert the vote and close its lease; a vote that is kept already brings its receipt."""
    said = digest({**asdict(vote), "annotator": annotator.name, "milliseconds": None})
    kept = queries.kept(connection, vote.key, said)
    if kept is not None:
        return kept
    lease = connection.execute(sql.select(leases).where(leases.c.key == vote.key)).one_or_none()
    if lease is None:
        raise queries.no_item()
    if lease.annotator_id != annotator.id:
        raise queries.other_annotator()
    check_vote(vote, lease.kind)
    if vote.rubric_version is not None and not queries.rubric(connection, vote.rubric_version):
        raise ConfigError(f"rubric_version = {vote.rubric_version}: no such version.")
    receipt = queries.insert_vote(connection, vote, lease, annotator.simulated, said, now)
    connection.execute(
        sql.update(leases)
        .where(leases.c.id == lease.id)
        .values(closed_by=receipt.judgement_id, skipped=vote.verdict == "skip")
    )
    return receipt


def undo(
    connection: sql.Connection,
    annotator: queries.Row,
    key: str,
    judgement_id: int | None,
    ttl_seconds: float,
    now: float,
) -> Receipt:
    """Insert the undo and open the lease of the judgement again, under a new key."""
    said = digest(["undo", annotator.name, judgement_id])
    kept = queries.kept(connection, key, said)
    if kept is not None:
        return kept
    event = queries.standing(connection, annotator.id, judgement_id)
    receipt = queries.insert_undo(connection, key, said, event, now)
    # The old key stays with the undone vote, so that its retries are recognised.
    connection.execute(
        sql.update(leases)
        .where(leases.c.closed_by == event.id)
        .values(
            key=secrets.token_hex(16),
            closed_by=None,
            skipped=False,
            expires=receipt.created + ttl_seconds,
        )
    )
    # An open repeat of it has nothing left to repeat.
    connection.execute(
        sql.delete(leases).where(leases.c.repeat_of == event.id, leases.c.closed_by.is_(None))
    )
    return receipt
