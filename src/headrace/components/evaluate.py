"""Judge a new model, and compare it with the one that serves."""

from typing import NamedTuple

from kfp import dsl

import headrace
from headrace.components import PYTHON_IMAGE


@dsl.component(base_image=PYTHON_IMAGE, packages_to_install=[f"headrace=={headrace.__version__}"])
def evaluate(
    model: dsl.Input[dsl.Model], holdout: dsl.Input[dsl.Dataset], label: str, registered_name: str,
    metrics: dsl.Output[dsl.Metrics], curve: dsl.Output[dsl.ClassificationMetrics], min_auc: float = 0.5,
    max_loss: float = 0.01,
) -> NamedTuple("Evaluation", [("passed", bool), ("champion", str), ("summary", str)]):  # type: ignore[valid-type]  # fmt: skip
    """Measure a saved MLflow scikit-learn classifier on a holdout table, and its champion on the very same rows.

    `passed`: its ROC AUC is at least `min_auc` and not more than `max_loss` below the champion's. `champion` is the
    champion's address in the registry, "" when there is none. A champion that cannot judge the holdout fails.
    """
    import os
    from pathlib import Path
    from typing import Any

    import mlflow  # noqa: F401 - named here, so that it is imported once and not by each task
    import pandas as pd
    from sklearn.metrics import accuracy_score, roc_auc_score, roc_curve

    from headrace.catalog.registry import ModelRegistry
    from headrace.catalog.saved_model import load

    table = pd.read_parquet(holdout.path)
    truth = table.pop(label)

    def scores(folder: Path) -> tuple[Any, Any]:
        found = load(folder)
        return found.predict_proba(table)[:, 1], found.predict(table)

    probability, predicted = scores(Path(model.path))
    auc = float(roc_auc_score(truth, probability))
    metrics.log_metric("auc", round(auc, 5))
    metrics.log_metric("accuracy", round(float(accuracy_score(truth, predicted)), 5))
    metrics.log_metric("holdout_rows", len(table))
    false_rate, true_rate, thresholds = roc_curve(truth, probability)
    step = max(1, len(thresholds) // 100)
    finite = [min(1.0, float(t)) for t in thresholds[::step]]
    curve.log_roc_curve(false_rate[::step].tolist(), true_rate[::step].tolist(), finite)

    registry = ModelRegistry(os.environ["MLFLOW_TRACKING_URI"])
    champion = registry.champion(registered_name)
    passed = auc >= min_auc
    summary = f"AUC {auc:.4f} on {len(table)} rows, at least {min_auc:g} wanted"
    if champion is not None:
        best = float(roc_auc_score(truth, scores(registry.folder(champion.uri))[0]))
        metrics.log_metric("champion_auc", round(best, 5))
        passed = passed and auc >= best - max_loss
        summary = f"AUC {auc:.4f}, champion {champion.uri} {best:.4f} on the same {len(table)} rows"
    print(f"{'passed' if passed else 'failed'}: {summary}")
    return passed, champion.uri if champion else "", summary
