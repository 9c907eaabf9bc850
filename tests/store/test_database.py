import contextlib
import threading

import pytest

from headrace.errors import StorageError, UsageError
from headrace.store.database import Database, connect
from headrace.store.migrations import migrate


def test_writers_in_many_threads_take_turns(tmp_path):
    database = Database(tmp_path / "headrace.db")
    with database.transaction() as connection:
        connection.execute("CREATE TABLE counter (n INTEGER)")
        connection.execute("INSERT INTO counter VALUES (0)")

    def add():
        for _ in range(25):
            with database.transaction() as connection:
                n = connection.execute("SELECT n FROM counter").fetchone()["n"]
                connection.execute("UPDATE counter SET n = ?", (n + 1,))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    row = database.one("SELECT n FROM counter")
    database.close()
    assert row["n"] == 100


def test_many_may_open_a_new_file_at_the_same_time(tmp_path):
    """SQLite itself refuses all but one of those that make it a WAL file together."""
    for number in range(20):
        file, together, modes = tmp_path / f"{number}.db", threading.Barrier(8), []

        def opened(file=file, together=together, modes=modes):
            together.wait()
            with contextlib.closing(connect(file)) as connection:
                modes.append(connection.execute("PRAGMA journal_mode").fetchone()[0])
                connection.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER)")

        threads = [threading.Thread(target=opened) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert modes == ["wal"] * 8


def test_what_others_keep_locked_is_said_with_the_remedy_and_leaves_no_transaction_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("headrace.store.database.BUSY_SECONDS", 0.05)
    database = Database(tmp_path / "headrace.db")
    with contextlib.closing(connect(database.path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="Another program keeps it locked"), database.transaction():
            pytest.fail("the transaction has begun")
        other.execute("ROLLBACK")
    with database.transaction() as connection:
        connection.execute("CREATE TABLE t (n INTEGER)")
    assert database.query("SELECT * FROM t") == []
    database.close()


def test_a_path_that_cannot_be_opened_names_itself_and_the_remedy(tmp_path):
    database = Database(tmp_path / "missing" / "headrace.db")
    with pytest.raises(UsageError, match=r"missing/headrace\.db: the database cannot be opened") as caught:
        database.query("SELECT 1")
    assert caught.value.exit_code == 2
    assert "can be written" in caught.value.remedy


def test_migrations_apply_once_and_refuse_a_database_of_another_version(tmp_path):
    database = Database(tmp_path / "headrace.db")
    first = migrate(database, ["headrace.store", "headrace.governance"])
    assert list(dict.fromkeys(m.package for m in first)) == ["headrace.store", "headrace.governance"]
    assert migrate(database, ["headrace.store", "headrace.governance"]) == []

    with database.transaction() as connection:
        connection.execute("UPDATE migration SET digest = 'other' WHERE package = 'headrace.governance'")
    with pytest.raises(UsageError, match="does not know in that form"):
        migrate(database, ["headrace.store", "headrace.governance"])
    database.close()


def _rows(database):
    return database.one("SELECT count(*) AS n FROM t")["n"]


@pytest.mark.parametrize("size", [100, 5_000_000])
def test_a_full_disk_refuses_a_change_whole_and_keeps_nobody_from_the_next(tmp_path, size):
    database = Database(tmp_path / "headrace.db")
    with database.transaction() as connection:
        connection.execute("CREATE TABLE t (x BLOB)")
        connection.execute("PRAGMA max_page_count = 20")
    full = r"could not be written: database or disk is full\nFree space"
    with pytest.raises(StorageError, match=full), database.transaction() as connection:
        for _ in range(1000):
            connection.execute("INSERT INTO t VALUES (zeroblob(?))", (size,))
    assert _rows(database) == 0
    other = Database(database.path)
    with other.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (1)")
    other.close()
    with database.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (2)")
    assert _rows(database) == 2
    assert database.one("PRAGMA integrity_check")[0] == "ok"
    database.close()


def test_a_commit_that_the_disk_does_not_take_leaves_no_transaction_behind(small_disk):
    database = Database(small_disk / "headrace.db")
    with database.transaction() as connection:
        connection.execute("CREATE TABLE t (x BLOB)")
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb") as stream:
        while True:
            stream.write(b"\0" * 4096)
            stream.flush()
    with pytest.raises(StorageError):
        for _ in range(1000):
            with database.transaction() as connection:
                connection.execute("INSERT INTO t VALUES (zeroblob(3000))")
    before = _rows(database)
    assert database.one("PRAGMA integrity_check")[0] == "ok"
    filler.unlink()
    with database.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (1)")
    assert _rows(database) == before + 1
    database.close()
