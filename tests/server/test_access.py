"""Who is let in, and what each role may, asked of the real server."""

import itertools
import re
import threading
from urllib.parse import parse_qs, urlsplit

import httpx
import kfp_server_api
import pytest
from starlette.responses import Response
from starlette.routing import Mount, Route

from headrace.governance import sessions, tokens
from headrace.governance.approvals import open_gate
from headrace.governance.rbac import Role
from headrace.server import sign_in
from headrace.server.console.actions import Action, Done
from headrace.server.console.frame import Frames
from headrace.server.console.rendering import Renderer
from headrace.server.security_headers import POLICY
from headrace.store import events

HTML = {"accept": "text/html"}
OWN = "/apis/headrace/v1"
KFP = "/apis/v2beta1"
NUMBERS = itertools.count(1)


def _told(submission):
    return Done("/events", f"{submission.who.name}: {submission.reason}")


@pytest.fixture(scope="module", autouse=True)
def action(guarded):
    """A form of the console that operators send."""
    guarded.app.router.routes.insert(0, Action("/act", _told).route(Renderer(), Frames(guarded.platform, {})))


@pytest.fixture
def token(guarded):
    """Makes tokens; their secrets."""

    def make(*roles, expires_at=None):
        name = f"person-{next(NUMBERS)}"
        _, secret = tokens.create(
            guarded.database, name, roles, at=guarded.platform.clock.now(), actor="user:root", expires_at=expires_at
        )
        return secret

    return make


def _bearer(secret):
    return {"authorization": f"Bearer {secret}"}


def _name(guarded, secret):
    return tokens.whose(guarded.database, secret, guarded.platform.clock.now()).name


class Browser:
    """A browser that keeps cookies and follows nothing by itself."""

    def __init__(self, guarded):
        self.http = httpx.Client(base_url=guarded.address, headers={**HTML, "sec-fetch-site": "same-origin"})

    def get(self, path, **more):
        return self.http.get(path, **more)

    def csrf(self, path):
        return re.search(r'name="csrf" value="(\w+)"', self.get(path).text)[1]

    def sign_in(self, secret, following="/events", **more):
        csrf = self.csrf(f"/sign-in?next={following}")
        return self.http.post("/sign-in", data={"csrf": csrf, "token": secret, "next": following}, **more)

    def act(self, csrf=None, **more):
        return self.http.post("/act", data={"csrf": csrf or self.csrf("/events"), "reason": "because"}, **more)


@pytest.fixture
def browser(guarded):
    opened = []

    def open_one():
        opened.append(Browser(guarded))
        return opened[-1]

    yield open_one
    for one in opened:
        one.http.close()


@pytest.fixture
def later(guarded):
    """Moves the server's clock, and puts it back."""
    before = guarded.platform.clock.time

    def move(seconds):
        guarded.platform.clock.time += seconds

    yield move
    guarded.platform.clock.time = before


def _described(guarded, secret):
    """Every operation that the server describes: method, path with names filled in, roles."""
    document = guarded.raw("GET", "/openapi.json", headers=_bearer(secret)).json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            roles = [role for entry in operation["security"] for role in entry["token"]]
            yield method.upper(), re.sub(r"\{\w+\}", "none", path), roles


def test_no_operation_and_no_page_answers_nobody(guarded, token):
    operations = list(_described(guarded, token(Role.VIEWER)))
    assert len(operations) > 40
    for method, path, roles in operations:
        answer = guarded.raw(method, path)
        assert (answer.status_code == 401) == bool(roles), (method, path)
        if roles:
            assert answer.headers["www-authenticate"].startswith("Bearer"), path
            assert set(answer.json()) in ({"error", "remedy"}, {"error", "code", "message", "details"}), path
    pages = [route.path for route in guarded.app.routes if not isinstance(route, Mount)]
    for path in pages:
        if path not in ("/sign-in", "/healthz", f"{KFP}/healthz"):
            assert guarded.raw("GET", path, headers=HTML).status_code in (303, 401), path
    assert guarded.send("GET", "/healthz") == (
        200,
        {"status": "ok", "version": guarded.send("GET", "/healthz")[1]["version"]},
    )


def test_a_viewer_reads_everything_and_changes_nothing(guarded, token):
    headers = _bearer(token(Role.VIEWER))
    for method, path, roles in _described(guarded, headers["authorization"].split()[1]):
        status = guarded.raw(method, path, headers=headers).status_code
        if method == "GET":
            assert status not in (401, 403), path
            assert roles in ([], ["viewer"])
        else:
            assert status == 403, (method, path)
            assert "viewer" not in roles


@pytest.mark.parametrize(
    ("role", "may"),
    [
        (Role.VIEWER, set()),
        (Role.OPERATOR, {"rerun", "labels", "pause", "promote", "abort", "rollback", "kfp", "delete"}),
        (Role.APPROVER, {"approve", "reject", "promote", "abort", "rollback"}),
        (
            Role.ADMIN,
            {
                "approve", "reject", "rerun", "labels", "pause", "promote", "abort", "rollback", "kfp", "delete",
            },
        ),
    ],
)  # fmt: skip
def test_each_role_may_what_is_its_own(guarded, token, role, may):
    changes = {
        "approve": ("POST", f"{OWN}/gates/none:approve"),
        "reject": ("POST", f"{OWN}/gates/none:reject"),
        "rerun": ("POST", f"{OWN}/runs/none:rerun"),
        "labels": ("POST", f"{OWN}/labels"),
        "pause": ("POST", f"{OWN}/rollouts/none:pause"),
        "promote": ("POST", f"{OWN}/rollouts/none:promote"),
        "abort": ("POST", f"{OWN}/rollouts/none:abort"),
        "rollback": ("POST", f"{OWN}/services/none:rollback"),
        "kfp": ("POST", f"{KFP}/runs/none:terminate"),
        "delete": ("DELETE", f"{KFP}/pipelines/none"),
    }
    headers = _bearer(token(role))
    for name, (method, path) in changes.items():
        body = {"json": {"service": "none", "labels": []}} if method == "POST" else {}
        status, told = guarded.send(method, path, headers=headers, **body)
        assert status == (404 if name in may else 403), name
        if name not in may:
            assert re.search(r"takes the role (operator|approver)", told.get("remedy", told["error"])), told


def test_roles_of_one_token_add_up(guarded, token):
    headers = _bearer(token(Role.OPERATOR, Role.APPROVER))
    for path in ("/gates/none:approve", "/rollouts/none:pause"):
        assert guarded.send("POST", OWN + path, headers=headers, json={})[0] == 404


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer", "Basic dXNlcjpwYXNz", "", "bearer a b"])
def test_a_wrong_token_is_no_token_whatever_the_cookie(guarded, token, browser, header):
    one = browser()
    one.sign_in(token(Role.ADMIN))
    assert one.get("/events").status_code == 200
    answer = one.get(f"{OWN}/services", headers={"authorization": header})
    assert (answer.status_code, answer.json()["error"]) == (401, "this token is unknown, expired or revoked")


def test_the_log_remembers_whose_token_acted(guarded, token):
    secret = token(Role.APPROVER)
    with guarded.database.transaction() as connection:
        gate = open_gate(connection, at=1.0, subject="run/9/task/ask", question="Go on?", evidence={})
    other = {"actor": "somebody-else", "reason": "mine"}
    status, told = guarded.send("POST", f"{OWN}/gates/{gate}:approve", headers=_bearer(secret), json=other)
    assert (status, told["error"]) == (403, f"actor: the token is that of user:{_name(guarded, secret)}")
    own = {"actor": _name(guarded, secret), "reason": "seen"}
    status, told = guarded.send("POST", f"{OWN}/gates/{gate}:approve", headers=_bearer(secret), json=own)
    assert (status, told["state"]) == (200, "approved")
    assert told["decisions"][0]["actor"] == f"user:{_name(guarded, secret)}"


def test_the_client_of_kfp_signs_in_with_its_existing_token(guarded, token):
    secret = token(Role.OPERATOR)
    made = guarded.client(secret).create_experiment("with a token")
    assert guarded.client(secret).get_experiment(made.experiment_id).display_name == "with a token"
    (event,) = events.newest(guarded.database, subject=f"experiment/{made.experiment_id}")
    assert event.actor == f"user:{_name(guarded, secret)}"
    reading = guarded.client(token(Role.VIEWER))
    assert reading.list_experiments().total_size >= 1
    with pytest.raises(kfp_server_api.ApiException) as caught:
        reading.create_experiment("not allowed")
    assert caught.value.status == 403
    # Whether the server is up is told to everybody, so that the client begins, and a wrong token is told at once.
    with pytest.raises(kfp_server_api.ApiException) as caught:
        guarded.client("wrong").list_experiments()
    assert caught.value.status == 401


def test_a_browser_is_led_to_sign_in_and_back(guarded, token, browser):
    one = browser()
    led = one.get("/events?kind=token")
    assert (led.status_code, led.headers["location"]) == (303, "/sign-in?next=%2Fevents%3Fkind%3Dtoken")
    page = one.get(led.headers["location"])
    assert 'name="next" value="/events?kind=token"' in page.text
    assert "Pages" not in page.text
    done = one.sign_in(token(Role.VIEWER), "/events?kind=token")
    assert (done.status_code, done.headers["location"]) == (303, "/events?kind=token")
    cookie = done.headers["set-cookie"]
    assert re.search(r"headrace-session=[\w-]{43}; HttpOnly; Path=/; SameSite=lax$", cookie)
    assert "Sign out" in one.get("/events?kind=token").text
    assert one.get("/sign-in?next=/events").headers["location"] == "/events"


def test_the_cookie_of_https_is_kept_to_https(guarded, token, browser):
    forwarded = {"x-forwarded-proto": "https", "origin": "https://headrace.example.com", "host": "headrace.example.com"}
    done = browser().sign_in(token(Role.VIEWER), headers=forwarded)
    assert done.status_code == 303
    assert "; Secure" in done.headers["set-cookie"]


def test_parts_of_pages_and_streams_are_refused_in_json(guarded, browser):
    for path in ("/events.json", "/events.live", f"{OWN}/events"):
        answer = browser().get(path)
        assert (answer.status_code, set(answer.json())) == (401, {"error", "remedy"})
    again = browser().get("/events", headers={"hx-request": "true"})
    assert (again.status_code, again.headers["hx-redirect"]) == (401, "/sign-in?next=%2Fevents")


@pytest.mark.parametrize(
    "following",
    [
        "//evil.example.com", "https://evil.example.com", "/\\evil.example.com", "/\t/evil.example.com", "evil", "",
        "javascript:alert(1)", "/sign-in", "\\/evil.example.com", "/%0a/\n/evil",
    ],
)  # fmt: skip
def test_signing_in_leads_to_no_other_place(guarded, token, browser, following):
    one = browser()
    csrf = one.csrf("/sign-in")
    done = one.http.post("/sign-in", data={"csrf": csrf, "token": token(Role.VIEWER), "next": following})
    assert (done.status_code, done.headers["location"]) == (303, "/")
    page = browser().get("/sign-in", params={"next": following})
    assert 'name="next" value="/"' in page.text


def test_a_form_is_only_that_of_its_session(guarded, token, browser):
    mary, eve = browser(), browser()
    mary.sign_in(token(Role.OPERATOR))
    eve.sign_in(token(Role.OPERATOR))
    assert mary.act().status_code == 303
    for csrf in (eve.csrf("/events"), "wrong"):
        refused = mary.act(csrf)
        assert refused.status_code == 403
        assert "this form is not from your session" in refused.text
    assert mary.http.post("/act", data={"reason": "because"}).status_code == 403
    assert mary.act(headers={"origin": "https://evil.example.com"}).status_code == 400
    assert mary.act(headers={"sec-fetch-site": "cross-site"}).status_code == 400
    assert mary.act(headers={"host": "evil.example.com"}).status_code == 400


def test_a_form_takes_its_role(guarded, token, browser):
    one = browser()
    one.sign_in(token(Role.VIEWER))
    refused = one.act()
    assert refused.status_code == 403
    assert "It takes the role operator." in refused.text
    # Signed out, the form leads to the page to sign in.
    assert browser().http.post("/act", data={}).headers["location"] == "/sign-in?next=%2F"


def test_signing_in_needs_a_form_of_this_server(guarded, token, browser):
    one = browser()
    data = {"token": token(Role.VIEWER), "next": "/"}
    assert one.http.post("/sign-in", data=data).status_code == 403
    csrf = one.csrf("/sign-in")
    foreign = {"origin": "https://evil.example.com"}
    assert one.http.post("/sign-in", data={**data, "csrf": csrf}, headers=foreign).status_code == 400


def test_a_session_ends_when_it_is_left_alone(guarded, token, browser, later):
    one = browser()
    one.sign_in(token(Role.VIEWER))
    later(sessions.IDLE_SECONDS - 10)
    assert one.get("/events").status_code == 200
    later(sessions.IDLE_SECONDS - 10)
    # A page that looks for changes by itself does not keep a session alive.
    assert one.get("/events", headers={"hx-request": "true"}).status_code == 200
    assert one.get("/events.json").status_code == 200
    later(20)
    assert one.get("/events").status_code == 303


def test_a_session_ends_after_a_week_however_it_is_used(guarded, token, browser, later):
    one = browser()
    one.sign_in(token(Role.VIEWER))
    for _ in range(int(sessions.LONGEST_SECONDS / sessions.IDLE_SECONDS * 2) - 1):
        later(sessions.IDLE_SECONDS / 2)
        assert one.get("/events").status_code == 200
    later(sessions.IDLE_SECONDS / 2)
    assert one.get("/events").status_code == 303


def test_a_token_that_is_revoked_ends_its_sessions(guarded, token, browser):
    secret = token(Role.ADMIN)
    one, other = browser(), browser()
    one.sign_in(secret)
    other.sign_in(token(Role.ADMIN))
    tokens.revoke(guarded.database, _name(guarded, secret), at=guarded.platform.clock.now(), actor="user:root")
    assert one.get("/events").status_code == 303
    assert other.get("/events").status_code == 200
    assert guarded.raw("GET", f"{OWN}/services", headers=_bearer(secret)).status_code == 401


def test_a_token_ends_when_it_expires_and_its_sessions_with_it(guarded, token, browser, later):
    secret = token(Role.ADMIN, expires_at=guarded.platform.clock.now() + 3600)
    one = browser()
    one.sign_in(secret)
    later(3599)
    assert one.get("/events").status_code == 200
    later(1)
    assert one.get("/events").status_code == 303
    assert guarded.raw("GET", f"{OWN}/services", headers=_bearer(secret)).status_code == 401


def test_a_stream_ends_with_the_token_it_was_asked_for_with(guarded, token, monkeypatch):
    monkeypatch.setattr(sign_in, "LOOK_SECONDS", 0.0)
    secret = token(Role.VIEWER)
    name = _name(guarded, secret)
    address = f"{guarded.address}/events.live"
    with httpx.stream("GET", address, headers=_bearer(secret), timeout=60) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: watching"
        at = guarded.platform.clock.now()
        revoking = threading.Timer(
            0.1, tokens.revoke, (guarded.database, name), {"at": at, "actor": "user:root"}
        )  # fmt: skip
        revoking.start()
        # It ends, and what looks again by that is refused.
        assert [line for line in lines if line.startswith("event")] == ["event: changed"]
        revoking.join()


def test_signing_out_ends_the_session(guarded, token, browser):
    one = browser()
    one.sign_in(token(Role.VIEWER))
    kept = one.http.cookies["headrace-session"]
    assert one.http.post("/sign-out", data={"csrf": "wrong"}).status_code == 403
    done = one.http.post("/sign-out", data={"csrf": one.csrf("/events")})
    assert (done.status_code, done.headers["location"]) == (303, "/sign-in")
    assert guarded.raw("GET", "/events", headers={**HTML, "cookie": f"headrace-session={kept}"}).status_code == 303


def test_a_session_that_was_given_to_a_browser_is_not_the_one_it_signs_in_with(guarded, token, browser):
    one = browser()
    one.csrf("/sign-in")
    before = one.http.cookies["headrace-session"]
    one.sign_in(token(Role.VIEWER))
    assert one.http.cookies["headrace-session"] != before


def test_neither_tokens_nor_sessions_are_in_the_database(guarded, token, browser):
    secret = token(Role.VIEWER)
    one = browser()
    one.sign_in(secret)
    told = "".join(
        str(tuple(row))
        for table in ("token", "session", "event")
        for row in guarded.database.query(f"SELECT * FROM {table}")
    )
    assert secret not in told
    assert one.http.cookies["headrace-session"] not in told
    assert [event.kind for event in events.newest(guarded.database, subject=f"token/{_name(guarded, secret)}")] == [
        "session.started", "token.created",
    ]  # fmt: skip


def test_wrong_tokens_are_slowed_and_then_refused_for_a_while(guarded, token, browser, monkeypatch):
    monkeypatch.setattr(sign_in, "SLOW_SECONDS", 0.0)
    from_far = {"x-forwarded-for": "203.0.113.7"}
    one = browser()
    for _ in range(sign_in.MOST_WRONG):
        wrong = one.sign_in("headrace_wrong", headers=from_far)
        assert wrong.status_code == 401
        assert "unknown, expired or revoked" in wrong.text
    secret = token(Role.VIEWER)
    refused = one.sign_in(secret, headers=from_far)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= sign_in.WITHIN_SECONDS + 1
    # Who comes from elsewhere is not kept out by it.
    assert one.sign_in(secret, headers={"x-forwarded-for": "203.0.113.8"}).status_code == 303


def test_attempts_of_many_addresses_are_not_remembered_without_end():
    attempts = sign_in.Attempts()
    for number in range(3000):
        attempts.wrong(f"address {number}")
    assert len(attempts._wrong) == 1000
    assert attempts.wait_seconds("address 2999") == 0.0


def test_only_the_names_that_were_given_are_answered_to(guarded, token):
    headers = _bearer(token(Role.VIEWER))
    for host, status in {
        "headrace.example.com": 200, "Headrace.Example.com:8443": 200, "127.0.0.1:1": 200, "localhost": 200,
        "evil.example.com": 400, "headrace.example.com.evil.org": 400, "headrace.example.com@evil.org": 400, "": 400,
    }.items():  # fmt: skip
        assert guarded.raw("GET", f"{OWN}/services", headers={**headers, "host": host}).status_code == status, host


def test_every_answer_binds_the_browser(guarded, served, token):
    headers = _bearer(token(Role.VIEWER))
    for path in ("/healthz", "/sign-in", "/events", "/nothing", f"{KFP}/nothing", "/static/console.css"):
        for answer in (guarded.raw("GET", path, headers=headers), served.raw("GET", path, headers=HTML)):
            assert answer.headers["content-security-policy"] == POLICY, path
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "same-origin"
            assert answer.headers["cross-origin-opener-policy"] == "same-origin"
            assert ("no-store" in answer.headers.get("cache-control", "")) != path.startswith("/static")


def test_an_answer_with_a_policy_of_its_own_keeps_it(guarded, token):
    policy = "sandbox; default-src 'none'"
    artifact = Route("/artifact", lambda _: Response("<p>", headers={"content-security-policy": policy}))
    guarded.app.router.routes.insert(0, artifact)
    answer = guarded.raw("GET", "/artifact", headers=_bearer(token(Role.VIEWER)))
    assert answer.headers.get_list("content-security-policy") == [policy]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_without_sign_in_there_is_none(served):
    assert served.raw("GET", "/sign-in", headers=HTML).status_code == 404
    assert "Sign out" not in served.raw("GET", "/events", headers=HTML).text
    assert served.client("any token").list_experiments().total_size >= 1


def test_led_back_means_to_the_same_page(guarded, browser):
    address = "/events?subject=run/a b&kind=x#y"
    led = urlsplit(browser().get(address.partition("#")[0]).headers["location"])
    assert parse_qs(led.query)["next"] == ["/events?subject=run/a%20b&kind=x"]
