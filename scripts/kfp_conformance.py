"""Run the KFP conformance cases through the real engine and say what became of each: `make conformance GOLDENS=…`.

GOLDENS is the folder `test_data/sdk_compiled_pipelines/valid` of a clone of kubeflow/pipelines; CASES holds
`expected.json`, `manifest.tsv` and `cases/`. A case passes when the run's state, its outputs, the contents of its
artifacts and its leaf tasks with their outputs are the expected ones.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from headrace.clock import SystemClock
from headrace.contracts import pipeline_spec
from headrace.errors import HeadraceError, UnsupportedError, UsageError
from headrace.project import load
from headrace.project.compile import compile_pipeline
from headrace.project.wiring import open_database
from headrace.runs import queries
from headrace.runs.engine import Engine
from headrace.runs.model import RunOptions
from headrace.runs.submit import create_run
from headrace.store.database import Database
from headrace.store.home import Home

PASSED, FAILED, CANNOT = "passed", "failed", "cannot run here"

# Where the recorded reading differs from what its own note wants, the note holds.
NOTED: Mapping[str, Any] = {
    "cases/x_env_expansion.yaml": {"Output": "b-1"},
    # JSON does not tell 8 from 8.0, and the component says float.
    "critical/pipeline_with_retry.yaml": {"Output": 8.0},
    "cases/x_types.yaml": {"Output": {"i": "int", "f": "float", "b": "bool", "l": "list", "d": "dict", "s": "str"}},
}
# Its assertion holds on the open source backend only, which calls success COMPLETE.
OSS_PARITY = {"critical/pipeline_with_input_status_state.yaml"}
# Draws numbers without a seed, though it is listed as one that does not.
RANDOM = {"metrics_visualization_v2.yaml"}
NEEDS_IMAGE = {"pipeline_with_concat_placeholder.yaml": "its command is for the sh of busybox, which knows [["}
SLOW = {"long-running.yaml": "sleeps for ten minutes; --slow runs it"}
SUCCEEDED = "SUCCEEDED"
# So much of an artifact's content was recorded.
RECORDED_CHARACTERS = 120


@dataclass(frozen=True)
class Case:
    """A row of the manifest with what is expected of it."""

    name: str
    tier: str
    expect: str
    deterministic: bool
    args: Mapping[str, Any]
    oracle: Mapping[str, Any]
    agreed: bool


@dataclass
class Result:
    """What became of a case, and why."""

    case: Case
    verdict: str = ""
    reason: str = ""
    run_id: str = ""
    problems: list[str] = field(default_factory=list)


def main() -> int:
    """Print a table; 1 when a case failed."""
    options = _options()
    cases = [case for case in _cases(options.cases) if any(fnmatch(case.name, p) for p in options.only or ["*"])]
    cases = [case for case in cases if not options.tier or case.tier in options.tier]
    with tempfile.TemporaryDirectory(prefix="headrace-conformance-") as folder:
        home = Home(Path(options.home or folder) / "home")
        results = _run_all(cases, options, home, Path(folder))
    _print(results)
    return int(any(result.verdict == FAILED for result in results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("goldens", type=Path)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--only", action="append", metavar="PATTERN", help="only these cases, as in 'critical/*'")
    parser.add_argument("--tier", action="append", help="only this tier")
    parser.add_argument("--slow", action="store_true", help="also what takes minutes")
    parser.add_argument("--home", type=Path, help="keep the state here")
    return parser.parse_args()


def _cases(folder: Path) -> list[Case]:
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    with (folder / "manifest.tsv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    return [_case(row, expected.get(row["case"], {})) for row in rows]


def _case(row: Mapping[str, str], expected: Mapping[str, Any]) -> Case:
    return Case(
        name=row["case"],
        tier=row["tier"],
        expect=row["expected_status"],
        deterministic=row["deterministic"] == "yes" and row["case"] not in RANDOM,
        args=expected.get("args", {}),
        oracle=expected.get("oracle") or {},
        agreed=expected.get("oracle_agrees", True),
    )


def _run_all(cases: list[Case], options: argparse.Namespace, home: Home, scratch: Path) -> list[Result]:
    database = open_database(home)
    results = [Result(case) for case in cases]
    try:
        for result in results:
            _start(result, options, database, scratch)
        waiting = [result for result in results if result.run_id]
        asyncio.run(_drive(home, database, [result.run_id for result in waiting]))
        for result in waiting:
            _judge(result, database)
    finally:
        database.close()
    return results


def _start(result: Result, options: argparse.Namespace, database: Database, scratch: Path) -> None:
    """Create the case's run, or say why there is none."""
    case = result.case
    file = _file(case, options.goldens, options.cases, scratch)
    if file is None:
        result.verdict, result.reason = CANNOT, "its document is not in GOLDENS"
        return
    why = NEEDS_IMAGE.get(case.name) or (SLOW.get(case.name) if not options.slow else None)
    if why:
        result.verdict, result.reason = CANNOT, why
        return
    try:
        document = pipeline_spec.parse(load.pipeline_source(None, str(file)).text, case.name)
        if case.expect == "PARSE_ONLY":
            # Never run: some of these would call out to a bucket.
            _parsed_only(result, document)
            return
        result.run_id = create_run(
            database, document, pipeline=case.name, parameters=_arguments(case, scratch), environment="dev",
            actor="user:conformance", at=time.time(), caching=False,
            options=RunOptions(run_on_host=case.tier != "T0", oss_parity=case.name in OSS_PARITY),
        )  # fmt: skip
    except UnsupportedError as error:
        result.verdict, result.reason = CANNOT, str(error)
        if case.tier in ("T0", "T1"):
            result.verdict = FAILED
    except UsageError as error:
        result.verdict, result.reason = (PASSED if case.expect == "REJECT_UPLOAD" else FAILED), str(error)


def _parsed_only(result: Result, document: pipeline_spec.PipelineDocument) -> None:
    from headrace.runs.gaps import gaps

    found = gaps(document, run_on_host=True)
    result.verdict = PASSED
    result.reason = "parsed; needs: " + ("; ".join(str(gap) for gap in found) or "nothing that is not here")


def _file(case: Case, goldens: Path, cases: Path, scratch: Path) -> Path | None:
    """The document of a case: a golden, one beside them in the clone, a case of our own, or compiled from source."""
    clone = goldens.resolve().parents[2]
    name = Path(case.name)
    places = {
        "cases": cases / name,
        "invalid": goldens / ".." / name,
        "argo_compatibility": goldens / ".." / name,
        "k8s_platform": clone / "kubernetes_platform/python/test/snapshot/data" / name.name,
    }
    if name.parts[0] == "extra_compiled":
        return _compiled(clone / "test_data/sdk_uncompiled_pipelines" / f"{name.stem}.py", scratch)
    place = places.get(name.parts[0], goldens / name)
    return place if place.is_file() else None


def _compiled(source: Path, scratch: Path) -> Path | None:
    if not source.is_file():
        return None
    file = scratch / f"{source.stem}.yaml"
    file.write_text(compile_pipeline(source, _main_pipeline(source)), encoding="utf-8")
    return file


def _main_pipeline(source: Path) -> str:
    """The pipeline that the file itself compiles when it is run as a script; "": its only one."""
    named = re.search(r"pipeline_func\s*=\s*(\w+)", source.read_text(encoding="utf-8"))
    return named[1] if named else ""


def _arguments(case: Case, scratch: Path) -> dict[str, Any]:
    folder = scratch / case.name.replace("/", "-")
    folder.mkdir(exist_ok=True)
    given = json.loads(json.dumps(case.args).replace("{tmp}", str(folder)))
    given.pop("$artifacts", None)
    for name, artifact in case.args.get("$artifacts", {}).items():
        file = folder / name
        file.write_text(artifact["content"], encoding="utf-8")
        given[name] = str(file)
    return given


async def _drive(home: Home, database: Database, run_ids: list[str]) -> None:
    stop = asyncio.Event()
    engine = Engine(home=home, database=database, clock=SystemClock(), environment={}, parallel=4)
    serving = asyncio.create_task(engine.serve(stop))
    while not serving.done() and any(_unfinished(database, run_id) for run_id in run_ids):
        await asyncio.wait([serving], timeout=0.2)
    stop.set()
    await serving


def _unfinished(database: Database, run_id: str) -> bool:
    row = database.one("SELECT state FROM run WHERE id = ?", (run_id,))
    return row is not None and row["state"] in ("PENDING", "RUNNING")


def _judge(result: Result, database: Database) -> None:
    case = result.case
    run = queries.run_json(database, result.run_id)
    leaves = {task["task_id"]: task for task in run["run_details"]["task_details"] if not task.get("group")}
    problems = list(_differences(case, run, leaves))
    result.verdict = FAILED if problems else PASSED
    result.reason = "; ".join(problems)


def _differences(case: Case, run: Mapping[str, Any], leaves: Mapping[str, Any]) -> Iterator[str]:
    if run["state"] != case.expect:
        yield f"{run['state']} instead of {case.expect}: {(run['error'] or {}).get('message', '')}"
        return
    if not case.deterministic or not case.agreed or not case.oracle.get("tasks"):
        return
    parameters = {name: value for name, value in run["outputs"].items() if not _is_artifact(value)}
    wanted = case.oracle.get("outputs") or {}
    wanted = NOTED.get(case.name, wanted) if wanted else {}
    if not _same(parameters, wanted):
        yield f"outputs {parameters} instead of {wanted}"
    for name, artifacts in (case.oracle.get("artifacts") or {}).items():
        yield from _artifact_differences(f"output {name}", _as_list(run["outputs"].get(name)), artifacts)
    yield from _leaf_differences(case, leaves)


def _leaf_differences(case: Case, leaves: Mapping[str, Any]) -> Iterator[str]:
    told = [task for task in case.oracle.get("tasks", []) if task["status"] in ("SUCCEEDED", "FAILED")]
    wanted = {re.sub(r"\[(\d+)\]", r"/\1", task["task"]).strip("/"): task for task in told}
    states = {_settled(path): task["state"] for path, task in leaves.items()}
    if states != {path: task["status"] for path, task in wanted.items()}:
        missing, more = sorted(set(wanted) - set(states)), sorted(set(states) - set(wanted))
        yield f"leaf tasks: missing {missing}, more {more}, states {states}"
        return
    for path, task in leaves.items():
        expected = wanted[_settled(path)]
        values = {name: value for name, value in task["outputs_values"].items() if not _is_artifact(value)}
        outputs = NOTED.get(case.name, expected.get("out", {}))
        if task["state"] == SUCCEEDED and not _same(values, outputs):
            yield f"task {path}: outputs {values} instead of {outputs}"
        for name, artifact in expected.get("artifacts", {}).items():
            artifacts = artifact if isinstance(artifact, list) else [artifact]
            yield from _artifact_differences(f"task {path}: {name}", _as_list(task["outputs_values"][name]), artifacts)


def _settled(path: str) -> str:
    """A task's path without the numbers of the tries of its groups."""
    return re.sub(r"~\d+", "", path)


def _artifact_differences(what: str, found: list[Mapping[str, Any]], wanted: list[Mapping[str, Any]]) -> Iterator[str]:
    if len(found) != len(wanted):
        yield f"{what}: {len(found)} artifacts instead of {len(wanted)}"
        return
    for has, wants in zip(found, wanted, strict=True):
        content = _content(has["uri"])
        if "content" in wants and not _same(content[:RECORDED_CHARACTERS] if content else content, wants["content"]):
            yield f"{what}: {content!r} instead of {wants['content']!r}"
        if wants.get("metadata") and not _same(has["metadata"], wants["metadata"]):
            yield f"{what}: metadata {has['metadata']} instead of {wants['metadata']}"


def _content(uri: str) -> str | None:
    path = Path(uri)
    if path.is_dir():
        return "<dir>"
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _is_artifact(value: Any) -> bool:
    items = _as_list(value)
    return bool(items) and all(isinstance(i, dict) and set(i) == {"uri", "type", "metadata"} for i in items)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _same(found: Any, wanted: Any) -> bool:
    """Equal, where a text with {tmp} or $ROOT stands for a path of the machine that recorded it."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return set(found) == set(wanted) and all(_same(found[name], wanted[name]) for name in wanted)
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(_same, found, wanted))
    if isinstance(wanted, str) and isinstance(found, str):
        wanted = wanted.replace("{home}", str(Path.home()))
        return found == wanted or "{tmp}" in wanted or "$ROOT" in wanted
    return bool(found == wanted and type(found) is type(wanted))


def _print(results: list[Result]) -> None:
    width = max((len(result.case.name) for result in results), default=0)
    for result in sorted(results, key=lambda r: (r.case.tier, r.case.name)):
        print(f"{result.case.tier}  {result.case.name:{width}}  {result.verdict:15}  {' '.join(result.reason.split())}")
    print()
    for tier in sorted({result.case.tier for result in results}):
        count = Counter(result.verdict for result in results if result.case.tier == tier)
        print(f"{tier}: " + ", ".join(f"{count[verdict]} {verdict}" for verdict in (PASSED, FAILED, CANNOT)))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HeadraceError as problem:
        sys.exit(str(problem))
