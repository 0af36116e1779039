"""The store of pairs and of the annotators' judgements."""

import hashlib
import secrets
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Self

import sqlalchemy as sql

from foundling.base.config import ConfigError
from foundling.preferences import leasing, queries, recording
from foundling.preferences.checks import Conflict, check_kind, check_name, check_pair, check_vote
from foundling.preferences.database import Database
from foundling.preferences.leasing import Leasing, Request
from foundling.preferences.pairing import Choice
from foundling.preferences.records import (
    Item,
    Judgement,
    Kind,
    Pair,
    Progress,
    Receipt,
    Rubric,
    Side,
    Verdict,
    Vote,
)
from foundling.preferences.schema import annotators, leases, pairs, rubrics


class PreferenceStore:
    """Pairs are immutable and judgements append-only; an undo is one more event.

    Threads may share a store; processes open their own. Times are seconds since 1970.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, place: str | Path, *, create: bool = True) -> Self:
        """Open the database in a file or at a URL, and make it where it may and need be.

        Raises:
            ConfigError: it cannot be opened, holds something else, or is of an unknown version.
        """
        return cls(Database(place, create=create))

    @property
    def identity(self) -> str:
        """Tells this store from any other, whatever its file or address is called."""
        return self._database.identity

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ what is compared

    def add_pair(self, pair: Pair, *, now: float | None = None) -> int:
        """The id of the pair; one that is there already is not added again."""
        return self.add_pairs([pair], now=now)[0]

    def add_pairs(self, some: Iterable[Pair], *, now: float | None = None) -> list[int]:
        """Add pairs, all or none.

        Raises:
            ConfigError: the messages are no prompt, or the gold verdict or propensity is none.
        """
        checked = list(some)
        for pair in checked:
            check_pair(pair)
        with self._database.write() as connection:
            return [queries.insert_pair(connection, pair, _time(now)) for pair in checked]

    def pairs(self) -> dict[int, Pair]:
        """Every pair by its id."""
        with self._database.read() as connection:
            return {row.id: queries.pair_of(row) for row in connection.execute(queries.PAIRS)}

    # ------------------------------------------------------------------ who judges, and by what

    def add_annotator(
        self, name: str, *, simulated: bool = False, now: float | None = None
    ) -> None:
        """Make the annotator known; idempotent. A name that reads the same is the same person's.

        Raises:
            ConfigError: the name is empty, or known with the other value of `simulated`.
        """
        check_name(name)
        with self._database.write() as connection:
            known = queries.annotator(connection, name)
            if known is None:
                connection.execute(
                    sql.insert(annotators).values(
                        name=" ".join(name.split()), simulated=simulated, created=_time(now)
                    )
                )
            elif known.simulated != simulated:
                what = "simulated" if known.simulated else "a person"
                raise Conflict(f'annotator "{name}": is known as {what}; take another name.')

    def known_as(self, name: str) -> str | None:
        """The name under which this annotator is known, if at all."""
        with self._database.read() as connection:
            known = queries.annotator(connection, name)
        return None if known is None else str(known.name)

    def annotators(self) -> dict[str, bool]:
        """The names of all annotators, and whether each is simulated."""
        query = sql.select(annotators.c.name, annotators.c.simulated).order_by(annotators.c.id)
        with self._database.read() as connection:
            return {row.name: row.simulated for row in connection.execute(query)}

    def issue_token(self, name: str) -> str:
        """A new secret token for the annotator's link; only its hash is kept, an older one ends."""
        token = secrets.token_urlsafe(24)
        with self._database.write() as connection:
            known = _known(connection, name)
            connection.execute(
                sql.update(annotators)
                .where(annotators.c.id == known.id)
                .values(token_hash=_hash(token))
            )
        return token

    def has_token(self, name: str) -> bool:
        """Whether the annotator is known and has been given a token."""
        with self._database.read() as connection:
            known = queries.annotator(connection, name)
        return known is not None and known.token_hash is not None

    def annotator_of(self, token: str) -> str | None:
        """The name of the annotator with this token, if any."""
        query = sql.select(annotators.c.name).where(annotators.c.token_hash == _hash(token))
        with self._database.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    def set_rubric(self, text: str, *, now: float | None = None) -> int:
        """The version of this text, a new one unless it is the newest already."""
        with self._database.write() as connection:
            newest = queries.rubric(connection, None)
            if newest is not None and newest.text == text:
                return int(newest.version)
            made = connection.execute(sql.insert(rubrics).values(text=text, created=_time(now)))
            return queries.new_id(made)

    def rubric(self, version: int | None = None) -> Rubric | None:
        """One version of the rubric, or the newest; None if there is none."""
        with self._database.read() as connection:
            found = queries.rubric(connection, version)
        return Rubric(found.version, found.text, found.created) if found else None

    # ------------------------------------------------------------------ collecting

    def lease_next(
        self,
        annotator: str,
        settings: Leasing | None = None,
        *,
        kind: Kind = "comparison",
        scores: Mapping[str, float] | None = None,
        holding: Collection[str] = (),
        now: float | None = None,
    ) -> Item | None:
        """The next item for the annotator, or None; see `foundling.preferences.leasing`.

        Args:
            scores: of each source; the strategies "uncertain" and "largest_gap" need them.
            holding: keys of items that are not to be given again now, to fetch ahead.

        Raises:
            ConfigError: the annotator is unknown, or a score is missing.
        """
        check_kind(kind)
        with self._database.write(lasting=False) as connection:
            known = _known(connection, annotator)
            request = Request(
                known.id, known.name, kind, _time(now), settings or Leasing(), scores, holding
            )
            key = leasing.lease_next(connection, request)
            return None if key is None else queries.item(connection, key)

    def lease_pair(
        self,
        annotator: str,
        pair_id: int,
        settings: Leasing | None = None,
        *,
        kind: Kind = "comparison",
        left: Side | None = None,
        now: float | None = None,
    ) -> Item:
        """Lease this pair to the annotator regardless of overlap and order.

        Args:
            left: the answer that stands left, where it has been shown already.

        Raises:
            Conflict: the annotator has judged it.
            ConfigError: there is no such pair or annotator.
        """
        check_kind(kind)
        with self._database.write(lasting=False) as connection:
            known = _known(connection, annotator)
            request = Request(known.id, known.name, kind, _time(now), settings or Leasing())
            return queries.item(connection, _lease_pair(connection, request, pair_id, left))

    def judge_pairs(
        self, annotator: str, verdicts: Mapping[int, Verdict], *, now: float | None = None
    ) -> int:
        """Record verdicts on pairs by id, all or none, for imports; return how many were new.

        A pair that the annotator has judged keeps its verdict.

        Raises:
            ConfigError: there is no such pair or annotator, or a verdict is none.
        """
        with self._database.write() as connection:
            known = _known(connection, annotator)
            request = Request(known.id, known.name, "comparison", _time(now), Leasing())
            judged = sql.select(leases.c.pair_id).where(
                request.mine, ~leases.c.repeated, leases.c.closed_by.is_not(None)
            )
            before = set(connection.execute(judged).scalars())
            new = [pair_id for pair_id in verdicts if pair_id not in before]
            for pair_id in new:
                key = _lease_pair(connection, request, pair_id)
                vote = Vote(key, annotator, verdicts[pair_id])
                check_vote(vote)
                recording.record(connection, known, vote, request.now)
            return len(new)

    def record(self, vote: Vote, *, now: float | None = None) -> Receipt:
        """Keep a vote; once this returns it survives the death of process and machine.

        The same vote under the same key counts once and returns the same receipt; `milliseconds`
        may differ. A vote on an expired lease counts.

        Raises:
            Conflict: another vote is kept under this key, or the item is someone else's.
            ConfigError: the vote is none, or its key, annotator or rubric is unknown.
        """
        check_vote(vote)
        with self._database.write() as connection:
            known = _known(connection, vote.annotator)
            return recording.record(connection, known, vote, _time(now))

    def undo(
        self,
        annotator: str,
        key: str,
        judgement_id: int | None = None,
        *,
        settings: Leasing | None = None,
        now: float | None = None,
    ) -> Receipt:
        """Take back a standing judgement, by default the annotator's last; its item comes next.

        `key` is the undo's own idempotency key.

        Raises:
            Conflict: the judgement is another's or undone, or the key means something else.
            ConfigError: there is none to take back.
        """
        if not key:
            raise ConfigError("key is empty: give every undo a key of its own.")
        with self._database.write() as connection:
            known = _known(connection, annotator)
            ttl = (settings or Leasing()).ttl_seconds
            return recording.undo(connection, known, key, judgement_id, ttl, _time(now))

    def shown_as(self, key: str) -> tuple[Side, Kind]:
        """Which answer stood left on the item with this key, given or judged, and its kind.

        Raises:
            ConfigError: no item has it.
        """
        with self._database.read() as connection:
            return queries.shown_as(connection, key)

    def open_item(self, annotator: str, key: str) -> Item:
        """The item with this key, which the annotator has been given and not yet judged.

        Raises:
            Conflict: it is judged already, or was given to another annotator.
            ConfigError: there is no such item or annotator.
        """
        with self._database.read() as connection:
            known = _known(connection, annotator)
            return queries.open_item(connection, known.id, key)

    def given_back(self, undo_key: str) -> Item | None:
        """The item that an undo opened again; None where it is judged anew."""
        with self._database.read() as connection:
            return queries.given_back(connection, undo_key)

    # ------------------------------------------------------------------ what was said

    def progress(
        self,
        annotator: str,
        settings: Leasing | None = None,
        *,
        kind: Kind = "comparison",
        now: float | None = None,
    ) -> Progress:
        """The annotator's progress.

        Raises:
            ConfigError: the annotator is unknown.
        """
        check_kind(kind)
        with self._database.read() as connection:
            known = _known(connection, annotator)
            request = Request(known.id, known.name, kind, _time(now), settings or Leasing())
            return leasing.progress(connection, request)

    def judgements(self) -> list[Judgement]:
        """The standing judgements in order: no undos, nothing undone."""
        everything = self.events()
        gone = {event.supersedes for event in everything}
        return [e for e in everything if e.kind != "undo" and e.id not in gone]

    def events(self) -> list[Judgement]:
        """Every event ever recorded, in order."""
        with self._database.read() as connection:
            return [queries.judgement_of(row) for row in connection.execute(queries.EVENTS)]

    def prompt_ids(self) -> dict[int, int]:
        """The id of the prompt of each pair, by the pair's id."""
        with self._database.read() as connection:
            return {
                row.id: row.prompt_id
                for row in connection.execute(sql.select(pairs.c.id, pairs.c.prompt_id))
            }


def _time(now: float | None) -> float:
    return time.time() if now is None else now


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _known(connection: sql.Connection, name: str) -> queries.Row:
    found = queries.annotator(connection, name)
    if found is None:
        raise ConfigError(f'annotator "{name}": not known; add the annotator first.')
    return found


def _lease_pair(
    connection: sql.Connection, request: Request, pair_id: int, left: Side | None = None
) -> str:
    pair = connection.execute(sql.select(pairs.c.gold).where(pairs.c.id == pair_id)).one_or_none()
    if pair is None:
        raise ConfigError(f"pair {pair_id}: no such pair in this store.")
    judged = sql.select(leases.c.id).where(
        request.mine,
        leases.c.pair_id == pair_id,
        ~leases.c.repeated,
        leases.c.closed_by.is_not(None),
    )
    if connection.execute(judged).first() is not None:
        raise Conflict(f'pair {pair_id}: "{request.annotator}" has judged it; undo that first.')
    gold = pair.gold is not None
    return leasing.give(connection, request, pair_id, Choice(0, 1.0), "asked", gold=gold, left=left)
