"""What the API's services have in common: who asks and when, pages, and the pipeline of a run."""

from __future__ import annotations

from typing import Any

from headrace.errors import UsageError
from headrace.project.wiring import Platform
from headrace.runs import packages
from headrace.runs.listing import ListQuery
from headrace.runs.pipelines import Source
from headrace.runs.submission import RunRequest
from headrace.server.operations import NUMBER, OBJECT, TEXT, Schema
from headrace.server.requests import Call, Fields

LIST_QUERY: dict[str, Schema] = {
    "page_token": TEXT, "page_size": NUMBER, "sort_by": TEXT, "filter": TEXT, "namespace": TEXT,
}  # fmt: skip
_REFERENCE: Schema = {"type": "object", "properties": {"pipeline_id": TEXT, "pipeline_version_id": TEXT}}
RUN_BODY: dict[str, Schema] = {
    "display_name": TEXT,
    "description": TEXT,
    "experiment_id": TEXT,
    "pipeline_spec": OBJECT,
    "pipeline_version_reference": _REFERENCE,
    "runtime_config": {"type": "object", "properties": {"parameters": OBJECT, "pipeline_root": TEXT}},
    "service_account": TEXT,
    "plugins_input": OBJECT,
}


class Service:
    """Operations of one service over one platform. One machine has no namespaces; what names one is ignored."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.database = platform.database

    def who(self, call: Call) -> dict[str, Any]:
        """The actor and the time of a change."""
        return {"actor": call.who.name, "at": self.platform.clock.now()}


def list_query(query: Fields) -> ListQuery:
    """The page that a list's query parameters ask for. Raises UsageError."""
    return ListQuery(
        page_size=query.number("page_size"),
        page_token=query.text("page_token"),
        sort_by=query.text("sort_by"),
        filter=query.text("filter"),
    )


def run_request(body: Fields) -> RunRequest:
    """What a Run or a RecurringRun in a body asks for. Raises UsageError."""
    reference, config = body.inside("pipeline_version_reference"), body.inside("runtime_config")
    spec = body.mapping("pipeline_spec")
    # Old clients name the version beside the reference.
    version = reference.text("pipeline_version_id") or body.text("pipeline_version_id")
    pipeline = reference.text("pipeline_id")
    if bool(spec) == bool(version or pipeline):
        raise UsageError(
            "names both a pipeline_spec and a pipeline_version_reference" if spec else "names no pipeline",
            remedy="Give either pipeline_spec or pipeline_version_reference.",
        )
    return RunRequest(
        display_name=body.text("display_name"),
        description=body.text("description"),
        experiment_id=body.text("experiment_id"),
        source=_source(spec) if spec else None,
        pipeline_id=pipeline,
        pipeline_version_id=version,
        parameters=config.mapping("parameters"),
        pipeline_root=config.text("pipeline_root"),
        service_account=body.text("service_account"),
        plugins_input=body.mapping("plugins_input"),
    )


def _source(spec: dict[str, Any]) -> Source:
    for part in ("pipeline_spec", "platform_spec"):
        if not isinstance(spec.get(part, {}), dict):
            raise UsageError("must be an object", where=f"pipeline_spec.{part}", remedy="Send the compiled pipeline.")
    return Source(packages.spec_text(spec), "pipeline_spec")
