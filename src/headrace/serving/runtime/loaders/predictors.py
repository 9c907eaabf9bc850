"""Libraries' models behind one method, `predict`, and what scikit-learn's own say about themselves."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.serving.runtime.models import Column, Tensor
from headrace.serving.runtime.tensors import datatype_of

# A FunctionTransformer runs anybody's code; the others of scikit-learn treat each row by itself when they predict.
_NOT_ROWWISE = ("FunctionTransformer", "LocalOutlierFactor")
_LIBRARIES = ("sklearn", "xgboost", "lightgbm")


class Booster:
    """An XGBoost Booster: rows of numbers, NaN is missing."""

    def __init__(self, booster: Any) -> None:
        self.booster = booster
        self.n_features_in_ = int(booster.num_features())

    def predict(self, matrix: Any) -> Any:
        """What the booster's objective gives: probabilities, values, or classes. [rows] or [rows, classes]."""
        if matrix.shape[1] == 0:
            raise ValueError("a row has no values")
        return self.booster.inplace_predict(matrix, validate_features=False)


class LightBooster:
    """A LightGBM Booster: rows of numbers, NaN is missing."""

    def __init__(self, booster: Any, threads: int) -> None:
        self.booster = booster
        self.threads = threads
        self.n_features_in_ = int(booster.num_feature())

    def predict(self, matrix: Any) -> Any:
        """As Booster.predict."""
        return self.booster.predict(matrix, num_threads=self.threads)


class OnnxSession:
    """An ONNX Runtime session; outputs that are no tensors (ZipMap's) are left out."""

    def __init__(self, session: Any, outputs: int = 0) -> None:
        self.session = session
        names = [output.name for output in session.get_outputs() if output.type.startswith("tensor(")]
        self.names = names[:outputs] if outputs else names

    def predict(self, arrays: dict[str, Any]) -> dict[str, Any]:
        """The outputs by name."""
        return dict(zip(self.names, self.session.run(self.names, arrays), strict=True))


def steps_of(estimator: Any) -> list[Any]:
    """An estimator and all that it holds: a pipeline's steps, a column transformer's parts, an ensemble's members."""
    found, left = [], [estimator]
    while left:
        one = left.pop()
        found.append(one)
        parts = [*(getattr(one, "steps", None) or ()), *(getattr(one, "transformers_", None) or ())]
        left += [part[1] for part in parts if hasattr(part[1], "get_params")]
        members = getattr(one, "estimators_", None)
        left += [member for member in members if hasattr(member, "get_params")] if isinstance(members, list) else []
    return found


def is_rowwise(estimator: Any) -> bool:
    """Whether each row's answer is known not to depend on the rows beside it: all of it is a library's own."""
    return all(
        type(step).__module__.partition(".")[0] in _LIBRARIES
        # A function transformer without a function passes on what a column transformer has left over.
        and (type(step).__name__ not in _NOT_ROWWISE or getattr(step, "func", step) is None)
        for step in steps_of(estimator)
    )


def takes_numbers(estimator: Any, columns: tuple[Column, ...]) -> bool:
    """Whether a model of named columns gives the same answers to bare numbers, so that no DataFrame is needed."""
    if not all(column.dtype in ("float64", "float32", "int64", "int32", "bool") for column in columns):
        return False
    names = list(getattr(estimator, "feature_names_in_", ()))
    chain = [estimator, *(step for _, step in getattr(estimator, "steps", ()) if hasattr(step, "get_params"))]
    plain = all(
        type(step).__module__.startswith("sklearn.")
        and not type(step).__module__.startswith(("sklearn.compose", "sklearn.preprocessing._function_transformer"))
        and not hasattr(step, "estimators")
        for step in chain
    )
    return plain and (not names or names == [column.name for column in columns])


def forget_names(estimator: Any) -> None:
    """A model that gets bare numbers warns at each call while it knows the names of its columns."""
    for step in (estimator, *(step for _, step in getattr(estimator, "steps", ()))):
        if "feature_names_in_" in getattr(step, "__dict__", {}):
            del step.feature_names_in_


def outputs_of(estimator: Any) -> tuple[Tensor, ...]:
    """What a fitted estimator says that it predicts; empty when it does not."""
    classes = getattr(estimator, "classes_", None)
    if isinstance(classes, np.ndarray) and classes.ndim == 1:
        return (Tensor("output-0", datatype_of(classes), [-1]),)
    if getattr(estimator, "_estimator_type", None) == "regressor":
        return (Tensor("output-0", "FP64", [-1]),)
    return ()


def inputs_of(estimator: Any) -> tuple[Tensor, ...]:
    """One tensor of rows as wide as the estimator was fitted; empty when it does not say."""
    width = getattr(estimator, "n_features_in_", None)
    return (Tensor("input-0", "FP64", [-1, int(width)]),) if width else ()


def columns_of(estimator: Any) -> tuple[Column, ...]:
    """The columns that an estimator was fitted on, of types that it does not tell; empty without names."""
    names = getattr(estimator, "feature_names_in_", ())
    return tuple(Column(str(name), "object", "BYTES", True) for name in names)
