"""Events, items, users and recommendations."""

import uuid
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates the tables."""
    dialect = op.get_bind().dialect.name
    text, big = sa.Text(), sa.BigInteger()
    identifier = sa.Text(collation="C") if dialect == "postgresql" else sa.Text()
    number = sa.Integer() if dialect == "sqlite" else big

    meta = op.create_table("meta", sa.Column("name", text, primary_key=True), _column("value", text))
    # By which a mark of another database is recognised.
    op.bulk_insert(meta, [{"name": "store_id", "value": uuid.uuid4().hex[:12]}])
    counters = op.create_table("counters", sa.Column("name", text, primary_key=True), _column("value", number))
    op.bulk_insert(counters, [{"name": "changes", "value": 0}])
    if dialect == "postgresql":
        op.execute(sa.schema.CreateSequence(sa.Sequence("change_numbers")))
    op.create_table(
        "events",
        sa.Column("number", number, primary_key=True, autoincrement=False),
        _column("xid", big),
        _column("event_id", identifier),
        _column("event", text),
        _column("timestamp", big),
        _column("user_id", identifier),
        _column("session_id", identifier),
        _column("item_id", identifier),
        sa.Column("value", sa.Double()),
        _column("recommendation_id", text),
        sa.Column("position", big),
        sa.Column("propensity", sa.Double()),
        _column("language", text),
        _column("country", text),
        _column("placement", text),
        _column("query", text),
        _column("context", text),
    )
    op.create_index("events_by_id", "events", ["event_id"], unique=True)
    op.create_index("events_by_user", "events", ["user_id", "timestamp"])
    op.create_index("events_by_session", "events", ["session_id", "timestamp"])
    op.create_index("events_by_time", "events", ["timestamp"])
    if dialect == "postgresql":
        op.create_index("events_by_change", "events", ["xid", "number"])
    op.create_table("sessions", sa.Column("session_id", identifier, primary_key=True), _column("user_id", identifier))
    op.create_index("sessions_by_user", "sessions", ["user_id"])
    op.create_table(
        "items",
        sa.Column("item_id", identifier, primary_key=True),
        _column("revision", big),
        _column("available", sa.Boolean()),
        sa.Column("valid_from", big),
        sa.Column("valid_until", big),
        sa.Column("body", text),
        _column("xid", big),
        _column("number", big),
    )
    op.create_index("items_by_change", "items", ["xid", "number"])
    op.create_table(
        "vectors",
        sa.Column("version", identifier, primary_key=True),
        sa.Column("item_id", identifier, primary_key=True),
        _column("revision", big),
        _column("vector", sa.LargeBinary()),
    )
    op.create_index("vectors_by_item", "vectors", ["item_id"])
    op.create_table(
        "users",
        sa.Column("user_id", identifier, primary_key=True),
        _column("body", text),
        _column("xid", big),
        _column("number", big),
    )
    op.create_index("users_by_change", "users", ["xid", "number"])
    op.create_table(
        "deleted_users",
        sa.Column("number", big, primary_key=True, autoincrement=False),
        _column("xid", big),
        _column("digest", text),
    )
    op.create_index("deleted_users_by_change", "deleted_users", ["xid", "number"])
    op.create_table(
        "recommendations",
        sa.Column("recommendation_id", identifier, primary_key=True),
        _column("timestamp", sa.Double()),
        _column("user_id", identifier),
        _column("session_id", identifier),
        _column("body", text),
    )
    op.create_index("recommendations_by_user", "recommendations", ["user_id"])
    op.create_index("recommendations_by_session", "recommendations", ["session_id"])
    op.create_index("recommendations_by_time", "recommendations", ["timestamp"])
    op.create_table(
        "counts",
        sa.Column("language", identifier, primary_key=True),
        sa.Column("day", big, primary_key=True, autoincrement=False),
        sa.Column("item_id", identifier, primary_key=True),
        _column("events", big),
        sqlite_with_rowid=False,
    )


def _column(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)
