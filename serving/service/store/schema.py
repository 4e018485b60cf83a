"""The tables as queries see them; `migrations` creates them, and a test compares both."""

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, LargeBinary, MetaData, Sequence, Table, Text

REVISIONS = ("0001", "0002", "0003")
"""Of the schema, oldest first; the last one is that of this version."""

metadata = MetaData()
# Ids are compared by code points: the same order in both databases, and indexes that no library update invalidates.
_Id = Text().with_variant(Text(collation="C"), "postgresql")
# Only INTEGER is a row's own number in SQLite.
_Number = BigInteger().with_variant(Integer(), "sqlite")

change_numbers = Sequence("change_numbers", metadata=metadata)
"""PostgreSQL's; SQLite counts in `counters`."""

meta = Table("meta", metadata, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))
counters = Table("counters", metadata, Column("name", Text, primary_key=True), Column("value", _Number, nullable=False))

events = Table(
    "events",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=False),
    Column("xid", BigInteger, nullable=False),
    Column("event_id", _Id, nullable=False),
    Column("event", Text, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("user_id", _Id, nullable=False),
    Column("session_id", _Id, nullable=False),
    Column("item_id", _Id, nullable=False),
    Column("value", Double),
    Column("recommendation_id", Text, nullable=False),
    Column("position", BigInteger),
    Column("propensity", Double),
    Column("language", Text, nullable=False),
    Column("country", Text, nullable=False),
    Column("placement", Text, nullable=False),
    Column("query", Text, nullable=False),
    Column("context", Text, nullable=False),
    Index("events_by_id", "event_id", unique=True),
    Index("events_by_user", "user_id", "timestamp"),
    Index("events_by_session", "session_id", "timestamp"),
    Index("events_by_time", "timestamp"),
    Index("events_by_change", "xid", "number").ddl_if(dialect="postgresql"),
)
sessions = Table(
    "sessions",
    metadata,
    Column("session_id", _Id, primary_key=True),
    Column("user_id", _Id, nullable=False),
    Index("sessions_by_user", "user_id"),
)
items = Table(
    "items",
    metadata,
    Column("item_id", _Id, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("available", Boolean, nullable=False),
    Column("valid_from", BigInteger),
    Column("valid_until", BigInteger),
    Column("body", Text),  # JSON; null: deleted
    Column("xid", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Index("items_by_change", "xid", "number"),
)
vectors = Table(
    "vectors",
    metadata,
    Column("version", _Id, primary_key=True),
    Column("item_id", _Id, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("vector", LargeBinary, nullable=False),
    Index("vectors_by_item", "item_id"),
)
users = Table(
    "users",
    metadata,
    Column("user_id", _Id, primary_key=True),
    Column("body", Text, nullable=False),
    Column("xid", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Index("users_by_change", "xid", "number"),
)
deleted_users = Table(
    "deleted_users",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("xid", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
    Index("deleted_users_by_change", "xid", "number"),
)
recommendations = Table(
    "recommendations",
    metadata,
    Column("recommendation_id", _Id, primary_key=True),
    Column("timestamp", Double, nullable=False),
    Column("user_id", _Id, nullable=False),
    Column("session_id", _Id, nullable=False),
    Column("body", Text, nullable=False),
    Index("recommendations_by_user", "user_id"),
    Index("recommendations_by_session", "session_id"),
    Index("recommendations_by_time", "timestamp"),
)
counts = Table(
    "counts",
    metadata,
    Column("language", _Id, primary_key=True),  # empty: all languages together
    Column("day", BigInteger, primary_key=True, autoincrement=False),  # since 1970
    Column("item_id", _Id, primary_key=True),
    Column("events", BigInteger, nullable=False),
    sqlite_with_rowid=False,  # the key is all there is to find: one tree instead of two
)
rules = Table(
    "rules",
    metadata,
    Column("revision", _Number, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
)
keys = Table(
    "keys",
    metadata,
    Column("name", _Id, primary_key=True),
    Column("role", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("revoked", BigInteger),
)
audit = Table(
    "audit",
    metadata,
    Column("number", _Number, primary_key=True),
    Column("timestamp", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("detail", Text, nullable=False),
)
segments = Table(
    "segments",
    metadata,
    Column("path", _Id, primary_key=True),
    Column("rows", BigInteger),  # null: not written yet
)
rollouts = Table(
    "rollouts",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    Column("model", _Id, nullable=False),
    Column("stable", BigInteger, nullable=False),
    Column("canary", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("begun", Double, nullable=False),
    Column("changed", Double, nullable=False),
    Column("looked", Double, nullable=False),
    Column("reason", Text, nullable=False),
    Column("stages", Text, nullable=False),  # JSON, as figures and report
    Column("figures", Text, nullable=False),
    Column("report", Text, nullable=False),
)
