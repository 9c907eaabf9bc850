import pytest

from headrace.errors import AlreadyExistsError, NotFoundError, UsageError
from headrace.governance import sessions, tokens
from headrace.governance.rbac import NOBODY, Principal, Role
from headrace.store import events
from headrace.store.database import Database
from headrace.store.migrations import migrate


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "headrace.db")
    migrate(database, ["headrace.store", "headrace.governance"])
    yield database
    database.close()


def _create(database, name="mary", *roles, at=10.0, **more):
    return tokens.create(database, name, roles or (Role.VIEWER,), at=at, actor="user:root", **more)


def test_a_role_allows_what_is_its_own_and_every_role_reads():
    for role in Role:
        assert Principal("user:a", frozenset({role})).may(Role.VIEWER)
    assert Principal("user:a", frozenset({Role.APPROVER})).may(Role.OPERATOR, Role.APPROVER)
    assert not Principal("user:a", frozenset({Role.APPROVER})).may(Role.OPERATOR)
    assert not Principal("user:a", frozenset({Role.OPERATOR})).may(Role.APPROVER)
    assert not Principal("user:a", frozenset({Role.OPERATOR})).may(Role.ADMIN)
    assert Principal("user:a", frozenset({Role.ADMIN})).may(Role.APPROVER)
    assert not any(NOBODY.may(role) for role in Role)


def test_a_token_is_whoever_it_was_made_for(database):
    token, secret = _create(database, "mary", Role.OPERATOR, Role.APPROVER)
    assert tokens.whose(database, secret, 11.0) == token
    assert token.principal == Principal("user:mary", frozenset({Role.OPERATOR, Role.APPROVER}), signed_in=True)
    for wrong in (secret[:-1], secret + " ", secret.upper(), "", tokens.digest(secret)):
        assert tokens.whose(database, wrong, 11.0) is None
    (event,) = events.newest(database, subject="token/mary")
    assert (event.kind, event.actor) == ("token.created", "user:root")
    assert event.data == {"id": token.id, "roles": ["approver", "operator"], "expires_at": None}


def test_secrets_are_long_and_never_the_same(database):
    secrets = {_create(database, f"n{number}")[1] for number in range(20)}
    assert len(secrets) == 20
    assert all(len(secret) == len("headrace_") + 43 for secret in secrets)


def test_a_token_ends_at_its_time_and_makes_room_for_the_next_of_its_name(database):
    _, secret = _create(database, expires_at=20.0)
    with pytest.raises(AlreadyExistsError, match="mary has a token already"):
        _create(database, at=19.9)
    assert tokens.whose(database, secret, 19.9) is not None
    assert tokens.whose(database, secret, 20.0) is None
    _, next_secret = _create(database, at=20.0)
    assert tokens.whose(database, next_secret, 21.0) is not None
    assert [token.state(21.0) for token in tokens.tokens(database)] == ["revoked", "valid"]


def test_a_revoked_token_is_none_and_the_log_says_who_ended_it(database):
    _, secret = _create(database)
    tokens.revoke(database, "mary", at=12.0, actor="user:root", reason="has left")
    assert tokens.whose(database, secret, 12.0) is None
    last = events.newest(database, subject="token/mary")[0]
    assert (last.kind, last.reason) == ("token.revoked", "has left")
    with pytest.raises(NotFoundError, match="no token that could be revoked is called mary"):
        tokens.revoke(database, "mary", at=13.0, actor="user:root")


@pytest.mark.parametrize("name", ["", "a b", "system:engine", "-x", "x" * 65, "a/b", "ma\nry", "<b>"])
def test_a_name_is_one_that_the_log_can_show(database, name):
    with pytest.raises(UsageError, match="is no name for a token"):
        _create(database, name)
    assert tokens.tokens(database) == []


def test_a_token_needs_a_role_and_time(database):
    with pytest.raises(UsageError, match="needs a role"):
        tokens.create(database, "mary", [], at=1.0, actor="user:root")
    with pytest.raises(UsageError, match="cannot expire before it begins"):
        _create(database, at=10.0, expires_at=10.0)


def test_an_admin_is_a_valid_token_with_that_role(database):
    assert not tokens.has_admin(database, 10.0)
    _create(database, "mary", Role.OPERATOR, Role.APPROVER)
    _create(database, "adam", Role.ADMIN, expires_at=20.0)
    assert tokens.has_admin(database, 19.0)
    assert not tokens.has_admin(database, 20.0)


def test_sessions_that_are_over_are_removed_when_one_begins(database):
    token, _ = _create(database)
    old = sessions.begin(database, token, at=100.0)
    assert sessions.whose(database, old, at=200.0, used=True).name == "user:mary"
    sessions.begin(database, token, at=100.0 + sessions.IDLE_SECONDS)
    assert database.one("SELECT count(*) AS n FROM session")["n"] == 1
    assert sessions.whose(database, old, at=200.0, used=True) is None


def test_signing_out_twice_is_signing_out(database):
    token, _ = _create(database)
    session = sessions.begin(database, token, at=100.0)
    for _ in range(2):
        sessions.end(database, session, at=101.0)
    assert sessions.whose(database, session, at=101.0, used=True) is None
    assert [event.kind for event in events.newest(database, kind="session")] == ["session.ended", "session.started"]
