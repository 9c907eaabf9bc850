"""Pipelines: the project's and the uploaded ones; start a run, look at the graph, run it again and again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headrace.clock import rfc3339
from headrace.contracts import pipeline_spec
from headrace.contracts.project_file import PipelineEntry, Reference
from headrace.errors import NotFoundError, UsageError
from headrace.governance.rbac import Role
from headrace.project import load
from headrace.project.wiring import Platform
from headrace.project.written import Sources
from headrace.runs import browse, packages, queries, recurring, submission, tree
from headrace.runs import pipelines as uploaded
from headrace.runs.browse import Wanted
from headrace.runs.gaps import gaps
from headrace.runs.pipelines import Named, Source
from headrace.runs.schedules import Schedule
from headrace.runs.submission import Occasion, RunRequest
from headrace.runs.submit import create_run
from headrace.server import access
from headrace.server.console import folding, forms
from headrace.server.console.actions import Action, Done, FormError, Submission, lead_to
from headrace.server.console.folding import Links
from headrace.server.console.forms import Field
from headrace.server.console.pages import Page
from headrace.server.operations import TEXT
from headrace.server.requests import Call, Fields, read_form_upload, refuse_other_sites

LATEST = 20
SOURCE = "source"
_MOST = 200


@dataclass(frozen=True)
class PipelineRow:
    """A pipeline of the project (`source` is where it is written) or an uploaded one; `runs`: the newest first."""

    name: str
    source: str
    description: str
    triggers: list[str]
    versions: int
    runs: list[Mapping[str, Any]]


@dataclass(frozen=True)
class PipelinesPage:
    pipelines: list[PipelineRow]


@dataclass(frozen=True)
class Version:
    id: str
    name: str
    description: str
    created_at: str


@dataclass(frozen=True)
class Part:
    """A task or a group of the pipeline; a group leads to where it is unfolded."""

    node: tree.Node
    href: str
    toggle: str
    selected: bool = False


@dataclass(frozen=True)
class PipelinePage:
    """`version`: the uploaded version that is shown, or SOURCE for a project's pipeline as it is written now.

    A project's pipeline is else shown as `as_of`, its newest run, had it, which spares the time to compile it;
    `is_newer`: its source has been changed since. `problem`: why the source gives no document. `lines`: its tasks, none
    without a document; `opened`: the groups that are unfolded. `gaps`: what the embedded engine does not carry out.
    """

    name: str
    id: str
    source: str
    triggers: list[str]
    description: str
    version: str
    versions: list[Version]
    lines: list[Part]
    opened: str
    inputs: list[Field]
    gaps: list[Mapping[str, Any]]
    runs: list[Mapping[str, Any]]
    recurring: list[Mapping[str, Any]]
    document: str
    as_of: Mapping[str, Any] | None = None
    is_newer: bool = False
    problem: str = ""
    remedy: str = ""


class Pipelines:
    """The data of the pages and what their forms do."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.database = platform.database
        self.sources = Sources(platform.project) if platform.project else None

    def listed(self, call: Call) -> PipelinesPage:
        project = self.platform.project
        rows = []
        for name, entry in (project.file.pipelines if project else {}).items():
            pushes = [f"push:{glob}" for glob in entry.push]
            rows.append(PipelineRow(name, entry.source, "", pushes, 0, self._runs(name)))
        schedules = recurring.schedules(self.database)
        for row in self.database.query("SELECT id, name, description FROM pipeline ORDER BY name"):
            counted = self.database.one(
                "SELECT count(*) AS n FROM pipeline_version WHERE pipeline_id = ?", (row["id"],)
            )
            runs = self._runs_of(row["id"])
            number, starts = counted["n"] if counted else 0, schedules.get(row["id"], [])
            rows.append(PipelineRow(row["name"], "", row["description"], starts, number, runs))
        return PipelinesPage(rows)

    def _runs(self, name: str) -> list[Mapping[str, Any]]:
        return list(browse.newest(self.database, Wanted(pipeline=name), limit=LATEST).runs)

    def _runs_of(self, pipeline_id: str) -> list[Mapping[str, Any]]:
        rows = self.database.query(
            "SELECT * FROM run WHERE pipeline_id = ? AND deleted_at IS NULL ORDER BY created_at DESC LIMIT ?",
            (pipeline_id, LATEST),
        )
        return [queries.run_row_json(dict(row)) for row in rows]

    def shown(self, call: Call) -> PipelinePage:
        name, asked = call.path["pipeline"], call.query.text("version")
        opened = folding.asked(call.query.text("open"))
        entry = self._entry(name)
        if self.sources and entry is not None and asked in ("", SOURCE):
            return self._of_project(self.sources, entry, asked, opened)
        found = self._uploaded(name)
        document, version = "", ""
        if self._versions(found["pipeline_id"]):
            chosen = uploaded.choose(self.database, found["pipeline_id"], asked)
            document, version = chosen.source.text, chosen.version_id
        return self._page(
            found["name"], found["pipeline_id"], "", [], found["description"], version, document, {},
            self._runs_of(found["pipeline_id"]), opened,
        )  # fmt: skip

    def _of_project(self, sources: Sources, entry: PipelineEntry, asked: str, opened: set[str]) -> PipelinePage:
        """A pipeline of the project: as it is written, where that is known or asked for, else as it ran last."""
        runs = self._runs(entry.name)
        written = sources.kept(entry.name)
        if written is None and (asked or not runs or not sources.is_python(entry.name)):
            written = sources.read(entry.name)
        if written:
            document = written.document
        else:
            row = self.database.one("SELECT document FROM run WHERE id = ?", (runs[0]["run_id"],))
            document = str(row["document"]) if row else ""
        page = self._page(
            entry.name, "", entry.source, [f"push:{glob}" for glob in entry.push], "", SOURCE if written else "",
            document, entry.parameters, runs, opened,
        )  # fmt: skip
        if written:
            return replace(page, problem=written.problem, remedy=written.remedy)
        ran_at = datetime.fromisoformat(runs[0]["created_at"]).timestamp()
        return replace(page, as_of=runs[0], is_newer=sources.changed_at(entry.name) > ran_at)

    def _page(
        self, name: str, pipeline_id: str, source: str, triggers: list[str], description: str, version: str,
        document: str, values: Mapping[str, Any], runs: list[Mapping[str, Any]], opened: set[str],
    ) -> PipelinePage:  # fmt: skip
        read = tree.parsed(document, name) if document else None
        looked_up = {
            key: f"{one.kind} {one.value}, from headrace.toml"
            for key, one in values.items()
            if isinstance(one, Reference)
        }
        lacking = gaps(read) if read else []
        links = Links(f"/pipelines/{quote(name, safe='')}", frozenset(opened), kept={"version": version})
        repeated: list[Mapping[str, Any]] = []
        if pipeline_id:
            repeated.extend(recurring.of_pipeline(self.database, pipeline_id))
        return PipelinePage(
            name=name, id=pipeline_id, source=source, triggers=triggers, description=description, version=version,
            versions=self._versions(pipeline_id) if pipeline_id else [], opened=",".join(sorted(opened)),
            lines=[_part(node, links) for node in tree.tree_of_document(read, opened)] if read else [],
            inputs=forms.fields(read, values, looked_up) if read else [],
            gaps=[{"problem": str(gap), "remedy": gap.remedy, "fatal": gap.fatal} for gap in lacking],
            runs=runs, recurring=repeated, document=document,
        )  # fmt: skip

    def _entry(self, name: str) -> PipelineEntry | None:
        project = self.platform.project
        return project.file.pipelines.get(name) if project else None

    def _uploaded(self, name: str) -> dict[str, Any]:
        """An uploaded pipeline by its name or id. A run may be of a pipeline that was never uploaded."""
        try:
            return uploaded.named_json(self.database, name)
        except NotFoundError:
            return uploaded.pipeline_json(self.database, name)

    def _versions(self, pipeline_id: str) -> list[Version]:
        rows = self.database.query(
            "SELECT id, name, description, created_at FROM pipeline_version WHERE pipeline_id = ?"
            " ORDER BY created_at DESC, rowid DESC LIMIT ?", (pipeline_id, _MOST),
        )  # fmt: skip
        return [Version(row["id"], row["name"], row["description"], rfc3339(row["created_at"])) for row in rows]

    def start(self, sent: Submission) -> Done:
        """Start a run, with the values of the form."""
        name, at = sent.path["pipeline"], self.platform.clock.now()
        page = self.shown(Call(sent.path, Fields({"version": sent.fields.get("version", "")}), Fields({})))
        given = forms.read(page.inputs, sent.fields)
        reason = sent.reason or "started in the console"
        if page.source:
            run_id = self._start_of_project(name, given, reason, sent.who.name, at)
        else:
            request = RunRequest(
                f"{page.name} {rfc3339(at)[:19].replace('T', ' ')}", pipeline_id=page.id,
                pipeline_version_id=page.version, parameters=given,
            )  # fmt: skip
            run_id = submission.submit(
                self.database, request, Occasion(sent.who.name, reason, at),
                environment=self.platform.environment.name,
            )  # fmt: skip
        self.platform.mlflow_runs.begin(run_id)
        return Done(f"/runs/{run_id}", "The run has been started.")

    def _start_of_project(self, name: str, given: Mapping[str, Any], reason: str, actor: str, at: float) -> str:
        project = self.platform.project
        assert project is not None
        source = load.pipeline_source(project, name)
        known = project.pipeline(name).parameters
        changed = {key: value for key, value in given.items() if key not in known or value != known[key]}
        return create_run(
            self.database, pipeline_spec.parse(source.text, source.file), pipeline=source.name,
            parameters={**source.parameters, **changed}, environment=self.platform.environment.name, actor=actor,
            at=at, reason=reason, source_dir=str(project.root), commit=load.commit_of(project.root),
        )  # fmt: skip

    def repeat(self, sent: Submission) -> Done:
        """Make a recurring run of an uploaded pipeline."""
        page = self.shown(Call(sent.path, Fields(), Fields()))
        if not page.id:
            raise NotFoundError(
                f"{page.name} is the project's; recurring runs are of uploaded pipelines",
                remedy="Upload it compiled, or start it by a push.",
            )
        cron, every = sent.fields.get("cron", "").strip(), sent.fields.get("every", "").strip()
        if bool(cron) == bool(every):
            raise FormError({"cron": "give either this or an interval"})
        if every and not every.isdecimal():
            raise FormError({"every": "must be a whole number of seconds"})
        given = forms.read(page.inputs, sent.fields)
        name = sent.fields.get("name", "").strip() or page.name
        recurring.create(
            self.database, RunRequest(name, pipeline_id=page.id, parameters=given),
            Schedule(cron=cron, interval_seconds=int(every or 0), no_catchup=True),
            max_concurrency=1, enabled=True, actor=sent.who.name, at=self.platform.clock.now(),
        )  # fmt: skip
        return Done(f"/pipelines/{page.name}", "It will run again and again.")

    def switch(self, sent: Submission) -> Done:
        """Enable, disable or delete a recurring run."""
        one, wanted, at = sent.path["recurring"], sent.fields.get("do", ""), self.platform.clock.now()
        if wanted == "delete":
            recurring.delete(self.database, one, actor=sent.who.name, at=at)
        elif wanted in ("enable", "disable"):
            recurring.enable(self.database, one, enabled=wanted == "enable", actor=sent.who.name, at=at)
        else:
            raise UsageError("must be enable, disable or delete", where="do", remedy="Use the page's buttons.")
        told = {"delete": "deleted", "enable": "enabled", "disable": "disabled"}[wanted]
        return Done(f"/pipelines/{sent.path['pipeline']}", f"The recurring run is {told}.")

    async def upload(self, request: Request) -> Response:
        """Upload a compiled pipeline: a new one, or a version of one that is there."""
        refuse_other_sites(request)
        fields, file = await read_form_upload(request, "file", packages.MAX_BYTES)
        access.require_token(request, fields.get(access.CSRF_FIELD, ""))
        who = access.require(request, Role.OPERATOR)
        return lead_to(await run_in_threadpool(self._take, fields, *(file or ("", b"")), who.name))

    def _take(self, fields: Mapping[str, str], file: str, data: bytes, actor: str) -> Done:
        if not data:
            raise UsageError("is missing", where="file", remedy="Choose a compiled pipeline: .yaml, .zip or .tar.gz.")
        source = Source(packages.read_package(file, data), file or "the upload")
        name = fields.get("name", "").strip() or pipeline_spec.parse(source.text, source.file).name
        at = self.platform.clock.now()
        try:
            known = uploaded.named_json(self.database, name)
        except NotFoundError:
            uploaded.create(self.database, Named(name), source, actor=actor, at=at)
            return Done(f"/pipelines/{name}", f"{name} has been uploaded.")
        version = fields.get("version", "").strip() or f"{name} {rfc3339(at)[:19].replace('T', ' ')}"
        uploaded.create_version(self.database, known["pipeline_id"], Named(version), source, actor=actor, at=at)
        return Done(f"/pipelines/{name}", f"A version of {name} has been uploaded.")


def _part(node: tree.Node, links: Links) -> Part:
    toggle = links.toggle(node.path) if folding.folds(node) else ""
    return Part(node, toggle, toggle)


def pages(pipelines: Pipelines) -> list[Page]:
    """The pages below /pipelines."""
    return [
        Page("/pipelines", "pipelines.html", pipelines.listed, live=True),
        _page_of_one(pipelines),
    ]


def _page_of_one(pipelines: Pipelines) -> Page:
    return Page("/pipelines/{pipeline}", "pipeline.html", pipelines.shown, {"version": TEXT, "open": TEXT}, live=True)


def actions(pipelines: Pipelines) -> list[Action]:
    """What can be done with a pipeline."""
    shown = _page_of_one(pipelines)
    return [
        Action("/pipelines/{pipeline}/run", pipelines.start, page=shown),
        Action("/pipelines/{pipeline}/recurring", pipelines.repeat, page=shown),
        Action("/pipelines/{pipeline}/recurring/{recurring}", pipelines.switch),
    ]


def upload_route(pipelines: Pipelines) -> Route:
    """Where the form with a file goes."""
    return Route("/pipelines", pipelines.upload, methods=["POST"])
