"""Asks what may never answer, such as a registry on another machine, and gives up in time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from headrace.catalog.registry import ModelRegistry
from headrace.errors import HeadraceError

Answer = TypeVar("Answer")
# MLflow's own client tries for minutes: https://mlflow.org/docs/latest/api_reference/python_api/mlflow.environment_variables.html
WAIT_SECONDS = 10.0
_AT_ONCE = 4


class Patience:
    """Asks a registry. A server is waited for only so long, and only so many questions wait at once."""

    def __init__(self, registry: ModelRegistry, seconds: float = WAIT_SECONDS) -> None:
        self.registry = registry
        self.seconds = seconds
        self._free = threading.Semaphore(_AT_ONCE)

    def ask(self, question: Callable[[ModelRegistry], Answer]) -> Answer:
        """What `question` gives.

        Raises:
            HeadraceError: there is no answer in time; or what `question` raises.
        """
        if self.registry.tracking_uri.startswith("sqlite:///"):
            return question(self.registry)
        if not self._free.acquire(timeout=self.seconds):
            raise self._gave_up()
        answers: queue.SimpleQueue[tuple[bool, Answer | BaseException]] = queue.SimpleQueue()

        def wait() -> None:
            try:
                answers.put((True, question(self.registry)))
            except BaseException as error:  # noqa: BLE001 - raised by whoever waits for it
                answers.put((False, error))
            finally:
                self._free.release()

        # A daemon, so that nothing waits for it when the server ends.
        threading.Thread(target=wait, name="registry", daemon=True).start()
        try:
            answered, what = answers.get(timeout=self.seconds)
        except queue.Empty:
            raise self._gave_up() from None
        if isinstance(what, BaseException) and not answered:
            raise what
        return what  # type: ignore[return-value]

    def _gave_up(self) -> HeadraceError:
        return HeadraceError(
            f"MLflow has not answered in {self.seconds:g} s",
            where=self.registry.tracking_uri,
            remedy="See that it runs, then load the page again.",
        )
