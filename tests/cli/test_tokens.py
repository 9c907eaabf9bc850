import os
import subprocess

from headrace.store import events


def test_a_token_is_made_listed_and_revoked(headrace):
    made = headrace.json("tokens", "create", "mary", "--role", "operator", "--role", "approver", "--expires", "90d")
    assert (made["name"], made["roles"], made["state"]) == ("mary", ["approver", "operator"], "valid")
    assert made["token"].startswith("headrace_")
    (listed,) = headrace.json("tokens", "list")
    assert listed == {key: value for key, value in made.items() if key != "token"}
    assert "mary" in headrace("tokens", "list").stdout
    assert headrace.json("tokens", "revoke", "mary", "-m", "has left")["state"] == "revoked"
    assert headrace.json("tokens", "list") == []
    assert [token["name"] for token in headrace.json("tokens", "list", "--all")] == ["mary"]


def test_the_secret_is_all_that_is_printed(headrace):
    done = headrace("tokens", "create", "mary", "--role", "viewer")
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith("headrace_")
    assert "It is not shown again." in done.stderr
    assert done.stdout.strip() not in headrace("tokens", "list", "--all", "--json").stdout


def test_what_is_wrong_with_a_token_is_said(headrace):
    headrace("tokens", "create", "mary", "--role", "viewer")
    headrace.refused("tokens", "create", "mary", "--role", "admin", says=["mary has a token already", "revoke"], code=1)
    headrace.refused("tokens", "create", "bob", "--role", "viewer", "--expires", "soon", says=["--expires", "90d"])
    headrace.refused("tokens", "create", "a b", "--role", "viewer", says=["is no name for a token"])
    headrace.refused("tokens", "revoke", "bob", says=["no token", "headrace tokens list"])


def test_a_server_for_others_needs_a_sign_in_and_an_admin_and_a_name(headrace):
    headrace.refused("up", "--host", "0.0.0.0", says=["with --host others reach this server", "--sign-in"])
    headrace.refused("up", "--name", "headrace.example.com", says=["with --name others reach", "--sign-in"])
    no_admin = ["there is no valid token of an admin", "headrace tokens create NAME --role admin"]
    headrace.refused("up", "--sign-in", says=no_admin)
    headrace.json("tokens", "create", "mary", "--role", "operator", "--role", "approver")
    headrace.refused("up", "--sign-in", says=no_admin)
    headrace.json("tokens", "create", "adam", "--role", "admin")
    headrace.refused("up", "--sign-in", "--host", "0.0.0.0", says=["by which names", "--name"])
    headrace.refused("up", "--sign-in", "--host", "203.0.113.9", says=["--host", "is no address of this machine"])


def _push(project, message, token=""):
    """What git says when somebody commits to a project and pushes to its remote."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(project)]
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", message], check=True)
    environment = {**os.environ, "USER": "git", "HEADRACE_TOKEN": token}
    pushed = subprocess.run(
        [*git, "push", "origin", "HEAD:main"], capture_output=True, text=True, check=True, env=environment
    )
    return pushed.stderr


def test_a_push_is_that_of_whoever_the_token_names(headrace):
    assert headrace("init", "project", "--remote", str(headrace.folder / "bare.git")).returncode == 0
    operator = headrace.json("tokens", "create", "mary", "--role", "operator")["token"]
    viewer = headrace.json("tokens", "create", "victor", "--role", "viewer")["token"]
    project = headrace.folder / "project"
    assert "took refs/heads/main" in _push(project, "first")
    assert "took refs/heads/main" in _push(project, "second", operator)
    assert "starts no run: HEADRACE_TOKEN: user:victor may not start runs" in _push(project, "third", viewer)
    assert "HEADRACE_TOKEN is unknown, expired or revoked" in _push(project, "fourth", "headrace_wrong")
    with headrace.database() as database:
        assert [event.actor for event in events.read(database, kinds=["push.received"])] == ["user:git", "user:mary"]
