"""Put a model into the registry, with everything that one will want to know about it later."""

from kfp import dsl

import headrace
from headrace.components import PYTHON_IMAGE


@dsl.component(base_image=PYTHON_IMAGE, packages_to_install=[f"headrace=={headrace.__version__}"])
def register(model: dsl.Input[dsl.Model], metrics: dsl.Input[dsl.Metrics], name: str, data_version: str) -> str:
    """Log a saved MLflow model in MLflow and register it as the challenger; returns `models:/NAME/VERSION`.

    With it go the metrics, the model's metadata as parameters, the version of the data and the git commit. Doing it
    twice for one run makes one version.
    """
    import os
    from pathlib import Path

    import mlflow  # noqa: F401 - named here, so that it is imported once and not by each task

    from headrace.catalog.registry import ModelRegistry

    run = os.environ["HEADRACE_RUN_ID"]
    version = ModelRegistry(os.environ["MLFLOW_TRACKING_URI"]).register(
        name,
        Path(model.path),
        key=f"{run}/{os.environ['HEADRACE_TASK']}",
        run_name=f"{os.environ['HEADRACE_PIPELINE']} {run}",
        parameters={**model.metadata, "data_version": data_version},
        metrics={key: value for key, value in metrics.metadata.items() if isinstance(value, int | float)},
        tags={
            "headrace.run": run,
            "headrace.reason": os.environ.get("HEADRACE_REASON", ""),
            "data_version": data_version,
            "mlflow.source.git.commit": os.environ.get("HEADRACE_COMMIT", ""),
        },
    )
    print(f"registered {version.uri}")
    return version.uri
