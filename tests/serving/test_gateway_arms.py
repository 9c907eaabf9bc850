"""What a real Envoy does with arms: headers, sticky users, matches, previews, shadows, gRPC."""

import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from headrace.contracts.rollout import Match, Sticky
from headrace.serving.gateway import CANARY, SHADOW, Arm, Mirror, Route

PREDICT = "/v1/models/delay:predict"


class Told:
    """An HTTP server that remembers the headers of what it was sent."""

    def __init__(self, name, status=200, seconds=0.0):
        self.name, self.status, self.seconds = name, status, seconds
        self.seen = []
        self.most, self._now, self._guard = 0, 0, threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def _handler(told):  # noqa: N805 - the handler has a self of its own
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                with told._guard:
                    told._now += 1
                    told.most = max(told.most, told._now)
                    told.seen.append((dict(self.headers), body))
                time.sleep(told.seconds)
                with told._guard:
                    told._now -= 1
                self.send_response(told.status)
                self.send_header("content-length", "2")
                self.send_header("x-headrace-arm", "a lie")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *words):
                pass

        return Handler

    def arm(self, weight, **more):
        return Arm(self.name, self.port, weight, **more)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Dying:
    """A server that takes a request and dies over it."""

    def __init__(self):
        self.requests = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                if connection.recv(65536):
                    self.requests += 1

    def close(self):
        self._listener.close()


@pytest.fixture
def told():
    made = []

    def make(name, **more):
        made.append(Told(name, **more))
        return made[-1]

    yield make
    for each in made:
        each.close()


def _route(*arms, **more):
    return Route("delay", "default", "delay", arms, 5.0, **more)


@pytest.fixture
def ask(gateway):
    """One request; its answer."""
    with httpx.Client(base_url=f"http://127.0.0.1:{gateway.port}", timeout=10) as client:
        yield lambda path=PREDICT, **headers: client.post(
            path, content=b"{}", headers={name.replace("_", "-"): value for name, value in headers.items()}
        )


def _until(found):
    deadline = time.monotonic() + 30
    while not (answer := found()):
        assert time.monotonic() < deadline, "it has not come about"
        time.sleep(0.02)
    return answer


def test_request_and_answer_carry_the_arm_whatever_a_client_or_a_server_says(gateway, told, ask):
    stable, canary = told("delay-00001"), told("delay-00002")
    assert gateway.apply([_route(stable.arm(50), canary.arm(50, name=CANARY))])
    answers = [ask(x_headrace_arm="canary, stable") for _ in range(60)]
    arms = {"delay-00001": "stable", "delay-00002": "canary"}
    assert {answer.headers["x-headrace-arm"] for answer in answers} == {"stable", "canary"}
    for answer in answers:
        assert answer.headers["x-headrace-arm"] == arms[answer.headers["x-headrace-revision"]]
    for server in (stable, canary):
        assert {headers["x-headrace-arm"] for headers, _ in server.seen} == {arms[server.name]}


@pytest.mark.parametrize("sticky", [Sticky(header="x-user-id"), Sticky(cookie="hr-user")])
def test_users_keep_their_arm_and_stay_on_the_canary_when_its_weight_grows(gateway, told, ask, sticky):
    stable, canary = told("delay-00001"), told("delay-00002")

    def arms_of_users(weight):
        route = _route(stable.arm(100 - weight), canary.arm(weight, name=CANARY), sticky=sticky)
        assert gateway.apply([route])
        who = {"x_user_id": "{}"} if sticky.header else {"cookie": "a=b; hr-user={}; c=d"}
        return [
            ask(**{name: value.format(f"user-{i}") for name, value in who.items()}).headers["x-headrace-arm"]
            for i in range(500)
        ]

    few = arms_of_users(10)
    assert arms_of_users(10) == few
    many = arms_of_users(50)
    assert all(after == "canary" for before, after in zip(few, many, strict=True) if before == "canary")
    # Five standard deviations around the weights.
    assert 16 < few.count("canary") < 84
    assert 194 < many.count("canary") < 306


def test_an_empty_user_is_nobody_and_placed_at_random(gateway, told, ask):
    stable, canary = told("delay-00001"), told("delay-00002")
    arms = [stable.arm(50), canary.arm(50, name=CANARY)]
    assert gateway.apply([_route(*arms, sticky=Sticky(header="x-user-id"))])
    for _ in range(100):
        ask(x_user_id="")
    # Five standard deviations around the weight.
    assert 25 <= len(canary.seen) <= 75
    assert {headers["x-headrace-user"] for headers, _ in stable.seen + canary.seen} == {"-"}
    found = []
    _until(lambda: found.extend(gateway.user_requests()) or len(found) >= 100)
    assert {one.user for one in found} == {""}


def test_who_has_no_cookie_gets_one_that_leads_to_the_same_arm(gateway, told, ask):
    stable, canary = told("delay-00001"), told("delay-00002")
    gateway.apply([_route(stable.arm(50), canary.arm(50, name=CANARY), sticky=Sticky(cookie="hr-user"))])
    seen = Counter()
    for _ in range(100):
        first = httpx.post(f"http://127.0.0.1:{gateway.port}{PREDICT}", content=b"{}")
        given = first.cookies["hr-user"]
        assert given == first.headers["x-headrace-prediction-id"]
        again = httpx.post(f"http://127.0.0.1:{gateway.port}{PREDICT}", cookies={"hr-user": given})
        assert again.headers["x-headrace-arm"] == first.headers["x-headrace-arm"]
        assert "set-cookie" not in again.headers
        seen[first.headers["x-headrace-arm"]] += 1
    assert set(seen) == {"stable", "canary"}


@pytest.mark.parametrize("sticky", [Sticky(header="x-user-id"), Sticky(cookie="hr-user")])
def test_what_users_got_is_told_once_and_of_sticky_routes_only(gateway, told, ask, sticky):
    stable, canary = told("delay-00001"), told("delay-00002", status=503, seconds=0.05)
    arms = [stable.arm(50), canary.arm(50, name=CANARY)]
    assert gateway.apply([_route(*arms)])
    for _ in range(5):
        ask(x_user_id="ann", cookie="hr-user=ann", x_headrace_user="a lie")
    seen = [*stable.seen, *canary.seen]
    assert len(seen) == 5
    assert not any("x-headrace-user" in headers for headers, _ in seen)
    assert gateway.apply([_route(*arms, sticky=sticky)])
    users = [f"user\t{i}" if sticky.header else f"user-{i}" for i in range(40)]
    for user in users:
        ask(x_user_id=user, cookie=f"a=b; hr-user={user}", x_headrace_user="a lie")
    nobody = ask(**({"cookie": "a=b"} if sticky.header else {"x_user_id": "ann"}))
    found = []
    _until(lambda: found.extend(gateway.user_requests()) or len(found) >= 41)
    strangers = {"" if sticky.header else nobody.headers["x-headrace-prediction-id"]}
    assert {one.user for one in found} == {*users, *strangers}
    assert {one.revision_id for one in found} == {"delay-00001", "delay-00002"}
    for one in found:
        assert one.error == (one.revision_id == "delay-00002")
    assert all(one.milliseconds >= 50 for one in found if one.error)
    again = time.monotonic() + 1.5
    while time.monotonic() < again:
        assert gateway.user_requests() == []
    # The model server is told who asked, and nobody else can tell it.
    asked = [headers for headers, _ in [*stable.seen, *canary.seen]]
    assert {headers["x-headrace-user"] for headers in asked if "x-headrace-user" in headers} == {
        *users,
        *({"-"} if sticky.header else strangers),
    }


@pytest.mark.parametrize("user", ["", "a" * 9000])
@pytest.mark.parametrize("sticky", [Sticky(header="x-user-id"), Sticky(cookie="hr-user")])
def test_nobody_else_says_who_asks_where_envoy_keeps_no_user(gateway, told, ask, sticky, user):
    stable, canary = told("delay-00001"), told("delay-00002")
    assert gateway.apply([_route(stable.arm(50), canary.arm(50, name=CANARY), sticky=sticky)])
    who = {"x_user_id": user} if sticky.header else {"cookie": f'hr-user="{user}"'}
    assert ask(**who, x_headrace_user="a lie").status_code == 200
    ((headers, _),) = stable.seen + canary.seen
    assert headers.get("x-headrace-user", "-") == "-"


@pytest.mark.parametrize(
    ("match", "fits", "does_not"),
    [
        (Match("b", header="x-group"), {"x_group": "b"}, {"x_group": "bb"}),
        (Match("b", "prefix", header="x-group"), {"x_group": "bb"}, {"x_group": "ab"}),
        (Match("b[0-9]+", "regex", header="x-group"), {"x_group": "b12"}, {"x_group": "b12c"}),
        (Match("b.", cookie="group"), {"cookie": "a=1; group=b.; c=2"}, {"cookie": "group=bc; agroup=b."}),
        (Match("b", "prefix", cookie="group"), {"cookie": "group=blue"}, {"cookie": "group=ab"}),
    ],
)
def test_who_matches_gets_the_canary_and_nobody_else(gateway, told, ask, match, fits, does_not):
    stable, canary = told("delay-00001"), told("delay-00002")
    assert gateway.apply([_route(stable.arm(100), canary.arm(0, name=CANARY), matches=(match,))])
    for _ in range(5):
        assert ask(**fits).headers["x-headrace-revision"] == "delay-00002"
        assert ask(**does_not).headers["x-headrace-revision"] == "delay-00001"
        assert ask().headers["x-headrace-revision"] == "delay-00001"


def test_a_preview_answers_at_its_host_and_its_header_before_it_serves(gateway, told, ask):
    stable, preview = told("delay-00001"), told("delay-00002")
    arm = preview.arm(0, name=CANARY)
    assert gateway.apply([_route(stable.arm(100), arm, preview=arm)])
    for _ in range(5):
        assert ask().headers["x-headrace-revision"] == "delay-00001"
        assert ask(x_headrace_preview="true").headers["x-headrace-revision"] == "delay-00002"
        assert ask(x_headrace_preview="false").headers["x-headrace-revision"] == "delay-00001"
        assert ask("/", host="delay-preview.default.example.com").headers["x-headrace-revision"] == "delay-00002"
    assert gateway.apply([_route(stable.arm(100), arm)])
    assert ask("/", host="delay-preview.default.example.com").status_code == 404
    assert ask(x_headrace_preview="true").headers["x-headrace-revision"] == "delay-00001"


def test_a_service_that_is_called_like_a_preview_keeps_its_host(gateway, told, ask):
    stable, preview, other = told("delay-00001"), told("delay-00002"), told("delay-preview-00001")
    arm = preview.arm(0, name=CANARY)
    namesake = Route("delay-preview", "default", "other", (other.arm(100),), 5.0)
    assert gateway.apply([_route(stable.arm(100), arm, preview=arm), namesake])
    answer = ask("/", host="delay-preview.default.example.com")
    assert answer.headers["x-headrace-revision"] == "delay-preview-00001"


def test_a_shadow_gets_a_share_of_the_requests_under_an_id_of_its_own(gateway, told, ask):
    stable, shadow = told("delay-00001"), told("delay-00002", status=500)
    mirror = Mirror(shadow.arm(0, name=CANARY), 50)
    assert gateway.apply([_route(stable.arm(100), mirror=mirror)])
    answers = [ask() for _ in range(400)]
    assert {(a.status_code, a.headers["x-headrace-revision"]) for a in answers} == {(200, "delay-00001")}
    # Five standard deviations around 50 %.
    _until(lambda: len(shadow.seen) > 150)
    counts = _until(lambda: (c := gateway.counts()).get("delay-00002" + SHADOW) and c)
    assert 150 < len(shadow.seen) < 250
    ids = {answer.headers["x-headrace-prediction-id"] + SHADOW for answer in answers}
    for headers, body in shadow.seen:
        assert headers["x-request-id"] in ids
        assert (headers["x-headrace-arm"], body) == ("shadow", b"{}")
    _until(lambda: gateway.counts()["delay-00002" + SHADOW].requests == len(shadow.seen))
    counts = gateway.counts()
    assert counts["delay-00002" + SHADOW].errors == len(shadow.seen)
    assert (counts["delay-00001"].requests, counts["delay-00001"].errors) == (400, 0)


def test_a_slow_shadow_holds_up_nobody_and_does_not_pile_up(gateway, told, ask):
    stable, shadow = told("delay-00001"), told("delay-00002", seconds=1.0)
    gateway.apply([_route(stable.arm(100), mirror=Mirror(shadow.arm(0, name=CANARY), 100))])
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(), range(300)))
    assert {answer.status_code for answer in answers} == {200}
    assert 0 < shadow.most <= 40
    _until(lambda: shadow._now == 0)
    # What was dropped says nothing of the shadow.
    name = "delay-00002" + SHADOW
    _until(lambda: gateway.counts()[name].requests == len(shadow.seen))
    assert gateway.counts()[name].errors == 0


def test_a_shadow_that_is_gone_is_felt_by_nobody_and_counts_as_errors(gateway, told, ask):
    stable, shadow = told("delay-00001"), told("delay-00002")
    shadow.close()
    gateway.apply([_route(stable.arm(100), mirror=Mirror(shadow.arm(0, name=CANARY), 100))])
    assert {ask().status_code for _ in range(20)} == {200}
    _until(lambda: gateway.counts()["delay-00002" + SHADOW].errors == 20)


@pytest.fixture
def grpc_server():
    """Makes gRPC servers of the inference protocol that answer with their name, or fail with a code."""
    grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

    made = []

    def make(name, code=None, seen=None):
        def infer(request, context):
            if seen is not None:
                seen.append(dict(context.invocation_metadata()))
            if code is not None:
                context.abort(code, "it fails")
            return name.encode() + b" " + dict(context.invocation_metadata()).get("x-headrace-arm", "").encode()

        handler = grpc.method_handlers_generic_handler(
            "inference.GRPCInferenceService", {"ModelInfer": grpc.unary_unary_rpc_method_handler(infer)}
        )
        server = grpc.server(ThreadPoolExecutor(4), handlers=[handler])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        made.append(server)
        return port

    yield make
    for each in made:
        each.stop(None).wait()


@pytest.fixture
def infer(gateway):
    """One gRPC call through the gateway: the answer's text."""
    grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

    def call(host=None, calls=1):
        options = [("grpc.default_authority", host)] if host else []
        with grpc.insecure_channel(f"127.0.0.1:{gateway.port}", options=options) as channel:
            method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            return [method(b"", timeout=10).decode() for _ in range(calls)]

    return call


def test_grpc_and_rest_share_a_port_and_a_split_and_count_for_one_revision(gateway, told, ask, grpc_server, infer):
    grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

    stable, canary = told("delay-00001"), told("delay-00002")
    arms = (
        stable.arm(50, grpc_port=grpc_server("delay-00001")),
        canary.arm(50, name=CANARY, grpc_port=grpc_server("delay-00002", grpc.StatusCode.INTERNAL)),
    )
    assert gateway.apply([_route(*arms)])
    answered, failed, codes = 0, 0, set()
    for host in ("delay.default.example.com", None):
        for _ in range(30):
            try:
                said = infer(host)
            except grpc.RpcError as error:
                codes.add(error.code())
                failed += 1
            else:
                assert said == ["delay-00001 stable"]
                answered += 1
    assert answered
    assert codes == {grpc.StatusCode.INTERNAL}
    rest = Counter(ask().headers["x-headrace-revision"] for _ in range(30))
    counts = gateway.counts()
    assert (counts["delay-00001"].requests, counts["delay-00001"].errors) == (answered + rest["delay-00001"], 0)
    assert (counts["delay-00002"].requests, counts["delay-00002"].errors) == (failed + rest["delay-00002"], failed)


def test_a_shadow_gets_grpc_requests_too_and_its_codes_count(gateway, told, grpc_server, infer):
    grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

    stable, shadow = told("delay-00001"), told("delay-00002")
    seen = []
    mirrored = shadow.arm(0, name=CANARY, grpc_port=grpc_server("delay-00002", grpc.StatusCode.INTERNAL, seen))
    arms = [stable.arm(100, grpc_port=grpc_server("delay-00001"))]
    assert gateway.apply([_route(*arms, mirror=Mirror(mirrored, 100))])
    assert infer(calls=20) == ["delay-00001 stable"] * 20
    _until(lambda: len(seen) == 20)
    assert {metadata["x-headrace-arm"] for metadata in seen} == {"shadow"}
    assert all(metadata["x-request-id"].endswith(SHADOW) for metadata in seen)
    counts = _until(lambda: (c := gateway.counts().get("delay-00002" + SHADOW)) and c.errors == 20 and c)
    assert counts.requests == 20
    assert gateway.counts()["delay-00001"].errors == 0


def test_a_grpc_server_that_is_gone_counts_as_one_error(gateway, told, infer, grpc_server):
    grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

    gone = told("delay-00001")
    gone.close()
    assert gateway.apply([_route(replace(gone.arm(100), grpc_port=gone.port))])
    with pytest.raises(grpc.RpcError) as caught:
        infer()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    counts = gateway.counts()["delay-00001"]
    assert (counts.requests, counts.errors) == (1, 1)


def test_without_a_grpc_port_there_is_no_grpc(gateway, told, infer):
    grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

    gateway.apply([_route(told("delay-00001").arm(100))])
    with pytest.raises(grpc.RpcError) as caught:
        infer()
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def _with_fallback(stable, canary, **more):
    """The route of a canary whose requests the stable revision answers when it is gone."""
    other = stable.arm(50, **more)
    return _route(other, canary.arm(50, name=CANARY, fallback=other))


def test_who_was_sent_to_a_dead_canary_is_answered_by_the_stable_one_and_counts_against_the_canary(gateway, told, ask):
    stable, canary = told("delay-00001"), told("delay-00002")
    canary.close()
    assert gateway.apply([_with_fallback(stable, canary)])
    answers = [ask() for _ in range(60)]
    assert {answer.status_code for answer in answers} == {200}
    # The answer and the server are told the truth, whatever the coin said.
    assert {answer.headers["x-headrace-revision"] for answer in answers} == {"delay-00001"}
    assert {answer.headers["x-headrace-arm"] for answer in answers} == {"stable"}
    assert [headers["x-headrace-arm"] for headers, _ in stable.seen] == ["stable"] * 60
    counts = _until(lambda: (c := gateway.counts()).get("delay-00002") and c)
    assert counts["delay-00001"].errors == 0
    assert counts["delay-00002"].errors == counts["delay-00002"].requests > 0
    assert counts["delay-00001"].requests + counts["delay-00002"].requests == 60


def test_a_canary_that_lives_never_leans_on_its_fallback(gateway, told, ask):
    stable, canary = told("delay-00001"), told("delay-00002", status=503)
    assert gateway.apply([_with_fallback(stable, canary)])
    for _ in range(60):
        answer = ask()
        failed = answer.headers["x-headrace-arm"] == "canary"
        assert answer.status_code == (503 if failed else 200)
    assert {headers["x-headrace-arm"] for headers, _ in canary.seen} == {"canary"}
    assert gateway.counts()["delay-00002"].errors == len(canary.seen) > 0


def test_a_user_whom_a_dead_canary_did_not_answer_is_noted_as_an_error_of_the_canary(gateway, told, ask):
    stable, canary = told("delay-00001"), told("delay-00002")
    canary.close()
    assert gateway.apply([replace(_with_fallback(stable, canary), sticky=Sticky(header="x-user-id"))])
    assert {ask(x_user_id=f"user-{i}").status_code for i in range(40)} == {200}
    found = []
    _until(lambda: found.extend(gateway.user_requests()) or len(found) >= 40)
    assert {one.revision_id for one in found} == {"delay-00001", "delay-00002"}
    assert all(one.error == (one.revision_id == "delay-00002") for one in found)


def test_a_request_that_was_sent_reaches_nobody_twice(gateway, told, ask):
    stable, canary = told("delay-00001"), Dying()
    try:
        other = stable.arm(0)
        arm = Arm("delay-00002", canary.port, 100, name=CANARY, fallback=other)
        assert gateway.apply([_route(other, arm)])
        answer = ask()
    finally:
        canary.close()
    assert (answer.status_code, answer.headers["x-headrace-revision"]) == (503, "delay-00002")
    assert stable.seen == []
    assert canary.requests == 1


def test_who_asks_a_server_that_is_being_started_again_waits_for_it(gateway, told, ask):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert gateway.apply([_route(Arm("delay-00001", port, 100))])
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(ask) for _ in range(4)]
            time.sleep(0.5)
            assert not any(one.done() for one in waiting)
            # It comes up on another port.
            assert gateway.apply([_route(replace(told("delay-00001").arm(100), revision_id="delay-00001"))])
            answers = [one.result() for one in waiting]
    assert {answer.status_code for answer in answers} == {200}
    counts = gateway.counts()["delay-00001"]
    assert (counts.requests, counts.errors) == (4, 4)


def test_a_canary_that_is_started_again_before_its_fallback_is_told_that_it_is_the_canary(gateway, told, ask):
    stable, canary = told("delay-00001"), told("delay-00002")
    stable.close()
    canary.close()
    other = stable.arm(0)
    assert gateway.apply([_route(other, canary.arm(100, name=CANARY, fallback=other))])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask)
        # Both have been asked by then, and more than once.
        time.sleep(0.5)
        again = told("delay-00002")
        assert gateway.apply([_route(other, again.arm(100, name=CANARY, fallback=other))])
        answer = waiting.result()
    assert (answer.headers["x-headrace-revision"], answer.headers["x-headrace-arm"]) == ("delay-00002", "canary")
    assert [headers["x-headrace-arm"] for headers, _ in again.seen] == ["canary"]


def test_a_waiting_request_is_answered_when_the_routes_go_elsewhere(gateway, told, ask):
    """A dead canary is rolled back within a tenth of a second: its cluster goes only when nobody waits for it."""
    stable, canary = told("delay-00001"), told("delay-00002")
    canary.close()
    assert gateway.apply([_with_fallback(stable, canary)])
    stop = threading.Event()

    def keep_asking():
        codes = Counter()
        while not stop.is_set():
            codes[ask().status_code] += 1
        return codes

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(keep_asking) for _ in range(8)]
        for _ in range(10):
            assert gateway.apply([_route(stable.arm(100))])
            assert gateway.apply([_with_fallback(stable, canary)])
        stop.set()
        codes = sum((one.result() for one in asking), Counter())
    assert set(codes) == {200}


def test_grpc_calls_fall_back_too(gateway, told, grpc_server, infer):
    stable, canary = told("delay-00001"), told("delay-00002")
    canary.close()
    route = _with_fallback(stable, canary, grpc_port=grpc_server("delay-00001"))
    known, gone = route.arms
    assert gateway.apply([replace(route, arms=(known, replace(gone, grpc_port=canary.port)))])
    assert infer(calls=30) == ["delay-00001 stable"] * 30
    counts = gateway.counts()
    assert counts["delay-00001"].errors == 0
    assert counts["delay-00002"].errors == counts["delay-00002"].requests > 0
