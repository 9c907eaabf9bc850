"""RunService."""

from __future__ import annotations

from typing import Any

from headrace.runs import packages, storage, submission, transitions, v2beta1
from headrace.runs.submission import Occasion
from headrace.server.kfp.asked import LIST_QUERY, RUN_BODY, Service, list_query, run_request
from headrace.server.operations import TEXT, Operation
from headrace.server.requests import Call

REASON = "KFP API"


class Runs(Service):
    def operations(self, prefix: str) -> list[Operation]:
        base = f"{prefix}/runs"
        one = f"{base}/{{run_id}}"
        return [
            Operation("POST", f"{one}:terminate", "Stop a run and its tasks", self.terminate),
            Operation("POST", f"{one}:retry", "Try a run's failed tasks again", self.retry),
            Operation("POST", f"{one}:archive", "Archive a run", self.archive),
            Operation("POST", f"{one}:unarchive", "Bring a run back", self.unarchive),
            Operation(
                "POST", base, "Start a run", self.create, query={"experiment_id": TEXT}, body=RUN_BODY,
                most_bytes=packages.MAX_BYTES,
            ),
            Operation("GET", base, "Runs", self.list, query={**LIST_QUERY, "experiment_id": TEXT}),
            Operation("GET", one, "A run with its task details", self.get),
            Operation("DELETE", one, "Delete a run", self.delete),
        ]  # fmt: skip

    def create(self, call: Call) -> Any:
        occasion = Occasion(reason=REASON, **self.who(call))
        run_id = submission.submit(
            self.database, run_request(call.body), occasion, environment=self.platform.environment.name
        )
        self.platform.mlflow_runs.begin(run_id)
        return v2beta1.run_json(self.database, run_id)

    def list(self, call: Call) -> Any:
        return v2beta1.list_runs(self.database, list_query(call.query), call.query.text("experiment_id"))

    def get(self, call: Call) -> Any:
        return v2beta1.run_json(self.database, call.path["run_id"])

    def terminate(self, call: Call) -> Any:
        transitions.request_cancel(self.database, self._id(call), reason=REASON, **self.who(call))
        return {}

    def retry(self, call: Call) -> Any:
        transitions.retry_run(self.database, self._id(call), reason=REASON, **self.who(call))
        return {}

    def archive(self, call: Call) -> Any:
        storage.archive(self.database, self._id(call), **self.who(call))
        return {}

    def unarchive(self, call: Call) -> Any:
        storage.unarchive(self.database, self._id(call), **self.who(call))
        return {}

    def delete(self, call: Call) -> Any:
        storage.delete(self.database, self._id(call), **self.who(call))
        return {}

    def _id(self, call: Call) -> str:
        return str(v2beta1.run_row(self.database, call.path["run_id"])["id"])
