"""The tables of the preference database."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

VERSION = 1

metadata = MetaData()

_ID = BigInteger().with_variant(Integer, "sqlite")
# Free text is kept as a JSON string: answers may hold any character, PostgreSQL's text no NUL.
_ANY = JSON(none_as_null=True)

meta = Table(
    "foundling_meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

rubrics = Table(
    "rubrics",
    metadata,
    Column("version", _ID, primary_key=True),
    Column("text", _ANY, nullable=False),
    Column("created", Double, nullable=False),
)

annotators = Table(
    "annotators",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("token_hash", Text, unique=True),
    Column("simulated", Boolean, nullable=False),
    Column("created", Double, nullable=False),
)

prompts = Table(
    "prompts",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("messages", _ANY, nullable=False),
    Column("created", Double, nullable=False),
)

pairs = Table(
    "pairs",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("prompt_id", ForeignKey("prompts.id"), nullable=False),
    Column("prompt_source", Text, nullable=False),
    *(
        Column(f"{side}_{name}", kind, nullable=name not in ("text", "source"))
        for side in ("a", "b")
        for name, kind in (
            ("text", _ANY),
            ("source", Text()),
            ("checkpoint", Text()),
            ("tokens", _ANY),
            ("seed", BigInteger()),
        )
    ),
    Column("sampling", _ANY, nullable=False),
    Column("gold", Text),
    Column("strategy", Text, nullable=False),
    Column("propensity", Double, nullable=False),
    Column("created", Double, nullable=False),
)

judgements = Table(
    "judgements",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("digest", Text, nullable=False),  # of what was said, to tell a retry from another vote
    Column("kind", Text, nullable=False),
    Column("annotator_id", ForeignKey("annotators.id"), nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("pair_id", ForeignKey("pairs.id"), nullable=False),
    Column("left", Text, nullable=False),
    Column("verdict", Text),
    Column("rating_a", Integer),
    Column("rating_b", Integer),
    Column("strength", Integer),
    Column("reason", _ANY, nullable=False),
    Column("milliseconds", BigInteger),
    Column("rubric_version", ForeignKey("rubrics.version")),
    Column("repeat_of", ForeignKey("judgements.id")),
    Column("supersedes", ForeignKey("judgements.id"), unique=True),
    Column("strategy", Text, nullable=False),
    Column("propensity", Double, nullable=False),
    Column("created", Double, nullable=False),
    CheckConstraint("kind IN ('comparison', 'rating', 'undo')"),
    CheckConstraint("verdict IN ('A', 'B', 'tie', 'both_bad', 'skip')"),
    CheckConstraint("strength BETWEEN 1 AND 3"),
    CheckConstraint("rating_a BETWEEN 1 AND 7 AND rating_b BETWEEN 1 AND 7"),
    CheckConstraint("(kind = 'undo') = (supersedes IS NOT NULL)"),
    Index("judgements_of_annotator", "annotator_id", "id"),
)

leases = Table(
    "leases",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("annotator_id", ForeignKey("annotators.id"), nullable=False),
    Column("pair_id", ForeignKey("pairs.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("left", Text, nullable=False),
    Column("repeated", Boolean, nullable=False),
    Column("repeat_of", ForeignKey("judgements.id")),
    Column("gold", Boolean, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("propensity", Double, nullable=False),
    Column("expires", Double, nullable=False),
    Column("closed_by", ForeignKey("judgements.id")),  # the vote that stands for it, if any
    Column("skipped", Boolean, nullable=False),
    # Given once, and once more as a repeat: whatever the code above does.
    UniqueConstraint("annotator_id", "pair_id", "kind", "repeated"),
    Index("leases_of_pair", "kind", "pair_id"),
)

_PERMANENT = (prompts, pairs, judgements, rubrics)


def permanence(dialect: str) -> list[str]:
    """Statements that make the database refuse changes to the permanent tables."""
    tables = [table.name for table in _PERMANENT]
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} are never changed'); END"
            for table in tables
            for act in ("UPDATE", "DELETE")
        ]
    return [
        "CREATE FUNCTION foundling_permanent() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '%% are never changed', TG_TABLE_NAME; END $$",
        *(
            f"CREATE TRIGGER {table}_permanent BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION foundling_permanent()"
            for table in tables
        ),
    ]
