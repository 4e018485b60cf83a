"""The schema of a database: its age, its creation and its migration."""

from pathlib import Path

import sqlalchemy as sa

from serving.service.store import marks, schema
from serving.service.store.database import Database
from serving.service.store.errors import SchemaError

_UPGRADE_LOCK = 2
_COMMAND = "`python -m serving.service.store upgrade --store URL`"


def revision_of(connection: sa.Connection) -> str:
    """Of the schema; empty without one."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none() or "")


def prepare(database: Database, *, migrate: bool) -> None:
    """Creates the schema of an empty database, and upgrades an older one if asked.

    Raises:
        SchemaError: the schema is older and ``migrate`` is False, or it is newer.
    """
    with database.reading() as connection:
        if _is_current(database, connection, migrate) and not migrate:
            return
    # Of several processes that open a new database one creates it.
    with database.locking(_UPGRADE_LOCK), database.writing() as connection:
        if not _is_current(database, connection, migrate):
            upgrade(connection, schema.REVISIONS[-1])
        if migrate:
            marks.renumber_restored(database, connection)


def upgrade(connection: sa.Connection, revision: str) -> None:
    """Brings the schema to a revision, within the connection's transaction."""
    # Alembic takes a third of a second to import, and most databases are up to date.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _is_current(database: Database, connection: sa.Connection, migrate: bool) -> bool:
    revision = revision_of(connection)
    if revision == schema.REVISIONS[-1]:
        return True
    if revision and revision not in schema.REVISIONS:
        raise SchemaError(
            f"{database.name} has the schema {revision[:80]}, which is newer than this version of Babelrec knows "
            f"({schema.REVISIONS[-1]}). Remedy: use the version of Babelrec that wrote it, or a newer one."
        )
    if revision and not migrate:
        raise SchemaError(
            f"{database.name} has the schema {revision}; this version of Babelrec needs {schema.REVISIONS[-1]}. "
            f"Remedy: stop older versions, make a copy, and run {_COMMAND}."
        )
    return False
