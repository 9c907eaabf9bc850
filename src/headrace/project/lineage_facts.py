"""The facts behind a lineage: for each kind of thing, what it came from and what came of it, one step at a time."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from headrace.control.rollouts import queries as rollouts
from headrace.control.triggers.push import RECEIVED
from headrace.errors import HeadraceError, NotFoundError, UsageError
from headrace.project.wiring import Platform
from headrace.runs import queries as runs
from headrace.serving import payload_log
from headrace.store.database import connect
from headrace.store.home import Home

VERSION = re.compile(r"models:/([^/@]+)/(\d+)")
# Runs whose tasks are asked what they did with one content, and the rows that are read to find them.
_MOST_RUNS = 30
_MOST_ROWS = 1000
_MOST_MAKERS = 100
_MOST_REVISIONS = 50

# What tasks have put out, of runs that are there.
_OUTPUTS = "artifact JOIN task USING (run_id, path) JOIN run ON run.id = artifact.run_id AND run.deleted_at IS NULL"


@dataclass(frozen=True)
class Node:
    """A thing. `kind`: prediction, revision, model_version, run, task, artifact, dataset, column, commit, or more."""

    id: str
    kind: str
    label: str
    href: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Link:
    """A neighbour, what it is to the other, and how that is known: by "record", or by "content" alone."""

    node: Node
    label: str
    by: str = "record"


class Facts:
    """Answers from the state of a platform. `notes` collects what could not be asked."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.database = platform.database
        self.notes: list[str] = []
        # The addresses under which a content was met on the way up, and on the way down: other files may have it, too.
        self._met: dict[tuple[str, str], set[str]] = {}
        self._imported_as: dict[str, list[sqlite3.Row]] = {}
        self._told: dict[str, Mapping[str, str]] = {}
        self._known: dict[tuple[str, ...], list[sqlite3.Row]] = {}

    def find(self, start: str, forms: Sequence[str]) -> Node:
        """The node that `start` names. Raises NotFoundError, UsageError."""
        kind, _, key = start.partition(":")
        finders = {
            "prediction": self._prediction, "revision": self._revision, "model": self._model_named,
            "model_version": self._model_named, "run": self._run, "artifact": self._artifact_of,
            "dataset": self._dataset_of, "column": self._column_of, "task": self._task_named, "commit": self._commit,
        }  # fmt: skip
        if kind not in finders or not key:
            raise UsageError(f"{start!r} names no start", where="start", remedy=f"Write {', '.join(forms)}.")
        return finders[kind](key)

    def up(self, node: Node) -> list[Link]:
        """What a thing came from."""
        return list(self._ask("_up", node))

    def down(self, node: Node) -> list[Link]:
        """What came of a thing."""
        return list(self._ask("_down", node))

    def _ask(self, direction: str, node: Node) -> Iterator[Link]:
        answer = getattr(self, f"{direction}_{node.kind}", None)
        if answer is not None:
            yield from answer(node.id.partition(":")[2])

    # Predictions and revisions

    def _prediction(self, key: str) -> Node:
        for service in rollouts.list_services(self.database):
            row = self._predicted(str(service["name"]), "SELECT * FROM prediction WHERE id = ?", key)
            if row:
                detail = f"{row['output'][:80]} at {_moment(row['at'])}"
                return Node(f"prediction:{key}", "prediction", key[:12], detail=detail)
        raise NotFoundError(
            f"no service has logged a prediction {key}",
            remedy="Its id is in the answer's header x-headrace-prediction-id; old ones are dropped.",
        )

    def _predicted(self, service: str, sql: str, *parameters: str) -> sqlite3.Row | None:
        file = payload_log.path(self.platform.home, service)
        if not file.exists():
            return None
        with closing(connect(file)) as connection:
            row: sqlite3.Row | None = connection.execute(sql, parameters).fetchone()
        return row

    def _up_prediction(self, key: str) -> Iterator[Link]:
        for service in rollouts.list_services(self.database):
            row = self._predicted(str(service["name"]), "SELECT revision FROM prediction WHERE id = ?", key)
            if row:
                yield Link(self._revision(row["revision"]), "answered")

    def _revision(self, key: str) -> Node:
        row = self.database.one("SELECT * FROM revision WHERE id = ?", (key,))
        if row is None:
            raise NotFoundError(f"no revision is called {key}", remedy="`headrace rollouts list` shows them.")
        return Node(
            f"revision:{key}", "revision", key, f"/services/{quote(row['service'])}",
            f"{row['state']}, of {row['service']}, since {_moment(row['created_at'])}",
        )  # fmt: skip

    def _up_revision(self, key: str) -> Iterator[Link]:
        row = self.database.one("SELECT * FROM revision WHERE id = ?", (key,))
        if row is None:
            return
        named = VERSION.fullmatch(row["model_uri"])
        if named:
            yield Link(self._model(named[1], named[2]), "serves")
        else:
            for found in self.database.query("SELECT * FROM artifact WHERE uri = ? LIMIT 1", (row["model_path"],)):
                yield Link(self._artifact(dict(found)), "serves")
        rows = self.database.query("SELECT request_key, id FROM rollout WHERE to_revision = ?", (key,))
        for rollout in rows:
            task = self._task_of(str(rollout["request_key"]).removeprefix("run/"))
            if task and str(rollout["request_key"]).startswith("run/"):
                yield Link(task, f"asked for rollout {rollout['id']}")

    def _down_revision(self, key: str) -> Iterator[Link]:
        row = self.database.one("SELECT service FROM revision WHERE id = ?", (key,))
        sql = "SELECT count(*) AS n, max(at) AS last FROM prediction WHERE revision = ?"
        counted = self._predicted(row["service"], sql, key) if row else None
        if counted and counted["n"]:
            words = f"{counted['n']:,} prediction{'s' if counted['n'] > 1 else ''}"
            detail = f"in the log of {row['service'] if row else ''}, the last at {_moment(counted['last'])}"
            yield Link(Node(f"more:revision:{key}/prediction", "more", words, detail=detail), "answered")

    # Model versions and the columns that they take

    def _model_named(self, key: str) -> Node:
        name, _, version = key.partition("@")
        if not name or not version:
            raise UsageError(f"{key!r} names no model version", where="start", remedy="Write model:NAME@VERSION.")
        # An alias, as in model:NAME@champion, means the version that it names now.
        found = self.platform.registry.version(f"models:/{name}{'/' if version.isdecimal() else '@'}{version}")
        return self._model(found.name, str(found.version))

    def _model(self, name: str, version: str) -> Node:
        outcome = self._tags(name, version).get("headrace.rollout", "")
        detail = f"rollout {outcome}" if outcome else ""
        return Node(f"model:{name}@{version}", "model_version", f"{name} {version}", f"/models/{quote(name)}", detail)

    def _up_model_version(self, key: str) -> Iterator[Link]:
        name, _, number = key.partition("@")
        tags = self._tags(name, number)
        task = self._task_of(tags.get("headrace.key", ""))
        run = tags.get("headrace.run", "")
        if task:
            yield Link(task, "registered")
        elif run and self._exists(run):
            yield Link(self._run(run), "registered")
        columns = self._columns(name, number)
        for column in columns:
            yield Link(self._column(column), "input of the signature")

    def _tags(self, name: str, version: str) -> Mapping[str, str]:
        """What the registry knows of a version; what it cannot tell is noted, and the rest is told all the same."""
        uri = f"models:/{name}/{version}"
        if uri not in self._told:
            try:
                self._told[uri] = self.platform.registry.version(uri).tags
            except HeadraceError as error:
                self._told[uri] = {}
                self.notes.append(f"{uri}: {error.problem}")
        return self._told[uri]

    def _down_model_version(self, key: str) -> Iterator[Link]:
        uri = "models:/" + key.replace("@", "/")
        for row in self.database.query("SELECT id FROM revision WHERE model_uri = ? ORDER BY created_at", (uri,)):
            yield Link(self._revision(row["id"]), "serves")

    def _columns(self, name: str, version: str) -> list[str]:
        uri = f"models:/{name}/{version}"
        row = self.database.one("SELECT model_path FROM revision WHERE model_uri = ?", (uri,))
        return signature(Path(row["model_path"])) if row else []

    def _column_of(self, key: str) -> Node:
        if not list(self._down_column(key)):
            raise NotFoundError(
                f"no deployed model takes a column {key}", remedy="A model's signature names its columns: /models."
            )
        return self._column(key)

    def _column(self, key: str) -> Node:
        return Node(f"column:{key}", "column", key, detail="an input, by the model's signature")

    def _down_column(self, key: str) -> Iterator[Link]:
        rows = self.database.query(
            "SELECT model_uri, model_path FROM revision GROUP BY model_uri ORDER BY max(created_at) DESC LIMIT ?",
            (_MOST_REVISIONS,),
        )
        for row in rows:
            named = VERSION.fullmatch(row["model_uri"])
            if named and key in signature(Path(row["model_path"])):
                yield Link(self._model(named[1], named[2]), "input of the signature")

    # Runs, commits and tasks

    def _run(self, key: str) -> Node:
        row = runs.find(self.database, key)
        detail = f"{row['state'].lower()}, {row['reason'] or row['actor']}, {_moment(row['created_at'])}"
        return Node(f"run:{row['id']}", "run", f"{row['pipeline']} {row['id']}", f"/runs/{row['id']}", detail)

    def _exists(self, run: str) -> bool:
        return self.database.one("SELECT 1 FROM run WHERE id = ? AND deleted_at IS NULL", (run,)) is not None

    def _up_run(self, key: str) -> Iterator[Link]:
        row = runs.find(self.database, key)
        if row["commit_sha"]:
            yield Link(self._commit(row["commit_sha"]), "code")

    def _down_run(self, key: str) -> Iterator[Link]:
        rows = self.database.query("SELECT * FROM task WHERE run_id = ? AND cached = 0 ORDER BY created_at", (key,))
        for row in rows:
            if not _imported(dict(row)) and self._begins(dict(row)):
                yield Link(self._task(dict(row)), "ran")

    def _commit(self, key: str) -> Node:
        rows = self.database.query(
            "SELECT * FROM event WHERE kind = ? AND instr(data, ?) ORDER BY seq DESC LIMIT 1",
            (RECEIVED, f'"after":"{key}"'),
        )
        detail = ""
        for row in rows:
            detail = f"pushed to {json.loads(row['data'])['ref']} by {row['actor']}, event {row['seq']}"
        return Node(f"commit:{key}", "commit", key[:10], "/events?kind=push" if detail else "", detail)

    def _down_commit(self, key: str) -> Iterator[Link]:
        rows = self.database.query(
            "SELECT id FROM run WHERE commit_sha = ? AND deleted_at IS NULL ORDER BY created_at", (key,)
        )
        for row in rows:
            yield Link(self._run(row["id"]), "code")

    def _task_named(self, key: str) -> Node:
        task = self._task_of(key)
        if task is None:
            raise NotFoundError(f"no task is called {key}", remedy="Write task:RUN/PATH.")
        return task

    def _task_row(self, key: str) -> dict[str, Any] | None:
        run, _, path = key.partition("/")
        row = self.database.one("SELECT * FROM task WHERE run_id = ? AND path = ?", (run, path))
        return dict(row) if row and self._exists(run) else None

    def _task_of(self, key: str) -> Node | None:
        row = self._task_row(key)
        return self._task(row) if row else None

    def _task(self, row: Mapping[str, Any]) -> Node:
        label = row["display_name"] or row["path"].rpartition("/")[2]
        detail = f"{row['state'].lower()} in run {row['run_id']}: {row['path']}"
        return Node(f"task:{row['run_id']}/{row['path']}", "task", label, f"/runs/{row['run_id']}", detail)

    def _up_task(self, key: str) -> Iterator[Link]:
        row = self._task_row(key)
        if row is None:
            return
        for name, artifact in _items(row["inputs"]):
            node = self._artifact(artifact)
            self._met.setdefault(("up", node.id), set()).add(artifact["uri"])
            yield Link(node, f"input {name}")
        for named in _versions(row["inputs"]):
            yield Link(self._model(*named), "input")
        if self._begins(row):
            yield Link(self._run(row["run_id"]), "ran")

    def _begins(self, row: Mapping[str, Any]) -> bool:
        """Whether none of a task's inputs was made by a task: it stands at the beginning of its run."""
        for _, artifact in _items(row["inputs"]):
            rows = self._with_content(artifact["digest"] or artifact["uri"], [artifact["uri"]])
            if not any(_imports(row) for row in rows):
                return False
        return not _versions(row["inputs"])

    def _down_task(self, key: str) -> Iterator[Link]:
        row = self._task_row(key)
        if row is None:
            return
        for name, artifact in _items(row["outputs"]):
            node = self._artifact(artifact)
            self._met.setdefault(("down", node.id), set()).add(artifact["uri"])
            yield Link(node, f"output {name}")
        for name, version in _versions(row["outputs"]):
            # A task may name a version that another one has registered.
            if self._tags(name, version).get("headrace.key") == key:
                yield Link(self._model(name, version), "registered")
        asked = self.database.query("SELECT id, to_revision FROM rollout WHERE request_key = ?", (f"run/{key}",))
        for rollout in asked:
            yield Link(self._revision(rollout["to_revision"]), f"asked for rollout {rollout['id']}")

    # Artifacts and the files that they were imported from

    def _artifact_of(self, key: str) -> Node:
        digest = key if key.startswith("sha256:") else f"sha256:{key}"
        rows = self.database.query(
            "SELECT * FROM artifact WHERE digest >= ? AND digest < ? GROUP BY digest LIMIT 2", (digest, digest + "~")
        )
        if len(rows) != 1:
            raise NotFoundError(
                f"{'more than one artifact has' if rows else 'no artifact has'} a digest that begins {digest}",
                remedy="A run's page tells the digests of its artifacts.",
            )
        return self._artifact(dict(rows[0]))

    def _artifact(self, item: Mapping[str, Any]) -> Node:
        """Of a row of the table, or of a task's inputs or outputs. What has no content is known by its address."""
        kind = item["type"] if isinstance(item["type"], str) else item["type"].get("schemaTitle", "")
        key = item["digest"] or item["uri"]
        size = f", {item['bytes']:,} bytes" if item["bytes"] else ""
        named = item["name"] if item["name"] != "artifact" else item["uri"].rpartition("/")[2]
        detail = f"{kind.removeprefix('system.')}{size}, {key[:19] if item['digest'] else 'no content of its own'}"
        return Node(f"artifact:{key}", "artifact", named, detail=detail)

    def _with_content(self, key: str, uris: Collection[str] = ()) -> list[sqlite3.Row]:
        """Rows of `artifact`, with their tasks, by digest (by address, for what has no content), oldest first.

        `uris`: only those that lie there.
        """
        asked = (key, *sorted(uris))
        if asked not in self._known:
            where = "artifact.digest = ?" if key.startswith("sha256:") else "artifact.digest = '' AND artifact.uri = ?"
            here = f" AND artifact.uri IN ({','.join('?' * len(uris))})" if uris else ""
            self._known[asked] = self.database.query(
                f"SELECT artifact.*, task.cached, task.inputs FROM {_OUTPUTS} WHERE {where}{here}"
                " ORDER BY task.created_at LIMIT ?",
                (*asked, _MOST_MAKERS),
            )
        return self._known[asked]

    def _up_artifact(self, key: str) -> Iterator[Link]:
        # What was reused lies where the first task wrote it, so that its address leads there.
        met = self._met.get(("up", f"artifact:{key}"), set())
        found = _makers(self._with_content(key, met))
        by = "record" if found else "content"
        for row in found or _makers(self._with_content(key))[:1]:
            if _imports(row):
                yield Link(self._dataset(row), f"imported by run {row['run_id']}", by)
            else:
                task = self._task_of(f"{row['run_id']}/{row['path']}")
                if task:
                    yield Link(task, f"output {row['name']}", by)

    def _down_artifact(self, key: str) -> Iterator[Link]:
        met = self._met.get(("down", f"artifact:{key}"), set())
        where = "artifact.digest = ?" if key.startswith("sha256:") else "artifact.digest = '' AND artifact.uri = ?"
        # The newest by their place in the table: a run's own row, with its whole document, is read last.
        rows = self.database.query(
            f"SELECT run_id FROM artifact WHERE {where} ORDER BY rowid DESC LIMIT ?", (key, _MOST_ROWS)
        )
        held = list(dict.fromkeys(str(row["run_id"]) for row in rows))
        if len(held) > _MOST_RUNS or len(rows) == _MOST_ROWS:
            self.notes.append(f"Many runs have {key[:19]}: what the newest did with it is shown.")
        for run in reversed([run for run in held[:_MOST_RUNS] if self._exists(run)]):
            found = self.database.query(
                "SELECT * FROM task WHERE run_id = ? AND cached = 0 AND instr(inputs, ?) ORDER BY created_at",
                (run, key),
            )
            for task in found:
                for name, item in _items(task["inputs"]):
                    if key in (item["digest"], item["uri"]):
                        by = "record" if not met or item["uri"] in met else "content"
                        yield Link(self._task(dict(task)), f"input {name}", by)
                        break

    def _dataset_of(self, key: str) -> Node:
        rows = self._imports_of(key)
        if not rows:
            raise NotFoundError(
                f"no run has imported a file {key}",
                remedy="Write its path in the project, as in dataset:data/flights.parquet, or its whole address.",
            )
        return self._dataset(rows[-1])

    def _imports_of(self, name: str) -> list[sqlite3.Row]:
        """What was imported under a name, oldest first."""
        if name not in self._imported_as:
            rows = self.database.query(
                f"SELECT artifact.*, task.inputs, task.cached FROM {_OUTPUTS}"
                " WHERE artifact.name = 'artifact' AND substr(artifact.uri, -length(?)) = ?"
                " AND (artifact.uri = ? OR artifact.uri = run.source_dir || '/' || ?)"
                " ORDER BY artifact.rowid DESC LIMIT 500",
                (name, name, name, name),
            )
            self._imported_as[name] = [row for row in reversed(rows) if _imports(row)]
        return self._imported_as[name]

    def newest_file(self) -> list[str]:
        """The file that was imported last, as a start."""
        rows = self.database.query(
            f"SELECT artifact.*, task.inputs FROM {_OUTPUTS} WHERE artifact.type = 'system.Dataset'"
            " AND artifact.name = 'artifact' ORDER BY artifact.rowid DESC LIMIT 1"
        )
        return [self._dataset(row).id for row in rows if _imports(row)]

    def _dataset(self, row: sqlite3.Row) -> Node:
        source = self.database.one("SELECT source_dir FROM run WHERE id = ?", (row["run_id"],))
        folder = f"{source['source_dir']}/" if source and source["source_dir"] else ""
        name = row["uri"].removeprefix(folder) if folder else row["uri"]
        return Node(f"dataset:{name}", "dataset", name.rpartition("/")[2], detail=name)

    def _down_dataset(self, key: str) -> Iterator[Link]:
        found: dict[str, Link] = {}
        for row in reversed(self._imports_of(key)):
            node = self._artifact(dict(row))
            self._met.setdefault(("down", node.id), set()).add(row["uri"])
            found.setdefault(node.id, Link(node, f"imported by run {row['run_id']}"))
        yield from found.values()


def newest_prediction(home: Home, service: str) -> str:
    """The id of the prediction that a service has made last; "" for none."""
    file = payload_log.path(home, service)
    if not file.exists():
        return ""
    with closing(connect(file)) as connection:
        row = connection.execute("SELECT id FROM prediction ORDER BY at DESC LIMIT 1").fetchone()
    return str(row["id"]) if row else ""


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _makers(rows: Sequence[sqlite3.Row]) -> list[sqlite3.Row]:
    """Those that wrote a content, and did not take it from another run; all, when the first is not there any more."""
    return [row for row in rows if not row["cached"]] or list(rows)


def _imports(row: sqlite3.Row) -> bool:
    """Whether an output is a file that was there before: it lies where the task's parameter `uri` says."""
    return bool(json.loads(row["inputs"]).get("parameters", {}).get("uri") == row["uri"])


def _imported(task: Mapping[str, Any]) -> bool:
    """Whether a task only imports a file: the file stands for it."""
    given = json.loads(task["inputs"]).get("parameters", {}).get("uri")
    return given is not None and any(item["uri"] == given for _, item in _items(task["outputs"]))


def _items(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The artifacts among a task's inputs or outputs, by name."""
    artifacts = json.loads(text).get("artifacts", {})
    return [(name, item) for name, items in artifacts.items() for item in items]


def _versions(text: str) -> list[tuple[str, str]]:
    """The model versions that a task's parameters name, as (name, version)."""
    values = json.loads(text).get("parameters", {}).values()
    found = (VERSION.fullmatch(value) for value in values if isinstance(value, str))
    return [(match[1], match[2]) for match in found if match]


def signature(folder: Path) -> list[str]:
    """The inputs that a saved MLflow model says it takes; none for a model of another kind, or that is gone.

    https://mlflow.org/docs/latest/ml/model/signatures/
    """
    import yaml

    try:
        document = yaml.load(
            (folder / "MLmodel").read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )
        inputs = json.loads(document["signature"]["inputs"])
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
        return []
    return [str(column["name"]) for column in inputs if isinstance(column, dict) and "name" in column]
