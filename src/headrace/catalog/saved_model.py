"""Load a saved MLflow scikit-learn model as the scikit-learn object that it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headrace.errors import HeadraceError


def load(folder: Path) -> Any:
    """The estimator in a model folder, with `predict_proba` and all that MLflow's own wrapper hides.

    Loading a pickle runs the code in it: only for models that the team itself has made.

    Raises:
        HeadraceError: it cannot be loaded.
    """
    import mlflow.sklearn

    try:
        return mlflow.sklearn.load_model(str(folder))
    except Exception as error:
        raise HeadraceError(f"the model cannot be loaded: {error}", where=str(folder)) from error
