"""Real MLflow models that are right about a number's parity, or have a fault for half of all numbers."""

import contextlib
import io
import warnings

# What a model with the fault does for a number whose last digit is 5 or more, as code of its `predict`.
FAULTS = {
    "5xx": "raise RuntimeError('no such category')",
    "slow": "time.sleep(SLOW_SECONDS)",
    "NaN output": "return np.full(len(numbers), np.nan)",
    "wrong schema": "return np.array([[str(n), 'odd'] for n in numbers], dtype=object)",
    "wrong labels": "return 1 - numbers % 2",
    "crash": "os._exit(70)",
}
SLOW_SECONDS = 0.3
CODE = f"""\
import os
import time

import mlflow
import numpy as np

SLOW_SECONDS = {SLOW_SECONDS}


class Parity(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        numbers = model_input["number"].to_numpy().astype("int64")
        if (numbers % 10 >= 5).any():
            FAULT
        return numbers % 2


mlflow.models.set_model(Parity())
"""


def save(folder):
    """A folder for each fault, by its name, and one for "none"."""
    return {name: _save(folder, name, fault) for name, fault in {"none": "pass", **FAULTS}.items()}


def _save(folder, name, fault):
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        # MLflow warns of its own type hints while it is imported, and tells of every step while it saves.
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
        import numpy as np
        import pandas as pd
        from mlflow.models import infer_signature

        code, made = folder / f"{name.replace(' ', '_')}.py", folder / name.replace(" ", "-")
        code.write_text(CODE.replace("FAULT", fault))
        numbers = pd.DataFrame({"number": [1.0, 2.0]})
        mlflow.pyfunc.save_model(
            made, python_model=str(code), signature=infer_signature(numbers, np.array([1, 0])), input_example=numbers,
            pip_requirements=[],
        )  # fmt: skip
    return made
