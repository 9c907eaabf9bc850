import http.client
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx

from headrace.serving.gateway import envoy

PREDICT = "/v1/models/delay:predict"


def _get(gateway, path=PREDICT, **headers):
    return httpx.get(f"http://127.0.0.1:{gateway.port}{path}", headers=headers, timeout=10)


class Load:
    """Threads that send requests one after the other, each over one connection, and note what comes of them."""

    def __init__(self, gateway, threads=3):
        self.port = gateway.port
        self.seen = Counter()
        self.failed = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        while not self._stop.is_set():
            try:
                connection.request("POST", PREDICT, b"{}")
                answer = connection.getresponse()
                answer.read()
                self.seen[answer.headers["x-headrace-revision"]] += 1
                if answer.status != 200:
                    self.failed.append(answer.status)
            except OSError as error:
                self.failed.append(error)
        connection.close()

    def await_more(self, requests):
        goal = self.seen.total() + requests
        while self.seen.total() < goal and not self.failed:
            time.sleep(0.005)


def _until(found):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if answer := found():
            return answer
        time.sleep(0.05)
    raise AssertionError("it has not come about")


def test_a_service_is_reached_by_path_and_by_host(gateway, backend, split):
    stable = backend("delay-00001")
    assert gateway.apply([split((stable, 100))])
    for path in (PREDICT, "/v1/models/delay", "/v2/models/delay", "/v2/models/delay/infer"):
        answer = _get(gateway, path)
        assert (answer.status_code, answer.json()) == (200, {"name": "delay-00001", "path": path})
        assert answer.headers["x-headrace-revision"] == "delay-00001"
    for host in ("delay.default.example.com", f"delay.default.example.com:{gateway.port}"):
        assert _get(gateway, "/v2/health/ready", host=host).json()["path"] == "/v2/health/ready"


def test_each_answer_carries_a_prediction_id_and_a_callers_own_is_kept(gateway, backend, split):
    gateway.apply([split((backend("delay-00001"), 100))])
    assert uuid.UUID(_get(gateway).headers["x-headrace-prediction-id"])
    own = {"x-request-id": "my-own"}
    assert _get(gateway, **own).headers["x-headrace-prediction-id"] == "my-own"


def test_where_no_service_is_the_answer_is_404_in_json(gateway, backend, split):
    gateway.apply([split((backend("delay-00001"), 100))])
    for path, host in (
        ("/", "127.0.0.1"),
        ("/v1/models/delays", "127.0.0.1"),
        ("/v2/models/price/infer", "127.0.0.1"),
        ("/v1/models/price", "price.default.example.com"),
        ("/", "delay.prod.example.com"),
    ):
        answer = _get(gateway, path, host=host)
        assert (answer.status_code, answer.json()) == (404, {"error": "No service answers here."})
        assert answer.headers["content-type"] == "application/json"


def test_a_service_whose_server_is_not_ready_answers_503_in_json(gateway, split):
    assert gateway.apply([split()])
    answer = _get(gateway)
    assert (answer.status_code, answer.json()) == (503, {"error": "Service delay is not ready."})
    assert answer.headers["content-type"] == "application/json"


def test_no_routes_at_all_are_confirmed_before_and_after_others(gateway, backend, split):
    assert gateway.apply([])
    assert gateway.apply([split((backend("delay-00001"), 100))])
    assert _get(gateway).status_code == 200
    assert gateway.apply([])
    assert _get(gateway).status_code == 404


def test_services_are_kept_apart(gateway, backend, split):
    delay, price = backend("delay-00001"), backend("price-00001")
    gateway.apply([split((delay, 100)), split((price, 100), service="price", namespace="prod")])
    assert _get(gateway, PREDICT).json()["name"] == "delay-00001"
    assert _get(gateway, "/v1/models/price:predict").json()["name"] == "price-00001"
    assert _get(gateway, "/", host="price.prod.example.com").json()["name"] == "price-00001"


def test_weights_change_under_load_without_a_failed_request(gateway, backend, split):
    stable, canary = backend("delay-00001"), backend("delay-00002")
    assert gateway.apply([split((stable, 100), (canary, 0))])
    with Load(gateway) as load:
        load.await_more(50)
        assert set(load.seen) == {"delay-00001"}
        for weight in (10, 50) * 8:
            assert gateway.apply([split((stable, 100 - weight), (canary, weight))])
            load.await_more(5)
        gateway.apply([split((stable, 80), (canary, 20))])
        before = Counter(load.seen)
        load.await_more(1000)
        # Five standard deviations around 20 %.
        shares = load.seen - before
        assert 0.13 < shares["delay-00002"] / shares.total() < 0.27
        gateway.apply([split((stable, 0), (canary, 100))])
        load.await_more(20)
        before = load.seen["delay-00001"]
        load.await_more(100)
        assert load.seen["delay-00001"] == before
    assert load.failed == []


def test_a_revision_comes_and_the_old_one_goes_without_a_failed_request(gateway, backend, split):
    old, new = backend("delay-00001"), backend("delay-00002")
    gateway.apply([split((old, 100))])
    with Load(gateway) as load:
        load.await_more(50)
        for arms in ([(old, 100), (new, 0)], [(old, 50), (new, 50)], [(old, 0), (new, 100)], [(new, 100)]):
            assert gateway.apply([split(*arms)])
            load.await_more(50)
        old.close()
        load.await_more(50)
    assert load.failed == []
    assert load.seen["delay-00002"] > 50


def test_a_request_under_way_is_answered_when_its_revision_goes(gateway, backend, split):
    old, new = backend("delay-00001"), backend("delay-00002")
    old.seconds = 0.5
    gateway.apply([split((old, 100))])
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(_get, gateway)
        old.begun.wait(10)
        assert gateway.apply([split((new, 100))])
        assert _get(gateway).json()["name"] == "delay-00002"
        assert (answer.result().status_code, answer.result().json()["name"]) == (200, "delay-00001")


def test_a_server_that_comes_back_on_another_port_is_found(gateway, backend, split):
    before, after = backend("delay-00001"), backend("delay-00001")
    gateway.apply([split((before, 100))])
    assert _get(gateway).status_code == 200
    before.close()
    assert gateway.apply([split((after, 100))])
    assert _get(gateway).status_code == 200


def test_answers_are_counted_per_revision(gateway, backend, split):
    good, bad = backend("delay-00001"), backend("price-00001")
    bad.status = 500
    gateway.apply([split((good, 100)), split((bad, 100), service="price")])
    for _ in range(7):
        _get(gateway)
    for status in (500, 404, 503):
        bad.status = status
        assert _get(gateway, "/v1/models/price:predict").status_code == status
    counts = gateway.counts()
    assert (counts["delay-00001"].requests, counts["delay-00001"].errors) == (7, 0)
    assert (counts["price-00001"].requests, counts["price-00001"].errors) == (3, 2)
    # Envoy fills its histograms once a second.
    buckets = _until(lambda: (found := gateway.counts()["delay-00001"].buckets) and max(found.values()) == 7 and found)
    assert list(buckets) == sorted(buckets)
    assert gateway.counts()["delay-00001"].slower_than(60_000) == 0


def test_a_server_that_is_gone_and_one_that_takes_too_long_count_as_errors(gateway, backend, split):
    gone, slow = backend("delay-00001"), backend("price-00001")
    gone.close()
    slow.seconds = 1.0
    gateway.apply([split((gone, 100)), split((slow, 100), service="price", timeout_seconds=0.1)])
    assert _get(gateway).status_code == 503
    assert _get(gateway, "/v1/models/price:predict").status_code == 504
    counts = gateway.counts()
    assert (counts["delay-00001"].requests, counts["delay-00001"].errors) == (1, 1)
    assert (counts["price-00001"].requests, counts["price-00001"].errors) == (1, 1)


def test_what_envoy_rejects_is_not_confirmed_and_the_old_routes_stay(gateway, backend, split, monkeypatch):
    monkeypatch.setattr(envoy, "ADMIN_SECONDS", 0.5)
    stable = backend("delay-00001")
    gateway.apply([split((stable, 100))])
    assert not gateway.apply([split((stable, 100), timeout_seconds=-1.0)])
    assert _get(gateway).status_code == 200
    assert gateway.apply([split((stable, 100))])
    assert gateway.apply([split((stable, 100), timeout_seconds=1.0)])


def test_what_is_in_force_is_not_written_again(gateway, backend, split):
    route = split((backend("delay-00001"), 100))
    assert gateway.apply([route])
    files = [gateway.folder / name for name in ("cds.json", "rds.json")]
    before = [file.stat().st_ino for file in files]
    assert gateway.apply([route])
    assert [file.stat().st_ino for file in files] == before


def test_what_a_service_counts_stays_when_others_come_and_go(gateway, backend, split):
    stable, other = backend("delay-00001"), backend("price-00001")
    gateway.apply([split((stable, 100))])
    for _ in range(3):
        _get(gateway)
    gateway.apply([split((stable, 100)), split((other, 100), service="price")])
    gateway.apply([split((stable, 100))])
    assert gateway.counts()["delay-00001"].requests == 3
