"""RecurringRunService."""

from __future__ import annotations

from typing import Any

from headrace.errors import UsageError
from headrace.runs import packages, recurring
from headrace.runs.schedules import Schedule
from headrace.server.kfp.asked import LIST_QUERY, RUN_BODY, Service, list_query, run_request
from headrace.server.operations import FLAG, TEXT, TIME, Operation, Schema
from headrace.server.requests import Call, Fields

_BOUNDS = {"start_time": TIME, "end_time": TIME}
# int64, which protobuf's JSON writes as a string and reads as either.
_INT64: Schema = {"type": ["integer", "string"]}
_TRIGGER: Schema = {
    "type": "object",
    "properties": {
        "cron_schedule": {"type": "object", "properties": {**_BOUNDS, "cron": TEXT}},
        "periodic_schedule": {"type": "object", "properties": {**_BOUNDS, "interval_second": _INT64}},
    },
}
_MODES = {"MODE_UNSPECIFIED": 0, "ENABLE": 1, "DISABLE": 2}
_MODE: Schema = {"enum": list(_MODES)}


class RecurringRuns(Service):
    def operations(self, prefix: str) -> list[Operation]:
        base = f"{prefix}/recurringruns"
        one = f"{base}/{{recurring_run_id}}"
        return [
            Operation("POST", f"{one}:enable", "Let it start runs", self.enable),
            Operation("POST", f"{one}:disable", "Let it start no more runs", self.disable),
            Operation(
                "POST", base, "Make a recurring run", self.create, most_bytes=packages.MAX_BYTES,
                body={
                    **RUN_BODY, "trigger": _TRIGGER, "mode": _MODE, "max_concurrency": _INT64, "no_catchup": FLAG,
                },
            ),
            Operation("GET", base, "Recurring runs", self.list, query={**LIST_QUERY, "experiment_id": TEXT}),
            Operation("GET", one, "A recurring run", self.get),
            Operation("DELETE", one, "Delete a recurring run; its runs stay", self.delete),
        ]  # fmt: skip

    def create(self, call: Call) -> Any:
        body = call.body
        return recurring.create(
            self.database,
            run_request(body),
            _schedule(body),
            max_concurrency=body.number("max_concurrency"),
            enabled=body.choice("mode", _MODES) == "ENABLE",
            **self.who(call),
        )

    def list(self, call: Call) -> Any:
        return recurring.list_recurring_runs(self.database, list_query(call.query), call.query.text("experiment_id"))

    def get(self, call: Call) -> Any:
        return recurring.recurring_run_json(self.database, call.path["recurring_run_id"])

    def enable(self, call: Call) -> Any:
        recurring.enable(self.database, call.path["recurring_run_id"], enabled=True, **self.who(call))
        return {}

    def disable(self, call: Call) -> Any:
        recurring.enable(self.database, call.path["recurring_run_id"], enabled=False, **self.who(call))
        return {}

    def delete(self, call: Call) -> Any:
        recurring.delete(self.database, call.path["recurring_run_id"], **self.who(call))
        return {}


def _schedule(body: Fields) -> Schedule:
    trigger = body.inside("trigger")
    cron, periodic = trigger.inside("cron_schedule"), trigger.inside("periodic_schedule")
    if trigger.has("cron_schedule") == trigger.has("periodic_schedule"):
        raise UsageError(
            "must have one schedule", where="trigger", remedy="Give either cron_schedule or periodic_schedule."
        )
    if trigger.has("cron_schedule") and not cron.text("cron"):
        raise UsageError("is missing", where="trigger.cron_schedule.cron", remedy="As in: 0 0 9 ? * 2-6")
    bounds = cron if trigger.has("cron_schedule") else periodic
    start, end = bounds.time("start_time"), bounds.time("end_time")
    if start is not None and end is not None and end < start:
        raise UsageError("ends before it starts", where="trigger", remedy="Correct start_time or end_time.")
    return Schedule(
        cron=cron.text("cron"),
        interval_seconds=periodic.number("interval_second"),
        start_at=start,
        end_at=end,
        no_catchup=body.flag("no_catchup"),
    )
