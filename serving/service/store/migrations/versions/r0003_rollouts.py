"""Roll-outs of new versions of the model."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Creates the table."""
    dialect = op.get_bind().dialect.name
    text, big = sa.Text(), sa.BigInteger()
    identifier = sa.Text(collation="C") if dialect == "postgresql" else sa.Text()
    op.create_table(
        "rollouts",
        sa.Column("number", sa.Integer() if dialect == "sqlite" else big, primary_key=True, autoincrement=False),
        sa.Column("revision", big, nullable=False),
        sa.Column("model", identifier, nullable=False),
        sa.Column("stable", big, nullable=False),
        sa.Column("canary", big, nullable=False),
        sa.Column("state", text, nullable=False),
        sa.Column("begun", sa.Double(), nullable=False),
        sa.Column("changed", sa.Double(), nullable=False),
        sa.Column("looked", sa.Double(), nullable=False),
        sa.Column("reason", text, nullable=False),
        sa.Column("stages", text, nullable=False),
        sa.Column("figures", text, nullable=False),
        sa.Column("report", text, nullable=False),
    )
