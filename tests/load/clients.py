"""Users who send requests at a steady rate, whatever becomes of the answers, and note all that comes back."""

import http.client
import json
import threading
import time
from dataclasses import dataclass

PREDICT = "/v1/models/delay:predict"
BODY = json.dumps({"instances": [[0.0, 1.0]]}).encode()
SECONDS = 10.0


@dataclass(frozen=True)
class Sent:
    """One request: when it left and when its answer was there (unix seconds), and what was answered.

    `status` is 0 when there was no answer; `problem` says why.
    """

    at: float
    done: float
    user: int
    status: int
    revision: str = ""
    arm: str = ""
    problem: str = ""

    @property
    def failed(self):
        return self.status != 200


class Load:
    """`rate` requests a second to the gateway on `port`, from `users` users in turn, until it is stopped."""

    def __init__(self, port, rate=200.0, users=500, threads=24):
        self.port, self.rate, self.users = port, rate, users
        self.sent = []
        self._next = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        self._began = 0.0

    def __enter__(self):
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def await_more(self, requests):
        """Wait until so many more have been answered or have failed."""
        goal = len(self.sent) + requests
        while len(self.sent) < goal:
            time.sleep(0.01)

    def between(self, begin, end):
        """What was sent in [begin, end)."""
        return [one for one in list(self.sent) if begin <= one.at < end]

    def _run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        while not self._stop.is_set():
            with self._lock:
                number, self._next = self._next, self._next + 1
            wait = self._began + number / self.rate - time.monotonic()
            if wait > 0 and self._stop.wait(wait):
                break
            self.sent.append(self._send(connection, number % self.users))
        connection.close()

    def _send(self, connection, user):
        at = time.time()
        try:
            headers = {"content-type": "application/json", "x-user-id": f"user-{user}"}
            connection.request("POST", PREDICT, BODY, headers)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return Sent(at, time.time(), user, 0, problem=repr(error))
        revision, arm = (answer.headers.get(f"x-headrace-{name}", "") for name in ("revision", "arm"))
        return Sent(at, time.time(), user, answer.status, revision, arm)
