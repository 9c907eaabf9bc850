"""A run's outputs in the layout of kfp.local: PIPELINE_ROOT/PIPELINE-TIME/TASK/OUTPUT.

A task in a loop is in a folder of its iteration, PIPELINE-TIME/LOOP-iteration-0/TASK/OUTPUT; one in a nested pipeline
or under a condition lies beside the others. Source: kfp/local/executor_input_utils.py and kfp/local/orchestrator.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from headrace.errors import HeadraceError
from headrace.runs.executor_input import ARTIFACTS
from headrace.store.database import Database

# Of a task's path: a loop, and the number of an iteration.
_ITERATION = re.compile(r"([^/]+)/(\d+)(?=[/~]|$)")
_CALLED = "{}-iteration-{}"


class Outputs:
    """The outputs of one run below `root`, a folder that is made with the first of them.

    The home keeps its artifacts, each attempt's in a folder of its own, for lineage and the cache. Here lie hard links
    to their files (copies, where the file system has no link), so what is deleted here is deleted here only.
    """

    def __init__(self, database: Database, run_id: str, root: Path) -> None:
        self.root = root
        self._database = database
        self._run_id = run_id
        # By the folder of an attempt's artifacts.
        self._places: dict[Path, Path] = {}

    def add(self, task: Mapping[str, Any]) -> None:
        """Lay out what a succeeded task (its row) has given, once.

        Raises:
            HeadraceError: nothing can be written there.
        """
        items = [item for items in json.loads(task["outputs"]).get("artifacts", {}).values() for item in items]
        new = [one for one in dict.fromkeys(self._directories(task, items)) if one / ARTIFACTS not in self._places]
        place = self._place(task)
        for directory in new:
            self._places[directory / ARTIFACTS] = place
            try:
                _lay_out(directory, place)
            except OSError as error:
                raise HeadraceError(
                    f"outputs cannot be put below the pipeline root: {error}", where=str(place),
                    remedy=f"They lie in {directory / ARTIFACTS}; give headrace.local.init another pipeline_root.",
                ) from error  # fmt: skip

    def objects(self, told: str, component: Any) -> dict[str, Any]:
        """Outputs (JSON of a task or run) of a ComponentSpec: values, and `dsl.Artifact` objects or lists of them."""
        from kfp.dsl import executor

        given = json.loads(told)
        objects: dict[str, Any] = dict(given.get("parameters", {}))
        for name, items in given.get("artifacts", {}).items():
            made = [executor.create_artifact_instance(self._here(item)) for item in items]
            listed = component.output_definitions.artifacts[name].is_artifact_list
            objects[name] = made if listed or len(made) != 1 else made[0]
        return objects

    def _here(self, artifact: Mapping[str, Any]) -> dict[str, Any]:
        """An artifact with the URI that it has here; one that lies elsewhere keeps its own."""
        uri = Path(artifact["uri"])
        for folder in uri.parents:
            if folder in self._places:
                return {**artifact, "uri": str(self._places[folder] / uri.relative_to(folder))}
        return dict(artifact)

    def _place(self, task: Mapping[str, Any]) -> Path:
        """Compiled pipelines have a component for each task, of nested pipelines too; it names the folder."""
        name, path = task_name(task), task["path"]
        iterations = [_CALLED.format(*found) for found in _ITERATION.findall(path)]
        place = self.root.joinpath(*iterations, name)
        # Another try of a nested pipeline, or two tasks of one component in a document that nobody compiled.
        return self.root / f"{name}.{path.replace('/', '.')}" if place.exists() else place

    def _directories(self, task: Mapping[str, Any], items: list[Any]) -> Iterator[Path]:
        """The folder of the attempt that succeeded; for a result from the cache those where its artifacts lie."""
        own = self._database.query(
            "SELECT directory FROM attempt WHERE run_id = ? AND path = ? AND state = 'SUCCEEDED'",
            (self._run_id, task["path"]),
        )
        for row in own:
            yield Path(row["directory"])
        for item in items if task["cached"] else ():
            makers = self._database.query(
                "SELECT attempt.directory FROM artifact JOIN attempt USING (run_id, path)"
                " WHERE artifact.digest = ? AND artifact.uri = ? AND attempt.state = 'SUCCEEDED'",
                (item["digest"], item["uri"]),
            )
            for row in makers:
                if Path(row["directory"]) in Path(item["uri"]).parents:
                    yield Path(row["directory"])


def called(path: str) -> str:
    """A task's path with iterations as kfp.local calls them: `for-loop-1-iteration-0/train`."""
    return _ITERATION.sub(lambda found: _CALLED.format(*found.groups()), path)


def task_name(task: Mapping[str, Any]) -> str:
    """What kfp.local calls a task: its component."""
    return str(task["component"]).removeprefix("comp-")


def _lay_out(directory: Path, place: Path) -> None:
    """Link what an attempt has left: artifacts with what lies beside them, and files of parameters."""
    for folder in (directory / ARTIFACTS, directory / "parameters"):
        if folder.is_dir():
            shutil.copytree(folder, place, copy_function=_link, symlinks=True, dirs_exist_ok=True)


def _link(source: str, place: str) -> None:
    try:
        os.link(source, place)
    except FileExistsError:
        # Two outputs of one name: to write over the first would be to write over the artifact itself.
        return
    except OSError:
        shutil.copy2(source, place)
