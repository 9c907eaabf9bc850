import threading

import pytest

from headrace.errors import UsageError
from headrace.store.database import Database
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


def test_a_path_that_cannot_be_opened_names_itself_and_the_remedy(tmp_path):
    database = Database(tmp_path / "missing" / "headrace.db")
    with pytest.raises(UsageError, match=r"missing/headrace\.db: the database cannot be opened") as caught:
        database.query("SELECT 1")
    assert caught.value.exit_code == 2
    assert "can be written" in caught.value.remedy


def test_migrations_apply_once_and_refuse_a_database_of_another_version(tmp_path):
    database = Database(tmp_path / "headrace.db")
    first = migrate(database, ["headrace.store", "headrace.governance"])
    assert [m.package for m in first] == ["headrace.store", "headrace.governance"]
    assert migrate(database, ["headrace.store", "headrace.governance"]) == []

    with database.transaction() as connection:
        connection.execute("UPDATE migration SET digest = 'other' WHERE package = 'headrace.governance'")
    with pytest.raises(UsageError, match="does not know in that form"):
        migrate(database, ["headrace.store", "headrace.governance"])
    database.close()
