"""Runs in MLflow, as KFP's MLflow integration writes them. MLflow's own client does the talking.

Source: KEP-12862 in kubeflow/pipelines, and backend/src/{apiserver,v2/common}/plugins/mlflow there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from headrace.catalog.registry import ModelRegistry
from headrace.errors import HeadraceError, NotFoundError

PARENT_TAG = "mlflow.parentRunId"
NAME_TAG = "mlflow.runName"
KEY_TAG = "mlflow.kfp.idempotencyKey"
MAX_VALUE = 6000  # MLflow's, in characters
MAX_BATCH = 100
# What MLflow answers for a run or experiment that is not there any more, or was changed by hand.
_LOST = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE", "BAD_REQUEST")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Experiment:
    """An experiment of MLflow."""

    id: str
    name: str


class TrackedRuns:
    """Runs at one tracking address. Every method is idempotent.

    Each raises HeadraceError when MLflow fails, and NotFoundError when what it should change is not there or will not
    be changed, so that trying again is of no use.
    """

    def __init__(self, registry: ModelRegistry) -> None:
        self.registry = registry

    def experiment(self, experiment_id: str, name: str) -> Experiment:
        """The experiment of this id, else of this name, which is made when it is not there."""

        def find(client: Any) -> Experiment:
            found = client.get_experiment(experiment_id or self.registry.experiment(name))
            return Experiment(str(found.experiment_id), str(found.name))

        return self._ask(find)

    def start(self, experiment_id: str, key: str, name: str, tags: Mapping[str, str], at: float) -> str:
        """Start a run and return its id: the one of this key, if it was started before and the answer was lost."""

        def begin(client: Any) -> str:
            known = client.search_runs([experiment_id], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
            if known:
                return str(known[0].info.run_id)
            made = client.create_run(
                experiment_id, start_time=_millis(at), tags={**tags, NAME_TAG: name, KEY_TAG: key}, run_name=name
            )
            return str(made.info.run_id)

        return self._ask(begin)

    def log(self, run_id: str, parameters: Mapping[str, Any], metrics: Mapping[str, float], at: float) -> None:
        """Log parameters, each as JSON, and metrics."""
        import mlflow

        told = [mlflow.entities.Param(name, json.dumps(value)[:MAX_VALUE]) for name, value in parameters.items()]
        measured = [mlflow.entities.Metric(name, value, _millis(at), 0) for name, value in metrics.items()]

        def write(client: Any) -> None:
            for start in range(0, max(len(told), 1), MAX_BATCH):
                client.log_batch(run_id, params=told[start : start + MAX_BATCH], metrics=[] if start else measured)

        self._ask(write)

    def end(self, run_id: str, status: str, at: float) -> None:
        """Give a run its end: FINISHED, FAILED or KILLED."""
        self._ask(lambda client: client.set_terminated(run_id, status, _millis(at)))

    def reopen(self, run_id: str) -> None:
        """RUNNING again."""
        self._ask(lambda client: client.update_run(run_id, status="RUNNING"))

    def _ask(self, question: Callable[[Any], _Result]) -> _Result:
        # A server that is not there is found out quickly; the client itself would go on trying for minutes.
        self.registry.check()
        import mlflow

        try:
            return question(self.registry.client)
        except mlflow.MlflowException as error:
            kind = NotFoundError if error.error_code in _LOST else HeadraceError
            raise kind(f"MLflow: {error}", where=self.registry.tracking_uri) from error


def _millis(seconds: float) -> int:
    return int(seconds * 1000)
