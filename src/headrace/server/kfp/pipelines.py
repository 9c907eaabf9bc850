"""PipelineService and PipelineUploadService."""

from __future__ import annotations

from typing import Any

from headrace.errors import UsageError
from headrace.runs import packages, pipelines
from headrace.runs.pipelines import Change, Named, Source
from headrace.server.kfp.asked import LIST_QUERY, Service, list_query
from headrace.server.operations import FLAG, OBJECT, TEXT, Operation, Schema
from headrace.server.requests import Call, Fields

_NAMES = {"name": TEXT, "display_name": TEXT, "description": TEXT, "namespace": TEXT, "tags": TEXT}
_CHANGE: dict[str, Schema] = {"display_name": TEXT, "tags": OBJECT}


class Pipelines(Service):
    def operations(self, prefix: str) -> list[Operation]:
        base = f"{prefix}/pipelines"
        one, version = f"{base}/{{pipeline_id}}", f"{base}/{{pipeline_id}}/versions/{{pipeline_version_id}}"
        return [
            Operation(
                "POST", f"{base}/upload", "Upload a pipeline", self.upload, query=_NAMES, upload=True,
                most_bytes=packages.MAX_BYTES,
            ),
            Operation(
                "POST", f"{base}/upload_version", "Upload a version of a pipeline", self.upload_version,
                query={**_NAMES, "pipelineid": TEXT, "code_source_url": TEXT}, upload=True,
                most_bytes=packages.MAX_BYTES,
            ),
            Operation(
                "POST", base, "Make a pipeline without a version", self.create,
                body={"name": TEXT, "display_name": TEXT, "description": TEXT, "tags": OBJECT},
            ),
            Operation("GET", base, "Pipelines", self.list, query=LIST_QUERY),
            Operation("GET", f"{base}/names/{{name}}", "A pipeline by its name", self.named),
            Operation("GET", one, "A pipeline", self.get),
            Operation("PATCH", one, "Change a pipeline's display name or tags", self.update, body=_CHANGE),
            Operation("DELETE", one, "Delete a pipeline", self.delete, query={"cascade": FLAG}),
            Operation("GET", f"{one}/versions", "A pipeline's versions", self.list_versions, query=LIST_QUERY),
            Operation("GET", version, "A version with its pipeline_spec", self.get_version),
            Operation("PATCH", version, "Change a version's display name or tags", self.update, body=_CHANGE),
            Operation("DELETE", version, "Delete a version", self.delete_version),
        ]  # fmt: skip

    def upload(self, call: Call) -> Any:
        return pipelines.create(self.database, _named(call), _source(call), **self.who(call))

    def upload_version(self, call: Call) -> Any:
        pipeline_id = call.query.text("pipelineid")
        if not pipeline_id:
            raise UsageError("names no pipeline", where="pipelineid", remedy="Give ?pipelineid=ID.")
        return pipelines.create_version(self.database, pipeline_id, _named(call), _source(call), **self.who(call))

    def create(self, call: Call) -> Any:
        body = call.body
        named = Named(
            name=body.text("name") or body.text("display_name"),
            display_name=body.text("display_name"),
            description=body.text("description"),
            tags=_tags(body.mapping("tags")),
        )
        return pipelines.create(self.database, named, None, **self.who(call))

    def list(self, call: Call) -> Any:
        return pipelines.list_pipelines(self.database, list_query(call.query))

    def named(self, call: Call) -> Any:
        return pipelines.named_json(self.database, call.path["name"])

    def get(self, call: Call) -> Any:
        return pipelines.pipeline_json(self.database, call.path["pipeline_id"])

    def update(self, call: Call) -> Any:
        body = call.body
        change = Change(
            body.text("display_name") if body.has("display_name") else None,
            _tags(body.mapping("tags")) if body.has("tags") else None,
        )
        version_id = call.path.get("pipeline_version_id", "")
        return pipelines.update(
            self.database, call.path["pipeline_id"], change, version_id=version_id, **self.who(call)
        )

    def delete(self, call: Call) -> Any:
        cascade = call.query.flag("cascade")
        pipelines.delete(self.database, call.path["pipeline_id"], cascade=cascade, **self.who(call))
        return {}

    def list_versions(self, call: Call) -> Any:
        return pipelines.list_versions(self.database, call.path["pipeline_id"], list_query(call.query))

    def get_version(self, call: Call) -> Any:
        return pipelines.version_json(self.database, call.path["pipeline_id"], call.path["pipeline_version_id"])

    def delete_version(self, call: Call) -> Any:
        pipelines.delete_version(
            self.database, call.path["pipeline_id"], call.path["pipeline_version_id"], **self.who(call)
        )
        return {}


def _named(call: Call) -> Named:
    query = call.query
    return Named(
        name=query.text("name") or query.text("display_name") or call.upload[0],
        display_name=query.text("display_name"),
        description=query.text("description"),
        tags=_tags(_json_object(query)),
    )


def _source(call: Call) -> Source:
    name, data = call.upload
    return Source(packages.read_package(name, data), name or "the upload", call.query.text("code_source_url"))


def _json_object(query: Fields) -> Any:
    import orjson

    text = query.text("tags")
    try:
        return orjson.loads(text) if text else {}
    except orjson.JSONDecodeError as error:
        raise _wrong_tags() from error


def _tags(tags: Any) -> dict[str, str]:
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise _wrong_tags()
    return tags


def _wrong_tags() -> UsageError:
    return UsageError("must be an object of strings", where="tags", remedy='As in: {"team": "flights"}')
