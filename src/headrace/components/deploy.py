"""Ask for a rollout of a service to a model."""

from kfp import dsl

import headrace
from headrace.components import PYTHON_IMAGE


@dsl.component(base_image=PYTHON_IMAGE, packages_to_install=[f"headrace=={headrace.__version__}"])
def deploy(model: str, manifest: dsl.Input[dsl.Artifact], rollout: dsl.Input[dsl.Artifact]) -> str:
    """Start the rollout of a KServe InferenceService (`manifest`) to `model`, by the steps in `rollout`.

    `model` is an address such as models:/NAME/3. Returns the rollout's id; the rollout itself goes on after the run.
    Doing it twice for one run starts one rollout.
    """
    import os
    import time
    from pathlib import Path

    import mlflow  # noqa: F401 - named here, so that it is imported once and not by each task

    from headrace.catalog.registry import ModelRegistry
    from headrace.contracts import inference_service, rollout_document
    from headrace.control.rollouts.request import Model, request
    from headrace.store.database import Database
    from headrace.store.home import Home

    registry = ModelRegistry(os.environ["MLFLOW_TRACKING_URI"])
    uri = registry.pinned(model)
    run = os.environ["HEADRACE_RUN_ID"]
    service = inference_service.parse(Path(manifest.path).read_text(encoding="utf-8"), manifest.path)
    started = request(
        Database(Home.locate().database),
        service=service.within(os.environ.get("HEADRACE_PROJECT") or str(Path.cwd())).newest,
        rollout=rollout_document.parse(Path(rollout.path).read_text(encoding="utf-8"), rollout.path),
        model=Model(uri, str(registry.folder(uri))),
        key=f"run/{run}/{os.environ['HEADRACE_TASK']}",
        actor=os.environ.get("HEADRACE_ACTOR", "system:runs"),
        reason=f"run {run}: {os.environ.get('HEADRACE_REASON', '')}",
        at=time.time(),
    )
    print(f"rollout {started} to {uri}")
    return started
