"""Users who ask a service at a steady rate, and tell the truth about each answer a moment later."""

import http.client
import json
import queue
import threading
import time

import httpx

from load.clients import SECONDS, Load, Sent

LABELS_EVERY = 0.5


class Traffic(Load):
    """Load of one service: user n asks about the number n. `labels` is where the truth goes, a URL."""

    def __init__(self, port, labels, strategy, rate):
        super().__init__(port, rate, users=1000, threads=24)
        self.strategy = strategy
        self._labels, self._answered = labels, queue.SimpleQueue()
        self._threads.append(threading.Thread(target=self._tell, daemon=True))

    def _send(self, connection, user):
        at = time.time()
        try:
            body = json.dumps({"instances": [{"number": user}]})
            headers = {"content-type": "application/json", "x-user-id": f"user-{user}"}
            connection.request("POST", f"/v1/models/{self.strategy.service}:predict", body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return Sent(at, time.time(), user, 0, problem=repr(error))
        told = {name: answer.headers.get(f"x-headrace-{name}", "") for name in ("revision", "arm", "prediction-id")}
        if answer.status == 200:
            self._answered.put((told["prediction-id"], user, json.loads(content)["predictions"][0]))
        return Sent(at, time.time(), user, answer.status, told["revision"], told["arm"])

    def _tell(self):
        """The truth: whether a number is odd; for an A/B test whether the answer was right."""
        with httpx.Client(timeout=SECONDS) as client:
            while not self._stop.wait(LABELS_EVERY):
                labels = []
                while not self._answered.empty():
                    name, number, answer = self._answered.get()
                    value = int(answer == number % 2) if self.strategy.conversions else number % 2
                    labels.append({"id": name, "value": value})
                if labels:
                    body = {"service": self.strategy.service, "labels": labels}
                    client.post(self._labels, json=body).raise_for_status()
