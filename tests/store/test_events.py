import sqlite3

import pytest

from headrace.store import events
from headrace.store.database import Database
from headrace.store.migrations import migrate


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "headrace.db")
    migrate(database, ["headrace.store"])
    yield database
    database.close()


def _append(database, kind, subject="run/1", at=1.5):
    with database.transaction() as connection:
        return events.append(
            connection, at=at, actor="user:ann", kind=kind, subject=subject, reason="why", data={"n": 1}
        )


def test_read_returns_lines_in_order_filtered_by_kind_and_subject(database):
    _append(database, "run.created")
    _append(database, "run.succeeded")
    _append(database, "run.created", subject="run/2")

    assert [e.kind for e in events.read(database)] == ["run.created", "run.succeeded", "run.created"]
    assert [e.subject for e in events.read(database, kinds=["run.created"], after=1)] == ["run/2"]
    assert [e.seq for e in events.read(database, subject="run/1")] == [1, 2]


def test_a_rolled_back_transaction_leaves_no_line(database):
    with pytest.raises(ZeroDivisionError), database.transaction() as connection:
        events.append(connection, at=1.0, actor="a", kind="k", subject="s")
        raise ZeroDivisionError
    assert events.read(database) == []


@pytest.mark.parametrize("sql", ["UPDATE event SET reason = 'other'", "DELETE FROM event"])
def test_lines_can_be_neither_changed_nor_removed(database, sql):
    _append(database, "run.created")
    with (
        pytest.raises(sqlite3.IntegrityError, match="events are never"),
        database.transaction() as connection,
    ):
        connection.execute(sql)
    assert len(events.read(database)) == 1


def test_the_chain_tells_where_somebody_tampered(database):
    for kind in ("a", "b", "c"):
        _append(database, kind, at=7)
    assert events.first_broken(database) is None

    with database.transaction() as connection:
        connection.execute("DROP TRIGGER event_is_never_changed")
        connection.execute("UPDATE event SET reason = 'forged' WHERE seq = 2")
    assert events.first_broken(database) == 2


def test_the_chain_is_checked_a_piece_at_a_time(database):
    for number in range(5):
        _append(database, "thing.done", f"thing/{number}")
    chain = events.Chain(database)
    assert [chain.check(2) for _ in range(3)] == [events.Checked(n, None) for n in (2, 4, 5)]
    _append(database, "thing.done", "thing/5")
    assert chain.check(2) == events.Checked(6, None)


def test_the_newest_come_first_and_what_the_log_knows_can_be_chosen_from(database):
    for kind in ("run.created", "run.succeeded", "gate.opened"):
        _append(database, kind)
    assert [event.seq for event in events.newest(database, limit=2)] == [3, 2]
    assert [event.seq for event in events.newest(database, kind="run", before=2)] == [1]
    assert events.newest(database, actor="user:bob") == []
    assert events.known(database) == (["gate.opened", "run.created", "run.succeeded"], ["user:ann"])
    assert events.total(database) == 3


def test_an_empty_log_knows_nothing(database):
    assert events.known(database) == ([], [])
    assert events.total(database) == 0
