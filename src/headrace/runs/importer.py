"""The importer: registers what is there already. Source: pipeline_spec.proto, PipelineDeploymentConfig.ImporterSpec."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from headrace.contracts.pipeline_spec import values
from headrace.errors import HeadraceError
from headrace.runs.executor_input import Outputs, registered
from headrace.runs.inputs import about_job, filled
from headrace.runs.model import ReadyTask, RunContext

_CONSTANT = "uri"


def imported(importer: Any, component: Any, task: ReadyTask, context: RunContext) -> Outputs:
    """The artifact at the importer's URI; a copy of it in the run's workspace when it asks for that.

    Raises:
        HeadraceError: a local path that does not exist, or a remote one that is to be copied.
    """
    source = importer.artifact_uri
    if source.WhichOneof("value") == "runtime_parameter":
        uri = task.parameters[source.runtime_parameter]
    else:
        # The SDK also gives a constant as a parameter, and only there it puts placeholders for what an f-string holds.
        constant = about_job(values.from_message(source.constant), context, task.path)
        uri = task.parameters.get(_CONSTANT, filled(constant, task.parameters))
    name, spec = next(iter(component.output_definitions.artifacts.items()))
    metadata = about_job(values.from_message(importer.metadata), context, task.path)
    artifact = registered(name, spec.artifact_type, str(uri), filled(metadata, task.parameters))
    if importer.download_to_workspace:
        artifact["uri"] = str(_copied(artifact["uri"], Path(context.workspace)))
    return Outputs({}, {name: [artifact]})


def _copied(uri: str, workspace: Path) -> Path:
    path = Path(uri)
    if not path.is_absolute():
        raise HeadraceError(
            f"{uri} cannot be downloaded to the workspace: only local files can",
            remedy="Download it in a component, or give a path.",
        )
    place = workspace / "artifacts" / path.relative_to("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, place, dirs_exist_ok=True)
    else:
        shutil.copy2(path, place)
    return place
