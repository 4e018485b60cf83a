"""Opening a store: new, older, newer, unreachable."""

import os
import shutil
import stat
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from serving.service.store import (
    InvalidError,
    SchemaError,
    StoreError,
    StoreSettings,
    UnavailableError,
    open_store,
    schema,
    upgrade,
)
from serving.service.store.database import Database
from tests.serving.service.databases import execute
from tests.serving.service.store.samples import event, item

# Put together here, since a traceback shows the lines of this file.
_SECRET = "".join(("hush", "-", "hush"))


def _told(caught: pytest.ExceptionInfo[StoreError]) -> str:
    """What a log would have of an error."""
    return "".join(traceback.format_exception(caught.value))


@pytest.fixture(params=["sqlite", "postgresql"])
def nothing(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new.db'}"
    url: str = request.getfixturevalue("postgresql")
    execute(url, "DROP SCHEMA public CASCADE")
    execute(url, "CREATE SCHEMA public")
    return url


def _at(url: str, revision: str) -> None:
    database = Database(url, StoreSettings())
    with database.writing() as connection:
        upgrade.upgrade(connection, revision)
    database.close()


def test_an_empty_database_becomes_a_store(nothing: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        # Whoever comes first creates it, also when several replicas start together.
        for store in list(pool.map(lambda _: open_store(nothing), range(4))):
            with store:
                assert store.count_items() == 0
    with open_store(nothing) as store:
        report = store.check()
    assert (report.database, report.revision, report.problems) == (nothing.partition(":")[0], "0003", [])


def test_the_migrations_make_the_tables_of_the_queries(url: str) -> None:
    database = Database(url, StoreSettings())
    with database.reading() as connection:
        ours = {table.name for table in schema.metadata.sorted_tables}
        context = MigrationContext.configure(
            connection,
            opts={"compare_type": True, "include_name": lambda name, kind, _: kind != "table" or name in ours},
        )
        found = compare_metadata(context, schema.metadata)
    database.close()
    # Of SQLite's tables Alembic also names an index that is there for PostgreSQL only.
    assert [each for each in found if not (url.startswith("sqlite") and "events_by_change" in str(each))] == []


def test_the_revisions_are_those_of_the_migrations() -> None:
    folder = Path(upgrade.__file__).parent / "migrations"
    found = [script.revision for script in ScriptDirectory(str(folder)).walk_revisions()]
    assert tuple(reversed(found)) == schema.REVISIONS


def test_an_older_store_is_upgraded_only_if_asked(nothing: str) -> None:
    _at(nothing, "0001")
    execute(nothing, "INSERT INTO sessions VALUES ('セッション', 'ana')")
    with pytest.raises(SchemaError, match=r"has the schema 0001; .* needs 0003.*store upgrade"):
        open_store(nothing)
    with open_store(nothing, migrate=True) as store:
        store.append_events([event("1", user_id="", session_id="セッション")])
        assert len(store.history("ana")) == 1
        assert store.check().revision == "0003"
        assert store.put_rules("x", "ana") == 1
    open_store(nothing).close()
    open_store(nothing, migrate=True).close()


def test_an_upgrade_that_fails_changes_nothing(nothing: str) -> None:
    _at(nothing, "0001")
    execute(nothing, "CREATE TABLE keys (name TEXT)")
    with pytest.raises(StoreError, match=r"keys.*already exists"):
        open_store(nothing, migrate=True)
    # `rules` comes before `keys`.
    with pytest.raises(StoreError, match="rules"):
        execute_through(nothing, "SELECT * FROM rules")
    execute(nothing, "DROP TABLE keys")
    open_store(nothing, migrate=True).close()


def execute_through(url: str, statement: str) -> None:
    database = Database(url, StoreSettings())
    try:
        with database.reading() as connection:
            connection.execute(sa.text(statement))
    finally:
        database.close()


@pytest.mark.parametrize("migrate", [False, True])
def test_a_newer_store_is_refused(url: str, migrate: bool) -> None:
    execute(url, "UPDATE alembic_version SET version_num = '0099'")
    with pytest.raises(SchemaError, match=r"0099, which is newer.*Remedy: use the version"):
        open_store(url, migrate=migrate)


def test_a_store_restored_into_another_server_begins_its_feeds_anew(postgresql: str) -> None:
    with open_store(postgresql) as store:
        store.append_events([event("1"), event("2")])
        store.put_items([item("1")])
        mark = store.latest_mark()
        # As if from a server that had done more.
        execute(postgresql, "UPDATE events SET xid = xid + 1000000000")
        execute(postgresql, "UPDATE items SET xid = xid + 1000000000")
        assert store.events_after("")[0] == []
        assert "restored from another server" in store.check().problems[0]
        open_store(postgresql, migrate=True).close()
        assert store.check().problems == []
        assert [each.event_id for each in store.events_after("")[0]] == ["1", "2"]
        assert len(store.items_after("")[0]) == 1
        with pytest.raises(InvalidError, match="no mark of this store"):
            store.events_after(mark)


def test_a_damaged_file_is_reported(sqlite: str, tmp_path: Path) -> None:
    with open_store(sqlite) as store:
        store.append_events([event(str(n), query="q" * 1000) for n in range(500)])
    path = tmp_path / "store.db"
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"damage" * 2000)
    with open_store(sqlite) as store:
        try:
            problems = list(store.check().problems)
        except StoreError as error:
            problems = [str(error)]
    assert "Remedy" in problems[0]
    path.write_bytes(b"This is no database. " * 1000)
    with pytest.raises(StoreError, match="not a database"):
        open_store(sqlite)


def test_a_new_file_is_for_its_owner_only(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path / 'new.db'}") as store:
        store.append_events([event("1")])
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes.keys() >= {"new.db", "new.db-wal"}
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("store.db", "not a URL"),
        ("sqlite://", "no address of a store"),
        ("sqlite:///:memory:", "no address of a store"),
        ("mysql://u:{}@h/d", "no address of a store"),
        ("postgresql://u:{}@h", "no address of a store"),
        ("postgresql+psycopg2://u:{}@h/d", "no address of a store"),
        ("postgresql://u:{}@h:port/d", "not a URL"),
    ],
)
def test_an_address_that_is_none_is_refused_without_its_password(url: str, message: str) -> None:
    with pytest.raises(InvalidError, match=message) as caught:
        open_store(url.replace("{}", _SECRET))
    assert _SECRET not in _told(caught)


def test_an_unreachable_database_is_reported_without_its_password(postgresql_url: str, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="in a folder that exists"):
        open_store(f"sqlite:///{tmp_path / 'no' / 'store.db'}")
    url = postgresql_url.format("nowhere").replace("postgres@", f"postgres:{_SECRET}@")
    with pytest.raises(UnavailableError, match=r"nowhere.*does not exist.*Remedy") as caught:
        open_store(url)
    assert _SECRET not in _told(caught)
    assert "***" in str(caught.value)


def test_a_writer_that_does_not_end_is_reported(url: str) -> None:
    settings = StoreSettings(wait_seconds=0.2)
    with open_store(url, settings=settings) as store, open_store(url, settings=settings) as other:
        store.put_items([item("1")])
        with store._database.writing() as connection:
            connection.execute(sa.update(schema.items).values(revision=7))
            with pytest.raises(UnavailableError, match=r"lock.*Remedy"):
                other.put_items([item("1", title="b")])
        assert other.put_items([item("1", title="b")]) == {"1": 8}


def test_a_connection_that_broke_is_replaced(postgresql: str) -> None:
    with open_store(postgresql) as store:
        store.append_events([event("1")])
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = "
        assert execute(postgresql, f"{end}current_database()")
        assert store.append_events([event("1"), event("2")]) == [False, True]


def test_too_few_connections_are_refused(url: str) -> None:
    with pytest.raises(InvalidError, match="2 or more"):
        open_store(url, settings=StoreSettings(connections=1))


def test_an_error_tells_no_ids(url: str) -> None:
    with open_store(url) as store:
        execute(url, "ALTER TABLE events RENAME TO away")
        with pytest.raises(StoreError) as caught:
            store.append_events([event("1", user_id=_SECRET)])
    assert _SECRET not in _told(caught)


def test_more_threads_than_connections_wait(url: str) -> None:
    settings = StoreSettings(connections=2)
    with open_store(url, settings=settings) as store, ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(store.delete_user, f"user {n}") for n in range(8)]:
            each.result(60)
        assert len(store.users_deleted_after("")[0]) == 8


def test_commands(url: str, tmp_path: Path) -> None:
    def run(*arguments: str, status: int = 0) -> str:
        command = [sys.executable, "-m", "serving.service.store", *arguments]
        environment = os.environ | {"BABELREC_STORE": url}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    with open_store(url) as store:
        store.append_events([event("1")])
    assert "The schema is 0003." in run("upgrade")
    assert '"problems": []' in run("check", "--store", url)
    assert '"moved": 1' in run("segment", "--folder", str(tmp_path / "moved"))
    assert "keep at least one day" in run("segment", "--folder", str(tmp_path), "--keep-days", "0", status=2)
    shutil.rmtree(tmp_path / "moved")
    assert "out of reach" in run("check", status=1)
    assert "no address" in run("check", "--store", "mysql://a:b@c/d", status=1)
