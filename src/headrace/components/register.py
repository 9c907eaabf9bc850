"""Put a model into the registry, with everything that one will want to know about it later."""

from kfp import dsl

import headrace
from headrace.components import PYTHON_IMAGE


@dsl.component(base_image=PYTHON_IMAGE, packages_to_install=[f"headrace=={headrace.__version__}"])
def register(
    model: dsl.Input[dsl.Model], metrics: dsl.Input[dsl.Metrics], name: str, data_version: str,
    holdout: dsl.Input[dsl.Dataset] = None,
) -> str:  # fmt: skip
    """Log a saved MLflow model in MLflow and register it as the challenger; returns `models:/NAME/VERSION`.

    With it go the metrics, the model's metadata as parameters, the version of the data and the git commit. Doing it
    twice for one run makes one version.

    With `holdout`, rows with the model's columns (.parquet or .csv), a scikit-learn model also gets its faster form
    (docs/serving.md), which is used only if it gives the same answers on them (50,000 at most).
    """
    import os
    import tempfile
    from pathlib import Path

    import mlflow  # noqa: F401 - named here, so that it is imported once and not by each task

    from headrace.catalog.registry import ModelRegistry

    run = os.environ["HEADRACE_RUN_ID"]
    with tempfile.TemporaryDirectory() as made:
        if holdout is not None:
            from headrace.serving.runtime import conversion

            outcome = conversion.make(Path(model.path), data=Path(holdout.path), into=Path(made))
            print(f"{'a faster form is kept' if outcome.kept else 'no faster form'}: {outcome.why}")
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
            beside=Path(made),
        )
    print(f"registered {version.uri}")
    return version.uri
