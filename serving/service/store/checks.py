"""Looks for damage in a database."""

import sqlalchemy as sa

from serving.service.store import marks, schema
from serving.service.store.database import Database
from serving.service.store.errors import SegmentError
from serving.service.store.segments import segment_paths
from serving.service.store.types import CheckReport
from serving.service.store.upgrade import revision_of


def check(database: Database) -> CheckReport:
    """Reads all tables."""
    problems = []
    with database.reading() as connection:
        rows = {
            table.name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in schema.metadata.sorted_tables
        }
        if database.is_sqlite:
            found = connection.exec_driver_sql("PRAGMA integrity_check(10)").scalars().all()
            if found != ["ok"]:
                problems.append(f"{database.name} is damaged: {'; '.join(found)}. Remedy: restore a copy.")
        elif marks.is_from_another_server(connection):
            problems.append(
                f"{database.name} was restored from another server, and replicas do not see its changes. Remedy: run "
                "`python -m serving.service.store upgrade --store URL`, then restart the replicas."
            )
        try:
            segment_paths(connection)
        except SegmentError as error:
            problems.append(str(error))
        revision = revision_of(connection)
    name = "sqlite" if database.is_sqlite else "postgresql"
    return CheckReport(database=name, revision=revision, problems=problems, rows=rows)
