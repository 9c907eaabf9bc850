"""ExperimentService."""

from __future__ import annotations

from typing import Any

from headrace.runs import experiments
from headrace.server.kfp.asked import LIST_QUERY, Service, list_query
from headrace.server.operations import TEXT, Operation
from headrace.server.requests import Call


class Experiments(Service):
    def operations(self, prefix: str) -> list[Operation]:
        base = f"{prefix}/experiments"
        one = f"{base}/{{experiment_id}}"
        return [
            Operation("POST", f"{one}:archive", "Archive an experiment with its runs", self.archive),
            Operation("POST", f"{one}:unarchive", "Bring an experiment back", self.unarchive),
            Operation(
                "POST", base, "Make an experiment", self.create,
                body={"display_name": TEXT, "description": TEXT, "namespace": TEXT}, required=["display_name"],
            ),
            Operation("GET", base, "Experiments", self.list, query=LIST_QUERY),
            Operation("GET", one, "An experiment", self.get),
            Operation("DELETE", one, "Delete an experiment; its runs stay", self.delete),
        ]  # fmt: skip

    def create(self, call: Call) -> Any:
        name, description = call.body.text("display_name"), call.body.text("description")
        return experiments.create(self.database, name=name, description=description, **self.who(call))

    def list(self, call: Call) -> Any:
        return experiments.list_experiments(self.database, list_query(call.query))

    def get(self, call: Call) -> Any:
        return experiments.experiment_json(self.database, call.path["experiment_id"])

    def archive(self, call: Call) -> Any:
        experiments.archive(self.database, call.path["experiment_id"], **self.who(call))
        return {}

    def unarchive(self, call: Call) -> Any:
        experiments.unarchive(self.database, call.path["experiment_id"], **self.who(call))
        return {}

    def delete(self, call: Call) -> Any:
        experiments.delete(self.database, call.path["experiment_id"], **self.who(call))
        return {}
