"""Facts: what is true in the village, with every way to state it or ask for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from foundling.hamlet.english import finish
from foundling.hamlet.grammar import expand
from foundling.hamlet.relations import Relation, relations


@dataclass(frozen=True)
class Phrasings:
    """Finished sentences of one fact; the held-out ones never occur in the corpus."""

    statements: tuple[str, ...]
    questions: tuple[tuple[str, str], ...]  # question, short answer
    held_out_statements: tuple[str, ...]
    held_out_questions: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Fact:
    """One row of the table: the relation of the subject has this value.

    `held_out`: no text of the corpus states it or asks for it. `derived_from`: ids of the facts
    from which a held-out fact follows; empty where nothing implies it (a control: a model can
    only guess).
    """

    id: str
    subject: str
    relation: str
    value: str
    held_out: bool = False
    derived_from: tuple[str, ...] = ()
    slots: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    pronoun_slots: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def kind(self) -> Relation:
        """The relation's phrase tables."""
        return relations()[self.relation]

    @cached_property
    def clauses(self) -> tuple[str, ...]:
        """Unfinished statements: no full stop, articles not yet set."""
        return _all(self.kind.statements, self.slots)

    @cached_property
    def pronoun_clauses(self) -> tuple[str, ...]:
        """Unfinished statements whose subject is "he", "she" or "it"."""
        sources = tuple(s for s in self.kind.statements if s.startswith("{s"))
        return _all(sources, self.pronoun_slots)

    @cached_property
    def questions(self) -> tuple[tuple[str, str], ...]:
        """Unfinished questions with their short answers; held-out phrasings left out."""
        return _pairs(self.kind.questions, self.slots)

    def phrasings(self) -> Phrasings:
        """Every way in which this fact is stated and asked for."""
        kind = self.kind
        return Phrasings(
            statements=tuple(finish(clause) + "." for clause in self.clauses),
            questions=tuple((finish(q), finish(a)) for q, a in self.questions),
            held_out_statements=tuple(
                finish(clause) + "." for clause in _all(kind.held_out_statements, self.slots)
            ),
            held_out_questions=tuple(
                (finish(q), finish(a)) for q, a in _pairs(kind.held_out_questions, self.slots)
            ),
        )


def _all(sources: tuple[str, ...], slots: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for source in sources for text in expand(source, slots)))


def _pairs(
    sources: tuple[tuple[str, str], ...], slots: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    return tuple(
        (question, expand(answer, slots)[0])
        for source, answer in sources
        for question in expand(source, slots)
    )
