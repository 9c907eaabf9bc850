"""What a loaded model is to the server: what it takes, what it gives, and how it is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Column:
    """One named input of a model: a value a row. `dtype` is pandas' name, `object` for what nobody declared."""

    name: str
    dtype: str
    datatype: str
    required: bool


class Tensor(NamedTuple):
    """An input or output by name; `datatype` is Open Inference Protocol's, -1 in `shape` is any length."""

    name: str
    datatype: str
    shape: list[int]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a request brings: arrays by name, all with `rows` entries along their first axis.

    A model that takes rows of numbers has one array, [rows, columns], under the name "".
    """

    arrays: Mapping[str, Any]
    rows: int


@dataclass(frozen=True)
class Model:
    """A loaded model.

    `form` says what `predictor.predict` takes: `matrix` (an array [rows, columns] of float64), `frame` (a pandas
    DataFrame), `columns` (a dict of arrays [rows] by name) or `tensors` (a dict of arrays by name).
    The field `columns` is empty when the model does not name any.
    `rowwise` is True when each row's answer is known not to depend on the rows beside it: such requests may be put
    together.
    """

    predictor: Any
    columns: tuple[Column, ...]
    outputs: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...] = ()
    form: str = "frame"
    platform: str = "sklearn_mlflow"
    rowwise: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def width(self) -> int:
        """How many values a row of numbers has; 0 when the model does not say."""
        if self.columns:
            return len(self.columns)
        if len(self.inputs) == 1 and len(self.inputs[0].shape) == 2 and self.inputs[0].shape[1] > 0:
            return self.inputs[0].shape[1]
        return int(getattr(self.predictor, "n_features_in_", 0) or 0)

    @property
    def has_rows(self) -> bool:
        """Whether there is one prediction a row; tensors may mean anything."""
        return self.form != "tensors"

    def predict(self, inputs: Inputs) -> Any:
        """What the model says to these inputs, as it says it. It may raise anything."""
        return self.predictor.predict(self.given(inputs))

    def given(self, inputs: Inputs) -> Any:
        """The inputs in the form that the predictor takes."""
        if self.form in ("tensors", "columns"):
            return dict(inputs.arrays)
        if "" in inputs.arrays:
            return inputs.arrays[""]
        return frame(inputs)


def frame(inputs: Inputs) -> Any:
    """The inputs as a DataFrame. What is held as objects gets the type that pandas finds in it."""
    import pandas as pd

    text = "str" if pd.__version__ >= "3" else object
    columns = {}
    for name, values in inputs.arrays.items():
        if values.dtype.kind != "O":
            columns[name] = values
        else:
            listed = values.tolist()
            only_text = all(value is None or isinstance(value, str) for value in listed)
            columns[name] = pd.Series(listed, dtype=text) if only_text else pd.Series(listed)
    return pd.DataFrame(columns)
