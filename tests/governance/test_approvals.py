import pytest

from headrace.errors import ConflictError, NotFoundError, UsageError
from headrace.governance import approvals
from headrace.store import events
from headrace.store.database import Database
from headrace.store.migrations import migrate


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "headrace.db")
    migrate(database, ["headrace.store", "headrace.governance"])
    yield database
    database.close()


def _open(database, **more):
    with database.transaction() as connection:
        return approvals.open_gate(
            connection,
            at=10.0,
            subject="run/1/task/approve",
            question="Deploy?",
            evidence={"auc": 0.7},
            **more,
        )


def test_asking_twice_about_one_subject_opens_one_gate(database):
    assert _open(database) == _open(database)
    assert len(approvals.gates(database, "waiting")) == 1
    assert [e.kind for e in events.read(database)] == ["gate.opened"]


def test_an_approval_is_kept_with_who_why_and_the_values(database):
    gate_id = _open(database, parameters={"weight": {"default": 5}})
    gate = approvals.decide(
        database, gate_id, at=20.0, actor="user:ann", approve=True, reason="AUC is up", values={"weight": 10}
    )
    assert (gate.state, gate.values, gate.decided_at) == ("approved", {"weight": 10}, 20.0)
    assert gate.decisions == (approvals.Decision("user:ann", True, "AUC is up", 20.0),)
    last = events.read(database)[-1]
    assert (last.kind, last.actor, last.reason) == ("gate.approved", "user:ann", "AUC is up")
    assert approvals.gate_of(database, "run/1/task/approve") == gate


def test_two_approvals_come_from_two_people(database):
    gate_id = _open(database, required=2)
    first = approvals.decide(database, gate_id, at=11.0, actor="user:ann", approve=True, reason="")
    assert first.state == "waiting"
    with pytest.raises(ConflictError, match="has decided already"):
        approvals.decide(database, gate_id, at=12.0, actor="user:ann", approve=True, reason="")
    second = approvals.decide(database, gate_id, at=13.0, actor="user:bob", approve=True, reason="")
    assert second.state == "approved"


def test_one_rejection_closes_the_gate_for_good(database):
    gate_id = _open(database, required=2)
    assert (
        approvals.decide(database, gate_id, at=11.0, actor="user:ann", approve=False, reason="no").state == "rejected"
    )
    with pytest.raises(ConflictError, match="rejected already"):
        approvals.decide(database, gate_id, at=12.0, actor="user:bob", approve=True, reason="")


def test_unknown_gates_and_values_are_refused_before_anything_is_written(database):
    with pytest.raises(NotFoundError, match="no gate has the id nope"):
        approvals.decide(database, "nope", at=1.0, actor="user:ann", approve=True, reason="")
    gate_id = _open(database)
    with pytest.raises(UsageError, match="does not ask for size"):
        approvals.decide(database, gate_id, at=1.0, actor="user:ann", approve=True, reason="", values={"size": 1})
    assert approvals.gate(database, gate_id).decisions == ()
