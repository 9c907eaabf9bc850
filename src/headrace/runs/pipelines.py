"""Pipelines and their versions, as people upload them. A version's document is kept as it came, to the byte.

Shapes and behaviour: KFP's backend/api/v2beta1/pipeline.proto. Names are unique, those of versions within a pipeline.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.clock import rfc3339
from headrace.contracts import pipeline_spec
from headrace.errors import AlreadyExistsError, NotFoundError, UsageError
from headrace.runs import packages
from headrace.runs.listing import TIME, Condition, Field, Listable, ListQuery, page
from headrace.store import events
from headrace.store.database import Database

MAX_PIPELINE_NAME = 128
MAX_VERSION_NAME = 127

LISTABLE = Listable(
    "pipeline",
    {
        "pipeline_id": Field("id"),
        "id": Field("id"),
        "name": Field("name"),
        "display_name": Field("display_name"),
        "description": Field("description"),
        "created_at": Field("created_at", TIME),
    },
)
VERSIONS_LISTABLE = Listable(
    "pipeline_version", {"pipeline_version_id": Field("id"), **LISTABLE.fields, "pipeline_id": Field("pipeline_id")}
)


@dataclass(frozen=True)
class Named:
    """What people call a pipeline or a version. `display_name` is the name where it is not given."""

    name: str
    display_name: str = ""
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """What is to change of a pipeline or a version; None leaves it."""

    display_name: str | None = None
    tags: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Source:
    """A version's document; `file` is only named in errors."""

    text: str
    file: str
    code_source_url: str = ""


def create(database: Database, named: Named, source: Source | None, *, actor: str, at: float) -> dict[str, Any]:
    """Make a pipeline, with a first version of the same name when there is a source, and return it as JSON.

    Raises:
        UsageError: the name is empty or too long.
        AlreadyExistsError: the name is taken.
        DocumentError: the source is no pipeline.
    """
    _check_name("Pipeline", named, MAX_PIPELINE_NAME)
    if source is not None:
        pipeline_spec.parse(source.text, source.file)
    pipeline_id = str(uuid.uuid4())
    with database.transaction() as connection:
        try:
            connection.execute(
                "INSERT INTO pipeline (id, name, display_name, description, tags, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    pipeline_id, named.name, named.display_name or named.name, named.description,
                    json.dumps(dict(named.tags)), at,
                ),
            )  # fmt: skip
        except sqlite3.IntegrityError as error:
            raise _taken("pipeline", named.name) from error
        events.append(
            connection, at=at, actor=actor, kind="pipeline.created", subject=f"pipeline/{pipeline_id}",
            data={"name": named.name},
        )  # fmt: skip
        if source is not None:
            _insert_version(connection, pipeline_id, named, source, actor, at)
    return pipeline_json(database, pipeline_id)


def create_version(
    database: Database, pipeline_id: str, named: Named, source: Source, *, actor: str, at: float
) -> dict[str, Any]:
    """Add a version to a pipeline and return it as JSON.

    Raises:
        NotFoundError: no such pipeline.
        UsageError: the name is empty or too long.
        AlreadyExistsError: the pipeline has a version of this name.
        DocumentError: the source is no pipeline.
    """
    pipeline_json(database, pipeline_id)
    _check_name("PipelineVersion", named, MAX_VERSION_NAME)
    pipeline_spec.parse(source.text, source.file)
    with database.transaction() as connection:
        version_id = _insert_version(connection, pipeline_id, named, source, actor, at)
    return version_json(database, pipeline_id, version_id)


def pipeline_json(database: Database, pipeline_id: str) -> dict[str, Any]:
    """A pipeline as KFP's v2beta1 `Pipeline`. Raises NotFoundError."""
    row = database.one("SELECT * FROM pipeline WHERE id = ?", (pipeline_id,))
    if row is None:
        raise NotFoundError(f"Pipeline {pipeline_id} not found", remedy="List the pipelines to see their ids.")
    return _pipeline(dict(row))


def named_json(database: Database, name: str) -> dict[str, Any]:
    """The pipeline of this name as JSON. Raises NotFoundError."""
    row = database.one("SELECT * FROM pipeline WHERE name = ?", (name,))
    if row is None:
        raise NotFoundError(f"Pipeline {name} not found", remedy="List the pipelines to see their names.")
    return _pipeline(dict(row))


def list_pipelines(database: Database, query: ListQuery) -> dict[str, Any]:
    """A page of pipelines as KFP's `ListPipelinesResponse`. Raises UsageError."""
    found = page(database, LISTABLE, query)
    return {
        "pipelines": [_pipeline(row) for row in found.rows],
        "total_size": found.total_size,
        "next_page_token": found.next_page_token,
    }


def update(
    database: Database, pipeline_id: str, change: Change, *, actor: str, at: float, version_id: str = ""
) -> dict[str, Any]:
    """Change a pipeline, or one of its versions, and return it as JSON.

    Raises:
        NotFoundError: no such pipeline or version.
        UsageError: the display name is blank.
    """
    found = version_json(database, pipeline_id, version_id) if version_id else pipeline_json(database, pipeline_id)
    if change.display_name is not None and not change.display_name.strip():
        raise UsageError("cannot be empty", where="display_name", remedy="Give a name, or leave it out.")
    display_name = found["display_name"] if change.display_name is None else change.display_name
    tags = found["tags"] if change.tags is None else dict(change.tags)
    table, kind = ("pipeline_version", "pipeline-version") if version_id else ("pipeline", "pipeline")
    with database.transaction() as connection:
        connection.execute(
            f"UPDATE {table} SET display_name = ?, tags = ? WHERE id = ?",
            (display_name, json.dumps(tags), version_id or pipeline_id),
        )
        events.append(
            connection, at=at, actor=actor, kind=f"{kind}.updated", subject=f"pipeline/{pipeline_id}",
            data={"display_name": display_name, **({"pipeline_version_id": version_id} if version_id else {})},
        )  # fmt: skip
    return {**found, "display_name": display_name, "tags": tags}


def delete(database: Database, pipeline_id: str, *, cascade: bool, actor: str, at: float) -> None:
    """Delete a pipeline, and its versions when `cascade`. Runs keep their own copy of the document.

    Raises:
        NotFoundError: no such pipeline.
        UsageError: it has versions, and `cascade` is not set.
    """
    pipeline_json(database, pipeline_id)
    with database.transaction() as connection:
        if cascade:
            connection.execute("DELETE FROM pipeline_version WHERE pipeline_id = ?", (pipeline_id,))
        version = connection.execute(
            "SELECT id FROM pipeline_version WHERE pipeline_id = ? LIMIT 1", (pipeline_id,)
        ).fetchone()
        if version is not None:
            raise UsageError(
                f"Failed to delete pipeline with id {pipeline_id} as it has existing pipeline versions"
                f" (e.g. {version['id']})",
                remedy="Delete its versions first, or set cascade=true.",
            )
        connection.execute("DELETE FROM pipeline WHERE id = ?", (pipeline_id,))
        events.append(connection, at=at, actor=actor, kind="pipeline.deleted", subject=f"pipeline/{pipeline_id}")


def version_json(database: Database, pipeline_id: str, version_id: str) -> dict[str, Any]:
    """A version as KFP's v2beta1 `PipelineVersion`, with its `pipeline_spec`. Raises NotFoundError."""
    return _version(_version_row(database, pipeline_id, version_id))


def list_versions(database: Database, pipeline_id: str, query: ListQuery) -> dict[str, Any]:
    """A page of a pipeline's versions as KFP's `ListPipelineVersionsResponse`.

    Raises:
        NotFoundError: no such pipeline.
        UsageError: the query is wrong.
    """
    pipeline_json(database, pipeline_id)
    found = page(database, VERSIONS_LISTABLE, query, [Condition("pipeline_id = ?", (pipeline_id,))])
    return {
        "pipeline_versions": [_version(row) for row in found.rows],
        "total_size": found.total_size,
        "next_page_token": found.next_page_token,
    }


def delete_version(database: Database, pipeline_id: str, version_id: str, *, actor: str, at: float) -> None:
    """Delete a version. Runs keep their own copy of the document. Raises NotFoundError."""
    _version_row(database, pipeline_id, version_id)
    with database.transaction() as connection:
        connection.execute("DELETE FROM pipeline_version WHERE id = ?", (version_id,))
        events.append(
            connection, at=at, actor=actor, kind="pipeline-version.deleted", subject=f"pipeline/{pipeline_id}",
            data={"pipeline_version_id": version_id},
        )  # fmt: skip


@dataclass(frozen=True)
class Chosen:
    """A version that something is to be run from: its document and what it is called."""

    pipeline_id: str
    version_id: str
    pipeline: str
    source: Source


def choose(database: Database, pipeline_id: str, version_id: str) -> Chosen:
    """The version that a pipeline_version_reference means: the newest one where it names only a pipeline.

    Raises:
        NotFoundError: no such pipeline or version, or the pipeline has no version.
        UsageError: neither is named, or the version belongs to another pipeline.
    """
    if not pipeline_id and not version_id:
        raise UsageError(
            "names neither a pipeline nor a version",
            where="pipeline_version_reference",
            remedy="Give pipeline_id and pipeline_version_id.",
        )
    row = database.one(
        "SELECT v.*, p.name AS pipeline FROM pipeline_version v JOIN pipeline p ON p.id = v.pipeline_id"
        " WHERE (? = '' OR v.id = ?) AND (? != '' OR v.pipeline_id = ?)"
        " ORDER BY v.created_at DESC, v.rowid DESC LIMIT 1",
        (version_id, version_id, version_id, pipeline_id),
    )
    if row is None:
        missing = f"Pipeline version {version_id}" if version_id else f"A version of pipeline {pipeline_id}"
        raise NotFoundError(f"{missing} not found", remedy="List the pipeline's versions to see their ids.")
    if pipeline_id and row["pipeline_id"] != pipeline_id:
        raise UsageError(
            f"Pipeline version {version_id} belongs to pipeline {row['pipeline_id']} (not {pipeline_id})",
            where="pipeline_version_reference",
            remedy="Give the pipeline_id that the version has, or none.",
        )
    source = Source(row["document"], row["file"], row["code_source_url"])
    return Chosen(row["pipeline_id"], row["id"], row["pipeline"], source)


def _insert_version(
    connection: sqlite3.Connection, pipeline_id: str, named: Named, source: Source, actor: str, at: float
) -> str:
    version_id = str(uuid.uuid4())
    try:
        connection.execute(
            "INSERT INTO pipeline_version (id, pipeline_id, name, display_name, description, code_source_url, tags,"
            " document, file, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                version_id, pipeline_id, named.name, named.display_name or named.name, named.description,
                source.code_source_url, json.dumps(dict(named.tags)), source.text, source.file, at,
            ),
        )  # fmt: skip
    except sqlite3.IntegrityError as error:
        raise _taken("pipeline version", named.name) from error
    events.append(
        connection, at=at, actor=actor, kind="pipeline-version.created", subject=f"pipeline/{pipeline_id}",
        data={"pipeline_version_id": version_id, "name": named.name},
    )  # fmt: skip
    return version_id


def _check_name(kind: str, named: Named, longest: int) -> None:
    if not named.name.strip():
        raise UsageError(f"{kind} name cannot be empty", where="name", remedy="Give it a name.")
    if len(named.name) > longest:
        raise UsageError(
            f"{kind} name is longer than {longest} characters", where="name", remedy="Give it a shorter name."
        )


def _taken(kind: str, name: str) -> AlreadyExistsError:
    return AlreadyExistsError(f"The {kind} {name} already exists", where="name", remedy="Please specify a new name.")


def _version_row(database: Database, pipeline_id: str, version_id: str) -> Mapping[str, Any]:
    row = database.one("SELECT * FROM pipeline_version WHERE id = ? AND pipeline_id = ?", (version_id, pipeline_id))
    if row is None:
        raise NotFoundError(
            f"Pipeline version {version_id} of pipeline {pipeline_id} not found",
            remedy="List the pipeline's versions to see their ids.",
        )
    return dict(row)


def _pipeline(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "pipeline_id": row["id"],
        "name": row["name"],
        "display_name": row["display_name"],
        "description": row["description"],
        "created_at": rfc3339(row["created_at"]),
        "tags": json.loads(row["tags"]),
    }


def _version(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "pipeline_id": row["pipeline_id"],
        "pipeline_version_id": row["id"],
        "name": row["name"],
        "display_name": row["display_name"],
        "description": row["description"],
        "created_at": rfc3339(row["created_at"]),
        "code_source_url": row["code_source_url"],
        "pipeline_spec": packages.spec_json(row["document"]),
        "tags": json.loads(row["tags"]),
    }
