"""Rules, keys, the audit log, and where moved events are."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Creates the tables."""
    dialect = op.get_bind().dialect.name
    text, big = sa.Text(), sa.BigInteger()
    identifier = sa.Text(collation="C") if dialect == "postgresql" else sa.Text()
    number = sa.Integer() if dialect == "sqlite" else big
    op.create_table(
        "rules",
        sa.Column("revision", number, primary_key=True, autoincrement=False),
        _column("text", text),
        _column("author", text),
        _column("timestamp", big),
    )
    op.create_table(
        "keys",
        sa.Column("name", identifier, primary_key=True),
        _column("role", text),
        _column("hash", text),
        _column("created", big),
        sa.Column("revoked", big),
    )
    op.create_table(
        "audit",
        sa.Column("number", number, primary_key=True),
        _column("timestamp", big),
        _column("actor", text),
        _column("action", text),
        _column("target", text),
        _column("detail", text),
    )
    op.create_table("segments", sa.Column("path", identifier, primary_key=True), sa.Column("rows", big))


def _column(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)
